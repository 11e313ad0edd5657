"""What every experiment is: a configuration, parts that a runner runs, and results in one file."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jax
import tyro
import xarray as xr

from jaxcollapse import results
from jaxcollapse.base import Run
from jaxcollapse.checks import check_memory
from jaxcollapse.experiments.support.display import Display
from jaxcollapse.experiments.support.ranges import Seed, check_flags, flags_named
from jaxcollapse.sweep import sweep

T = TypeVar("T")
PRESETS = ("smoke", "quick", "paper")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Configuration of every experiment."""

    seed: Seed = 0
    """Seed of everything random."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Where and at what scale experiments run."""

    preset: Literal[PRESETS] = "quick"
    """Scale: seconds, a minute, or that of the published tables. Flags of the experiment override it."""
    out: Path = Path("results")
    """Directory for NAME.nc."""
    figures: Path | None = None
    """Directory to draw figures into, as soon as an experiment is done."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace results of another configuration or version."""
    cache: str = ""
    """Directory that keeps compiled programs, or none; by default one of the user's, or JAX_COMPILATION_CACHE_DIR."""


class Output(NamedTuple):
    """What an experiment returns.

    Attributes:
        arrays: all that was measured and predicted, with named axes.
        summary: the headline numbers.
    """

    arrays: xr.Dataset
    summary: Mapping[str, Any]


class Runner:
    """Runs the parts of an experiment, each with progress and, given a directory, a checkpoint.

    Attributes:
        warnings: what went wrong, by part.
    """

    def __init__(self, directory: Path | None = None, display: Display | None = None):
        self.directory, self.display, self.warnings = directory, display or Display(), []

    def expect(self, num_parts: int) -> None:
        """Say how many parts there are, so that the time left can be told."""
        self.display.num_parts = num_parts

    def track(self, name: str, items: Sequence[T]) -> Iterator[T]:
        """Go through items, one part."""
        self.display.part(name, "items")
        for done, item in enumerate(items):
            self.display.update(done, len(items))
            yield item
        self.display.update(len(items), len(items))
        self.display.finish()

    def once(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Compute a pytree of arrays, one part, or take it from an interrupted run."""
        self.display.part(name)
        self.display.update(0, 0, "tracing")
        path, program = self._checkpoint(name), jax.jit(function).lower(*arguments)
        identity = {"data": results.digest(arguments), "program": results.digest_program(program)}
        leaves = results.load_arrays(path, identity) if path else None
        if leaves is None:
            self.display.update(0, 0, "compiling")
            check_memory([program])
            compiled = program.compile()
            check_memory([compiled])
            self.display.update(0, 0, "computing")
            leaves = jax.tree.leaves(jax.block_until_ready(compiled(*arguments)))
            if path:
                results.save_arrays(path, leaves, identity)
        self.display.finish()
        return jax.tree.unflatten(program.out_tree, leaves)

    def sweep(self, name: str, build: Callable[..., Run], axes: Mapping[str, Any], **options: Any) -> xr.Dataset:
        """Run one sweep, one part, continuing where an interrupted run of the same configuration stopped."""
        self.display.part(name, "generations")
        found = sweep(build, axes, checkpoint=self._checkpoint(name), progress=self.display.update, **options)
        self.warnings += [f"{name}: {message}" for message in found.attrs["warnings"]]
        self.display.finish()
        return found

    def _checkpoint(self, name: str) -> Path | None:
        return self.directory and self.directory / f"{name}.npz"


def execute(name: str, experiment: Any, config: Settings, options: Options, display: Display) -> None:
    """Run an experiment and write OUT/NAME.nc, unless it is there already, of the same configuration and version.

    Args:
        name: of the experiment, and of its file.
        experiment: module with a function `run(config, runner) -> Output`.
        config: of it.
        options: where.
        display: of progress.

    Raises:
        BlockingIOError: if another process is at it.
        FileExistsError: if the file is there, of another configuration or version, and may not be replaced.
    """
    display.begin(name)
    check_flags(config)
    path, mark = options.out / f"{name}.nc", results.fingerprint({"experiment": name, **dataclasses.asdict(config)})
    with _workplace(options.out, name, mark) as checkpoints, _warnings_shown(display):
        if path.exists() and _fingerprint(path) == mark:
            results.remove_checkpoints(checkpoints)
            display.say(f"{name}: {path} is there already, of this very configuration and version")
            return
        if path.exists() and not options.overwrite:
            message = f"{path} exists, of another configuration or version: give --overwrite to replace it"
            raise FileExistsError(message)
        for leftover in results.leftovers(path):
            leftover.unlink()
        runner = Runner(checkpoints, display)
        with flags_named(config):
            output = experiment.run(config, runner)
        attributes = {
            "experiment": experiment.run.__module__.rpartition(".")[2],
            "configuration": dataclasses.asdict(config),
            "summary": output.summary,
            "warnings": runner.warnings,
            "versions": results.versions(),
            "fingerprint": mark,
        }
        results.save(path, output.arrays.assign_attrs(attributes))
        results.remove_checkpoints(checkpoints)
        display.say(f"{name}: {path}")


@contextlib.contextmanager
def _workplace(out: Path, name: str, mark: str) -> Iterator[Path]:
    """Hold OUT/NAME.parts against other processes, and give the directory for the checkpoints of a configuration."""
    work = out / f"{name}.parts"
    with contextlib.ExitStack() as held:
        held.enter_context(results.directory(out))
        held.enter_context(results.directory(work))
        try:
            held.enter_context(results.lock(work / "lock"))
        except (BlockingIOError, FileNotFoundError) as error:
            raise BlockingIOError(f"it is running in {out} already: wait, or give another --out") from error
        held.enter_context(results.directory(work / mark[:16]))
        yield work / mark[:16]


def _fingerprint(path: Path) -> str | None:
    try:
        return results.load(path).attrs.get("fingerprint")
    except ValueError:
        return None


@contextlib.contextmanager
def _warnings_shown(display: Display) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: display.say(f"  warning: {message}")
        yield
