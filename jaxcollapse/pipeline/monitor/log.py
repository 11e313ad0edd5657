"""The log of a run: what its reference fixes, then one line of statistics for each generation, only ever appended.

A line counts once it ends: what a killed process leaves of one is cut off by the next that writes.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcollapse.checks import check_count, check_names, check_range
from jaxcollapse.pipeline.monitor.evidence import WORKFLOWS
from jaxcollapse.pipeline.monitor.statistics import Frame, Moments, Sample
from jaxcollapse.results import is_first, strict, versions, write_atomic

FORMAT, VERSION = "jaxcollapse monitor", 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a verdict depends on besides the data.

    Attributes:
        num_kept: n, rows that each model is fitted on, where it is known, with the workflow.
        workflow: replace, or accumulate where a model is fitted on all rows so far.
        false_alarms: a, the probability that a run without collapse ever alarms.
    """

    num_kept: int | None = None
    workflow: str | None = None
    false_alarms: float = 0.05

    def __post_init__(self):
        """Check them.

        Raises:
            ValueError: if a number is out of range, or only one of the number kept and the workflow is given.
        """
        check_range("false_alarms", self.false_alarms, 1e-6, 0.25)
        if (self.num_kept is None) != (self.workflow is None):
            raise ValueError(f"num_kept = {self.num_kept}, workflow = {self.workflow}: give both or neither")
        if self.num_kept is not None:
            check_count("num_kept", self.num_kept, low=2)
            check_names("workflow", [self.workflow], WORKFLOWS)


class Log(NamedTuple):
    """What a log holds.

    Attributes:
        settings: of the run.
        reference: digest of the reference.
        frame: what it fixes.
        first: moments of generation 0.
        samples: statistics of generations 0..t.
        digests: of their rows.
    """

    settings: Settings
    reference: str
    frame: Frame
    first: Moments
    samples: tuple[Sample, ...]
    digests: tuple[str, ...]


def read(path: Path) -> Log | None:
    """Read a log, or None where there is none.

    Raises:
        ValueError: if the file is no log, one of another version, or a damaged one.
    """
    if not path.exists():
        return None
    head, *lines = _whole(path.read_bytes()).splitlines() or [b""]
    try:
        header = json.loads(head)
        found, version = header["format"], header["version"]
    except (ValueError, LookupError, TypeError):
        found = version = None
    if found != FORMAT:
        raise ValueError(f"{path} is no log of the monitor: its first line is none of a log's")
    if version != VERSION:
        raise ValueError(f"{path} has version {version} of the log's format, and this release reads {VERSION}")
    rows = [_parse(path, number, line) for number, line in enumerate(lines)]
    try:
        return Log(
            Settings(**header["settings"]),
            header["reference"],
            Frame(**_arrays(header["frame"])),
            Moments(**_arrays(header["first"])),
            tuple(Sample(**_arrays(row["sample"])) for row in rows),
            tuple(row["rows"] for row in rows),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def begin(path: Path, log: Log) -> None:
    """Write a new log with generation 0, whole or not at all."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "settings": dataclasses.asdict(log.settings),
        "reference": log.reference,
        "frame": log.frame._asdict(),
        "first": log.first._asdict(),
    }
    content = _line(header) + _row(log, 0)
    write_atomic(path, lambda file: file.write(content))


def append(path: Path, log: Log) -> None:
    """Add the last generation of a log, which the file does not hold yet; if that fails the file stays as it was."""
    if not is_first():
        return
    row = _row(log, len(log.samples) - 1)
    with open(path, "r+b", buffering=0) as file:
        end = len(_whole(file.read()))
        file.truncate(end)
        file.seek(end)
        try:
            if file.write(row) != len(row):
                raise OSError(f"{path}: no room for another line")
            os.fsync(file)
        except BaseException:
            file.truncate(end)
            raise


def require_same(path: Path, log: Log, reference: str, settings: Settings) -> None:
    """Require that a log is of a reference and of settings.

    Raises:
        ValueError: if it is of others.
    """
    if log.reference != reference:
        raise ValueError(
            f"{path} is the log of another reference: {log.reference[:12]}, and this one is {reference[:12]}"
        )
    for field in dataclasses.fields(Settings):
        ours, theirs = getattr(settings, field.name), getattr(log.settings, field.name)
        if ours != theirs:
            raise ValueError(f"{path} was begun with {field.name} = {theirs}, not {ours}")


def _row(log: Log, generation: int) -> bytes:
    sample, rows = log.samples[generation]._asdict(), log.digests[generation]
    return _line({"generation": generation, "rows": rows, "sample": sample, "versions": versions()})


def _line(value: Any) -> bytes:
    return json.dumps(strict(value), allow_nan=False).encode() + b"\n"


def _whole(content: bytes) -> bytes:
    """Leave out what follows the last end of a line."""
    return content[: content.rfind(b"\n") + 1]


def _parse(path: Path, generation: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if row["generation"] == generation and set(row["sample"]) == set(Sample._fields):
            return row
    except (ValueError, LookupError, TypeError):
        pass
    raise ValueError(f"{path}: line {generation + 2} is damaged, where generation {generation} belongs")


def _arrays(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in stored.items()}
