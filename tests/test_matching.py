import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import check_selector, points
from numpy.testing import assert_allclose, assert_array_equal
from oracle import random_covariance
from scipy.cluster.vq import kmeans2
from sklearn.cluster import KMeans

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.selectors import MATCHING
from jaxcollapse.selectors.matching import center_matching, covariance_matching, k_means
from jaxcollapse.validation import make_controls

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)


def problem(seed=0, size=80, dim=3):
    """Draw a pool and two references of unequal masses, elsewhere and of another shape."""
    rng = np.random.default_rng(seed)
    pool = 2 * rng.standard_normal((size, dim))
    silos = rng.standard_normal((2, 40, dim)) @ np.linalg.cholesky(random_covariance(rng, dim)).T
    silos += rng.standard_normal((2, 1, dim))
    return pool, Measure(jnp.asarray(silos), jnp.asarray(rng.uniform(0, 1, (2, 40)) * [[1], [3]]))


def union(references):
    x, w = np.asarray(references.points), np.asarray(references.weights)
    x, w = x.reshape(-1, x.shape[-1]), w.ravel()
    return np.average(x, axis=0, weights=w), np.cov(x.T, aweights=w, ddof=0)


@functools.cache
def compiled(rule, max_kept):
    return jax.jit(rule(max_kept))


def kept_by(rule, pool, references, num_kept, weights=None, key=KEY):
    size = len(pool)
    measure = Measure(jnp.asarray(pool), jnp.asarray(np.ones(size) if weights is None else weights, float))
    return np.asarray(compiled(rule, size)(key, measure, references, make_controls(num_kept, num_kept / size)))


def brute_force(pool, num_kept, cost):
    """Grow a set by trying every candidate at every turn."""
    kept = []
    for _ in range(num_kept):
        left = [i for i in range(len(pool)) if i not in kept]
        kept.append(min(left, key=lambda i: cost(pool[[*kept, i]])))
    return np.sort(kept)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_kept", [1, 2, 15, 60])
def test_center_matching_is_the_greedy_choice(num_kept, seed):
    pool, references = problem(seed)
    mean, _ = union(references)
    expected = brute_force(pool, num_kept, lambda x: np.linalg.norm(x.mean(0) - mean))
    assert_array_equal(np.flatnonzero(kept_by(center_matching, pool, references, num_kept)), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_kept", [1, 2, 15, 60])
def test_covariance_matching_is_the_greedy_choice(num_kept, seed):
    pool, references = problem(seed)
    mean, covariance = union(references)

    def cost(x):
        return np.linalg.norm(np.cov(x.T, ddof=0) - covariance) if len(x) > 1 else np.linalg.norm(x - mean)

    expected = brute_force(pool, num_kept, cost)
    assert_array_equal(np.flatnonzero(kept_by(covariance_matching, pool, references, num_kept)), expected)


@pytest.mark.parametrize("rule", [center_matching, covariance_matching])
def test_moments_serve_as_references(rule):
    pool, references = problem()
    assert_array_equal(kept_by(rule, pool, as_moments(references), 15), kept_by(rule, pool, references, 15))


def test_matching_comes_nearer_to_what_it_matches_than_chance():
    pool, references = problem(size=400)
    mean, covariance = union(references)
    rng = np.random.default_rng(0)
    chance = [pool[rng.permutation(400)[:50]] for _ in range(20)]
    centred = pool[kept_by(center_matching, pool, references, 50) > 0]
    shaped = pool[kept_by(covariance_matching, pool, references, 50) > 0]
    distance = lambda x: np.linalg.norm(np.cov(x.T, ddof=0) - covariance)
    assert np.linalg.norm(centred.mean(0) - mean) < 0.1 * min(np.linalg.norm(x.mean(0) - mean) for x in chance)
    assert distance(shaped) < 0.1 * min(map(distance, chance))


@pytest.mark.parametrize("rule", [center_matching, covariance_matching])
def test_single_precision_far_from_the_origin_matches_as_well(rule):
    pool, references = problem(size=400)
    shifted = references._replace(points=references.points + 100)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (uniform_measure(jnp.asarray(pool + 100)), shifted))
    weights = rule(50)(KEY, *single, make_controls(50, 0.125))
    assert weights.dtype == jnp.float32
    assert weights.sum() == 50
    mean, covariance = union(references)

    def miss(kept):
        x = pool[np.asarray(kept) > 0]
        return np.linalg.norm(x.mean(0) - mean if rule is center_matching else np.cov(x.T, ddof=0) - covariance)

    assert abs(miss(weights) - miss(kept_by(rule, pool, references, 50))) < 1e-3


def test_k_means_keeps_the_nearest_members_of_lloyds_clusters():
    pool, references = problem(size=60)
    # The centres that the key draws are those that no iteration has moved.
    start = kept_by(functools.partial(k_means, num_iterations=0), pool, references, 8) > 0
    centers, _ = kmeans2(pool, pool[start], iter=10, minit="matrix")
    cluster = np.linalg.norm(pool[:, None] - centers, axis=-1).argmin(1)
    distance = np.linalg.norm(pool - centers[cluster], axis=1)
    expected = [min(np.flatnonzero(cluster == j), key=distance.__getitem__) for j in range(8)]
    assert_array_equal(np.flatnonzero(kept_by(k_means, pool, references, 8)), np.sort(expected))


def test_k_means_finds_separate_clusters():
    rng = np.random.default_rng(0)
    pool = np.repeat(rng.uniform(-50, 50, (5, 2)), 30, axis=0) + 0.1 * rng.standard_normal((150, 2))
    best = KMeans(20, n_init=5, random_state=0).fit(pool).inertia_
    inertia = []
    for seed in range(10):
        kept = pool[kept_by(k_means, pool, jnp.zeros(1), 20, key=jax.random.key(seed)) > 0]
        inertia.append((np.linalg.norm(pool[:, None] - kept, axis=-1).min(1) ** 2).sum())
    assert np.median(inertia) < 3 * best


def test_k_means_makes_up_for_clusters_without_members():
    pool = np.repeat([[0.0, 0.0], [1.0, 0.0]], 10, axis=0)
    weights = kept_by(k_means, pool, jnp.zeros(1), 6)
    assert weights.sum() == 6
    assert set(np.unique(weights)) == {0, 1}


@pytest.mark.parametrize("name", MATCHING)
def test_a_pool_smaller_than_the_budget_is_kept_without_its_padding(name):
    pool, references = problem(size=20)
    drawn = np.arange(20) % 7 == 0
    assert_array_equal(kept_by(MATCHING[name], np.where(drawn[:, None], pool, 1e3), references, 5, drawn), drawn)


@pytest.mark.parametrize("name", MATCHING)
def test_conformance(name):
    references = Measure(points(3, 24).reshape(2, 12, -1), jnp.ones((2, 12)))
    check_selector(MATCHING[name](16), references, deterministic=name != "k_means")


def test_moments_of_the_kept_set_are_those_it_was_chosen_by():
    pool, references = problem(size=40)
    everything = kept_by(covariance_matching, pool, references, 40)
    assert_allclose(as_moments(Measure(jnp.asarray(pool), jnp.asarray(everything))).mean, pool.mean(0), atol=1e-12)
