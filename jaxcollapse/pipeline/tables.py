"""Features in files: numbers in rows, read by column, in blocks, and checked.

Arrays in npy files stay where they are and are mapped; other files are copied, block by block, to a temporary one that
is mapped, so that none has to fit in memory.
"""

import dataclasses
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float

from jaxcollapse.data.features import user_function
from jaxcollapse.data.files import Unreadable, open_file, reading

Files = tyro.conf.UseAppendAction[tuple[tuple[Path, ...], ...]]
"""Files of a flag that is given once, with all of them, or several times."""
BLOCK = 2**16  # rows
DOMINANT = 0.9  # of the variance
KINDS = (".npy", ".npz", ".csv", ".parquet")


class Table(NamedTuple):
    """Rows of features.

    Attributes:
        points: [n, d]; mapped from a file.
        columns: their names, d of them.
        rows: numbers of the file's rows that these are, from zero, [n]: fewer than the file has where invalid ones are
            dropped.
        dropped: how many are.
        labels: [n], words, or None.
        ids: [n], words, or None.
        path: of the file.
        stamp: its size and the time of its last change, when it was read.
        digest: SHA-256 of its bytes.
    """

    points: Float[np.ndarray, "n d"]
    columns: tuple[str, ...]
    rows: np.ndarray
    dropped: int = 0
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    path: Path = Path()
    stamp: tuple[int, int] = (0, 0)
    digest: str = ""

    @property
    def source(self) -> str:
        """The file, its rows and its digest, as a result states them."""
        return f"{self.path} ({len(self.points)} rows, SHA-256 {self.digest[:16]})"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read: npy and npz, arrays [n, d]; csv and parquet, with names of columns."""

    columns: tuple[str, ...] = ()
    """Columns of features, by name; all but those of label and id, where none are named. Of an npz file, its array."""
    label: str = ""
    """Column of classes, or array of an npz file, in the files that have it."""
    id: str = ""
    """Column of names of rows, or array of an npz file, in the files that have it."""
    features: str = ""
    """MODULE:FUNCTION, from blocks of what a file holds (an array, or words where one column is named) to features
    [n, d]; from the path, where it is of another kind."""
    drop_invalid: bool = False
    """Go on without rows that hold anything but finite numbers; the result says how many."""
    standardise: bool = False
    """Shift and scale each column to mean zero and standard deviation one over the real data."""

    @property
    def settings(self) -> dict[str, Any]:
        """What is not as by default, for a result to state."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}


class Block(NamedTuple):
    """Consecutive rows of a file, before they are checked."""

    values: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None


def read(path: Path, options: Reading) -> Table:
    """Read a file.

    Args:
        path: of an npy, npz, csv or parquet file, or of anything that a function of one's own makes features from.
        options: how.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not as described, or changes while it is read; the message names row and column.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} not found")
    stamp, kind = _stamp(path), path.suffix.lower()
    function = user_function(options.features) if options.features else None
    if kind not in KINDS and function is None:
        raise ValueError(f"{path}: must be {', '.join(KINDS)}, or name a function with --features MODULE:FUNCTION")
    if kind not in KINDS:
        columns, blocks = (), iter([Block(np.asarray(path))])
    else:
        open_file(path).close()
        with reading(path, f"a file of kind {kind}"):
            columns, blocks = _OPEN[kind](path, options, words=function is not None)
    if function is not None:
        columns, blocks = (), (block._replace(values=_made(function, block.values)) for block in blocks)
    if kind == ".npy" and function is None:
        table = _mapped(path, next(blocks).values, drop=options.drop_invalid)
    else:
        table = _copied(path, columns, blocks, drop=options.drop_invalid)
    names = columns or tuple(f"column {i}" for i in range(table.points.shape[1]))
    table = table._replace(columns=names, path=path, stamp=stamp, digest=_digest(path))
    require_unchanged(table)
    if table.ids is not None:
        unique, count = np.unique(table.ids, return_counts=True)
        if (count > 1).any():
            raise ValueError(f"{path}: {(count > 1).sum()} ids occur twice, the first is {str(unique[count > 1][0])!r}")
    return table


def require_unchanged(*tables: Table) -> None:
    """Require files to be as they were when they were read: points are mapped from some of them.

    Raises:
        ValueError: if one is not.
    """
    for table in tables:
        if not table.path.exists() or _stamp(table.path) != table.stamp:
            raise ValueError(f"{table.path} has changed while it was read")


def require_alike(options: Reading, *tables: Table) -> None:
    """Require the same columns of all files, and those of labels and ids of one at least.

    Raises:
        ValueError: if they differ, or none has them.
    """
    for flag, name, found in (
        ("label", options.label, [table.labels for table in tables]),
        ("id", options.id, [table.ids for table in tables]),
    ):
        if name and all(each is None for each in found):
            raise ValueError(f"{flag} = {name!r}: no file has such a column")
    first, *others = tables
    for other in others:
        if len(other.columns) != len(first.columns):
            raise ValueError(
                f"{other.path} has {len(other.columns)} columns of features, and {first.path} {len(first.columns)}"
            )
        if other.columns != first.columns:
            name, wanted = next((a, b) for a, b in zip(other.columns, first.columns, strict=True) if a != b)
            raise ValueError(
                f"{other.path} has the column {name!r} where {first.path} has {wanted!r}: --columns gives all one order"
            )


class Units(NamedTuple):
    """Units in which features are computed with, in single precision.

    Attributes:
        shift: subtracted from rows, [d].
        scale: by which they are divided then, [d].
    """

    shift: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]

    def __call__(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return ((points - self.shift) / self.scale).astype(np.float32)


def units_of(real: Sequence[Table], options: Reading) -> Units:
    """Find the units of the real data: those of the files, unless they are to be standardised.

    Raises:
        ValueError: if a column is constant, or is not told apart in single precision.
    """
    count = sum(len(table.points) for table in real)
    first = np.asarray(real[0].points[0], np.float64)
    total = square = np.zeros_like(first)
    for part in (part for table in real for part in _parts(table.points)):
        about = part - first
        total, square = total + about.sum(axis=0), square + (about**2).sum(axis=0)
    mean, files = total / count, " and ".join(str(table.path) for table in real)
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    for name, centre, spread in zip(real[0].columns, first + mean, deviation, strict=True):
        if spread <= 1e-12 * abs(centre):
            raise ValueError(f"column {name!r} is constant, {centre:g}, in {files}: leave it out with --columns")
        if spread < 1e-4 * abs(centre) and not options.standardise:
            raise ValueError(
                f"column {name!r} is {centre:.3g} +- {spread:.3g} in {files}, too far from zero for single precision: "
                "--standardise shifts and scales it"
            )
    return Units(first + mean, deviation) if options.standardise else Units(0 * first, 0 * first + 1)


def dominant(columns: Sequence[str], variances: Float[np.ndarray, " d"]) -> list[str]:
    """Say which column outweighs all others, if one does."""
    widest, share = columns[int(variances.argmax())], variances.max() / variances.sum()
    if len(columns) == 1 or share < DOMINANT:
        return []
    return [
        f"column {widest} holds {share:.0%} of the variance, and distances are those of it alone: --standardise gives "
        "all columns one unit"
    ]


def _made(function: Callable[[Any], Any], values: np.ndarray) -> np.ndarray:
    """Compute features of a block, or of a path.

    Raises:
        ValueError: if they are not [n, d].
    """
    try:
        features = np.asarray(function(values if values.ndim else values[()]))
    except ValueError as error:  # says what failed, not the file
        raise Unreadable(str(error)) from error
    if features.ndim != 2 or (values.ndim and len(features) != len(values)):
        raise Unreadable(f"features: of an array {values.shape} there are {features.shape}, and must be [n, d]")
    return features


def _open_npy(path: Path, options: Reading, *, words: bool) -> tuple[tuple[str, ...], Iterator[Block]]:
    if options.columns:
        raise Unreadable(f"{path}: an npy file has no columns by name, and {', '.join(options.columns)} are asked for")
    return (), iter([Block(np.load(path, mmap_mode="r", allow_pickle=False))])


def _open_npz(path: Path, options: Reading, *, words: bool) -> tuple[tuple[str, ...], Iterator[Block]]:
    with np.load(path, allow_pickle=False) as archive:
        names = [name for name in archive.files if name not in (options.label, options.id)]
        wanted = options.columns or tuple(names)
        if len(wanted) != 1:
            raise Unreadable(f"{path}: holds the arrays {', '.join(names)}: name the one of features with --columns")
        if wanted[0] not in archive.files:
            raise Unreadable(f"{path}: has no array {wanted[0]!r}, only {', '.join(archive.files)}")
        values, labels, ids = (
            archive[name] if name in archive.files else None for name in (wanted[0], options.label, options.id)
        )
    return (), iter([Block(values, labels, ids)])


def _open_csv(path: Path, options: Reading, *, words: bool) -> tuple[tuple[str, ...], Iterator[Block]]:
    header = [str(name) for name in pd.read_csv(path, nrows=0, dtype=str).columns]
    if all(_is_number(name) for name in header):
        raise Unreadable(f"{path}: its first row must hold the names of columns, and holds numbers")
    names, others = _asked(path, header, options)
    frames = pd.read_csv(path, chunksize=BLOCK, dtype=dict.fromkeys(others, str))
    return names, _blocks(path, frames, names, options, words=words)


def _open_parquet(path: Path, options: Reading, *, words: bool) -> tuple[tuple[str, ...], Iterator[Block]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Unreadable(f"{path}: parquet files need pyarrow: pip install 'jaxcollapse[parquet]'") from error
    file = pyarrow.parquet.ParquetFile(path)
    header = [name for name in file.schema_arrow.names if not re.fullmatch(r"__index_level_\d+__", name)]
    names, others = _asked(path, header, options)
    frames = (batch.to_pandas(ignore_metadata=True) for batch in file.iter_batches(BLOCK, columns=[*names, *others]))
    return names, _blocks(path, frames, names, options, words=words)


_OPEN = {".npy": _open_npy, ".npz": _open_npz, ".csv": _open_csv, ".parquet": _open_parquet}


def _asked(path: Path, header: Sequence[str], options: Reading) -> tuple[tuple[str, ...], list[str]]:
    """Choose the columns of features, and the others that are read."""
    others = [name for name in (options.label, options.id) if name in header]
    if missing := [name for name in options.columns if name not in header]:
        raise Unreadable(f"{path}: has no column {missing[0]!r}, only {', '.join(header)}")
    names = options.columns or tuple(name for name in header if name not in others)
    if not names:
        raise Unreadable(f"{path}: has no column of features")
    return names, others


def _blocks(
    path: Path, frames: Iterable[Any], names: Sequence[str], options: Reading, *, words: bool
) -> Iterator[Block]:
    """Take features, numbers but where words are wanted, labels and ids from data frames."""
    start = 0
    for frame in frames:
        if not isinstance(frame.index, pd.RangeIndex):
            raise Unreadable(f"{path}: rows have more fields than the first, which names the columns")
        if words and len(names) == 1:
            values = frame[names[0]].to_numpy()
        else:
            found = frame[list(names)].apply(pd.to_numeric, errors="coerce")
            wrong = (found.isna() & frame[list(names)].notna()).to_numpy()
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                held = frame[names[column]].iloc[row]
                raise Unreadable(
                    f"{path}: column {names[column]!r} holds {held!r} in row {start + row}, which is no number: "
                    "mend it, or name columns of features with --columns, of classes with --label, of ids with --id"
                )
            values = found.to_numpy(float, na_value=np.nan)
        told = (frame[name].astype(str).to_numpy() if name in frame else None for name in (options.label, options.id))
        yield Block(values, *told)
        start += len(frame)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _mapped(path: Path, values: np.ndarray, *, drop: bool) -> Table:
    """Leave an array in its file, unless rows have to be dropped."""
    _check_block(path, values)
    if values.dtype not in (np.float32, np.float64):
        return _copied(path, (), iter([Block(values)]), drop=drop)
    if any(len(_invalid(part)) for part in _parts(values)):
        return _copied(path, (), iter([Block(values)]), drop=drop)
    return _require_rows(Table(values, (), np.arange(len(values)), path=path))


def _copied(path: Path, columns: Sequence[str], blocks: Iterable[Block], *, drop: bool) -> Table:
    """Copy the valid rows to a temporary file, and map it.

    Raises:
        ValueError: if others are not to be dropped.
    """
    start, width, kept, invalid, labels, ids, first = 0, 0, [], 0, [], [], ""
    with reading(path, "a table of features"), tempfile.TemporaryFile() as file:
        for block in blocks:
            _check_block(path, block.values)
            for part, place in zip(_parts(block.values), range(0, len(block.values), BLOCK), strict=True):
                if width and part.shape[1] != width:
                    raise Unreadable(f"{path}: features of a row are {part.shape[1]}, and {width} before")
                part, width = np.asarray(part, np.float64), part.shape[1]
                bad = _invalid(part)
                valid = np.setdiff1d(np.arange(len(part)), bad)
                if len(bad) and not first:
                    column = int(np.flatnonzero(~np.isfinite(part[bad[0]]))[0])
                    named = repr(columns[column]) if columns else column
                    first = f"row {start + place + bad[0]}, column {named}: {part[bad[0], column]}"
                part[valid].tofile(file)
                kept.append(start + place + valid)
                invalid += len(bad)
                for found, told in ((labels, block.labels), (ids, block.ids)):
                    if told is not None:
                        if len(told) != len(block.values):
                            raise Unreadable(f"{path}: {len(block.values)} rows, and {len(told)} labels or ids")
                        found.append(np.asarray(told[place : place + BLOCK])[valid].astype(str))
            start += len(block.values)
        if invalid and not drop:
            raise Unreadable(
                f"{path}: {invalid} rows hold what is no finite number, the first is {first}; --drop-invalid goes on "
                "without them"
            )
        file.flush()
        rows = np.concatenate(kept) if kept else np.empty(0, int)
        points = np.memmap(file, np.float64, "r", shape=(len(rows), width)) if rows.size else np.empty((0, width))
    found = (np.concatenate(each) if each else None for each in (labels, ids))
    return _require_rows(Table(points, (), rows, invalid, *found, path=path))


def _check_block(path: Path, values: np.ndarray) -> None:
    """Require a table of numbers.

    Raises:
        ValueError: if it is none.
    """
    if values.ndim != 2 or 0 in values.shape[1:]:
        raise Unreadable(f"{path}: an array of shape {values.shape} must be [n, d], a row of features each")
    if values.dtype.kind not in "fiub":
        raise Unreadable(f"{path}: values of type {values.dtype} must be numbers")


def _require_rows(table: Table) -> Table:
    """Require rows to compute with.

    Raises:
        ValueError: if there are fewer than two.
    """
    if len(table.rows) < 2:
        raise ValueError(f"{table.path}: has {len(table.rows)} valid rows, and needs 2")
    return table


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[place : place + BLOCK] for place in range(0, len(values), BLOCK))


def _invalid(values: np.ndarray) -> np.ndarray:
    """Find rows that single precision holds no finite numbers of."""
    with np.errstate(over="ignore"):
        return np.flatnonzero(~np.isfinite(np.asarray(values, np.float32)).all(axis=1))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _digest(path: Path) -> str:
    """Hash a file's bytes; of a directory, its names, sizes and times."""
    if path.is_dir():
        listed = sorted((str(file.relative_to(path)), *_stamp(file)) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256(repr(listed).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
