"""Lanes: the points of a sweep's product of axes, run in chunks of one width over the devices of a mesh."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcollapse.checks import device_memory, memory_needed
from jaxcollapse.tree import is_key, num_bytes, row

Programs = Sequence[jax.stages.Lowered]
LANES, WHOLE = PartitionSpec("lanes"), PartitionSpec()
# Share of the memory that a chunk may take: the rest is for records on the host, and for others. Chunks of half a GPU
# found no room on it: its allocator cuts memory into regions, and an array must lie in one.
FILLED = 0.25


class Layout(NamedTuple):
    """Lanes low, ..., high - 1 of all, in chunks of one width.

    Attributes:
        mesh: of the devices, among which a chunk is divided.
        shape: lengths of the axes, whose product in C order the lanes are.
        low: first of the lanes that are run.
        high: end of them.
        width: lanes of a chunk; the last one repeats its last lane up to there.
    """

    mesh: Mesh
    shape: tuple[int, ...]
    low: int
    high: int
    width: int

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """List the first lane and the end of each chunk."""
        return [(low, min(low + self.width, self.high)) for low in range(self.low, self.high, self.width)]

    @property
    def least(self) -> int:
        """Count the lanes of the smallest chunk: a program of one lane a device rounds differently from others."""
        return min(math.prod(self.shape), 2) * self.mesh.size

    def at_most(self, width: float) -> "Layout":
        """Cut the lanes into the fewest chunks of at most a width, or of the least, and balance them."""
        most = max(int(width) // self.mesh.size * self.mesh.size, self.least)
        balanced = math.ceil((self.high - self.low) / math.ceil((self.high - self.low) / most))
        return self.of_width(balanced)

    def of_width(self, width: int) -> "Layout":
        """Cut the lanes into chunks of a width, rounded up to what the devices share."""
        return self._replace(width=max(-(-width // self.mesh.size) * self.mesh.size, self.least))

    def take(self, axes: Mapping[str, Any], low: int, high: int) -> tuple[jax.Array, dict[str, Any]]:
        """Put a chunk's lanes on the devices: their numbers, and the values of each axis."""
        lanes = np.minimum(np.arange(low, low + self.width), high - 1)
        at = np.unravel_index(lanes, self.shape)
        values = {name: row(values, index) for (name, values), index in zip(axes.items(), at, strict=True)}
        return put((lanes.astype(np.int32), values), self.mesh, LANES)

    def over_lanes(self, function: Callable, in_axes: tuple[int | None, ...], **options: Any) -> Any:
        """Map a function over a chunk as `jax.vmap` does, each device over its own lanes.

        The devices exchange nothing, and each runs the program of as many lanes on one device.
        """
        specs = tuple(WHOLE if axis is None else LANES for axis in in_axes)
        over = {"mesh": self.mesh, "in_specs": specs, "out_specs": LANES, "check_vma": False}
        places = tuple(NamedSharding(self.mesh, spec) for spec in specs)
        return jax.jit(jax.shard_map(jax.vmap(function, in_axes), **over), in_shardings=places, **options)


def mesh_of(devices: Sequence[Any]) -> Mesh:
    """Lay devices along the axis `lanes`."""
    return Mesh(np.asarray(devices), ("lanes",))


def share(num_lanes: int, index: int, count: int) -> tuple[int, int]:
    """Find the first lane and the end of share `index`, from 1, of `count` contiguous ones."""
    return num_lanes * (index - 1) // count, num_lanes * index // count


def put(tree: Any, mesh: Mesh, spec: PartitionSpec = WHOLE) -> Any:
    """Put arrays on the devices of a mesh, whole on each unless they are divided."""
    place = NamedSharding(mesh, spec)
    if mesh.is_multi_process:  # what `device_put` refuses
        return jax.jit(lambda tree: tree, out_shardings=place)(tree)
    return jax.device_put(tree, place)


def fit(
    layout: Layout,
    lower: Callable[[Layout], Programs],
    compile_: Callable[[Layout, Programs], Sequence[jax.stages.Compiled]],
    shared: Any,
) -> tuple[Layout, Programs, Sequence[jax.stages.Compiled]]:
    r"""Find the widest chunks whose programs fit in memory, by what these say that they need.

    .. math:: w' = w \, (M - s) / (m(w) - s).

    Args:
        layout: of chunks of any width.
        lower: traces the programs of a layout.
        compile_: compiles them.
        shared: arrays that all lanes share, of s bytes.

    Returns:
        The layout, w lanes wide or of the least width; its programs; and, if they were tried, the same compiled.
    """
    layout = layout.at_most(layout.high - layout.low)
    devices, own = list(layout.mesh.devices), num_bytes(shared)
    room = float(agreed(layout.mesh, np.float32(FILLED * device_memory(devices))))
    while True:
        programs, compiled = lower(layout), []
        if layout.width == layout.least:
            return layout, programs, compiled
        if memory_needed(programs, devices) <= room:
            compiled = compile_(layout, programs)
            if memory_needed(compiled, devices) <= room:
                return layout, programs, compiled
        per_lane = (memory_needed(compiled or programs, devices) - own) / layout.width
        layout = layout.at_most(min(max(room - own, 0) / per_lane, layout.width - 1))


def compile_all(programs: Programs) -> list[jax.stages.Compiled]:
    """Compile programs."""
    return [program.compile() for program in programs]


def on_host(tree: Any) -> Any:
    """Bring arrays but random keys to the host, in a run of several processes to that of each."""

    def bring(leaf: Any) -> Any:
        if is_key(leaf):
            return leaf
        elsewhere = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if elsewhere else leaf)

    return jax.tree.map(bring, tree)


def agreed(mesh: Mesh, value: Any) -> Any:
    """Take the first process's value for that of all."""
    return multihost_utils.broadcast_one_to_all(value) if mesh.is_multi_process else value
