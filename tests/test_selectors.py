import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from oracle import assert_unbiased, assert_uniform, energies, random_problem

from jaxcollapse.base import Measure, Target
from jaxcollapse.measures import uniform_measure
from jaxcollapse.selectors import SELECTORS, from_scores, keep_all, mahalanobis
from jaxcollapse.selectors.aggregate import soft_budget, top_budget
from jaxcollapse.validation import make_controls

KEY = jax.random.key(0)
POOL, MAX_KEPT = 20, 8
SCORES = np.random.default_rng(0).permutation(POOL).astype(np.float32)


def first_coordinate(key, pool, reference):
    return pool.points[:, 0]


def make_pool(scores, weights=None):
    points = jnp.stack([jnp.asarray(scores), jnp.zeros(len(scores))], axis=1)
    return uniform_measure(points)._replace(**({} if weights is None else {"weights": jnp.asarray(weights)}))


def select(name, pool, num_kept, key=KEY, temperature=0.0, max_kept=MAX_KEPT):
    controls = make_controls(num_kept, num_kept / POOL, temperature=temperature)
    return np.asarray(SELECTORS[name](first_coordinate, max_kept)(key, pool, jnp.zeros(1), controls))


@pytest.mark.parametrize("num_kept", [1, 3, MAX_KEPT])
def test_top_and_bottom_keep_the_extremes(num_kept):
    order = np.argsort(SCORES)
    top, bottom = (select(name, make_pool(SCORES), num_kept) for name in ("top", "bottom"))
    assert_array_equal(np.flatnonzero(top), np.sort(order[-num_kept:]))
    assert_array_equal(np.flatnonzero(bottom), np.sort(order[:num_kept]))


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("num_kept", [1, 5, MAX_KEPT])
def test_the_exact_number_is_kept_with_mass_one(name, num_kept):
    for scores in SCORES, np.zeros(POOL, np.float32), np.repeat([1, 2, 3, 4], 5).astype(np.float32):
        weights = select(name, make_pool(scores), num_kept, temperature=1.0)
        assert set(np.unique(weights)) == {0, 1}
        assert weights.sum() == num_kept


@pytest.mark.parametrize("name", SELECTORS)
def test_padding_is_never_kept(name):
    drawn = np.random.default_rng(1).permutation(POOL) < MAX_KEPT
    for extreme in (1e30, -1e30):
        pool = make_pool(np.where(drawn, SCORES, extreme).astype(np.float32), drawn.astype(np.float32))
        weights = select(name, pool, MAX_KEPT, temperature=1.0)
        assert_array_equal(weights, drawn)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_pool_smaller_than_the_budget_is_kept_without_its_padding(name):
    drawn = (np.arange(POOL) < 3).astype(np.float32)
    assert_array_equal(select(name, make_pool(SCORES, drawn), 5, temperature=1.0), drawn)


@pytest.mark.parametrize("name", SELECTORS)
def test_budget_of_the_whole_pool_keeps_everything(name):
    weights = select(name, make_pool(SCORES), POOL, temperature=1.0, max_kept=POOL)
    assert_array_equal(weights, np.ones(POOL))


@pytest.mark.parametrize("name", ["top", "bottom"])
def test_selection_by_rank_is_permutation_equivariant(name):
    order = np.random.default_rng(2).permutation(POOL)
    kept = select(name, make_pool(SCORES), 5)
    assert_array_equal(select(name, make_pool(SCORES[order]), 5), kept[order])


def test_soft_selection_at_temperature_zero_is_top():
    for seed in range(5):
        soft = select("soft", make_pool(SCORES), 5, key=jax.random.key(seed))
        assert_array_equal(soft, select("top", make_pool(SCORES), 5))


def subset_counts(name, scores, num_kept, temperature, num_draws=40_000):
    """Count how often each subset of a small pool is kept, beside the list of subsets."""
    controls = make_controls(num_kept, num_kept / len(scores), temperature=temperature)
    rule = SELECTORS[name](first_coordinate, num_kept)
    pool = make_pool(scores)
    keys = jax.random.split(jax.random.key(7), num_draws)
    weights = jax.jit(jax.vmap(lambda key: rule(key, pool, jnp.zeros(1), controls)))(keys)
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
    counts, subsets = subset_counts("soft", scores, 2, temperature)
    p = np.array([plackett_luce(scores / temperature, subset) for subset in subsets])
    assert counts.sum() == 40_000
    assert_unbiased((counts / 40_000 - p) / np.sqrt(p * (1 - p) / 40_000))


def test_random_selection_is_uniform_over_subsets_whatever_the_scores():
    counts, _ = subset_counts("random", np.array([9, 0, 0, -9, 5, 5], np.float32), 3, 0.0)
    assert_uniform(counts)


def test_keep_all_returns_the_masses_of_the_pool():
    pool = make_pool(SCORES, np.arange(POOL, dtype=np.float32))
    assert_array_equal(keep_all(KEY, pool, None, make_controls(5)), pool.weights)


@pytest.mark.usefixtures("x64")
def test_mahalanobis_score_is_the_negative_energy():
    mean, _, location, factor = random_problem(0, 3)
    x = mean + np.random.default_rng(0).standard_normal((10, 3))
    target = Target(jnp.asarray(location), jnp.asarray(factor))
    score = mahalanobis()(KEY, uniform_measure(jnp.asarray(x)), target)
    np.testing.assert_allclose(score, -energies(x, location, factor), rtol=1e-12)


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
    np.testing.assert_allclose(mahalanobis(ridge)(KEY, uniform_measure(jnp.asarray(x)), measure), expected, rtol=1e-10)


def test_scores_are_averaged_over_references():
    x = np.random.default_rng(3).standard_normal((POOL, 2)).astype(np.float32)
    places = np.array([[3.0, 0.0], [0.0, -2.0], [-1.0, 1.0]], np.float32)
    targets = Target(jnp.asarray(places), jnp.stack([jnp.eye(2)] * 3))
    mean_energy = np.mean([energies(x, place, np.eye(2)) for place in places], axis=0)
    weights = from_scores(mahalanobis(), top_budget(5))(
        KEY, uniform_measure(jnp.asarray(x)), targets, make_controls(5, 0.25)
    )
    assert_array_equal(np.flatnonzero(weights), np.sort(np.argsort(mean_energy)[:5]))


def test_scores_and_aggregation_draw_from_different_keys():
    seen = []

    def score(key, pool, reference):
        seen.append(jax.random.key_data(key))
        return pool.points[:, 0]

    def aggregate(key, scores, pool, controls):
        seen.append(jax.random.key_data(key))
        return soft_budget(5)(key, scores, pool, controls)

    from_scores(score, aggregate)(KEY, make_pool(SCORES), jnp.zeros(1), make_controls(5, 0.25))
    assert len({tuple(np.asarray(data).tolist()) for data in seen}) == 2
