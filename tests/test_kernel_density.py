import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FAMILY_RISK, assert_unbiased, random_covariance, upper, z_scores
from scipy import stats

from jaxcollapse.base import Measure
from jaxcollapse.generators import kernel_density
from jaxcollapse.generators.kernel_density import scott, silverman
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.selectors import keep_all
from jaxcollapse.sizes import sizes
from jaxcollapse.theory.kernel_density import fixed_bandwidth, relative_bandwidth
from jaxcollapse.workflows import WORKFLOWS

KEY = jax.random.key(0)
SIZE, GENERATIONS = 15, 6


def draw(dim, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return 2 + rng.standard_normal((size, dim)) @ np.linalg.cholesky(random_covariance(rng, dim)).T


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("rule", "weighted", "dim"), [(scott, False, 1), (scott, True, 3), (silverman, True, 1)])
def test_rules_are_those_of_scipy(rule, weighted, dim):
    x = draw(dim)
    w = np.random.default_rng(1).uniform(0, 2, SIZE) if weighted else np.ones(SIZE)
    oracle = stats.gaussian_kde(x.T, rule.__name__, w)
    params = jax.jit(kernel_density(SIZE + 3, rule).init)(KEY, Measure(jnp.asarray(x), jnp.asarray(w)))
    assert_allclose(rule(oracle.neff, dim), oracle.factor, rtol=1e-12)
    # SciPy divides the scatter by one effective point less.
    assert_allclose(params.factor @ params.factor.T, oracle.covariance * (1 - 1 / oracle.neff), rtol=1e-9)
    assert_array_equal(params.centres.points[:SIZE], x)
    assert_array_equal(params.centres.weights, np.append(w, np.zeros(3)))


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("bandwidth", [0.7, silverman])
def test_samples_have_the_moments_of_the_model(bandwidth, correct):
    x, w = draw(3), np.random.default_rng(1).uniform(0, 2, SIZE)
    w[:4] = 0
    mean, covariance = np.average(x, axis=0, weights=w), np.cov(x.T, aweights=w, ddof=0)
    size = w.sum() ** 2 / (w**2).sum()
    kernel = silverman(size, 3) ** 2 * covariance if bandwidth is silverman else bandwidth**2 * np.eye(3)
    model = kernel_density(SIZE, bandwidth, growth_correction=correct)
    samples = jax.jit(lambda data: model.sample(KEY, model.init(KEY, data), 40_000))(
        Measure(jnp.float32(x), jnp.float32(w))
    )
    centred = np.asarray(samples, np.float64) - mean
    assert_unbiased(z_scores(centred, 0))
    expected = covariance if correct else covariance + kernel
    assert_unbiased(z_scores(upper(centred[:, :, None] * centred[:, None, :]), upper(expected)))
    if not correct:  # the whole law, along a line
        line = np.array([1.0, -2.0, 0.5])
        mixture = functools.partial(stats.norm.cdf, loc=x @ line, scale=np.sqrt(line @ kernel @ line))
        cdf = np.vectorize(lambda value: np.average(mixture(value), weights=w))
        assert stats.kstest(np.asarray(samples[:4000]) @ line, cdf).pvalue > FAMILY_RISK


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("bandwidth", [0.5, scott])
def test_growth_correction_is_exact(bandwidth):
    data = uniform_measure(jnp.asarray(draw(3)))
    centres, factor = jax.jit(kernel_density(SIZE, bandwidth, growth_correction=True).init)(KEY, data)
    expected, shrunk = map(jax.jit(as_moments), (data, centres))
    assert_allclose(shrunk.mean, expected.mean, rtol=1e-12)
    assert_allclose(shrunk.covariance + factor @ factor.T, expected.covariance, rtol=1e-10)


def degenerate():
    point, line = np.full((5, 2), 3.0), np.outer(np.arange(5.0), [1, 1]) + 2
    return {"duplicates": (point, np.ones(5)), "line": (line, np.ones(5)), "empty": (line, np.zeros(5))}


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("bandwidth", [0.0, 0.5, scott])
def test_degenerate_data_are_fitted(bandwidth, correct):
    model = kernel_density(6, bandwidth, growth_correction=correct)
    fit_and_sample = jax.jit(lambda data: model.sample(KEY, model.init(KEY, data), 50))
    for name, (x, w) in degenerate().items():
        samples = fit_and_sample(Measure(jnp.float32(x), jnp.float32(w)))
        assert np.isfinite(samples).all()
        if name == "duplicates" and (correct or bandwidth != 0.5):
            assert_allclose(samples, np.full((50, 2), 3.0), atol=1e-5)
        if name == "line" and (correct or bandwidth != 0.5):
            assert_allclose(samples[:, 0], samples[:, 1], atol=1e-2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"max_points = 0: must be at least 1"):
        kernel_density(0)
    with pytest.raises(ValueError, match=r"bandwidth = -1: must be at least 0"):
        kernel_density(3, -1)
    with pytest.raises(
        TypeError, match=r"data = Moments: kernel_density needs points, a Measure, as buffer_memory keeps them"
    ):
        kernel_density(3).init(KEY, as_moments(uniform_measure(jnp.ones((2, 1)))))


def test_points_that_find_no_room_are_refused_where_known_and_no_model_where_traced():
    x, w = jnp.arange(5.0)[:, None], jnp.array([1.0, 3, 0, 1, 2])
    model, data = kernel_density(3), Measure(x, w)
    with pytest.raises(ValueError, match=r"max_points = 3: must be at least 4, the points with mass in data"):
        model.init(KEY, data)
    init = jax.jit(model.init)
    assert np.isnan(init(KEY, data).factor).all()
    centres, factor = init(KEY, Measure(x, w.at[0].set(0)))
    assert_array_equal(centres.points[:, 0], [1, 3, 4])
    assert_array_equal(centres.weights, [3, 1, 2])
    assert np.isfinite(factor).all()


@pytest.mark.parametrize(("bandwidth", "correct"), [(0.6, False), (scott, False), (0.6, True)])
def test_variance_of_the_recursion(bandwidth, correct):
    x = draw(2)
    data = uniform_measure(jnp.float32(x))
    model = kernel_density(SIZE, bandwidth, growth_correction=correct)
    collapse = build_collapse(model, sample_and_select(model, keep_all()), WORKFLOWS["replace"](buffer_memory()))

    def record(key, state, info):
        return as_moments(info.training).covariance

    @jax.jit
    @jax.vmap
    def simulate(key):
        return run(key, collapse, model.init(KEY, data), sizes(SIZE, 1.0, GENERATIONS), record)[1]

    covariances = np.asarray(simulate(jax.random.split(KEY, 4000)), np.float64)[:, 1:]
    start = np.cov(x.T, ddof=0)
    if correct:
        v, added = (1 - 1 / SIZE) ** np.arange(GENERATIONS + 1), np.zeros(GENERATIONS + 1)
    elif bandwidth is scott:
        v = relative_bandwidth(SIZE, GENERATIONS, scott(SIZE, 2))
        added = np.zeros_like(v)
    else:
        v, added = fixed_bandwidth(SIZE, GENERATIONS, bandwidth)
    expected = v[:, None, None] * start + added[:, None, None] * np.eye(2)
    assert_unbiased(z_scores(upper(covariances), upper(expected[1:])))


def test_closed_forms_solve_their_recursions():
    n, h, s = 30, 0.4, 2.5
    variances = [s]
    for _ in range(2000):
        variances.append((1 - 1 / n) * (variances[-1] + h**2))
    v, added = fixed_bandwidth(n, 2000, h)
    assert_allclose(v * s + added, variances, rtol=1e-9)
    assert_allclose(variances[-1], (n - 1) * h**2, rtol=1e-9)
    assert_allclose(relative_bandwidth(n, 2, h), [1, 1 - 1 / n + h**2 - h**2 / n, ((1 - 1 / n) * (1 + h**2)) ** 2])
    for dim in (1, 2, 10):
        for size in range(3, 100):
            assert scott(size, dim) ** 2 > 1 / (size - 1)
