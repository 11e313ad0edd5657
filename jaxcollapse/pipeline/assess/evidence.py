"""What an assessment looks at: tables made comparable, rows counted, columns that tell nothing left out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from pandas.util import hash_pandas_object

from jaxcollapse.checks import check_finite
from jaxcollapse.pipeline.tables import Table, dominant

MAX_ROWS = 20_000  # of a table, from which moments are computed
MAX_DIM = 32
_BLOCK = 2**16  # rows that are hashed at a time: a table may be mapped from a file that is larger than memory


class Part(NamedTuple):
    r"""Rows of one table, in the coordinates of all.

    Attributes:
        name: such as a file's.
        points: [n, d], a random subsample of at most `MAX_ROWS`.
        labels: [n], or None.
        num_rows: of the table.
        num_duplicates: rows that are equal to an earlier one.
        effective_size: :math:`(\sum_i c_i)^2 / \sum_i c_i^2` with the numbers c of copies of distinct rows.
        hashes: of all rows.
    """

    name: str
    points: Float[np.ndarray, "n d"]
    labels: np.ndarray | None
    num_rows: int
    num_duplicates: int
    effective_size: float
    hashes: np.ndarray


class Evidence(NamedTuple):
    """All parts, and what was found on the way.

    Attributes:
        parties: the reference first, then silos; together the union.
        population: what should be covered, or None where the union stands for it.
        candidates: synthetic samples, or None.
        columns: shift and spread of the reference's columns, the most shifted first.
        notes: sentences for the warnings.
    """

    parties: tuple[Part, ...]
    population: Part | None
    candidates: Part | None
    columns: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def truth(self) -> tuple[Part, ...]:
        """What should be covered: the population, or the union where there is none."""
        return self.parties if self.population is None else (self.population,)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that there are."""
        return (*self.parties, *filter(None, (self.population, self.candidates)))


def gather(
    reference: Any,
    silos: Mapping[str, Any] | Sequence[Any] = (),
    population: Any = None,
    candidates: Any = None,
    seed: int = 0,
) -> Evidence:
    """Check tables, make their columns one, and count their rows.

    Args:
        reference: an array [n, d] or a `Table`.
        silos: of the other parties, by name or in order.
        population: likewise a table, or None.
        candidates: likewise.
        seed: of subsamples.

    Raises:
        ValueError: if tables have different columns, fewer than two rows, values that are not finite, labels that
            others lack, or nothing that varies; or if a silo holds the rows of the reference.
    """
    named = dict(silos) if isinstance(silos, Mapping) else {f"silo {i}": silo for i, silo in enumerate(silos, 1)}
    given = {"reference": reference, **named, "population": population, "candidates": candidates}
    if len(given) != len(named) + 3:
        raise ValueError(f"silos: the names {', '.join(named)} must not be reference, population or candidates")
    tables = {name: _table(name, table) for name, table in given.items() if table is not None}
    rng = np.random.default_rng(seed)
    first = tables["reference"]
    chosen = {name: _rows(rng, name, table, first.columns) for name, table in tables.items()}
    real = [name for name in tables if name != "candidates"]
    labelled = [name for name in real if tables[name].labels is not None]
    if labelled and labelled != real:
        without = next(name for name in real if name not in labelled)
        raise ValueError(f"labels: {labelled[0]} has them and {without} has none; give them in all files or in none")

    spread = np.concatenate([chosen[name][1] for name in real]).std(axis=0)
    varies = spread > 1e-9 * np.abs(chosen["reference"][1]).max(initial=1e-30, axis=0)
    notes = []
    if not varies.any():
        raise ValueError(f"columns {', '.join(first.columns)}: each is constant in all files; one at least must vary")
    if not varies.all():
        constant = ", ".join(np.array(first.columns)[~varies])
        notes.append(f"Columns that are constant in all files are left out: {constant}.")
    columns = np.array(first.columns)[varies]
    points = {name: rows[:, varies] for name, (_, rows) in chosen.items()}
    whole = points["population"] if "population" in points else np.concatenate([points[n] for n in real])
    notes += _notes_on_columns(columns, points["reference"], whole)
    shifts = _shifts(columns, points["reference"], whole)
    points, note = _leading_axes(points, whole)
    parts = {
        name: Part(
            name,
            points[name],
            None if table.labels is None else np.asarray(table.labels)[chosen[name][0]],
            *_count(table, _order(table, first.columns)),
        )
        for name, table in tables.items()
    }
    parties = tuple(parts[name] for name in ("reference", *named))
    found = Evidence(parties, parts.get("population"), parts.get("candidates"), shifts, ())
    return found._replace(notes=(*notes, *note, *_notes_on_rows(found)))


def _table(name: str, given: Any) -> Table:
    if isinstance(given, Table):
        return given
    check_finite(name, given)
    points = np.asarray(given)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"{name}: shape {points.shape} must be [n, d], with n and d at least 1")
    return Table(points, tuple(str(i) for i in range(points.shape[1])), np.arange(len(points)))


def _rows(rng: Any, name: str, table: Table, columns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows: their indices, and what they hold in the order of `columns`."""
    if sorted(table.columns) != sorted(columns):
        apart = sorted({*table.columns} ^ {*columns})
        raise ValueError(
            f"{name}: has {len(table.columns)} columns and the reference {len(columns)}; "
            f"{', '.join(apart[:5])}{', ...' * (len(apart) > 5)} {'is' if len(apart) == 1 else 'are'} in one alone"
        )
    if len(table.points) < 2:
        raise ValueError(f"{name}: has {len(table.points)} row, and at least 2 are needed")
    index = np.arange(len(table.points))
    if len(index) > MAX_ROWS:
        index = np.sort(rng.choice(len(index), MAX_ROWS, replace=False))
    return index, np.asarray(table.points[index], float)[:, _order(table, columns)]


def _order(table: Table, columns: tuple[str, ...]) -> list[int]:
    return [table.columns.index(column) for column in columns]


def _count(table: Table, order: list[int]) -> tuple[int, int, float, np.ndarray]:
    """Count rows, duplicates and the effective size, and hash rows."""
    blocks = (table.points[i : i + _BLOCK][:, order] + 0.0 for i in range(0, len(table.points), _BLOCK))
    hashes = np.concatenate(
        [hash_pandas_object(pd.DataFrame(block), index=False) for block in blocks]  # pyright: ignore[reportCallIssue]
    )
    copies = np.unique(hashes, return_counts=True)[1].astype(float)
    return len(hashes), len(hashes) - len(copies), len(hashes) ** 2 / float(copies @ copies), hashes


def _notes_on_columns(columns: np.ndarray, reference: np.ndarray, whole: np.ndarray) -> list[str]:
    """Name columns that are constant in the reference, and one that outweighs all others."""
    notes, variances = [], whole.var(axis=0)
    if (still := (reference.std(axis=0) <= 1e-9 * whole.std(axis=0)) & (variances > 0)).any():
        shown = ", ".join(columns[still][:10])
        notes.append(
            f"Columns that vary in the population are constant in the reference, {still.sum()} of them ({shown}"
            f"{', ...' * bool(still.sum() > 10)}): a verifier takes any other value there for a fault."
        )
    return notes + [f"{told[0].upper()}{told[1:]}." for told in dominant(columns.tolist(), variances)]


def _shifts(columns: np.ndarray, reference: np.ndarray, whole: np.ndarray) -> pd.DataFrame:
    spread = whole.std(axis=0)
    safe = np.where(spread > 0, spread, np.nan)
    shift, ratio = (reference.mean(axis=0) - whole.mean(axis=0)) / safe, reference.std(axis=0) / safe
    error = np.sqrt(ratio**2 / len(reference) + 1 / len(whole))
    frame = pd.DataFrame({"column": columns, "shift": shift, "standard_error": error, "spread_ratio": ratio})
    return frame.sort_values("shift", key=abs, ascending=False).head(10).reset_index(drop=True)


def _leading_axes(points: dict[str, np.ndarray], whole: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
    """Turn to the population's principal axes where there are more columns than `MAX_DIM`."""
    dim = whole.shape[1]
    if dim <= MAX_DIM:
        return points, []
    mean = whole.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov(whole - mean, rowvar=False))
    kept = spread[-MAX_DIM:].sum() / spread.sum()
    note = (
        f"Of {dim} columns the {MAX_DIM} leading principal axes of the population are looked at, which hold {kept:.0%} "
        "of its variance; a forecast is that of a verifier that scores on these."
    )
    return {name: (x - mean) @ axes[:, -MAX_DIM:] for name, x in points.items()}, [note]


def _notes_on_rows(found: Evidence) -> list[str]:
    notes = []
    reference, *silos = found.parties
    for silo in silos:
        shared = np.isin(silo.hashes, reference.hashes).sum()
        if shared == silo.num_rows == reference.num_rows:
            raise ValueError(f"{silo.name}: holds the rows of the reference; name the other parties' files alone")
        if shared:
            notes.append(f"{shared} of the {silo.num_rows} rows of {silo.name} are in the reference too.")
    if found.population is not None:
        for part in found.parties:
            shared = np.isin(part.hashes, found.population.hashes).sum()
            if shared:
                notes.append(
                    f"{shared} of the {part.num_rows} rows of {part.name} are in the population's sample: they count "
                    "as covered, and a sample that no party holds is a fairer test."
                )
    for part in found.parts:
        if part.num_duplicates > 0.01 * part.num_rows:
            notes.append(f"{part.num_duplicates} of the {part.num_rows} rows of {part.name} repeat an earlier one.")
        if part.num_rows > MAX_ROWS:
            notes.append(f"Of the {part.num_rows} rows of {part.name}, {MAX_ROWS} drawn at random stand for all.")
    return notes
