"""Mixtures against scikit-learn, SciPy and closed forms."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FAMILY_RISK, assert_unbiased, draw, random_covariance, upper, z_scores
from scipy import special, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators import gaussian_mixture
from jaxcollapse.generators.gaussian_mixture import Mixture, k_means_plus_plus, log_density, mixture_moments

KEY = jax.random.key(0)
SIZE, DIM, NUM, NUM_ITERATIONS, RIDGE = 60, 3, 3, 7, 1e-3
MODEL = gaussian_mixture(NUM, NUM_ITERATIONS, RIDGE)
density, sample = jax.jit(log_density), jax.jit(MODEL.sample, static_argnums=2)
init, fit = jax.jit(MODEL.init), jax.jit(MODEL.fit)


def overlapping(seed, size=SIZE, offset=0.0):
    """Draw points of three components in turn, with masses 0 to 3."""
    rng = np.random.default_rng(seed)
    parts = [draw(rng, 2 * rng.standard_normal(DIM), random_covariance(rng, DIM), size // 3) for _ in range(3)]
    return offset + np.concatenate(parts), rng.integers(0, 4, size)


def rough_start(seed, x, dtype=float):
    rng = np.random.default_rng(seed)
    covariances = np.stack([np.cov(x.T) + np.eye(DIM)] * NUM)
    return Mixture(*(jnp.asarray(leaf, dtype) for leaf in (rng.dirichlet([5] * NUM), x[:: SIZE // NUM], covariances)))


def by_scikit_learn(start, x, w):
    """Run the same iterations on points repeated as often as their masses say."""
    weights, means, covariances = (np.asarray(leaf, np.float64) for leaf in start)
    model = GaussianMixture(
        len(weights), weights_init=weights / weights.sum(), means_init=means,
        precisions_init=np.linalg.inv(covariances), reg_covar=RIDGE, max_iter=NUM_ITERATIONS,
        tol=0, init_params="random", random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(np.repeat(x, w, axis=0))
    assert model.n_iter_ == NUM_ITERATIONS
    return model


def by_scipy(params, x):
    """Evaluate the log density of a mixture of definite components."""
    logs = [stats.multivariate_normal(mean, covariance).logpdf(x) for _, mean, covariance in zip(*params, strict=True)]
    return special.logsumexp(np.transpose(logs), b=np.asarray(params.weights), axis=1)


def assert_agrees(params, model, rtol):
    assert_allclose(params.weights, model.weights_, rtol=rtol)
    assert_allclose(params.means, model.means_, rtol=rtol)
    assert_allclose(params.covariances, model.covariances_, rtol=rtol, atol=rtol * np.abs(model.covariances_).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(3))
def test_fit_agrees_with_scikit_learn(seed):
    x, w = overlapping(seed)
    start = rough_start(seed, x)
    params, model = fit(KEY, start, Measure(jnp.asarray(x), jnp.asarray(w, float))), by_scikit_learn(start, x, w)
    assert_agrees(params, model, 1e-9)
    assert_allclose(density(params, x), model.score_samples(x), rtol=1e-9)
    assert_allclose(density(params, x), by_scipy(params, x), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_fit_to_a_memory_that_is_not_full_agrees_with_scikit_learn():
    x, w = overlapping(9, 6000)
    w[4500:] = 0
    start = rough_start(9, x[:SIZE])
    assert_agrees(fit(KEY, start, Measure(jnp.asarray(x), jnp.asarray(w, float))), by_scikit_learn(start, x, w), 1e-9)


@pytest.mark.usefixtures("x64")
def test_an_empty_component_stays_as_it_was():
    x, w = overlapping(3)
    start = rough_start(3, x)
    start = start._replace(means=start.means.at[1].set(1e4))
    params = fit(KEY, start, Measure(jnp.asarray(x), jnp.asarray(w, float)))
    assert params.weights[1] == 0
    assert_array_equal(params.means[1], start.means[1])
    assert_array_equal(params.covariances[1], start.covariances[1])
    two = np.array([0, 2])
    rest = start._replace(weights=start.weights / start.weights[two].sum())
    model = by_scikit_learn(jax.tree.map(lambda leaf: leaf[two], rest), x, w)
    assert_agrees(jax.tree.map(lambda leaf: leaf[two], params), model, 1e-9)
    assert_allclose(density(params, x), model.score_samples(x), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_likelihood_never_falls():
    x, w = overlapping(4)
    data, step = Measure(jnp.asarray(x), jnp.asarray(w, float)), gaussian_mixture(NUM, 1, 1e-13)
    params, likelihood = rough_start(4, x), []
    for _ in range(40):
        likelihood.append(w @ by_scipy(params, x))
        params = step.fit(KEY, params, data)
    rise = np.diff(likelihood)
    assert rise[0] > 1
    assert rise.min() > -1e-9 * abs(likelihood[-1])
    repeated = fit(KEY, rough_start(4, x), data)
    assert_allclose(w @ by_scipy(repeated, x), likelihood[NUM_ITERATIONS], rtol=1e-3)  # up to the ridge


def line(rng):
    return rng.standard_normal((SIZE, 1)) * np.array([1e3, 300, -700])


DEGENERATE = {
    "one point": lambda rng: np.tile([1.0, -2.0, 30.0], (SIZE, 1)),
    "two points": lambda rng: np.repeat(rng.standard_normal((2, DIM)), SIZE // 2, axis=0),
    "a line": line,
    "a line far from the origin": lambda rng: 1e4 + line(rng),
    "units of all sizes": lambda rng: rng.standard_normal((SIZE, DIM)) * np.array([1e-8, 1, 1e6]),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data_are_survived_in_single_precision(name):
    x = jnp.float32(DEGENERATE[name](np.random.default_rng(0)))
    data = Measure(x, jnp.ones(SIZE, jnp.float32))
    params = init(KEY, data)
    for _ in range(3):
        params = fit(KEY, params, data)
        assert all(np.isfinite(leaf).all() for leaf in params)
    assert_allclose(params.weights.sum(), 1, rtol=1e-6)
    assert np.isfinite(density(params, x)).all()
    if name == "one point":
        assert_allclose(params.means, x[:NUM], rtol=1e-6)
        assert_allclose(params.covariances, np.tile(RIDGE * np.eye(DIM, dtype=np.float32), (NUM, 1, 1)), atol=1e-9)


def test_single_precision_is_kept_far_from_the_origin():
    x, w = overlapping(5, offset=1e3)
    x = np.float32(x).astype(float)
    start = rough_start(5, x, jnp.float32)
    params = fit(KEY, start, Measure(jnp.float32(x), jnp.float32(w)))
    model = by_scikit_learn(start, x, w)
    assert params.means.dtype == jnp.float32
    assert_allclose(params.weights, model.weights_, rtol=2e-3)
    assert_allclose(params.covariances, model.covariances_, atol=2e-3 * np.abs(model.covariances_).max())


def test_data_without_mass_change_nothing():
    x, _ = overlapping(6)
    empty = Measure(jnp.float32(x), jnp.zeros(SIZE, jnp.float32))
    start = rough_start(6, x, jnp.float32)
    jax.tree.map(assert_array_equal, fit(KEY, start, empty), start)
    assert all(np.isfinite(leaf).all() for leaf in init(KEY, empty))


def test_first_fit_finds_separate_clusters_and_ignores_padding():
    rng = np.random.default_rng(7)
    centres = np.array([[0.0, 0, 0], [40, 0, 0], [0, 40, 40]])
    label, w = np.arange(SIZE) % 3, rng.integers(0, 4, SIZE)
    x = centres[label] + rng.standard_normal((SIZE, DIM))
    x[w == 0] = 1e5
    expected = [np.average(x[label == j], axis=0, weights=w[label == j]) for j in range(3)]
    for key in jax.random.split(KEY, 20):
        params = init(key, Measure(jnp.float32(x), jnp.float32(w)))
        order = np.argmin(((np.asarray(params.means)[:, None] - centres) ** 2).sum(-1), axis=0)
        assert_allclose(params.means[order], expected, atol=1e-4)
        assert_allclose(params.weights[order], np.bincount(label, w) / w.sum(), rtol=1e-5)


def test_seeds_are_drawn_by_mass_and_squared_distance():
    x, w = np.array([0.0, 1.0, 3.0, -50.0]), np.array([1.0, 2.0, 1.0, 0.0])
    data = Measure(jnp.float32(x)[:, None], jnp.float32(w))
    keys = jax.random.split(KEY, 20_000)
    seeds = jax.jit(jax.vmap(lambda key: k_means_plus_plus(key, data, 2)))(keys)[..., 0]
    first, second = (np.argmin(np.abs(np.asarray(seeds)[:, i, None] - x), axis=1) for i in (0, 1))
    counts = np.zeros((4, 4))
    np.add.at(counts, (first, second), 1)
    share = w * (x[:, None] - x) ** 2
    expected = len(keys) * (w / w.sum())[:, None] * share / share.sum(axis=1, keepdims=True)
    assert not counts[expected == 0].any()
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > FAMILY_RISK


def random_mixture(seed, dim=4):
    """Draw three components, the second one empty and far away."""
    rng = np.random.default_rng(seed)
    means, covariances = 2 * rng.standard_normal((3, dim)), np.stack([random_covariance(rng, dim) for _ in range(3)])
    means[1] = 1e6
    return Mixture(*map(np.float32, (np.array([0.3, 0, 0.7]), means, covariances)))


def test_moments_are_those_of_the_samples():
    params = random_mixture(8)
    weights, means, covariances = (leaf.astype(float) for leaf in params)
    mean = weights @ means
    covariance = np.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None]) - np.outer(
        mean, mean
    )
    moments = mixture_moments(jax.tree.map(jnp.asarray, params))
    assert_allclose(moments.mass, 1, rtol=1e-6)
    assert_allclose(moments.mean, mean, rtol=1e-5)
    assert_allclose(moments.covariance, covariance, rtol=1e-4, atol=1e-5)

    x = np.asarray(sample(KEY, jax.tree.map(jnp.asarray, params), 50_000), np.float64)
    assert_unbiased(z_scores(x, mean))
    centred = x - mean
    assert_unbiased(z_scores(upper(centred[:, :, None] * centred[:, None, :]), upper(covariance)))
    for direction in np.eye(4):
        places, widths = means @ direction, np.sqrt(direction @ covariances @ direction)
        cdf = lambda t, places=places, widths=widths: stats.norm.cdf((t[:, None] - places) / widths) @ weights
        assert stats.kstest(x @ direction, cdf).pvalue > FAMILY_RISK / 4


def test_singular_components_are_sampled():
    means = jnp.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.0]])
    params = Mixture(jnp.array([0.5, 0.5]), means, jnp.stack([jnp.zeros((3, 3)), jnp.ones((3, 3))]))
    x = np.asarray(sample(KEY, params, 200))
    assert np.isfinite(x).all()
    fixed = (x == np.asarray(means[0])).all(axis=1)
    assert 50 < fixed.sum() < 150
    along = x[~fixed] - np.asarray(means[1])
    assert_allclose(along, along[:, :1] * np.ones(3), atol=1e-5)


@pytest.mark.parametrize("function", [MODEL.init, lambda key, data: MODEL.fit(key, random_mixture(0), data)])
def test_moments_are_refused(function):
    with pytest.raises(
        TypeError, match=r"data = Moments: gaussian_mixture needs points, a Measure, as buffer_memory keeps them"
    ):
        function(KEY, Moments(jnp.float32(1), jnp.zeros(2), jnp.eye(2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), r"num_components = 0: must be at least 1"),
        ((2, 0), r"num_iterations = 0: must be at least 1"),
        ((2, 5, 0.0), r"ridge = 0.0: must be at least"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gaussian_mixture(*arguments)
