"""Sliced transport against POT, SciPy and closed forms, in double precision."""

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from numpy.testing import assert_allclose
from oracle import assert_unbiased
from scipy import stats

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.metrics import sliced_w
from jaxcollapse.transport import sliced

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
sliced_wasserstein = jax.jit(sliced.sliced_wasserstein, static_argnums=(3, 4))


def weighted(seed, size, dim=3):
    rng = np.random.default_rng(seed)
    return Measure(jnp.asarray(rng.standard_normal((size, dim))), jnp.asarray(rng.uniform(0, 3, size)))


def shares(measure):
    return np.asarray(measure.weights / measure.weights.sum())


@pytest.mark.parametrize(("p", "sizes"), [(1, (40, 40)), (2, (57, 23)), (3, (57, 23))])
def test_sliced_distance_agrees_with_pot(p, sizes):
    first, second = map(weighted, (1, 2), sizes)
    projections = np.asarray(sliced.random_directions(KEY, 30, 3)).T
    expected = ot.sliced_wasserstein_distance(
        *map(np.asarray, (first.points, second.points)), *map(shares, (first, second)), p=p, projections=projections
    )
    assert_allclose(sliced_wasserstein(KEY, first, second, 30, p), expected, rtol=1e-10)


def test_tiles_of_projections_change_nothing(monkeypatch):
    first, second = weighted(1, 57), weighted(2, 23)
    whole = sliced_wasserstein(KEY, first, second, 30, 2)
    monkeypatch.setattr(sliced, "_TILE", 80 * 7)
    tiled = jax.jit(lambda first, second: sliced.sliced_wasserstein(KEY, first, second, 30))
    assert_allclose(tiled(first, second), whole, rtol=1e-12)


def test_the_line_is_solved_exactly():
    first, second = weighted(3, 31, dim=1), weighted(4, 19, dim=1)
    expected = stats.wasserstein_distance(
        *(np.ravel(m.points) for m in (first, second)), *(np.asarray(m.weights) for m in (first, second))
    )
    assert_allclose(sliced_wasserstein(KEY, first, second, 9, 1), expected, rtol=1e-12)


def test_ties_and_equal_levels():
    first = Measure(jnp.array([[0.0], [0.0], [1.0], [1.0]]), jnp.ones(4))
    second = Measure(jnp.array([[1.0], [0.0]]), jnp.array([3.0, 1.0]))
    for p in (1, 2.5):
        assert_allclose(sliced_wasserstein(KEY, first, second, 1, p), 0.25 ** (1 / p), rtol=1e-14)


gradient = jax.jit(jax.grad(sliced.sliced_wasserstein, argnums=1), static_argnums=(3, 4))


def test_distance_to_itself_is_zero():
    measure = weighted(5, 40)
    order = np.random.default_rng(0).permutation(40)
    assert sliced_wasserstein(KEY, measure, measure, 30, 2) == 0
    shuffled = Measure(*(np.asarray(leaf)[order] for leaf in measure))
    assert sliced_wasserstein(KEY, measure, shuffled, 30, 2) < 1e-7
    assert all(np.isfinite(leaf).all() for leaf in gradient(KEY, measure, measure, 30, 2))


def test_gradient_agrees_with_differences():
    first, second = weighted(10, 40), weighted(11, 40)
    direction, h = Measure(*(jnp.cos(1 + jnp.arange(leaf.size)).reshape(leaf.shape) for leaf in first)), 1e-5
    ahead, behind = (
        sliced_wasserstein(KEY, jax.tree.map(lambda x, v, s=s: x + s * h * v, first, direction), second, 30, 2)
        for s in (1, -1)
    )
    slope = sum(jnp.vdot(g, v) for g, v in zip(gradient(KEY, first, second, 30, 2), direction, strict=True))
    assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_translation(p):
    measure, shift = weighted(6, 40), np.array([1.0, -2.0, 0.5])
    moved = measure._replace(points=measure.points + shift)
    along = np.abs(sliced.random_directions(KEY, 30, 3) @ shift)
    assert_allclose(sliced_wasserstein(KEY, measure, moved, 30, p), np.mean(along**p) ** (1 / p), rtol=1e-12)


def test_directions_are_uniform_on_the_sphere():
    theta = np.asarray(sliced.random_directions(KEY, 20_000, 3))
    assert_allclose(np.linalg.norm(theta, axis=1), 1, rtol=1e-12)
    samples = np.concatenate([theta, theta[:, :, None].repeat(3, 2).reshape(-1, 9) * np.tile(theta, 3)], axis=1)
    expected = np.append(np.zeros(3), np.eye(3).ravel() / 3)
    assert_unbiased((samples.mean(0) - expected) / (samples.std(0, ddof=1) / np.sqrt(len(samples))))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_padding_and_the_scale_of_masses_change_nothing(dtype):
    first, second = jax.tree.map(dtype, (weighted(7, 57), weighted(8, 23)))
    expected = sliced_wasserstein(KEY, first, second, 30, 2)
    for filler in (1e6, -1e6, jnp.inf):
        points = np.concatenate([first.points, np.full((9, 3), filler, dtype)])
        padded = Measure(points, 7 * np.pad(first.weights, (0, 9)))
        actual = sliced_wasserstein(KEY, padded, second, 30, 2)
        assert actual.dtype == dtype
        assert_allclose(actual, expected, rtol=50 * jnp.finfo(dtype).eps)


def test_a_measure_without_mass_has_no_distance():
    measure = weighted(9, 40)
    empty = measure._replace(weights=jnp.zeros(40))
    assert np.isnan(sliced_wasserstein(KEY, measure, empty, 30, 2))


def test_key_decides_the_directions():
    first, second = weighted(12, 40), weighted(13, 40)
    values = [sliced_wasserstein(jax.random.key(seed), first, second, 30, 2) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(("kwargs", "message"), [({"p": 0.5}, "p = 0.5"), ({"num_projections": 0}, "num_projections")])
def test_orders_and_numbers_below_one_are_refused(kwargs, message):
    measure = weighted(14, 3)
    with pytest.raises(ValueError, match=message):
        sliced.sliced_wasserstein(KEY, measure, measure, **{"num_projections": 5} | kwargs)


def test_distance_keeps_the_laws():
    cases = [(jax.random.key(i), weighted(i, 16), weighted(i + 5, 11)) for i in range(3)]
    conformance.check_transforms(lambda *args: sliced.sliced_wasserstein(*args, 6), *cases)


def test_metric_compares_points_and_refuses_moments():
    generated, truth = weighted(15, 40), uniform_measure(weighted(16, 40).points)
    metric = sliced_w(num_projections=30)
    assert_allclose(metric(KEY, generated, truth), sliced_wasserstein(KEY, generated, truth, 30, 2), rtol=1e-12)
    with pytest.raises(
        TypeError, match="generated = Moments: sliced_w needs points, a Measure, as buffer_memory keeps them"
    ):
        jax.eval_shape(metric, KEY, as_moments(generated), truth)
    with pytest.raises(
        TypeError, match="truth = Moments: sliced_w needs points, a Measure, as buffer_memory keeps them"
    ):
        jax.eval_shape(metric, KEY, generated, as_moments(truth))
