"""What experiments share: command line, presets, checkpoints, progress and exact distances."""

import argparse
import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import numpy as np
import pandas as pd
import scipy.spatial
import tyro
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text
from scipy.optimize import linear_sum_assignment

from jaxcollapse import results
from jaxcollapse.base import Run
from jaxcollapse.checks import check_names
from jaxcollapse.sweep import sweep

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Configuration of every experiment."""

    preset: str = "quick"
    """Scale: smoke (seconds), quick or paper. Every other flag overrides it."""
    out: str = "results"
    """Directory for NAME.csv, NAME.json and NAME.nc."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace existing results."""
    seed: int = 0
    """Seed of everything random."""


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


class Runner:
    """Runs the sweeps of an experiment, each with progress and, given a directory, a checkpoint a chunk.

    Attributes:
        warnings: what went wrong, by sweep.
    """

    def __init__(self, directory: Path | None = None, quiet: bool = True):
        self.directory, self.warnings, self.files = directory, [], []
        self.console = Console(stderr=True, quiet=quiet)

    def track(self, name: str, items: Sequence[T]) -> Iterator[T]:
        """Go through items with progress."""
        with self._display(name, "items") as display:
            yield from display.track(items, description=name)

    def once(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Compute a pytree of arrays, or take it from an interrupted run of the same configuration."""
        path, program = self._checkpoint(name), jax.jit(function).lower(*arguments)
        identity = {"data": results.digest(arguments), "program": results.digest_program(program)}
        leaves = results.load_arrays(path, identity) if path else None
        if leaves is not None:
            return jax.tree.unflatten(program.out_tree, leaves)
        self.console.print(f"  {name}")
        found = program.compile()(*arguments)
        if path:
            results.save_arrays(path, jax.tree.leaves(found), identity)
        return found

    def sweep(self, name: str, build: Callable[..., Run], axes: Mapping[str, Any], **options: Any) -> xr.Dataset:
        """Run one sweep, continuing where an interrupted run of the same configuration stopped."""
        with self._display(name, "generations") as display, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are in the result as well
            task = display.add_task(name, total=None)
            found = sweep(
                build,
                axes,
                checkpoint=self._checkpoint(name),
                progress=lambda done, total: display.update(task, completed=done, total=total),
                **options,
            )
        for message in found.attrs["warnings"]:
            self.warnings.append(f"{name}: {message}")
            self.console.print(f"  warning: {message}")
        return found

    def clean(self) -> None:
        """Remove the checkpoints of what was run."""
        for path in self.files:
            path.unlink(missing_ok=True)
        if self.directory:
            self.directory.rmdir()

    def _checkpoint(self, name: str) -> Path | None:
        if self.directory is None:
            return None
        self.files.append(self.directory / f"{name}.npz")
        return self.files[-1]

    def _display(self, name: str, unit: str) -> Progress:
        return Progress(
            TextColumn(f"  {name:32s}"),
            BarColumn(20),
            TextColumn("{task.completed}/{task.total} " + unit),
            Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )


def exact_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Solve the assignment problem: the 2-Wasserstein distance between as many points."""
    cost = np.asarray(scipy.spatial.distance.cdist(x, y, "sqeuclidean"))
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def main(
    name: str,
    run: Callable[[Any, Runner], Output],
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
        identity = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "overwrite", "preset")}
        parts = directory / f"{name}.parts"
        runner = Runner(parts / results.fingerprint(identity)[:16], quiet=False)
        runner.directory.mkdir(parents=True, exist_ok=True)
        print(f"{name} ({config.preset})", file=sys.stderr)
        output = run(config, runner)
        document = {
            "experiment": name,
            "configuration": dataclasses.asdict(config),
            "versions": results.versions(),
            "seconds": round(time.monotonic() - started, 1),
            "summary": output.summary,
            "warnings": runner.warnings,
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
    runner.clean()
    if not any(parts.iterdir()):
        parts.rmdir()
    print(f"{name}: {document['seconds']} s, {directory / name}.csv", file=sys.stderr)


def parse(config_type: type, presets: Mapping[str, Mapping[str, Any]], args: list[str] | None = None) -> Any:
    """Read the configuration: the preset first, then every flag over it."""
    args = sys.argv[1:] if args is None else args
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="quick")
    preset = early.parse_known_args(args)[0].preset
    check_names("preset", [preset], presets)
    return tyro.cli(config_type, args=args, default=config_type(preset=preset, **presets[preset]))
