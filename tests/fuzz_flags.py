"""Odd flags for every experiment: `python -m tests.fuzz_flags --cases 220` counts what becomes of them.

Each set runs through the command as far as its first compilation: what is traced in full counts as run.
"""

import argparse
import collections
import contextlib
import faulthandler
import functools
import importlib
import io
import random
import re
import tempfile
import time
import typing
from typing import Annotated, Literal, get_args, get_origin
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxcollapse import command
from jaxcollapse.experiments.support import display, runner
from jaxcollapse.sweep import _as_axis
from jaxcollapse.tree import row, zeros_like_shape

SECONDS = 20
LIKELY = {int: ("1", "2", "3", "7", "12", "40", "300", "5000", "1000000"), float: ("0", "1e-3", ".3", ".9", "1", "50")}
ODD = (
    "-1", "0", "0.5", "nan", "inf", "-inf", "1e30", "1e-30", "-1e-3", "100000000", "2147483647", "2147483648",
    "9223372036854775807", "9223372036854775808", "1" + 40 * "0", "abc", "",
)  # fmt: skip
WORDS = ("nowhere", "", "pca", "os:nothing", "-", "0", "a b", "../..", "digits", "random")
JIT = jax.jit


class Traced(Exception):
    """Everything up to the first compilation has passed."""


class Tracing(runner.Runner):
    """A runner that traces the first sweep or item, and compiles nothing."""

    traced = None  # abstract values of the last sweep's state and records

    def once(self, name, function, *arguments):
        return zeros_like_shape(jax.eval_shape(function, *self._precise(arguments)))

    def track(self, name, items):
        yield from items[:1]
        raise Traced

    def sweep(self, name, build, axes, *, fixed=None, prepare=None, dims=None, coords=None):
        def first(axes, fixed):
            point = fixed | {name: row(values, 0) for name, values in axes.items()}
            run = build(**point, **(prepare(**point) if prepare else {}))
            state, info = run.collapse.step(run.key, run.collapse.init(run.params, run.sizes), run.sizes)
            return state, run.record(run.key, state, info)

        axes, fixed = self._precise(axes), self._precise(dict(fixed or {}))
        values = {name: _as_axis(name, axis).values for name, axis in axes.items()}
        Tracing.traced = jax.eval_shape(first, values, fixed)
        raise Traced


def jit(function=None, **options):
    """Stand in for `jax.jit`: trace where it would compile."""
    if function is None:
        return functools.partial(jit, **options)
    compiled = JIT(function, **options)

    @functools.wraps(function)
    def call(*arguments, **named):
        if isinstance(jnp.zeros(()), jax.core.Tracer):  # within a trace
            return compiled(*arguments, **named)
        compiled.eval_shape(*arguments, **named)
        raise Traced

    call.lower = call
    return call


def words_for(kind, rng):
    """Draw words for a flag of a type, some of them right."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is bool:
        return []
    if origin is Annotated:
        return words_for(arguments[0], rng)
    if origin is tuple:
        count = rng.choice((0, 1, 1, 2, 2, 5))
        repeated = rng.random() < 0.2
        words = [words_for(arguments[0], rng)[0] for _ in range(count)]
        return words[:1] * count if repeated else words
    if origin is Literal:
        return [rng.choice(WORDS if rng.random() < 0.3 else arguments)]
    return [rng.choice(WORDS if kind not in LIKELY else LIKELY[kind] if rng.random() < 0.6 else ODD)]


def cases(number, seed=0):
    """Draw sets of flags: every flag of every experiment alone, in random order, and pairs of them."""
    rng, fields = random.Random(seed), {}
    for name, module in command.RUNNABLE.items():
        hints = typing.get_type_hints(importlib.import_module(module).Config, include_extras=True)
        fields[name] = [field for field in hints.items() if field[0] != "float64"]  # `test_flags.py` tries it on all
    alone = [(name, [field]) for name, each in fields.items() for field in each]
    rng.shuffle(alone)
    pairs = ((name, rng.sample(fields[name], 2)) for name in rng.choices([*fields], k=number))
    for name, chosen in [*alone[: number * 2 // 3], *pairs][:number]:
        flags = [[f"--{field.replace('_', '-')}", *words_for(kind, rng)] for field, kind in chosen]
        yield name, [word for flag in flags for word in flag]


def outcome(name, flags, preset="smoke"):
    """Try one set of flags; say what became of it, and in which words."""
    said, started = io.StringIO(), time.process_time()
    with contextlib.ExitStack() as patched:
        out = patched.enter_context(tempfile.TemporaryDirectory())
        patched.enter_context(mock.patch.object(runner, "Runner", Tracing))
        patched.enter_context(mock.patch.object(display, "SECONDS_BETWEEN_LINES", np.inf))
        patched.enter_context(mock.patch.object(command, "keep_programs"))
        patched.enter_context(mock.patch.object(jax, "jit", jit))
        patched.enter_context(contextlib.redirect_stderr(said))
        patched.enter_context(contextlib.chdir(out))
        try:
            status = command.main(["run", name, "--preset", preset, *flags])
            found = "refused" if status == 2 and refuses(said.getvalue()) else f"status {status}"
        except Traced:
            found = "ran"
        except Exception as error:  # noqa: BLE001  what is looked for
            found, _ = "traceback", said.write(f"{type(error).__name__}: {error}")
    return "hang" if time.process_time() - started > SECONDS else found, said.getvalue()


def refuses(said):
    """Tell whether something was refused in one line that names a flag, or the data or the memory that is lacking."""
    return said.count("\n") == 1 and re.search(r"--[a-z]|GiB|RESOURCE_EXHAUSTED|not found|: no ", said)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    chosen, counts = parser.parse_args(), collections.Counter()
    for name, flags in cases(chosen.cases, chosen.seed):
        faulthandler.dump_traceback_later(300, exit=True)
        started = time.process_time()
        found, said = outcome(name, flags)
        counts[found] += 1
        seconds = time.process_time() - started
        print(f"{found}, {seconds:.1f} s: {name} {' '.join(flags)}: {said.strip()}", flush=True)  # noqa: T201
    print(dict(counts))  # noqa: T201


if __name__ == "__main__":
    main()
