"""Curation by preferences: one of every K, against laws in closed form."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxcollapse.base import Measure, counted
from jaxcollapse.generators import categorical
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import best_of
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import isotropic_target
from jaxcollapse.theory import curation
from jaxcollapse.tree import closure
from jaxcollapse.workflows import replace

KEY = jax.random.key(20)
LAW, REWARDS = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.0, 0.5, 1.0, 2.0])


@closure
class rewarded:
    """Score a symbol by its reward."""

    rewards: jax.Array

    def __call__(self, key, pool):
        return self.rewards[jnp.round(pool.points[:, 0]).astype(jnp.int32)]


def enumerated(law, rewards, num_options):
    """Sum over all groups of symbols, the one by one chosen."""
    found, weight = np.zeros_like(law), np.exp(rewards)
    for group in product(range(len(law)), repeat=num_options):
        for chosen in group:
            found[chosen] += law[[*group]].prod() * weight[chosen] / weight[[*group]].sum()
    return found


@pytest.mark.parametrize("num_options", [1, 2, 4])
def test_law_of_the_preferred_is_the_sum_over_groups(num_options):
    laws = curation.categorical(LAW, REWARDS, num_options, 2)
    assert_allclose(laws[1], enumerated(LAW, REWARDS, num_options), rtol=1e-8)
    assert_allclose(laws[2], enumerated(laws[1], REWARDS, num_options), rtol=1e-8)


def test_many_options_tilt_the_law():
    tilted = LAW * np.exp(REWARDS)
    assert_allclose(curation.categorical(LAW, REWARDS, 10**4, 1)[1], tilted / tilted.sum(), rtol=1e-3)
    cold = curation.categorical(LAW, REWARDS, 3, 1, temperature=1e-2)[1]
    above = np.cumsum(LAW)
    assert_allclose(cold, np.diff(above**3, prepend=0), rtol=1e-6)  # the best of three: the maximum's law


@pytest.mark.parametrize("spread", [30.0, 250.0])
def test_rewards_far_apart_are_told_apart(spread):
    assert_allclose(curation.categorical([0.5, 0.5], [0.0, spread], 2, 1)[1], [0.25, 0.75], rtol=1e-8)
    assert_allclose(curation.categorical([0.5, 0.3, 0.2], [0.0, 1.0, spread], 3, 1)[1][2], 1 - 0.8**3, rtol=1e-8)


def test_rewards_only_grow():
    laws = curation.categorical(LAW, REWARDS, 2, 60)
    assert (np.diff(laws @ REWARDS) > 0).all()
    assert laws[-1][-1] > 0.999


@pytest.mark.parametrize(("num_options", "temperature"), [(2, 1.0), (5, 0.3), (3, 0.0)])
def test_selection_in_the_recursion_follows_the_law(num_options, temperature):
    """Shares of symbols after three generations of 4,000, in 24 runs; without noise ties are of one symbol."""
    num, generator = 4000, categorical(4)
    keep = sample_and_select(generator, best_of(rewarded(jnp.asarray(REWARDS, jnp.float32))))
    collapse = build_collapse(generator, keep, replace(buffer_memory()))
    at = sizes(num, 1 / num_options, 3, temperature=temperature)
    start = jnp.asarray(LAW, jnp.float32)

    @jax.jit
    def last(keys):
        return jax.lax.map(lambda key: run(key, collapse, start, at, lambda k, s, i: s.params)[1][-1], keys)

    found = np.asarray(last(jax.random.split(KEY, 24)), float)
    expected = curation.categorical(LAW, REWARDS, num_options, 3, max(temperature, 1e-2))[-1]
    error = found.std(axis=0, ddof=1) / np.sqrt(24)
    bias = 10 / num  # a law that is refitted is off by its own curvature over n
    assert (abs(found.mean(axis=0) - expected) < 4.5 * error + bias).all()


def test_one_of_each_group_is_kept():
    score = mahalanobis(isotropic_target(jnp.zeros(1)))
    points = jnp.arange(12.0)[:, None]
    pool = Measure(points, jnp.where(jnp.arange(12) < 8, 1.0, 0.0))
    for budget, num in ((0.25, 2), (0.5, 4)):
        weights, _ = counted(best_of(score)(KEY, pool, sizes(num, budget, temperature=0.0)))
        assert weights.sum() == num
        assert weights[0] == 1
        assert not weights[8:].any()
    same = uniform_measure(jnp.zeros((8, 1)))
    weights, _ = counted(best_of(score)(KEY, same, sizes(4, 0.5, temperature=0.0)))
    assert weights.sum() == 4


def test_gaussian_law_is_bayes_rule():
    """A generation multiplies the density by the exponential of the reward."""
    rng = np.random.default_rng(0)
    mean, b, root = rng.standard_normal(2), rng.standard_normal(2), rng.standard_normal((2, 2))
    covariance, q = root @ root.T + np.eye(2), np.diag([0.5, 0.0])
    means, covariances = curation.gaussian(mean, covariance, b, q, 5)
    grid = np.stack(np.meshgrid(*[np.linspace(-30, 30, 601)] * 2), axis=-1).reshape(-1, 2)

    def log_density(x, m, c):
        return -0.5 * np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(c), x - m)

    log_weight = log_density(grid, mean, covariance) + 5 * (grid @ b - 0.25 * grid[:, 0] ** 2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    assert_allclose(means[5], weight @ grid, rtol=1e-6)
    centred = grid - means[5]
    assert_allclose(covariances[5], (weight[:, None] * centred).T @ centred, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curation.categorical([0.5, 0.4], [0, 1], 2, 1), "the first a law"),
        (lambda: curation.categorical([0.5, 0.5], [0, 1], 0, 1), "num_options = 0"),
        (lambda: curation.categorical([0.5, 0.5], [0, 1], 2, 1, 0.0), "temperature = 0.0"),
        (lambda: curation.categorical([0.5, 0.5], [0, 2000], 2, 1), "rewards: spread over 2e"),
        (lambda: curation.gaussian([0.0], [[1.0]], [0.0, 1.0], [[1.0]], 1), "must be"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
