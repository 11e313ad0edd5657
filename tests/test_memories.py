import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, assert_uniform

from jaxcollapse.base import Measure, counted
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import MEMORIES, buffer_memory, moments_memory, random_subset
from jaxcollapse.sizes import sizes

POOL, MAX_KEPT, DIM = 12, 4, 2
LOST = "points that found no room in the memory"


def kept_sets(seed, counts):
    """Pools with a random kept set each, and the list of all kept points."""
    rng = np.random.default_rng(seed)
    pools, kept = [], []
    for size in counts:
        points = rng.standard_normal((POOL, DIM)).astype(np.float32)
        chosen = np.sort(rng.choice(POOL, size, replace=False))
        weights = np.isin(np.arange(POOL), chosen).astype(np.float32)
        pools.append(Measure(jnp.asarray(points), jnp.asarray(weights)))
        kept.append(points[chosen])
    return pools, np.concatenate(kept)


def remember(memory, pools, max_kept=MAX_KEPT, num_generations=None):
    """Add pools to a memory with room for all of them, or for a number of generations."""
    room = len(pools) if num_generations is None else num_generations
    state = memory.init(pools[0], sizes(max_kept), room)
    for pool in pools:
        state = memory.add(state, pool, max_kept)
    return state


def training(memory, state):
    """Take out the training set, of a memory that lost nothing."""
    data, trouble = counted(memory.training(state))
    assert not any(trouble.values())
    return data


@pytest.mark.parametrize("counts", [(4, 4, 4), (1, 3, 2, 4), (0, 2, 0, 4, 1)])
def test_buffer_is_the_list_of_kept_points(counts):
    pools, kept = kept_sets(0, counts)
    state = remember(buffer_memory(), pools)
    assert state.count == len(kept)
    assert state.lost == 0
    assert_array_equal(state.measure.points[: len(kept)], kept)
    assert_array_equal(state.measure.weights, np.arange(MAX_KEPT * len(counts)) < len(kept))


def test_a_kept_set_as_large_as_the_pool_loses_nothing():
    pools, kept = kept_sets(5, (4, 7, 5))
    state = remember(buffer_memory(), pools, max_kept=POOL)
    assert state.count == len(kept)
    assert_array_equal(state.measure.points[: len(kept)], kept)


def test_points_beyond_the_capacity_are_left_out_and_counted():
    memory, capacity = buffer_memory(), 2 * MAX_KEPT
    pools, kept = kept_sets(6, (4, 3, 4, 2))
    roomy = [remember(memory, pools[:num]) for num in range(1, 5)]
    full = [remember(memory, pools[:num], num_generations=2) for num in range(1, 5)]
    assert [int(state.count) for state in full] == [4, 7, capacity, capacity]
    assert [int(state.lost) for state in full] == [0, 0, 3, 2]
    for state, whole in zip(full, roomy, strict=True):
        assert state.measure.points.shape == (capacity, DIM)
        # What was there stays where it was, and what is stored are the first that came.
        held = int(state.count)
        assert_array_equal(state.measure.points[:held], kept[:held])
        assert_array_equal(state.measure.points[:held], whole.measure.points[:held])
        assert_array_equal(state.measure.weights, np.arange(capacity) < held)
        data, trouble = memory.training(state)
        jax.tree.map(assert_array_equal, data, state.measure)
        assert trouble == {LOST: state.lost}
        sample, trouble = memory.subsample(jax.random.key(0), state, sizes(3, max_kept=MAX_KEPT))
        assert trouble == {LOST: state.lost}
        assert {tuple(row) for row in sample.points[:3].tolist()} <= {tuple(row) for row in kept[:held].tolist()}


def test_fresh_data_have_room_besides_kept_sets():
    kept, fresh = (kept_sets(seed, (count,))[0][0] for seed, count in ((7, MAX_KEPT), (8, 7)))
    memory, bounds = buffer_memory(), sizes(MAX_KEPT, num_fresh=7)
    state = memory.add(memory.add(memory.init(kept, bounds, 1), kept, bounds.max_kept), fresh, bounds.max_fresh)
    assert state.count == len(state.measure.weights) == MAX_KEPT + 7
    assert state.lost == 0


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_memories_remember_the_moments_of_everything(make):
    pools, kept = kept_sets(1, (4, 2, 3, 4))
    moments = as_moments(training(make(), remember(make(), pools)))
    assert moments.mass == len(kept)
    assert_allclose(moments.mean, kept.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(moments.covariance, np.cov(kept.T, bias=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_memories_start_empty_whatever_was_kept_first(make):
    pools, _ = kept_sets(2, (4,))
    poisoned = Measure(jnp.full_like(pools[0].points, jnp.nan), pools[0].weights)
    for leaf in jax.tree.leaves(make().init(poisoned, sizes(MAX_KEPT), 4)):
        assert_array_equal(leaf, np.zeros(leaf.shape))


def test_moments_memory_takes_moments():
    pools, _ = kept_sets(3, (4, 3))
    memory = moments_memory()
    expected = training(memory, remember(memory, pools))
    actual = training(memory, remember(memory, [as_moments(pool) for pool in pools]))
    jax.tree.map(assert_array_equal, actual, expected)


def test_only_the_buffer_can_subsample():
    assert moments_memory().subsample is None
    assert buffer_memory().subsample is not None


def test_subsample_takes_distinct_remembered_points():
    pools, kept = kept_sets(4, (4, 3, 4))
    memory = buffer_memory()
    state = remember(memory, pools)
    remembered = {tuple(row) for row in kept.tolist()}
    for num in range(MAX_KEPT + 1):
        bounds = dataclasses.replace(sizes(MAX_KEPT), num_kept=jnp.int32(num))
        sample, _ = memory.subsample(jax.random.key(num), state, bounds)
        assert_array_equal(sample.weights, np.arange(MAX_KEPT) < num)
        chosen = {tuple(row) for row in sample.points[:num].tolist()}
        assert len(chosen) == num
        assert chosen <= remembered


def test_subsample_carries_masses_along():
    points = jnp.arange(8.0).reshape(4, 2)
    memory, bounds = buffer_memory(), sizes(3, max_kept=4)
    state = memory.add(memory.init(uniform_measure(points), bounds, 1), Measure(points, jnp.arange(1.0, 5.0)), 4)
    sample, _ = memory.subsample(jax.random.key(0), state, bounds)
    # Masses 1..4 came with the first coordinates 0, 2, 4, 6.
    assert_array_equal(sample.weights[:3], sample.points[:3, 0] / 2 + 1)


@pytest.fixture(scope="module")
def draw_subsets():
    """Draw many subsets of traced size, at most six."""

    def many(seed, population, num, num_draws=40_000):
        keys = jax.random.split(jax.random.key(seed), num_draws)
        return jax.vmap(lambda key: random_subset(key, population, num, 6))(keys)

    compiled = jax.jit(many, static_argnames="num_draws")
    return lambda *args: np.asarray(compiled(*map(jnp.int32, args)))


@pytest.mark.parametrize(("population", "num"), [(2, 1), (4, 2), (5, 3), (6, 5), (7, 4), (10, 2)])
def test_every_subset_is_equally_likely(draw_subsets, population, num):
    draws = draw_subsets(population, population, num)[:, :num]
    index = {subset: i for i, subset in enumerate(itertools.combinations(range(population), num))}
    assert len(index) == math.comb(population, num)
    codes = [index[tuple(row)] for row in draws.tolist()]
    assert_uniform(np.bincount(codes, minlength=len(index)))


@pytest.mark.parametrize("population", [1, 3, 6])
def test_a_subset_of_everything_is_everything(draw_subsets, population):
    draws = draw_subsets(0, population, population)[:, :population]
    assert_array_equal(draws, np.broadcast_to(np.arange(population), draws.shape))


@pytest.mark.parametrize(("population", "num"), [(6, 0), (6, 2), (100, 5), (2**30, 6)])
def test_subsets_are_increasing_and_padded_within_range(draw_subsets, population, num):
    draws = draw_subsets(1, population, num)
    assert draws.min() >= 0
    assert draws.max() < population
    assert (np.diff(draws[:, :num], axis=1) > 0).all()


def test_pairs_of_a_large_subset_are_equally_likely():
    m, n, num_draws = 40, 17, 40_000
    keys = jax.random.split(jax.random.key(5), num_draws)
    draws = jax.jit(jax.vmap(lambda key: random_subset(key, jnp.int32(m), jnp.int32(n), 20)))(keys)[:, :n]
    member = np.zeros((num_draws, m), np.float32)
    np.put_along_axis(member, np.asarray(draws), 1, axis=1)
    assert_array_equal(member.sum(1), np.full(num_draws, n))
    pairs = (member.T @ member)[np.triu_indices(m, 1)] / num_draws
    p = n * (n - 1) / (m * (m - 1))
    assert_unbiased((pairs - p) / np.sqrt(p * (1 - p) / num_draws))
    assert_unbiased((member.mean(0) - n / m) / np.sqrt(n / m * (1 - n / m) / num_draws))
