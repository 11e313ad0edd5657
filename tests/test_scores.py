"""Scores by transport."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from jaxcollapse.base import Measure, counted
from jaxcollapse.exchanges import barycenter, carry_out, federated_sinkhorn
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.scores import calibrated_gradient, exchanged_gradient
from jaxcollapse.transport.sinkhorn import mean_cost, sinkhorn
from jaxcollapse.tree import expand

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
run = jax.jit(lambda score, pool: counted(score(KEY, pool)).value)


def problem():
    rng = np.random.default_rng(0)
    pool = Measure(jnp.asarray(rng.standard_normal((14, 2))), jnp.asarray(rng.uniform(0.5, 2, 14)))
    return pool, uniform_measure(jnp.asarray(1 + rng.standard_normal((11, 2))))


def exact_cost(pool, reference, masses):
    cost = np.sum((np.asarray(pool.points)[:, None] - np.asarray(reference.points)) ** 2, axis=-1)
    n, m = cost.shape
    constraints = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])[:-1]
    return linprog(cost.ravel(), A_eq=constraints, b_eq=np.append(masses, np.full(m - 1, 1 / m))).fun


def test_calibrated_gradients_are_derivatives_of_the_exact_cost():
    pool, reference = problem()
    masses, size = np.asarray(pool.weights / pool.weights.sum()), 1e-3
    expected = []
    for i, mass in enumerate(masses):
        others = np.where(np.arange(14) == i, 0, masses) / (1 - mass)
        direction = size * (np.eye(14)[i] - others)
        expected.append(
            (exact_cost(pool, reference, masses + direction) - exact_cost(pool, reference, masses - direction))
            / size
            / 2
        )
    epsilon = 0.02 * jax.jit(mean_cost)(pool, reference)
    score = run(calibrated_gradient(reference, epsilon), pool)
    slope, _ = np.polyfit(expected, -np.asarray(score), 1)
    assert abs(slope - 1) < 0.05
    assert np.corrcoef(expected, score)[0, 1] < -0.99


def test_calibrated_gradients_average_to_zero_and_scale_with_tau():
    pool, reference = problem()
    whole, half = (run(calibrated_gradient(reference, 0.5, tau), pool) for tau in (1.0, 0.5))
    share = pool.weights / pool.weights.sum()
    assert_allclose(jnp.sum(share * (1 - share) * whole), 0, atol=1e-12)
    assert_allclose(half, 2 * whole, rtol=1e-12)


def test_no_candidate_of_the_reference_itself_is_preferred_once_potentials_are_debiased():
    pool, _ = problem()
    biased, debiased = (run(calibrated_gradient(pool, 0.5, num_self=num_self), pool) for num_self in (0, 100))
    assert abs(debiased).max() < 0.01 * abs(biased).max()


def test_potentials_that_an_exchange_brings_are_used():
    pool, reference = problem()
    potentials = jax.jit(sinkhorn)(pool, reference, 0.5)
    known, found = (run(calibrated_gradient(r, 0.5), pool) for r in (potentials, reference))
    assert_allclose(known, found, rtol=1e-12)


def test_what_an_exchange_finds_for_a_pool_is_what_it_is_scored_by():
    pool, reference = problem()
    silos = expand(reference)
    for exchange in federated_sinkhorn(0.5, num_rounds=5), barycenter(as_moments(reference), 0.5, num_support=8):
        found = run(calibrated_gradient(jax.jit(carry_out)(exchange, KEY, pool, silos), 0.5), pool)
        assert_allclose(run(exchanged_gradient(exchange, silos), pool), found, rtol=1e-12)
