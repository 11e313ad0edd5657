import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from jaxcollapse.base import Measure
from jaxcollapse.selectors import submodular, submodular_greedy
from jaxcollapse.selectors.submodular import min_max, objective, ranks, softmax
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import closure

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
RULES = {"greedy": submodular_greedy, "fixed_point": submodular}
NORMALISE = {"min_max": min_max, "ranks": ranks, "softmax": softmax}
CASES = [(200, 60, 10), (100, 8, 3), (60, 1, 4), (60, 59, 4)]


def make_scores(kind, num_references, size, seed=0):
    """Draw scores: independent ones, distances to places, distances where each place has a class, heavy tails."""
    rng = np.random.default_rng(seed)
    shape = (num_references, size)
    if kind == "independent":
        return rng.uniform(size=shape)
    if kind == "heavy":
        return rng.exponential(size=shape) ** 3
    places = 4 * rng.standard_normal((num_references, 6))
    x = rng.standard_normal((size, 6))
    if kind == "classes":
        x += places[rng.integers(num_references, size=size)]
    return -((x - places[:, None]) ** 2).sum(-1)


KINDS = ["independent", "heavy", "places", "classes"]


def numpy_greedy(v, num_kept):
    totals, kept = np.zeros(len(v)), []
    for _ in range(num_kept):
        gains = [-1.0 if i in kept else np.log1p(totals + v[:, i]).sum() for i in range(v.shape[1])]
        kept.append(int(np.argmax(gains)))
        totals += v[:, kept[-1]]
    return kept


def numpy_objective(v, kept):
    return np.log1p(v[:, kept].sum(1)).sum()


def pool_of(weights):
    weights = jnp.asarray(weights, float)
    return Measure(np.zeros((*weights.shape, 1)), weights)


@closure
class given:
    """Score as told."""

    scores: jax.Array

    def __call__(self, key, pool):
        return self.scores


@jax.jit
def run(select, pool, sizes):
    return select(KEY, pool, sizes)


def counts_and_keeps(rule, scores, num_kept, weights=None, normalise="min_max"):
    size = scores.shape[1]
    pool = pool_of(np.ones(size) if weights is None else weights)
    bounds = sizes(num_kept, num_kept / size, max_kept=size, max_candidates=size)
    weights, trouble = run(RULES[rule](given(jnp.asarray(scores)), NORMALISE[normalise]), pool, bounds)
    return sum(trouble.values()), np.asarray(weights)


def aggregate(*args, **settings):
    return counts_and_keeps(*args, **settings)[1]


def published_utilities(scores):
    cost = -scores
    return 1 - (cost - cost.min(1, keepdims=True)) / np.ptp(cost, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", CASES)
def test_greedy_keeps_the_set_of_the_plain_loop(kind, size):
    size, num_kept, num_references = size
    scores = make_scores(kind, num_references, size)
    kept = numpy_greedy(published_utilities(scores), num_kept)
    assert_array_equal(np.flatnonzero(aggregate("greedy", scores, num_kept)), np.sort(kept))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", CASES)
def test_fixed_point_reaches_the_objective_of_the_plain_loop(kind, size):
    size, num_kept, num_references = size
    same = 0
    for seed in range(3):
        scores = make_scores(kind, num_references, size, seed)
        v = published_utilities(scores)
        kept = np.sort(numpy_greedy(v, num_kept))
        found = np.flatnonzero(aggregate("fixed_point", scores, num_kept))
        same += np.array_equal(found, kept)
        assert numpy_objective(v, found) > (1 - 1e-4) * numpy_objective(v, kept)
    assert same >= 2


def test_greedy_is_near_the_best_of_all_subsets():
    v = published_utilities(make_scores("independent", 3, 12))
    rows = np.unpackbits(np.arange(2**12, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    rows = rows[rows.sum(1) == 4]
    best = max(numpy_objective(v, np.flatnonzero(row)) for row in rows)
    found = numpy_objective(v, np.flatnonzero(aggregate("greedy", v, 4)))
    assert (1 - np.exp(-1)) * best <= found <= best
    assert found > 0.99 * best


def test_every_reference_is_served_where_the_mean_score_serves_one():
    # Thirty candidates please the first two references, ten a little less the third alone.
    v = np.zeros((3, 40))
    v[:2, :30], v[2, 30:] = 1.0, 0.9
    v += 1e-3 * np.random.default_rng(0).uniform(size=v.shape)
    for rule in RULES:
        assert aggregate(rule, v, 10)[30:].sum() >= 3
    assert set(np.argsort(-v.mean(0))[:10]) <= set(range(30))


def test_objective_is_the_sum_of_logarithms():
    v = published_utilities(make_scores("heavy", 4, 30))
    kept = np.arange(30) % 3 == 0
    assert_allclose(objective(jnp.asarray(v), jnp.asarray(kept, float)), numpy_objective(v, np.flatnonzero(kept)))


def test_utilities_see_candidates_with_mass_only():
    scores = make_scores("heavy", 3, 25)
    scores[:, 5] = scores[:, 9]  # a tie
    mass = np.arange(25) % 4 > 0
    spoiled = np.where(mass, scores, 1e30)
    spoiled[:, 4], spoiled[:, 8] = np.inf, -np.inf
    seen = scores[:, mass]
    standard = (seen - seen.mean(1, keepdims=True)) / seen.std(1, keepdims=True)
    expected = {
        "min_max": published_utilities(seen),
        "ranks": (stats.rankdata(seen, axis=1) - 0.5) / mass.sum(),
        "softmax": mass.sum() * special.softmax(standard, axis=1),
    }
    for name, normalise in NORMALISE.items():
        utilities = np.asarray(jax.jit(normalise)(spoiled, mass.astype(float)))
        assert_allclose(utilities[:, mass], expected[name], rtol=1e-12, atol=1e-15)
        assert not utilities[:, ~mass].any()


@pytest.mark.parametrize("normalise", NORMALISE)
def test_a_reference_that_cannot_tell_candidates_apart_does_not_vote(normalise):
    scores = make_scores("independent", 2, 20)
    with_constant = np.concatenate([scores, np.full((1, 20), 3.0)])
    for rule in RULES:
        chosen = [aggregate(rule, s, 5, normalise=normalise) for s in (scores, with_constant)]
        assert_array_equal(*chosen)


@pytest.mark.parametrize("rule", RULES)
def test_a_pool_smaller_than_the_budget_is_kept_without_its_padding(rule):
    drawn = np.arange(20) < 3
    assert_array_equal(aggregate(rule, make_scores("heavy", 2, 20), 5, drawn), drawn)


@pytest.mark.parametrize("rule", RULES)
def test_equal_scores_keep_the_exact_number(rule):
    assert aggregate(rule, np.zeros((2, 20)), 7).sum() == 7


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_kept_sets_follow_their_candidates(rule, normalise):
    scores, order = make_scores("heavy", 3, 20), np.random.default_rng(1).permutation(20)
    kept = aggregate(rule, scores, 9, normalise=normalise)
    assert_array_equal(aggregate(rule, scores[:, order], 9, normalise=normalise), kept[order])
    sparse = np.arange(40) < 20
    padded = np.concatenate([scores, np.full((3, 20), 1e6)], axis=1)
    assert_array_equal(aggregate(rule, padded, 9, sparse, normalise)[:20], kept)


def test_single_precision_keeps_nearly_the_same_set():
    scores = make_scores("places", 10, 2000).astype(np.float32)
    v = published_utilities(scores.astype(np.float64))
    pool = Measure(jnp.zeros((2000, 1), jnp.float32), jnp.ones(2000, jnp.float32))
    kept = numpy_greedy(v, 50)
    for rule in RULES.values():
        weights, _ = run(rule(given(jnp.asarray(scores))), pool, sizes(50, 50 / 2000))
        assert weights.dtype == jnp.float32
        found = np.flatnonzero(weights)
        assert len(found) == 50
        assert abs(numpy_objective(v, found) / numpy_objective(v, kept) - 1) < 1e-6


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_candidates_of_which_a_reference_has_no_score_come_last(rule, normalise):
    scores, known = make_scores("heavy", 3, 40), np.arange(40) % 5 > 0
    spoiled = scores.copy()
    spoiled[1, ~known] = np.nan
    expected = aggregate(rule, scores, 9, known, normalise)
    assert_array_equal(aggregate(rule, spoiled, 9, normalise=normalise), expected)
    count, kept = counts_and_keeps(rule, spoiled, 35, normalise=normalise)
    assert kept.sum() == 35
    assert kept[known].all()
    assert count == 8
