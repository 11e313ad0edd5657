"""Memories: merged moments for exponential families, a buffer for everything that needs points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from jaxcollapse.base import Counted, Data, Measure, Memory, Sizes
from jaxcollapse.measures import Merged, as_moments, compact, exact, merge_exactly
from jaxcollapse.tree import zeros_like_shape


class Summary(NamedTuple):
    """Moments of all that was added.

    Attributes:
        moments: with what rounding leaves out of them: a run of any length rounds like one generation.
        lost: how many points of the last addition were more than its bound, shape [].
    """

    moments: Merged
    lost: Int[Array, ""]


def moments_memory() -> Memory:
    """Remember mass, mean and covariance only: constant time and memory a generation, exact for Gaussians.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> memory, kept = jc.moments_memory(), jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state = memory.init(kept, jc.sizes(2), 2)
        >>> state = memory.add(memory.add(state, kept, 2), kept, 2)
        >>> float(memory.training(state).value.mass)
        4.0
    """

    def init(kept: Data, sizes: Sizes, num_generations: int) -> Summary:
        return Summary(exact(zeros_like_shape(jax.eval_shape(as_moments, kept))), jnp.zeros((), jnp.int32))

    def add(state: Summary, data: Data, max_points: int) -> Summary:
        lost = jnp.zeros((), jnp.int32)
        if isinstance(data, Measure) and max_points < len(data.weights):  # to sum few points, not the whole pool
            lost = jnp.maximum(jnp.sum(data.weights > 0, dtype=jnp.int32) - max_points, 0)
            data = compact(data, max_points)
        return Summary(merge_exactly(state.moments, exact(as_moments(data))), lost)

    return Memory(init, add, lambda state: count_lost(state, state.moments.moments), subsample=None)


class Buffer(NamedTuple):
    """Points in order of arrival; those from `count` on are padding of mass zero.

    Attributes:
        measure: shape [capacity, d].
        count: how many points are stored, shape [].
        lost: how many of the last addition found no room, or were more than its bound, shape [].
    """

    measure: Measure
    count: Int[Array, ""]
    lost: Int[Array, ""]


def count_lost(state: Summary | Buffer, training: Data) -> Counted:
    """Count what a memory's last addition lost.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> memory, kept = jc.buffer_memory(), jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state = memory.init(kept, jc.sizes(2), 1)  # with room for one kept set
        >>> state = memory.add(memory.add(state, kept, 2), kept, 2)
        >>> {name: int(count) for name, count in memory.training(state).trouble.items()}
        {'points that found no room in the memory': 2}
    """
    return Counted(training, {"points that found no room in the memory": state.lost})


def buffer_memory() -> Memory:
    """Remember points. Those that find no room are left out, and counted.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> memory, kept = jc.buffer_memory(), jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state = memory.add(memory.init(kept, jc.sizes(2), 2), kept, 2)  # with room for two kept sets
        >>> print(memory.training(state).value.weights)
        [1. 1. 0. 0.]
    """

    def init(kept: Measure, sizes: Sizes, num_generations: int) -> Buffer:
        capacity = max(num_generations, 1) * sizes.max_kept + sizes.max_fresh
        dim, dtype = kept.points.shape[-1], kept.points.dtype
        empty = Measure(jnp.zeros((capacity, dim), dtype), jnp.zeros(capacity, dtype))
        return Buffer(empty, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def add(state: Buffer, data: Measure, max_points: int) -> Buffer:
        num_given = jnp.sum(data.weights > 0, dtype=jnp.int32)
        data, capacity = compact(data, max_points), len(state.measure.weights)
        place = state.count + jnp.arange(len(data.weights))
        measure = jax.tree.map(lambda old, new: old.at[place].set(new, mode="drop"), state.measure, data)
        count = jnp.minimum(state.count + jnp.sum(data.weights > 0, dtype=jnp.int32), capacity)
        return Buffer(measure, count, state.count + num_given - count)

    def subsample(key: Key[Array, ""], state: Buffer, sizes: Sizes) -> Counted:
        index = random_subset(key, state.count, sizes.num_kept, sizes.max_kept)
        chosen = jnp.arange(sizes.max_kept) < sizes.num_kept
        weights = jnp.where(chosen, state.measure.weights[index], 0)
        return count_lost(state, Measure(state.measure.points[index], weights))

    return Memory(init, add, lambda state: count_lost(state, state.measure), subsample)


MEMORIES = {"moments": moments_memory, "buffer": buffer_memory}


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

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.memories import random_subset
        >>> subset = random_subset(jax.random.key(0), jnp.int32(10), jnp.int32(3), max_num=3)
        >>> len(set(subset.tolist()) & set(range(10)))  # distinct, of 0 to 9
        3
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
