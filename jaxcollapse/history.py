"""What lanes have recorded, on the host, and the files that keep it chunk by chunk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcollapse import results
from jaxcollapse.lanes import Layout, on_host

Named = dict[str, Any]


class Rows(NamedTuple):
    """What a generation, or many lanes and generations, recorded.

    Attributes:
        records: arrays by name.
        trouble: counts and magnitudes of what went wrong, by name.
    """

    records: Named
    trouble: Named


def named(records: Any) -> Named:
    """Name the arrays of a record that is no dictionary by its fields."""
    leaves = jax.tree.leaves_with_path(records)
    return {jax.tree_util.keystr(path, simple=True, separator=".") or "record": leaf for path, leaf in leaves}


class History:
    """Records of all lanes and generations.

    Attributes:
        rows: arrays [lanes, T + 1, ...].
        layout: of the lanes.
        num_rows: T + 1.
    """

    def __init__(self, layout: Layout, num_rows: int, shapes: Rows, checkpoint: Path | None, identity: Named):
        def whole(chunk):
            return np.empty((layout.high - layout.low, num_rows, *chunk.shape[2:]), chunk.dtype)

        self.rows, self.layout, self.num_rows = jax.tree.map(whole, shapes), layout, num_rows
        self._checkpoint, self._identity = checkpoint, identity

    def write(self, chunk: int, first: int, count: int, rows: Rows) -> None:
        """Take generations first, ..., first + count - 1 of a chunk from the start of its rows."""
        low, high = self.layout.chunks[chunk]
        for all_rows, new in zip(self._of(chunk, first, count), jax.tree.leaves(rows), strict=True):
            all_rows[...] = on_host(new)[: high - low, :count]

    def save(self, chunk: int, count: int, state: Any) -> None:
        """Keep the generations done of a chunk, and the state to go on from, unless all are done."""
        if self._checkpoint is not None:
            state = [] if count == self.num_rows else jax.tree.leaves(on_host(state))
            path = results.chunk_file(self._checkpoint, chunk)
            results.save_arrays(path, [count, *self._of(chunk, 0, count), *state], self._identity_of(chunk))

    def load(self, chunk: int) -> tuple[int, list[np.ndarray]]:
        """Take what was kept of a chunk; how many generations, and the leaves of the state to go on from."""
        stored = self._checkpoint and results.load_arrays(
            results.chunk_file(self._checkpoint, chunk), self._identity_of(chunk)
        )
        if not stored:
            return 0, []
        (count, *arrays), num_leaves = stored, len(jax.tree.leaves(self.rows))
        self.write(chunk, 0, int(count), jax.tree.unflatten(jax.tree.structure(self.rows), arrays[:num_leaves]))
        return int(count), arrays[num_leaves:]

    def _of(self, chunk: int, first: int, count: int) -> list[np.ndarray]:
        low, high = (lane - self.layout.low for lane in self.layout.chunks[chunk])
        return [leaf[low:high, first : first + count] for leaf in jax.tree.leaves(self.rows)]

    def _identity_of(self, chunk: int) -> Named:
        low, high = self.layout.chunks[chunk]
        return {**self._identity, "range": f"{low}:{high}", "names": json.dumps([*map(sorted, self.rows)])}


def gather(files: Sequence[Path], num_lanes: int, identity: Named) -> tuple[Rows, Named]:
    """Put all lanes of a sweep together from the files of its chunks.

    Returns:
        Their rows; and the numbers of devices, of lanes on each, of chunks and of shards; a list where shards differ.

    Raises:
        ValueError: if a file is of another sweep, or lanes are in none or in several.
    """
    parts = []
    for path in files:
        if (stored := results.read_arrays(path)) is None:
            continue
        (count, *leaves), found = stored
        results.require_identity(path, found, identity)
        identity = identity | {name: found[name] for name in ("generations", "names")}
        if count > int(found["generations"]):
            parts.append((*map(int, found["range"].split(":")), path, leaves, found))
    parts.sort(key=lambda part: part[:2])
    reached, before = 0, None
    for low, high, path, *_ in [*parts, (num_lanes, num_lanes, None)]:
        if low > reached:
            raise ValueError(f"lanes {reached} to {low - 1} of {num_lanes} are in no finished shard")
        if low < reached:
            raise ValueError(f"lanes {low} to {reached - 1} of {num_lanes} are in two shards, {before} and {path}")
        reached, before = high, path
    records, trouble = json.loads(identity["names"])
    whole = iter([np.concatenate(leaves) for leaves in zip(*(leaves for *_, leaves, _ in parts), strict=True)])
    rows = Rows({name: next(whole) for name in records}, {name: next(whole) for name in trouble})
    devices, lanes = (np.array([int(found[name]) for *_, found in parts]) for name in ("devices", "lanes"))
    different = {"devices": np.unique(devices).tolist(), "lanes_per_device": np.unique(lanes // devices).tolist()}
    layout = {name: each[0] if len(each) == 1 else each for name, each in different.items()}
    return rows, layout | {"chunks": len(parts), "shards": len({path.parent for *_, path, _, _ in parts})}


def kept_width(checkpoint: Path) -> int | None:
    """Read how many lanes ran at once in the sweep of a checkpoint, if there is one."""
    stored = results.read_arrays(checkpoint)
    return int(stored[1]["lanes"]) if stored and "lanes" in stored[1] else None
