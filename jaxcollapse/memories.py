"""Memories: merged moments for exponential families, a buffer for everything that needs points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from jaxcollapse.base import Data, Measure, Memory, Moments, zeros_like_shape
from jaxcollapse.measures import as_moments, compact, merge


def moments_memory() -> Memory:
    """Remember mass, mean and covariance only: constant time and memory a generation, exact for Gaussians."""

    def init(batch: Data) -> Moments:
        return zeros_like_shape(jax.eval_shape(as_moments, batch))

    def add(state: Moments, batch: Data) -> Moments:
        return merge(state, as_moments(batch))

    return Memory(init, add, training=lambda state: state, subsample=None)


class Buffer(NamedTuple):
    """Points in order of arrival; those from `count` on are padding of mass zero.

    Attributes:
        measure: shape [capacity, d].
        count: how many points are stored, shape [].
    """

    measure: Measure
    count: Int[Array, ""]


def buffer_memory(capacity: int, max_batch: int) -> Memory:
    """Remember up to `capacity` points, of which a batch brings at most `max_batch` with positive mass.

    The capacity covers `max_batch` points for every generation that is remembered; a fuller buffer
    overwrites its newest points.
    """

    def init(batch: Measure) -> Buffer:
        dim, dtype = batch.points.shape[-1], batch.points.dtype
        empty = Measure(jnp.zeros((capacity, dim), dtype), jnp.zeros(capacity, dtype))
        return Buffer(empty, jnp.zeros((), jnp.int32))

    def add(state: Buffer, batch: Measure) -> Buffer:
        batch = compact(batch, max_batch)
        update = jax.lax.dynamic_update_slice_in_dim
        measure = Measure(
            update(state.measure.points, batch.points, state.count, axis=0),
            update(state.measure.weights, batch.weights, state.count, axis=0),
        )
        return Buffer(measure, state.count + jnp.sum(batch.weights > 0, dtype=jnp.int32))

    def subsample(key: Key[Array, ""], state: Buffer, num: Array) -> Measure:
        index = random_subset(key, state.count, num, max_batch)
        chosen = jnp.arange(max_batch) < num
        return Measure(state.measure.points[index], jnp.where(chosen, state.measure.weights[index], 0))

    return Memory(init, add, training=lambda state: state.measure, subsample=subsample)


def random_subset(
    key: Key[Array, ""], population: Int[Array, ""], num: Int[Array, ""], max_num: int
) -> Int[Array, " max_num"]:
    r"""Draw `num` of `range(population)` uniformly without replacement, in :math:`O(n \log n)` whatever the population.

    Sorted subsets of size n correspond one to one to multisets of :math:`M = m - n + 1` items, by
    :math:`x_i = y_i + i`, and Polya's urn draws multisets uniformly: draw i takes one of the M items or
    repeats one of the i earlier draws, each with equal probability. Repeats are resolved together by
    pointer doubling, so the trip count is fixed and nothing is rejected. Uniform to the m in 2^32 that 32 bits allow.

    Args:
        key: random key.
        population: m, at least `num`, shape [].
        num: n, at most `max_num`, shape [].
        max_num: static size of the result.

    Returns:
        Distinct indices in the first `num` entries, increasing; the rest is padding within range.
    """
    items = population - num + 1
    position = jnp.arange(max_num, dtype=jnp.int32)
    bits = jax.random.bits(key, (max_num,), jnp.uint32)
    draw = (bits % (items + position).astype(jnp.uint32)).astype(jnp.int32)
    parent = jnp.where(draw < items, position, draw - items)
    num_doublings = max(max_num - 1, 1).bit_length()
    parent = jax.lax.fori_loop(0, num_doublings, lambda _, parent: parent[parent], parent)
    multiset = jnp.sort(jnp.where(position < num, draw[parent], items - 1))
    return multiset + jnp.minimum(position, num - 1)
