import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, assert_uniform

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory, random_subset

POOL, MAX_BATCH, DIM = 12, 4, 2


def batches(seed, sizes):
    """Pools with a random kept set each, and the list of all kept points."""
    rng = np.random.default_rng(seed)
    pools, kept = [], []
    for size in sizes:
        points = rng.standard_normal((POOL, DIM)).astype(np.float32)
        chosen = np.sort(rng.choice(POOL, size, replace=False))
        weights = np.isin(np.arange(POOL), chosen).astype(np.float32)
        pools.append(Measure(jnp.asarray(points), jnp.asarray(weights)))
        kept.append(points[chosen])
    return pools, np.concatenate(kept)


def remember(memory, pools):
    state = memory.init(pools[0])
    for pool in pools:
        state = memory.add(state, pool)
    return state


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 3, 2, 4), (0, 2, 0, 4, 1)])
def test_buffer_is_the_list_of_kept_points(sizes):
    pools, kept = batches(0, sizes)
    state = remember(buffer_memory(MAX_BATCH * len(sizes), MAX_BATCH), pools)
    assert state.count == len(kept)
    assert_array_equal(state.measure.points[: len(kept)], kept)
    assert_array_equal(state.measure.weights, np.arange(MAX_BATCH * len(sizes)) < len(kept))


def test_a_batch_as_large_as_the_pool_loses_nothing():
    pools, kept = batches(5, (4, 7, 5))
    state = remember(buffer_memory(3 * POOL, POOL), pools)
    assert state.count == len(kept)
    assert_array_equal(state.measure.points[: len(kept)], kept)


@pytest.mark.parametrize("memory", [moments_memory(), buffer_memory(16, MAX_BATCH)])
def test_memories_remember_the_moments_of_everything(memory):
    pools, kept = batches(1, (4, 2, 3, 4))
    moments = as_moments(memory.training(remember(memory, pools)))
    assert moments.mass == len(kept)
    assert_allclose(moments.mean, kept.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(moments.covariance, np.cov(kept.T, bias=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory", [moments_memory(), buffer_memory(16, MAX_BATCH)])
def test_memories_start_empty_whatever_the_first_batch_holds(memory):
    pools, _ = batches(2, (4,))
    poisoned = Measure(jnp.full_like(pools[0].points, jnp.nan), pools[0].weights)
    for leaf in jax.tree.leaves(memory.init(poisoned)):
        assert_array_equal(leaf, np.zeros(leaf.shape))


def test_moments_memory_takes_moments():
    pools, _ = batches(3, (4, 3))
    memory = moments_memory()
    expected = memory.training(remember(memory, pools))
    actual = memory.training(remember(memory, [as_moments(pool) for pool in pools]))
    jax.tree.map(assert_array_equal, actual, expected)


def test_only_the_buffer_can_subsample():
    assert moments_memory().subsample is None
    assert buffer_memory(4, 4).subsample is not None


def test_subsample_takes_distinct_remembered_points():
    pools, kept = batches(4, (4, 3, 4))
    memory = buffer_memory(12, MAX_BATCH)
    state = remember(memory, pools)
    remembered = {tuple(row) for row in kept.tolist()}
    for num in range(MAX_BATCH + 1):
        sample = memory.subsample(jax.random.key(num), state, jnp.int32(num))
        assert_array_equal(sample.weights, np.arange(MAX_BATCH) < num)
        chosen = {tuple(row) for row in sample.points[:num].tolist()}
        assert len(chosen) == num
        assert chosen <= remembered


def test_subsample_carries_masses_along():
    points = jnp.arange(8.0).reshape(4, 2)
    memory = buffer_memory(4, 4)
    state = memory.add(memory.init(uniform_measure(points)), Measure(points, jnp.arange(1.0, 5.0)))
    sample = memory.subsample(jax.random.key(0), state, jnp.int32(3))
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
