"""Features in files: numbers in rows, read by column and checked."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Table(NamedTuple):
    """Rows of features.

    Attributes:
        points: [n, d]; in memory, or mapped from a file where it is larger.
        columns: their names, d of them.
        rows: numbers of the file's rows that these are, [n]: fewer than the file has where invalid ones are dropped.
        labels: [n], or None.
        ids: [n], or None.
        source: of the file, with the digest of its bytes.
    """

    points: Float[np.ndarray, "n d"]
    columns: tuple[str, ...]
    rows: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read."""

    columns: tuple[str, ...] = ()
    """Columns of features, by name; all that are numbers, but those of label and id, where none are named."""
    label: str = ""
    """Column of classes."""
    id: str = ""
    """Column of names of rows."""
    features: str = ""
    """MODULE:FUNCTION, from what a file holds to features [n, d]: of images or text, where files hold no features."""
    drop_invalid: bool = False
    """Go on without rows that hold what is no finite number; their number is reported."""


def read(path: Path, reading: Reading) -> Table:
    """Read a file."""
    raise NotImplementedError(path, reading)
