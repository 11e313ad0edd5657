"""Mixtures under selection: theory against SciPy, brute force, and expectation maximisation, in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_array_less
from oracle import assert_unbiased, draw, energies, random_covariance, upper, z_scores
from scipy import stats

from jaxcollapse.base import Moments, Target
from jaxcollapse.gaussian.truncation import truncated_moments
from jaxcollapse.generators.gaussian_mixture import Mixture, gaussian_mixture, mixture_moments
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes
from jaxcollapse.theory.mixture import (
    component_memory,
    component_moments,
    kept_components,
    kept_threshold,
    mixture_mean_field,
)
from jaxcollapse.workflows import WORKFLOWS

KEY = jax.random.key(0)
BUDGETS = np.array([0.01, 0.05, 0.3, 0.9])
DIM, RIDGE = 3, 1e-9


def problem(seed, separate=False):
    """Draw three components and a skewed verifier: weights, means, covariances, location, factor."""
    rng = np.random.default_rng(seed)
    weights, means = rng.dirichlet([5] * 3), rng.standard_normal((3, DIM))
    covariances = np.stack([random_covariance(rng, DIM) for _ in range(3)])
    location, factor = rng.standard_normal(DIM), rng.standard_normal((DIM, DIM))
    if separate:  # with a share in the kept region for each
        means, covariances = 8 * np.eye(3), 0.3 * np.eye(3) + 0.03 * covariances
        location, factor = 0.03 * location, np.eye(3)
    return weights, means, covariances, location, factor


def on_device(weights, means, covariances, location, factor):
    return Mixture(*map(jnp.asarray, (weights, means, covariances))), Target(jnp.asarray(location), jnp.asarray(factor))


@jax.jit
def threshold_and_shares(model, target, budget):
    q = kept_threshold(model, target, budget)
    return q, component_moments(model, target, q)


@jax.jit
def kept(model, target, sizes):
    return kept_components(target)(KEY, model, sizes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dim", [1, 2, 10])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_masses_are_chi_square_probabilities_however_deep_or_far(dim, offset):
    scales = np.array([1e-6, 1e-2, 0.3, 1, 10, 1e4])
    means = np.zeros((len(scales), dim))
    means[:, 0] = offset * scales
    covariances = scales[:, None, None] ** 2 * np.eye(dim)
    model, target = on_device(np.full(6, 1 / 6), means, covariances, np.zeros(dim), np.eye(dim))
    masses = jax.jit(component_moments)(model, target, jnp.asarray(2.0)).mass
    law = stats.ncx2(dim, offset**2) if offset else stats.chi2(dim)
    # A threshold far below the energy of the mean is known to the rounding of that energy.
    rounding = dim * np.finfo(float).eps * (1 + (offset * scales) ** 2 / 2)
    assert_array_less(np.abs(masses / law.cdf(2 / scales**2) - 1), 1e-10 + rounding)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(2))
def test_kept_mixtures_agree_with_brute_force(seed):
    weights, means, covariances, location, factor = parts = problem(seed)
    num_draws, rng, z = 300_000, np.random.default_rng(seed), []
    label = rng.choice(3, num_draws, p=weights)
    x = np.empty((num_draws, DIM))
    for j in range(3):
        x[label == j] = draw(rng, means[j], covariances[j], np.sum(label == j))
    energy = energies(x, location, factor)

    def compare(y, moments):
        centred = y - np.asarray(moments.mean)
        products = upper(centred[:, :, None] * centred[:, None, :])
        z.extend([z_scores(centred, 0), z_scores(products, upper(np.asarray(moments.covariance)))])

    for budget in BUDGETS:
        threshold, below = threshold_and_shares(*on_device(*parts), jnp.asarray(budget))
        # Beyond a fixed threshold draws are independent, so that there is no finite-sample bias.
        inside = energy <= threshold
        assert_allclose(weights @ below.mass, budget, rtol=1e-9)
        for j in np.flatnonzero(num_draws * weights * below.mass > 500):
            z.append(z_scores((inside & (label == j)).astype(float), weights[j] * below.mass[j])[None])
            compare(x[inside & (label == j)], jax.tree.map(lambda leaf, j=j: leaf[j], below))
        share = weights * below.mass
        compare(x[inside], mixture_moments(Mixture(share / share.sum(), below.mean, below.covariance)))
    assert_unbiased(np.concatenate(z))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("budget", BUDGETS)
def test_equal_components_are_kept_as_one_gaussian(budget):
    weights, means, covariances, location, factor = problem(2)
    model, target = on_device(weights, np.tile(means[0], (3, 1)), np.tile(covariances[0], (3, 1, 1)), location, factor)
    gaussian = Moments(jnp.ones(()), jnp.asarray(means[0]), jnp.asarray(covariances[0]))
    expected = jax.jit(truncated_moments)(gaussian, target, jnp.asarray(budget))
    parts = kept(model, target, sizes(900, budget))
    assert_allclose(parts.mass, 900 * weights, rtol=1e-10)
    for j in range(3):
        assert_allclose(parts.mean[j], expected.mean, rtol=1e-10)
        assert_allclose(parts.covariance[j], expected.covariance, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_without_selection_the_model_is_kept():
    model, target = on_device(*problem(3))
    parts = kept(model, target, sizes(900))
    assert_allclose(parts.mass, 900 * model.weights)
    assert_array_equal(parts.mean, model.means)
    assert_array_equal(parts.covariance, model.covariances)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def simulate(workflow, num_iterations, last, num_kept, key, model, target):
    """Refit by expectation maximisation what selection keeps of sampled candidates; give the models."""
    generator = gaussian_mixture(3, num_iterations, RIDGE)
    keep = sample_and_select(generator, top(mahalanobis(target)))
    collapse = build_collapse(generator, keep, WORKFLOWS[workflow](buffer_memory()))
    return run(key, collapse, model, sizes(num_kept, 0.25, last), lambda key, state, info: state.params)[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def predict(workflow, last, model, target):
    collapse = mixture_mean_field(target, WORKFLOWS[workflow](component_memory()), RIDGE)
    return run(KEY, collapse, model, sizes(1000, 0.25, last), lambda key, state, info: state.params)[1]


def z_of_models(simulated, expected):
    """Compare the models of generations 1, 2, ... of replicates, in standard errors of the run."""
    simulated, expected = (jax.tree.map(lambda leaf: np.asarray(leaf)[..., 1:, :], m) for m in (simulated, expected))
    return np.concatenate([np.ravel(z_scores(a, e)) for a, e in zip(simulated, expected, strict=True)])


def flat(models):
    """Keep the entries of covariances once, and drop one weight, which the others imply."""
    weights, means, covariances = map(np.asarray, models)
    return weights[..., :-1], means.reshape(*means.shape[:-2], -1), upper(covariances).reshape(*means.shape[:-2], -1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("workflow", "num_iterations", "last", "separate"),
    [("replace", 1, 1, False), ("replace", 3, 2, True), ("accumulate", 3, 2, True)],
    ids=["one iteration, overlapping", "replace, separate", "accumulate, separate"],
)
def test_expectation_maximisation_follows_the_mean_field(workflow, num_iterations, last, separate):
    # Order statistics bias a model by about 1 / n, of R replicates a share sqrt(R / n) of a standard error.
    replicates, num_kept = 24, 6000
    model, target = on_device(*problem(4, separate))
    keys = jax.random.split(jax.random.key(1), replicates)
    simulated = jax.lax.map(lambda key: simulate(workflow, num_iterations, last, num_kept, key, model, target), keys)
    assert_unbiased(z_of_models(flat(simulated), flat(predict(workflow, last, model, target))), replicates)


@pytest.mark.usefixtures("x64")
def test_weight_of_a_far_component_dies_and_the_odds_change_by_the_masses():
    weights, covariances = np.array([0.2, 0.4, 0.4]), np.tile(0.5 * np.eye(3), (3, 1, 1))
    means = np.array([[0.0, 0, 0], [3, 0, 0], [6, 0, 0]])
    model, target = on_device(weights, means, covariances, np.zeros(3), np.eye(3))
    models = jax.device_get(predict("replace", 2, model, target))
    q, _ = threshold_and_shares(model, target, jnp.asarray(0.25))
    masses = stats.ncx2.cdf(2 * np.asarray(q), 3, [1e-12, 18, 72])
    assert_allclose(models.weights[1], weights * masses / 0.25, rtol=1e-9)
    assert (np.diff(models.weights[:, 0]) > 0).all()
    assert models.weights[1, 2] < 1e-4
