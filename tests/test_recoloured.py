"""Recolouring: what moments alone buy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxcollapse as jc
from jaxcollapse.base import Moments
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.selectors import recoloured

pytestmark = pytest.mark.usefixtures("x64")

KEY, SIZES = jax.random.key(0), jc.sizes(40, 0.5)
keep = jax.jit(lambda select, pool: select(KEY, pool, SIZES).value)


def cloud(seed, rank=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((80, rank)) @ rng.standard_normal((rank, 3)) + rng.standard_normal(3)


def goal():
    root = np.array([[2.0, 0, 0], [0.5, 1, 0], [-1, 0.3, 0.2]])
    return Moments(jnp.ones(()), jnp.array([1.0, -2, 3]), jnp.asarray(root @ root.T))


def test_the_kept_set_has_the_goals_moments():
    points, weights = map(np.asarray, keep(recoloured(goal()), uniform_measure(cloud(0))))
    kept = points[weights > 0]
    assert kept.shape == (40, 3)
    assert_allclose(kept.mean(axis=0), goal().mean, rtol=1e-10)
    assert_allclose(np.cov(kept.T, bias=True), goal().covariance, rtol=1e-9, atol=1e-10)


def test_a_pool_that_has_the_goals_moments_stays_where_it_is():
    pool = uniform_measure(cloud(1))
    whole = jax.jit(lambda select: select(KEY, pool, jc.sizes(80)).value)(recoloured(as_moments(pool)))
    assert_allclose(whole.points, pool.points, atol=1e-10)


def test_directions_without_spread_stay_without():
    points, weights = map(np.asarray, keep(recoloured(goal()), uniform_measure(cloud(2, rank=2))))
    kept = points[weights > 0]
    assert np.isfinite(kept).all()
    assert np.linalg.matrix_rank(kept - kept.mean(axis=0), tol=1e-6) == 2
    assert_allclose(kept.mean(axis=0), goal().mean, rtol=1e-10)


def test_what_is_no_number_is_not_moved_into_the_kept_set():
    points = cloud(3)
    points[:40] = np.nan
    found = np.asarray(keep(recoloured(goal()), uniform_measure(points)).points)[40:]
    assert_allclose(found.mean(axis=0), goal().mean, rtol=1e-10)


def test_models_refitted_to_recoloured_data_keep_the_silos_moments():
    silos = np.random.default_rng(4).standard_normal((3, 50, 2)) * [1.0, 3.0] + [[[0, 0]], [[4, 0]], [[0, 4]]]
    setting = {"silos": silos, "num_kept": 60, "budget": 0.5, "num_generations": 5, "metrics": ("frechet",)}
    start = silos.reshape(-1, 2)
    found, at_random = (
        jc.simulate("gaussian", select, "replace", start, **setting).frechet.squeeze().values
        for select in ("recoloured", "random")
    )
    assert_allclose(found[1:], 0, atol=1e-10)
    assert (at_random[1:] > 1e-3).all()


def test_candidates_are_not_moved_in_the_space_of_features():
    generator = jc.generators.gaussian()
    moments = as_moments(uniform_measure(cloud(5)))
    kept = jc.sample_and_select(generator, recoloured(goal()), lambda points: 2 * points)
    with pytest.raises(ValueError, match="must be one that moves nothing where features are selected by"):
        kept(KEY, moments, SIZES)
    points, weights = jc.sample_and_select(generator, recoloured(goal()))(KEY, moments, SIZES).value
    assert_array_equal(np.unique(weights), [0, 1])
    assert_allclose(np.average(points, axis=0, weights=weights), goal().mean, rtol=1e-10)
