"""Sweeps: many trajectories over named axes, compiled as one program and run in chunks of generations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxcollapse.base import Collapse, Controls
from jaxcollapse.trajectory import RecordFn, advance, start


class Trajectory(NamedTuple):
    """All that `run` needs but the number of generations."""

    key: Key[Array, ""]
    collapse: Collapse
    params: Any
    controls: Controls
    record_fn: RecordFn


class Progress(NamedTuple):
    """Where a sweep stands after a chunk.

    Attributes:
        generation: the last one done.
        state: of every lane, what the next chunk starts from.
        history: all records so far, host arrays [axes..., generation + 1, ...].
    """

    generation: int
    state: Any
    history: Any


def sweep(
    build: Callable[..., Trajectory],
    axes: Mapping[str, Any],
    num_generations: int,
    chunk_size: int | None = None,
    resume: Sequence[np.ndarray] | None = None,
) -> Iterator[Progress]:
    """Run `build(**point)` at every point of a product of axes.

    One program is traced and compiled, whatever the length of the axes; it is run once a chunk. Chunks have one
    size, so that a few generations beyond the last one may be computed; they are dropped.

    Args:
        build: makes one trajectory from one value of each axis. Values are traced: what changes shapes is fixed
            outside, one sweep for each static combination.
        axes: name to pytree of arrays, stacked along axis 0.
        num_generations: T.
        chunk_size: generations a chunk at most; all of them by default.
        resume: the leaves of an earlier `Progress`, to continue from; the result is the same, bit for bit.

    Yields:
        Progress at the start and after every chunk. The history's leading axes are in the order of `axes`.
    """
    num_chunks = max(1, -(-num_generations // (chunk_size or max(num_generations, 1))))
    size = -(-num_generations // num_chunks)

    def begin(point):
        t = build(**point)
        return start(t.key, t.collapse, t.params, t.controls, t.record_fn)

    def proceed(point, state):
        t = build(**point)
        return advance(t.key, t.collapse, state, t.controls, size, t.record_fn)

    for name in reversed(list(axes)):
        mapped = {other: 0 if other == name else None for other in axes}
        begin = jax.vmap(begin, in_axes=(mapped,))
        proceed = jax.vmap(proceed, in_axes=(mapped, 0))
    begin, proceed, points = jax.jit(begin), jax.jit(proceed), dict(axes)

    if resume is None:
        state, first = begin(points)
        progress = Progress(0, state, jax.tree.map(lambda x: np.expand_dims(x, len(axes)), first))
    else:
        state, first = jax.eval_shape(begin, points)
        generation, *leaves = resume
        state, history = jax.tree.unflatten(jax.tree.structure((state, first)), leaves)
        progress = Progress(int(generation), state, history)
    yield progress
    done, state, history = progress
    while done < num_generations:
        state, records = proceed(points, jax.tree.map(jnp.asarray, state))
        history = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=len(axes)), history, records)
        done = min(done + size, num_generations)
        kept = (slice(None),) * len(axes) + (slice(done + 1),)
        history = jax.tree.map(lambda x, kept=kept: x[kept], history)
        yield Progress(done, state, history)


def complete(chunks: Iterator[Progress]) -> Any:
    """Run a sweep to its end and return its history."""
    return list(chunks)[-1].history
