"""Laplace coordinates against NumPy, SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FAMILY_RISK, assert_unbiased, upper, z_scores
from scipy import stats

from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators import laplace
from jaxcollapse.generators.laplace import Laplace, laplace_moments
from jaxcollapse.measures import uniform_measure

KEY = jax.random.key(0)
MODEL = laplace()
fit = jax.jit(lambda data: MODEL.fit(KEY, None, data))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [31, 40])
def test_fit_is_that_of_scipy(size):
    x = np.random.default_rng(size).standard_cauchy((size, 3))
    params, data = fit(uniform_measure(x)), uniform_measure(x)
    assert_allclose(params, np.transpose([stats.laplace.fit(column) for column in x.T]), rtol=1e-12)
    assert_allclose(jax.jit(MODEL.init)(KEY, data), params, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_masses_count_as_repetitions():
    rng = np.random.default_rng(0)
    tied = 0
    for _ in range(30):
        x, w = rng.integers(0, 20, (8, 2)) + 0.5, rng.integers(0, 4, 8)
        repeated = np.repeat(x, w, axis=0)
        location = np.median(repeated, axis=0)
        tied += (~np.isin(location, x)).sum()
        params = fit(Measure(jnp.asarray(x), jnp.asarray(w, float)))
        assert_array_equal(params.location, location)
        assert_allclose(params.scale, np.abs(repeated - location).mean(axis=0), rtol=1e-12)
    assert tied > 5


@pytest.mark.usefixtures("x64")
def test_fit_maximises_the_likelihood_for_any_masses():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((40, 3)), rng.uniform(0, 2, 40)
    params = fit(Measure(jnp.asarray(x), jnp.asarray(w)))
    total = np.einsum("n,mnd->md", w, np.abs(x[:, None] - x))  # the least is at a point
    assert_allclose(params.scale * w.sum(), total.min(axis=0), rtol=1e-12)
    assert_array_equal(params.location, x[total.argmin(axis=0), np.arange(3)])


@pytest.mark.parametrize("size", [10, 1000, 200_000])
@pytest.mark.parametrize("mass", [0.1, 1 / 3, 1e-20])
def test_rounding_breaks_no_tie(size, mass):
    x = np.float32(np.random.default_rng(2).standard_normal((size, 3)))
    params = fit(Measure(jnp.asarray(x), jnp.full(size, mass, jnp.float32)))
    assert_array_equal(params.location, np.median(x, axis=0))
    assert_allclose(params.scale, np.abs(x - np.median(x, axis=0)).mean(axis=0, dtype=float), rtol=1e-6)


@pytest.mark.parametrize("spread", [0, 10])
def test_median_of_any_masses_is_that_of_exact_sums_in_any_order(spread):
    rng, size = np.random.default_rng(4), 1000
    for _ in range(20):
        x = np.float32(rng.standard_normal((size, 1)))
        # Halves of a thousand different masses each, and of one rounding unit more on one side.
        half = np.float32(rng.uniform(0.5, 1, size // 2) * 2.0 ** -rng.integers(0, spread + 1, size // 2))
        masses = np.concatenate([rng.permutation(half), rng.permutation(half)])
        order = np.argsort(x[:, 0])
        w = np.empty(size, np.float32)
        w[order] = masses
        middle = np.float32(x[order[size // 2 - 1]] + x[order[size // 2]]) / 2
        assert_array_equal(fit(Measure(jnp.asarray(x), jnp.asarray(w))).location, middle)
        w[order[-1]] = np.nextafter(w[order[-1]], np.float32(2))
        assert_array_equal(fit(Measure(jnp.asarray(x), jnp.asarray(w))).location, x[order[size // 2]])


def test_unfilled_memory_and_signed_zeros_change_nothing():
    rng = np.random.default_rng(3)
    x = np.float32(rng.standard_normal((5000, 3)) * [1e-30, 1, 1e30]) + np.float32([0, -5, 0])
    x[rng.uniform(size=x.shape) < 0.3] = 0
    x[::2] *= -1
    filled = np.arange(5000) < 3001
    expected = np.median(x[filled], axis=0)
    x[~filled] = np.nan
    params = fit(Measure(jnp.asarray(x), jnp.asarray(filled, jnp.float32)))
    assert_allclose(params.location, expected, rtol=1e-6, atol=1e-37)


def test_degenerate_data():
    point = jnp.array([3.0, -2.0, 1e6])
    params = fit(uniform_measure(jnp.tile(point, (10, 1))))
    assert_array_equal(params.location, point)
    assert_array_equal(params.scale, np.zeros(3))
    assert_array_equal(MODEL.sample(KEY, params, 5), np.tile(point, (5, 1)))
    empty = fit(Measure(jnp.tile(point, (10, 1)), jnp.zeros(10)))
    assert all(np.isfinite(leaf).all() for leaf in empty)


def test_samples_are_independent_laplace_coordinates():
    location, scale = np.array([1.0, -3.0, 0.0]), np.array([0.5, 2.0, 1.0])
    x = np.asarray(MODEL.sample(KEY, Laplace(jnp.float32(location), jnp.float32(scale)), 50_000), np.float64)
    for column, m, b in zip(x.T, location, scale, strict=True):
        assert stats.kstest(column, stats.laplace(m, b).cdf).pvalue > FAMILY_RISK / 3
    unit = (x - location) / scale
    assert_unbiased(z_scores(np.abs(unit), 1))
    # Products of coordinates, and of their sizes: 0 and 1 where independent, 2 and 2 of a coordinate with itself.
    for y, expected in ((unit, np.eye(3) * 2), (np.abs(unit), np.eye(3) + 1)):
        assert_unbiased(z_scores(upper(y[:, :, None] * y[:, None, :]), upper(expected)))


@pytest.mark.parametrize("function", [MODEL.init, lambda key, data: MODEL.fit(key, None, data)])
def test_moments_are_refused(function):
    with pytest.raises(TypeError, match="data = Moments: laplace needs points, a Measure, as buffer_memory keeps them"):
        function(KEY, Moments(jnp.float32(1), jnp.zeros(2), jnp.eye(2)))


def test_moments_are_those_of_scipy():
    location, scale = np.array([1.0, -2.0, 0.5]), np.array([0.1, 3.0, 0.0])
    mass, mean, covariance = laplace_moments(Laplace(jnp.float32(location), jnp.float32(scale)))
    law = stats.laplace(location[:2], scale[:2])
    assert mass == 1
    assert_allclose(mean, [*law.mean(), 0.5], rtol=1e-6)
    assert_allclose(covariance, np.diag([*law.var(), 0]), rtol=1e-6)
