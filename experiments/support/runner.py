"""What every experiment is: a configuration, parts that a runner runs, and results in one file."""

import contextlib
import dataclasses
import functools
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

from jaxcollapse import results
from jaxcollapse.base import Run
from jaxcollapse.checks import check_memory
from jaxcollapse.experiments.support.display import Display
from jaxcollapse.experiments.support.ranges import Count, Seed, check_flags, flags_named
from jaxcollapse.sweep import Axis, merge, sweep

T = TypeVar("T")
PRESETS = ("smoke", "quick", "paper")
CONFIGURATION = "configuration.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Configuration of every experiment."""

    seed: Seed = 0
    """Seed of everything random."""
    float64: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Simulate in double precision."""

    @property
    def dtype(self) -> Any:
        """Type of what is simulated."""
        return jnp.float64 if self.float64 else jnp.float32


@dataclasses.dataclass(frozen=True)
class Places:
    """Where results and figures go."""

    out: Path = Path("results")
    """Directory for NAME.nc."""
    figures: Path | None = None
    """Directory to draw figures into, as soon as an experiment is done."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace results of another configuration or version."""
    cache: str = ""
    """Directory that keeps compiled programs, or none; by default one of the user's, or JAX_COMPILATION_CACHE_DIR."""


@dataclasses.dataclass(frozen=True)
class Options(Places):
    """Where, at what scale and on what experiments run."""

    preset: Literal[PRESETS] = "quick"
    """Scale: seconds, a minute, or that of the published tables. Flags of the experiment override it."""
    lanes: Count | None = None
    """Runs of a sweep at once, on all devices together; by default as many as fit in memory."""
    shard: str = ""
    """I/N: run and keep only the I-th of N shares of every sweep, for `jaxcollapse merge`."""
    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Divide every sweep among the devices of all processes that Slurm, Open MPI or Kubernetes started together."""
    debug_nans: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Stop a sweep at the first generation whose state holds a NaN, and say where."""


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
        layouts: how the lanes of each sweep were laid out.
    """

    def __init__(
        self, directory: Path | None = None, display: Display | None = None, dtype: Any = jnp.float32, **options: Any
    ):
        """Take a directory, a display, a type of at least which all numbers are, and options of all sweeps."""
        self.directory, self.display, self.dtype, self.options = directory, display or Display(), dtype, options
        self.warnings, self.layouts = [], {}

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
        arguments = self._precise(arguments)
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
        options["fixed"] = self._precise(options.get("fixed") or {})
        found = self._swept(name, build, self._precise(axes), **options)
        self.warnings += [f"{name}: {message}" for message in found.attrs["warnings"]]
        self.layouts[name] = found.attrs.pop("layout")
        self.display.finish()
        return found

    def _swept(self, name: str, build: Callable[..., Run], axes: Mapping[str, Any], **options: Any) -> xr.Dataset:
        progress, checkpoint = self.display.update, self._checkpoint(name)
        return sweep(build, axes, checkpoint=checkpoint, progress=progress, **self.options, **options)

    def _precise(self, tree: T) -> T:
        """Widen floating arrays; the labels of axes stay."""
        if isinstance(tree, Axis):
            return Axis(tree.labels, self._precise(tree.values))

        def widen(leaf):
            if isinstance(leaf, Axis):
                return self._precise(leaf)
            floating = self.dtype == jnp.float64 and jnp.issubdtype(getattr(leaf, "dtype", int), jnp.floating)
            return np.asarray(leaf, np.float64) if floating else leaf

        return jax.tree.map(widen, tree, is_leaf=lambda leaf: isinstance(leaf, Axis))

    def _checkpoint(self, name: str) -> Path | None:
        return self.directory and self.directory / f"{name}.npz"


class ShardRunner(Runner):
    """Runs a shard: its directory keeps its lanes of every sweep, and nothing else."""

    def once(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Compute a pytree of arrays, one part; without a checkpoint."""
        return Runner(None, self.display, self.dtype).once(name, function, *arguments)


class MergeRunner(Runner):
    """Takes the lanes of every sweep from the shards in a directory."""

    def __init__(self, directory: Path, display: Display, dtype: Any, shards: Path, identity: Mapping[str, str]):
        super().__init__(directory, display, dtype)
        self.shards, self.identity = shards, identity

    def _swept(self, name: str, build: Callable[..., Run], axes: Mapping[str, Any], **options: Any) -> xr.Dataset:
        labelled = {key: options[key] for key in ("fixed", "dims", "coords") if key in options}
        try:
            found = merge(results.chunk_files(self.shards, name), axes, identity=self.identity, **labelled)
        except ValueError as error:
            raise ValueError(f"{self.shards}, {name}: {error}") from error
        self.display.update(found.sizes["generation"] - 1, found.sizes["generation"] - 1)
        return found


def execute(name: str, experiment: Any, config: Settings, options: Options, display: Display) -> None:
    """Run an experiment and write OUT/NAME.nc, unless it is there already, of the same configuration and version.

    Of a shard, keep its lanes in OUT/NAME.shards instead.

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
    shard, mark = _share_of(options.shard), _mark(name, config)
    sweeps = {"lanes": options.lanes, "identity": {"run": mark}, "debug_nans": options.debug_nans}
    sweeps |= {"devices": jax.devices()} if options.distributed else {}
    if shard is None:
        runner = functools.partial(Runner, **sweeps)
        return _publish(name, experiment, config, options, display, runner)
    place = options.out / f"{name}.shards" / mark[:16] / "{}-of-{}".format(*shard)
    with _held(options.out, place.parent.parent, place.parent, place), _warnings_shown(display):
        text = json.dumps(results.strict(dataclasses.asdict(config)))
        results.write_atomic(place.parent / CONFIGURATION, lambda file: file.write(text.encode()))
        with _numbers(config):
            experiment.run(config, ShardRunner(place, display, config.dtype, shard=shard, **sweeps))
        display.say(f"{name}: shard {options.shard} in {place}")


def merge_shards(name: str, experiment: Any, places: Places, display: Display) -> None:
    """Write OUT/NAME.nc from the shards in OUT/NAME.shards, as `execute` does.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they are of several configurations, of another version or code, leave out lanes, or overlap.
    """
    display.begin(name)
    found = sorted((places.out / f"{name}.shards").glob(f"*/{CONFIGURATION}"))
    if not found:
        raise FileNotFoundError(f"{places.out} holds no shards of {name}: `run {name} --shard 1/2` makes one of two")
    if len(found) > 1:
        raise ValueError(f"{places.out / name}.shards holds {len(found)} configurations, versions or codes: keep one")
    shards, usual = found[0].parent, experiment.Config()
    stored = json.loads(found[0].read_text())
    config = type(usual)(**{field: _like(getattr(usual, field), value) for field, value in stored.items()})
    mark = _mark(name, config)
    if mark[:16] != shards.name:
        raise ValueError(f"{shards} is of another version or code: run its shards again")
    runner = functools.partial(MergeRunner, shards=shards, identity={"run": mark})
    _publish(name, experiment, config, places, display, runner)


@contextlib.contextmanager
def _numbers(config: Settings) -> Iterator[None]:
    """Name flags in errors, and compute in the precision that is asked for: accelerators round factors otherwise."""
    with flags_named(config), jax.enable_x64(config.float64), jax.default_matmul_precision("highest"):
        yield


def _publish(
    name: str, experiment: Any, config: Settings, places: Places, display: Display, make_runner: Callable[..., Runner]
) -> None:
    path, mark = places.out / f"{name}.nc", _mark(name, config)
    work = places.out / f"{name}.parts"
    checkpoints = work / mark[:16]
    with _held(places.out, work), results.directory(checkpoints), _warnings_shown(display):
        if path.exists() and _fingerprint(path) == mark:
            results.remove_checkpoints(checkpoints)
            display.say(f"{name}: {path} is there already, of this very configuration and version")
            return
        if path.exists() and not places.overwrite:
            message = f"{path} exists, of another configuration or version: give --overwrite to replace it"
            raise FileExistsError(message)
        for leftover in results.leftovers(path):
            leftover.unlink(missing_ok=True)
        runner = make_runner(checkpoints, display, config.dtype)
        with _numbers(config):
            output = experiment.run(config, runner)
        attributes = {
            "experiment": experiment.run.__module__.rpartition(".")[2],
            "configuration": dataclasses.asdict(config),
            "summary": output.summary,
            "warnings": runner.warnings,
            "sweeps": runner.layouts,
            "versions": results.versions(),
            "fingerprint": mark,
        }
        results.save(path, output.arrays.assign_attrs(attributes))
        results.remove_checkpoints(checkpoints)
        display.say(f"{name}: {path}")


def _mark(name: str, config: Settings) -> str:
    return results.fingerprint({"experiment": name, **dataclasses.asdict(config)})


def _share_of(text: str) -> tuple[int, int] | None:
    """Read I/N.

    Raises:
        ValueError: if it is no share.
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--shard = {text!r}: must be I/N, whole numbers with 1 <= I <= N, as in 1/4")
    return int(found[1]), int(found[2])


def _like(usual: Any, stored: Any) -> Any:
    """Turn what JSON holds of a field into its type."""
    if isinstance(stored, list):
        return tuple(_like(None, each) for each in stored)
    return Path(stored) if isinstance(usual, Path) else stored


@contextlib.contextmanager
def _held(out: Path, *directories: Path) -> Iterator[None]:
    """Make directories, and hold the last one against other processes."""
    with contextlib.ExitStack() as held:
        for path in (out, *directories):
            held.enter_context(results.directory(path))
        try:
            held.enter_context(results.lock(directories[-1] / "lock"))
        except (BlockingIOError, FileNotFoundError) as error:
            raise BlockingIOError(f"it is running in {out} already: wait, or give another --out") from error
        yield


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
