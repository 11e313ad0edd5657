import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, assert_uniform, energies, random_problem

from jaxcollapse.base import Measure, Moments, Target, counted
from jaxcollapse.features import quadratic_features
from jaxcollapse.measures import uniform_measure
from jaxcollapse.scores import mahalanobis, mean
from jaxcollapse.selectors import SELECTORS, feature_goal, keep_all, random, soft, top
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import isotropic_target
from jaxcollapse.tree import closure, expand

KEY = jax.random.key(0)
POOL, MAX_KEPT = 20, 8
SCORES = np.random.default_rng(0).permutation(POOL).astype(np.float32)


@closure
class coordinate:
    """Score by a coordinate, the first."""

    index: jax.Array

    def __call__(self, key, pool):
        return pool.points[:, self.index]


FIRST = coordinate(jnp.int32(0))
FEATURES, MOMENTS = quadratic_features(isotropic_target(jnp.zeros(2))), Moments(jnp.ones(()), jnp.ones(2), jnp.eye(2))
MADE = {
    "keep_all": lambda make: make(),
    "random": lambda make: make(),
    "k_means": lambda make: make(),
    "submodular": lambda make: make(expand(FIRST)),
    "submodular_greedy": lambda make: make(expand(FIRST)),
    "balanced": lambda make: make((feature_goal(FEATURES, jnp.eye(6)[0]),), FIRST),
    "capped": lambda make: make(uniform_measure(jnp.zeros((1, 4, 2))), 1.0),
    "center_matching": lambda make: make(MOMENTS),
    "covariance_matching": lambda make: make(MOMENTS),
    "recoloured": lambda make: make(MOMENTS),
}
EXACT = [name for name in SELECTORS if name != "keep_all"]


def make_pool(scores, weights=None):
    points = jnp.asarray(np.stack([scores, np.zeros(len(scores), np.float32)], axis=1))
    return uniform_measure(points)._replace(**({} if weights is None else {"weights": jnp.asarray(weights)}))


@functools.cache
def compiled(name):
    return jax.jit(lambda *args: counted(MADE.get(name, lambda make: make(FIRST))(SELECTORS[name])(*args)))


def select(name, pool, num_kept, key=KEY, temperature=0.0):
    bounds = sizes(num_kept, num_kept / POOL, temperature=temperature, max_kept=MAX_KEPT, max_candidates=POOL)
    found = compiled(name)(key, pool, bounds).value
    return np.asarray(found.weights if isinstance(found, Measure) else found)


@pytest.mark.parametrize("num_kept", [1, 3, MAX_KEPT])
def test_top_and_bottom_keep_the_extremes(num_kept):
    order = np.argsort(SCORES)
    top, bottom = (select(name, make_pool(SCORES), num_kept) for name in ("top", "bottom"))
    assert_array_equal(np.flatnonzero(top), np.sort(order[-num_kept:]))
    assert_array_equal(np.flatnonzero(bottom), np.sort(order[:num_kept]))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("num_kept", [1, 5, MAX_KEPT])
def test_the_exact_number_is_kept_with_mass_one(name, num_kept):
    for scores in SCORES, np.zeros(POOL, np.float32), np.repeat([1, 2, 3, 4], 5).astype(np.float32):
        weights = select(name, make_pool(scores), num_kept, temperature=1.0)
        assert set(np.unique(weights)) == {0, 1}
        assert weights.sum() == num_kept


@pytest.mark.parametrize("name", EXACT)
def test_padding_is_never_kept(name):
    drawn = np.random.default_rng(1).permutation(POOL) < MAX_KEPT
    for extreme in (1e30, -1e30):
        pool = make_pool(np.where(drawn, SCORES, extreme).astype(np.float32), drawn.astype(np.float32))
        weights = select(name, pool, MAX_KEPT, temperature=1.0)
        assert_array_equal(weights, drawn)


@pytest.mark.parametrize("name", EXACT)
def test_a_pool_smaller_than_the_budget_is_kept_without_its_padding(name):
    drawn = (np.arange(POOL) < 3).astype(np.float32)
    assert_array_equal(select(name, make_pool(SCORES, drawn), 5, temperature=1.0), drawn)


@pytest.mark.parametrize("name", ["top", "bottom"])
def test_selection_by_rank_is_permutation_equivariant(name):
    order = np.random.default_rng(2).permutation(POOL)
    kept = select(name, make_pool(SCORES), 5)
    assert_array_equal(select(name, make_pool(SCORES[order]), 5), kept[order])


def test_soft_selection_at_temperature_zero_is_top():
    for seed in range(5):
        soft = select("soft", make_pool(SCORES), 5, key=jax.random.key(seed))
        assert_array_equal(soft, select("top", make_pool(SCORES), 5))


def subset_counts(select, scores, num_kept, temperature, num_draws=40_000):
    """Count how often each subset of a small pool is kept, beside the list of subsets."""
    bounds = sizes(num_kept, num_kept / len(scores), temperature=temperature)
    pool = make_pool(scores)
    keys = jax.random.split(jax.random.key(7), num_draws)
    weights = jax.jit(jax.vmap(lambda key: counted(select(key, pool, bounds)).value))(keys)
    codes = np.asarray(weights) @ 2 ** np.arange(len(scores))
    subsets = list(itertools.combinations(range(len(scores)), num_kept))
    return np.array([np.sum(codes == sum(2**i for i in subset)) for subset in subsets]), subsets


def plackett_luce(log_weights, subset):
    """Sum the probabilities of all orders in which a subset is drawn without replacement."""
    total, weights = 0.0, np.exp(log_weights)
    for order in itertools.permutations(subset):
        left, probability = weights.sum(), 1.0
        for i in order:
            probability, left = probability * weights[i] / left, left - weights[i]
        total += probability
    return total


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_soft_selection_draws_by_exponential_weights_without_replacement(temperature):
    scores = np.array([0.0, 0.4, 1.0, 1.3, -0.7], np.float32)
    counts, subsets = subset_counts(soft(FIRST), scores, 2, temperature)
    p = np.array([plackett_luce(scores / temperature, subset) for subset in subsets])
    assert counts.sum() == 40_000
    assert_unbiased((counts / 40_000 - p) / np.sqrt(p * (1 - p) / 40_000))


def test_random_selection_is_uniform_over_subsets_whatever_the_scores():
    counts, _ = subset_counts(random(), np.array([9, 0, 0, -9, 5, 5], np.float32), 3, 0.0)
    assert_uniform(counts)


def test_keep_all_returns_the_masses_of_the_pool():
    pool = make_pool(SCORES, np.arange(POOL, dtype=np.float32))
    assert_array_equal(keep_all()(KEY, pool, sizes(5)).value, pool.weights)


@pytest.mark.usefixtures("x64")
def test_mahalanobis_score_is_the_negative_energy():
    mean, _, location, factor = random_problem(0, 3)
    x = mean + np.random.default_rng(0).standard_normal((10, 3))
    target = Target(jnp.asarray(location), jnp.asarray(factor))
    score = mahalanobis(target)(KEY, uniform_measure(jnp.asarray(x)))
    assert_allclose(score, -energies(x, location, factor), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_mahalanobis_score_against_data_uses_their_regularised_covariance(ridge):
    rng = np.random.default_rng(1)
    x, reference, mass = rng.standard_normal((10, 3)), rng.standard_normal((25, 3)), rng.uniform(0, 1, 25)
    covariance = np.cov(reference.T, aweights=mass, ddof=0)
    covariance += ridge * np.trace(covariance) / 3 * np.eye(3)
    centred = x - np.average(reference, axis=0, weights=mass)
    expected = -(centred @ np.linalg.inv(covariance) * centred).sum(1)
    measure = Measure(jnp.asarray(reference), jnp.asarray(mass))
    assert_allclose(mahalanobis(measure, ridge)(KEY, uniform_measure(jnp.asarray(x))), expected, rtol=1e-10)


def test_scores_are_averaged_over_references():
    x = np.random.default_rng(3).standard_normal((POOL, 2)).astype(np.float32)
    places = np.array([[3.0, 0.0], [0.0, -2.0], [-1.0, 1.0]], np.float32)
    targets = Target(jnp.asarray(places), jnp.stack([jnp.eye(2)] * 3))
    mean_energy = np.mean([energies(x, place, np.eye(2)) for place in places], axis=0)

    @jax.jit
    def select(targets, pool):
        return top(mean(jax.vmap(mahalanobis)(targets)))(KEY, pool, sizes(5, 0.25)).value

    weights = select(targets, uniform_measure(x))
    assert_array_equal(np.flatnonzero(weights), np.sort(np.argsort(mean_energy)[:5]))


def test_scores_and_selection_draw_from_different_keys():
    def noise(key, pool):
        return jax.random.gumbel(key, pool.weights.shape, pool.weights.dtype)

    def nothing(key, pool):
        return jnp.zeros_like(pool.weights)

    pool, bounds, keys = make_pool(SCORES), sizes(1, 1 / POOL, temperature=1.0), jax.random.split(KEY, 2000)
    scored, drawn = (
        np.asarray(jax.jit(jax.vmap(lambda key, select=select: select(key, pool, bounds).value))(keys)).argmax(axis=1)
        for select in (top(noise), soft(nothing))
    )
    assert np.mean(scored == drawn) < 0.1  # one in twenty by chance, and always where the key is the same
