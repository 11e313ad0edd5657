import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import random_covariance
from scipy.cluster.vq import kmeans2
from sklearn.cluster import KMeans

from jaxcollapse import exchanges
from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, pooled, uniform_measure
from jaxcollapse.selectors import center_matching, covariance_matching, k_means
from jaxcollapse.sizes import sizes

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)


def problem(seed=0, size=80, dim=3):
    """Draw a pool and two silos of unequal masses, elsewhere and of another shape."""
    rng = np.random.default_rng(seed)
    pool = 2 * rng.standard_normal((size, dim))
    silos = rng.standard_normal((2, 40, dim)) @ np.linalg.cholesky(random_covariance(rng, dim)).T
    silos += rng.standard_normal((2, 1, dim))
    return pool, Measure(jnp.asarray(silos), jnp.asarray(rng.uniform(0, 1, (2, 40)) * [[1], [3]]))


def union(silos):
    x, w = np.asarray(silos.points), np.asarray(silos.weights)
    x, w = x.reshape(-1, x.shape[-1]), w.ravel()
    return np.average(x, axis=0, weights=w), np.cov(x.T, aweights=w, ddof=0)


def matching(rule, silos):
    return rule(as_moments(pooled(silos)))


@jax.jit
def run(select, key, pool, sizes):
    return select(key, pool, sizes).value


def kept_by(select, pool, num_kept, weights=None, key=KEY):
    size = len(pool)
    measure = Measure(jnp.asarray(pool), jnp.asarray(np.ones(size) if weights is None else weights, float))
    bounds = sizes(num_kept, num_kept / size, max_kept=size, max_candidates=size)
    return np.asarray(run(select, key, measure, bounds))


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
    pool, silos = problem(seed)
    mean, _ = union(silos)
    expected = brute_force(pool, num_kept, lambda x: np.linalg.norm(x.mean(0) - mean))
    assert_array_equal(np.flatnonzero(kept_by(matching(center_matching, silos), pool, num_kept)), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_kept", [1, 2, 15, 60])
def test_covariance_matching_is_the_greedy_choice(num_kept, seed):
    pool, silos = problem(seed)
    mean, covariance = union(silos)

    def cost(x):
        return np.linalg.norm(np.cov(x.T, ddof=0) - covariance) if len(x) > 1 else np.linalg.norm(x - mean)

    expected = brute_force(pool, num_kept, cost)
    assert_array_equal(np.flatnonzero(kept_by(matching(covariance_matching, silos), pool, num_kept)), expected)


@pytest.mark.parametrize("rule", [center_matching, covariance_matching])
def test_moments_that_silos_tell_serve_as_well_as_their_data(rule):
    pool, silos = problem()
    told = exchanges.carry_out(exchanges.moments(), KEY, None, silos)
    assert_array_equal(kept_by(rule(told), pool, 15), kept_by(matching(rule, silos), pool, 15))


def test_matching_comes_nearer_to_what_it_matches_than_chance():
    pool, silos = problem(size=400)
    mean, covariance = union(silos)
    rng = np.random.default_rng(0)
    chance = [pool[rng.permutation(400)[:50]] for _ in range(20)]
    centred = pool[kept_by(matching(center_matching, silos), pool, 50) > 0]
    shaped = pool[kept_by(matching(covariance_matching, silos), pool, 50) > 0]
    distance = lambda x: np.linalg.norm(np.cov(x.T, ddof=0) - covariance)
    assert np.linalg.norm(centred.mean(0) - mean) < 0.1 * min(np.linalg.norm(x.mean(0) - mean) for x in chance)
    assert distance(shaped) < 0.1 * min(map(distance, chance))


@pytest.mark.parametrize("rule", [center_matching, covariance_matching])
def test_single_precision_far_from_the_origin_matches_as_well(rule):
    pool, silos = problem(size=400)
    shifted = silos._replace(points=silos.points + 100)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (uniform_measure(jnp.asarray(pool + 100)), shifted))
    weights, _ = matching(rule, single[1])(KEY, single[0], sizes(50, 0.125))
    assert weights.dtype == jnp.float32
    assert weights.sum() == 50
    mean, covariance = union(silos)

    def miss(kept):
        x = pool[np.asarray(kept) > 0]
        return np.linalg.norm(x.mean(0) - mean if rule is center_matching else np.cov(x.T, ddof=0) - covariance)

    assert abs(miss(weights) - miss(kept_by(matching(rule, silos), pool, 50))) < 1e-3


def test_k_means_keeps_the_nearest_members_of_lloyds_clusters():
    pool, _ = problem(size=60)
    # The centres that the key draws are those that no iteration has moved.
    start = kept_by(k_means(num_iterations=0), pool, 8) > 0
    centers, _ = kmeans2(pool, pool[start], iter=10, minit="matrix")
    cluster = np.linalg.norm(pool[:, None] - centers, axis=-1).argmin(1)
    distance = np.linalg.norm(pool - centers[cluster], axis=1)
    expected = [min(np.flatnonzero(cluster == j), key=distance.__getitem__) for j in range(8)]
    assert_array_equal(np.flatnonzero(kept_by(k_means(), pool, 8)), np.sort(expected))


def test_k_means_finds_separate_clusters():
    rng = np.random.default_rng(0)
    pool = np.repeat(rng.uniform(-50, 50, (5, 2)), 30, axis=0) + 0.1 * rng.standard_normal((150, 2))
    best = KMeans(20, n_init=5, random_state=0).fit(pool).inertia_
    inertia = []
    for seed in range(10):
        kept = pool[kept_by(k_means(), pool, 20, key=jax.random.key(seed)) > 0]
        inertia.append((np.linalg.norm(pool[:, None] - kept, axis=-1).min(1) ** 2).sum())
    assert np.median(inertia) < 3 * best


def test_k_means_makes_up_for_clusters_without_members():
    pool = np.repeat([[0.0, 0.0], [1.0, 0.0]], 10, axis=0)
    weights = kept_by(k_means(), pool, 6)
    assert weights.sum() == 6
    assert set(np.unique(weights)) == {0, 1}


@pytest.mark.parametrize("rule", [center_matching, covariance_matching, k_means])
def test_a_pool_smaller_than_the_budget_is_kept_without_its_padding(rule):
    pool, silos = problem(size=20)
    drawn = np.arange(20) % 7 == 0
    select = rule() if rule is k_means else matching(rule, silos)
    assert_array_equal(kept_by(select, np.where(drawn[:, None], pool, 1e3), 5, drawn), drawn)


def test_moments_of_the_kept_set_are_those_it_was_chosen_by():
    pool, silos = problem(size=40)
    everything = kept_by(matching(covariance_matching, silos), pool, 40)
    assert_allclose(as_moments(Measure(jnp.asarray(pool), jnp.asarray(everything))).mean, pool.mean(0), atol=1e-12)
