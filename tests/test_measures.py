import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse import measures
from jaxcollapse.base import Measure, Moments
from jaxcollapse.measures import blockwise, compact, concatenate, stack_padded, uniform_measure
from jaxcollapse.tree import row

as_moments, merge = jax.jit(measures.as_moments), jax.jit(measures.merge)


def weighted(seed, size=30, dim=3, offset=0.0):
    rng = np.random.default_rng(seed)
    points = offset + rng.standard_normal((size, dim)) @ rng.standard_normal((dim, dim))
    return Measure(jnp.asarray(points), jnp.asarray(rng.uniform(0, 3, size)))


def assert_moments(actual, expected, rtol=1e-12):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=rtol, atol=rtol), actual, expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(3))
def test_as_moments_agrees_with_numpy(seed):
    x, w = map(np.asarray, weighted(seed))
    expected = w.sum(), np.average(x, axis=0, weights=w), np.cov(x.T, aweights=w, ddof=0)
    assert_moments(as_moments(Measure(jnp.asarray(x), jnp.asarray(w))), Moments(*expected))


def test_moments_pass_through():
    moments = as_moments(weighted(0))
    assert measures.as_moments(moments) is moments


def test_uniform_measure_has_mass_one_each():
    measure = uniform_measure(jnp.ones((4, 2), jnp.float32))
    assert_array_equal(measure.weights, np.ones(4))
    assert measure.weights.dtype == jnp.float32


def test_float32_covariance_is_accurate_far_from_the_origin():
    # Second moments are 1e8 here: subtracted, they would leave a few multiples of eight.
    far = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weighted(1, size=1000, offset=1e4))
    x, w = (np.asarray(leaf, np.float64) for leaf in far)
    expected = np.cov(x.T, aweights=w, ddof=0)
    assert_allclose(as_moments(far).covariance, expected, atol=1e-4 * np.abs(expected).max())


def test_float32_merges_stay_accurate_far_from_the_origin():
    rng = np.random.default_rng(2)
    # A trajectory: each batch is narrower than the last, and all are far away.
    spread = np.geomspace(1, 1e-3, 200)[:, None, None]
    batches = (100 + spread * rng.standard_normal((200, 8, 2))).astype(np.float32)

    def add(state, points):
        return measures.merge(state, measures.as_moments(uniform_measure(points))), None

    empty = Moments(jnp.zeros(()), jnp.zeros(2), jnp.zeros((2, 2)))
    merged, _ = jax.lax.scan(add, empty, jnp.asarray(batches))
    everything = batches.reshape(-1, 2).astype(np.float64)
    assert merged.mass == 1600
    assert_allclose(merged.mean, everything.mean(0), rtol=1e-6)
    assert_allclose(merged.covariance, np.cov(everything.T, bias=True), rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_merge_is_the_moments_of_the_union():
    first, second = weighted(3), weighted(4, size=7, offset=5.0)
    union = as_moments(concatenate([first, second]))
    assert_moments(merge(as_moments(first), as_moments(second)), union)
    assert_moments(merge(as_moments(second), as_moments(first)), union)


def test_merging_an_empty_measure_changes_nothing():
    some = as_moments(weighted(5))
    empty = jax.tree.map(jnp.zeros_like, some)
    for merged in merge(some, empty), merge(empty, some):
        jax.tree.map(assert_array_equal, merged, some)
    jax.tree.map(assert_array_equal, merge(empty, empty), empty)


def test_empty_measure_has_moments_zero():
    empty = as_moments(Measure(jnp.ones((5, 2)), jnp.zeros(5)))
    jax.tree.map(lambda leaf: assert_array_equal(leaf, np.zeros(leaf.shape)), empty)


@pytest.mark.usefixtures("x64")
def test_points_of_mass_zero_do_not_count():
    x, w = weighted(6)
    x, w = np.asarray(x), w * (np.arange(30) % 3 > 0)
    sliced = Measure(x[w > 0], w[w > 0])
    moved = Measure(np.where(w[:, None] > 0, x, 1e6), w)
    assert_moments(as_moments(moved), as_moments(sliced))


@pytest.mark.usefixtures("x64")
def test_scaling_masses_scales_the_mass_alone():
    x, w = weighted(7)
    single, double = as_moments(Measure(x, w)), as_moments(Measure(x, 2 * w))
    assert_moments(double, single._replace(mass=2 * single.mass))


def test_compact_keeps_the_kept_in_their_order():
    points = jnp.arange(20.0).reshape(10, 2)
    kept = jnp.array([0, 1, 0, 0, 1, 0, 1, 0, 0, 0], jnp.float32)
    small = compact(Measure(points, kept), 4)
    assert_array_equal(small.points[:3], points[np.array([1, 4, 6])])
    assert_array_equal(small.weights, [1, 1, 1, 0])


def test_compact_fills_up_at_the_origin():
    points, weights = 1 + jnp.arange(10.0).reshape(5, 2), jnp.array([0.0, 1, 0, 1, 1])
    small = compact(Measure(points, weights), 6)
    assert_array_equal(small.weights, [1, 1, 1, 0, 0, 0])
    assert_array_equal(small.points, [*points[jnp.array([1, 3, 4])], [0, 0], [0, 0], [0, 0]])


def test_compact_takes_the_first_where_too_many_have_mass():
    measure = weighted(9)
    assert_array_equal(compact(measure, 5).weights, measure.weights[measure.weights > 0][:5])


@pytest.mark.usefixtures("x64")
def test_stacked_measures_keep_their_moments():
    parts = [weighted(seed, size=size) for seed, size in enumerate((3, 9, 5))]
    stacked = stack_padded(parts)
    assert stacked.points.shape == (3, 9, 3)
    assert_array_equal(stacked.weights[0, 3:], np.zeros(6))
    assert_array_equal(stacked.points[0, 3:], np.broadcast_to(parts[0].points[0], (6, 3)))
    moments = jax.device_get(as_moments(stacked))
    for k, part in enumerate(parts):
        assert_moments(row(moments, k), as_moments(part))


@pytest.mark.parametrize(
    ("size", "filled"), [(5, 3), (2048, 2048), (5000, 2048), (5000, 2049), (5000, 5000), (5000, 0)]
)
def test_blocks_cover_all_that_has_mass(size, filled):
    weights = jnp.where(jnp.arange(size) < filled, jnp.arange(size) % 3, 0).astype(jnp.float32)
    data = Measure(jnp.arange(2 * size, dtype=jnp.float32).reshape(size, 2), weights)
    add = lambda total, block: (total[0] + block.weights @ (block.points % 7), total[1] + 1)
    total, num_blocks = jax.jit(lambda data: blockwise(data)(add, (jnp.zeros(2), 0)))(data)
    assert_array_equal(total, data.weights @ (data.points % 7))
    assert num_blocks == -(-filled // 2048)
