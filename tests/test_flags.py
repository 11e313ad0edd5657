"""What a user may say on the command line: ranges of flags, refusals in one line, and odd flags."""

import collections
import dataclasses
import importlib
import re
import typing
from typing import Annotated, Literal

import fuzz_flags
import jax
import jax.numpy as jnp
import pytest

from jaxcollapse import command
from jaxcollapse.command import EXPERIMENTS, RUNNABLE, STUDIES
from jaxcollapse.data.features import user_function
from jaxcollapse.experiments.support.ranges import MAY_BE_EMPTY, Count, Range, Share, check_flags, flags_named
from jaxcollapse.experiments.support.runner import Runner


@dataclasses.dataclass(frozen=True)
class Config:
    size: Count = 3
    shares: tuple[Share, ...] = (0.5, 0.25)
    pair: tuple[Annotated[int, Range(0, 2)], Annotated[float, Range(0.0, 2.0)]] = (1, 1.0)
    kinds: tuple[Literal["a", "b"], ...] = ("a",)
    none_or_some: Annotated[tuple[Count, ...], MAY_BE_EMPTY] = ()


def test_what_is_in_range_passes():
    check_flags(Config())
    check_flags(Config(1, (1e-6, 1.0), (0, 2.0), ("b", "a"), (1, 10**6)))
    check_flags(Config(pair=(2, 0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "--size = 0: must be at least 1"),
        ({"size": 10**6 + 1}, "--size = 1000001: must be at most 1000000"),
        ({"size": 2**70}, "--size = 1180591620717411303424: must be at most 1000000"),
        ({"size": 2.5}, "--size = 2.5: must be a whole number"),
        ({"size": float("nan")}, "--size = nan: must be a whole number"),
        ({"size": "3"}, "--size = '3': must be a number, or an array of them"),
        ({"shares": ()}, "--shares: must have a value at least"),
        ({"shares": (0.5, 0.5)}, "--shares = (0.5, 0.5): the values must differ"),
        ({"shares": (0.5, float("nan"))}, "--shares = nan: must be in [1e-06, 1]"),
        ({"shares": (float("inf"),)}, "--shares = inf: must be in [1e-06, 1]"),
        ({"shares": (0.0,)}, "--shares = 0.0: must be in [1e-06, 1]"),
        ({"pair": (0, -1e-30)}, "--pair = -1e-30: must be in [0, 2]"),
        ({"pair": (3, 0.0)}, "--pair = 3: must be at most 2"),
        ({"kinds": ("a", "c")}, "--kinds 'c' is not known: choose from a, b"),
        ({"none_or_some": (0,)}, "--none-or-some = 0: must be at least 1"),
    ],
)
def test_what_is_not_is_refused_by_the_name_of_the_flag(given, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is compared as a whole
        check_flags(Config(**given))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_errors_that_begin_with_a_field_begin_with_its_flag():
    def said(message):
        with pytest.raises(ValueError) as error, flags_named(Config()):  # noqa: PT011
            raise ValueError(message)
        return str(error.value)

    assert said("none_or_some = 3: too\nmany") == "--none-or-some = 3: too\nmany"
    assert said("sizes = 3: of size 3") == "sizes = 3: of size 3"
    assert said("") == ""


def test_functions_of_the_user_fail_in_words():
    for name in ("nowhere:f", "math:nothing", "math", "", "..:f", ":"):
        with pytest.raises(ValueError, match=rf"^features = '{re.escape(name)}': must be pca or MODULE:FUNCTION \("):
            user_function(name, "pca")
    with pytest.raises(ValueError, match=r"^features = 'math:sqrt': TypeError: "):
        user_function("math:sqrt")("images")
    assert user_function("math:sqrt")(4) == 2


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_number_has_a_range_that_holds_its_presets(name):
    module = importlib.import_module(RUNNABLE[name])

    def bare(kind):
        if typing.get_origin(kind) is Annotated:
            return not any(isinstance(note, Range) for note in kind.__metadata__) and bare(kind.__origin__)
        return kind in (int, float) or any(map(bare, typing.get_args(kind)))

    hints = typing.get_type_hints(module.Config, include_extras=True)
    assert not [field for field, kind in hints.items() if bare(kind)]
    for preset in module.PRESETS:
        check_flags(command.default(module, preset))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "toy: MemoryError\n"),
        (MemoryError("Unable to allocate 8. TiB"), "toy: Unable to allocate 8. TiB\n"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nat 0x0\n"), "toy: RESOURCE_EXHAUSTED: no memory\n"),
    ],
)
def test_running_out_of_memory_is_said_in_one_line(error, line, monkeypatch, capsys):
    def out_of_memory(name, experiment, config, options, display):
        display.begin("toy")
        raise error

    monkeypatch.setattr(command, "execute", out_of_memory)
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)
    assert command.main(["run", "geodesic"]) == 2
    assert capsys.readouterr().err[len("12:00:00 ") :] == line


def test_programs_too_large_for_the_machine_are_refused_before_they_run():
    def large(x):
        return jnp.zeros((10**7, 10**7)) + x

    def large_meanwhile(x):
        return jnp.sort(x * jnp.arange(10.0**7)[:, None] % jnp.arange(1, 10.0**6), axis=0)[7, 7]

    for function in (large, large_meanwhile):
        with pytest.raises(ValueError, match=r"^\d+\.\d GiB of memory are needed of \d+\.\d: lower the sizes$"):
            Runner().once("large", function, 1.5)
    assert Runner().once("small", lambda x: x + 1, 1.5) == 2.5


def test_odd_flags_run_or_are_refused_in_one_line():
    """The first of what `python -m tests.fuzz_flags` tries."""
    found = collections.defaultdict(list)
    for name, flags in fuzz_flags.cases(30):
        result, said = fuzz_flags.outcome(name, flags)
        found[result].append((name, flags, said))
    assert min(len(found.pop("ran")), len(found.pop("refused"))) > 7
    assert not found


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"generalization_cost", "silo_geometry"}))
def test_experiments_simulate_in_double_precision(name, monkeypatch):
    """But for two that run the sweeps of `siloed_images`."""
    monkeypatch.setattr(fuzz_flags.Tracing, "traced", None)
    assert fuzz_flags.outcome(name, ["--float64"]) == ("ran", "")
    floating = {leaf.dtype for leaf in jax.tree.leaves(fuzz_flags.Tracing.traced) if leaf.dtype.kind == "f"}
    assert floating <= {jnp.dtype("float64")}


@pytest.mark.parametrize("name", STUDIES)
def test_studies_trace_at_quick_scale(name):
    assert fuzz_flags.outcome(name, [], preset="quick") == ("ran", "")


def test_the_fuzz_tells_what_goes_wrong(monkeypatch):
    def run(config, runner):
        raise TypeError("map() missing 1 required positional argument")

    monkeypatch.setattr(importlib.import_module(RUNNABLE["geodesic"]), "run", run)
    assert fuzz_flags.outcome("geodesic", [])[0] == "traceback"
    assert not fuzz_flags.refuses("two\n--lines\n")
    assert not fuzz_flags.refuses("max() iterable argument is empty\n")
