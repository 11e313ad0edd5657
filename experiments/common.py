"""What experiments share: command line, presets, checkpoints, progress and exact distances."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text
from scipy.optimize import linear_sum_assignment

from jaxcollapse import results
from jaxcollapse.sweep import Trajectory, sweep
from jaxcollapse.validation import check_names

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Knobs of every experiment."""

    preset: str = "quick"
    """Scale: smoke (seconds), quick or paper. Every other flag overrides it."""
    out: str = "results"
    """Directory for NAME.csv, NAME.json and NAME.nc."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace existing results."""
    key: int = 0
    """Seed of the trajectories' random keys."""


class Output(NamedTuple):
    """What an experiment returns.

    Attributes:
        arrays: raw per-run arrays with named axes.
        table: tidy, one row for each observation.
        summary: the headline numbers.
        further: tables of NAME_KEY.csv, by KEY.
    """

    arrays: xr.Dataset
    table: pd.DataFrame
    summary: dict[str, Any]
    further: Mapping[str, pd.DataFrame] = {}


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")


class Parts:
    """Runs the sweeps of an experiment, each with progress and, given a directory, a checkpoint a chunk."""

    def __init__(self, directory: Path | None = None, mark: str = "", quiet: bool = True):
        self.directory, self.mark = directory, mark
        self.console = Console(stderr=True, quiet=quiet)

    def track(self, name: str, items: Sequence[T]) -> Iterator[T]:
        """Go through items with progress."""
        with self._display(name, "items") as display:
            yield from display.track(items, description=name)

    def once(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Compute a pytree of arrays, or take it from an interrupted run of the same configuration."""
        path = self.directory / f"{name}.npz" if self.directory else None
        leaves = results.load_arrays(path, self.mark) if path else None
        if leaves is None:
            self.console.print(f"  {name}")
            found = jax.jit(function)(*arguments)
            if path:
                results.save_arrays(path, jax.tree.leaves(found), self.mark)
            return found
        return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(function, *arguments)), leaves)

    def _display(self, name: str, unit: str) -> Progress:
        return Progress(
            TextColumn(f"  {name:32s}"),
            BarColumn(20),
            TextColumn("{task.completed}/{task.total} " + unit),
            Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )

    def sweep(
        self,
        name: str,
        build: Callable[..., Trajectory],
        axes: Mapping[str, Any],
        num_generations: int,
        chunk_size: int | None = None,
    ) -> Any:
        """Run one sweep, continuing where an interrupted run of the same configuration stopped."""
        path = self.directory / f"{name}.npz" if self.directory else None
        resume = results.load_arrays(path, self.mark) if path else None
        chunk_size = chunk_size or max(50, num_generations // 10)
        with self._display(name, "generations") as display:
            task = display.add_task(name, total=num_generations)
            for progress in sweep(build, axes, num_generations, chunk_size, resume):
                display.update(task, completed=progress.generation)
                if path and progress.generation:
                    results.save_arrays(path, jax.tree.leaves(progress), self.mark)
        return progress.history


def lane_keys(seed: int, lanes: Any) -> jax.Array:
    """Make one key for each lane from its label alone, so that settings compared share their randomness."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), np.asarray(lanes, np.uint32))


def frame(history: Mapping[str, np.ndarray], dims: tuple[str, ...], coords: Mapping[str, Any]) -> xr.Dataset:
    """Name the axes of a history."""
    return xr.Dataset({k: (dims, np.asarray(v)) for k, v in history.items()}, coords=coords)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """List the costs of all pairs."""
    return np.sum((x[:, None] - y[None]) ** 2, axis=-1)


def exact_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Solve the assignment problem: the 2-Wasserstein distance between as many points."""
    cost = squared_distances(x, y)
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def main(
    name: str,
    run: Callable[[Any, Parts], Output],
    config_type: type,
    presets: Mapping[str, Mapping[str, Any]],
) -> None:
    """Parse flags, run, and write NAME.csv, NAME.json, NAME.nc and further tables; exit with status 2 on bad input."""
    try:
        config = parse(config_type, presets)
        started = time.monotonic()
        directory = Path(config.out)
        earlier = [path.name for path in directory.glob(f"{name}_*.csv")]
        results.prepare(directory, [f"{name}.csv", f"{name}.json", f"{name}.nc", *earlier], overwrite=config.overwrite)
        knobs = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "overwrite", "preset")}
        checkpoints = directory / f"{name}.parts"
        checkpoints.mkdir(exist_ok=True)
        print(f"{name} ({config.preset})", file=sys.stderr)
        output = run(config, Parts(checkpoints, results.fingerprint(knobs), quiet=False))
        document = {
            "experiment": name,
            "configuration": dataclasses.asdict(config),
            "versions": results.versions(),
            "seconds": round(time.monotonic() - started, 1),
            "summary": output.summary,
        }
        results.save_dataset(directory / f"{name}.nc", output.arrays)
        results.save_table(directory / f"{name}.csv", output.table)
        for key, table in output.further.items():
            results.save_table(directory / f"{name}_{key}.csv", table)
        results.save_json(directory / f"{name}.json", document)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; finished parts are kept, the same command continues", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    for checkpoint in checkpoints.iterdir():
        checkpoint.unlink()
    checkpoints.rmdir()
    print(f"{name}: {document['seconds']} s, {directory / name}.csv", file=sys.stderr)


def parse(config_type: type, presets: Mapping[str, Mapping[str, Any]], args: list[str] | None = None) -> Any:
    """Read the configuration: the preset first, then every flag over it."""
    args = sys.argv[1:] if args is None else args
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="quick")
    preset = early.parse_known_args(args)[0].preset
    check_names("preset", [preset], presets)
    return tyro.cli(config_type, args=args, default=config_type(preset=preset, **presets[preset]))
