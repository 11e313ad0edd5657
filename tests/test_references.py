"""Collaborative references: what the exchanges converge to, and what their messages hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, stack_padded, uniform_measure, union
from jaxcollapse.references.barycenter import (
    Exchange,
    exposure,
    interpolate,
    server_average,
    wasserstein_barycenter,
)
from jaxcollapse.references.geodesic import interpolating_measure, server_interpolate
from jaxcollapse.references.mixture import federated_sinkhorn, server_update, silo_update
from jaxcollapse.transport.sinkhorn import sinkhorn

pytestmark = pytest.mark.usefixtures("x64")

DIM, NUM_ROUNDS = 2, 12


def cloud(seed, size, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(shift + scale * rng.standard_normal((size, DIM)))


def exact_distance(x, y):
    """Solve the assignment problem between as many points: W2."""
    cost = ((np.asarray(x)[:, None] - np.asarray(y)[None]) ** 2).sum(-1)
    return np.sqrt(cost[linear_sum_assignment(cost)].mean())


def spread(x):
    return float(jnp.sqrt(jnp.trace(jnp.cov(x.T))))


def silos():
    return [uniform_measure(cloud(k, size, shift)) for k, size, shift in ((0, 40, 0), (1, 25, 2), (2, 60, (-1, 3)))]


EXCHANGE = Exchange(epsilon=0.1, step=1.0)


def test_the_barycenter_of_one_silo_is_the_silo():
    silo = cloud(0, 60)
    support, _ = jax.jit(wasserstein_barycenter, static_argnums=3)(
        uniform_measure(silo[None]), cloud(1, 60), EXCHANGE, 40
    )
    assert exact_distance(support, silo) < 0.05 * spread(silo)


def test_a_barycenter_of_translates_is_a_translate():
    base, shifts = cloud(0, 50), np.array([[0.0, 0], [3, 0], [0, 6]])
    stacked = uniform_measure(jnp.stack([base + shift for shift in shifts]))
    support, _ = jax.jit(wasserstein_barycenter, static_argnums=3)(stacked, cloud(1, 50), EXCHANGE, 40)
    assert exact_distance(support, base + shifts.mean(0)) < 0.05 * spread(base)


def test_the_exchange_across_processes_is_the_program():
    support = start = cloud(5, 30)
    parts = silos()
    weights = jnp.array([m.weights.sum() for m in parts]) / sum(m.weights.sum() for m in parts)
    for _ in range(3):
        replies = jnp.stack([interpolate(silo, support, EXCHANGE) for silo in parts])
        support = server_average(support, replies, weights, EXCHANGE)
    expected, history = jax.jit(wasserstein_barycenter, static_argnums=3)(stack_padded(parts), start, EXCHANGE, 3)
    assert_allclose(support, expected, rtol=1e-8, atol=1e-8)
    assert_array_equal(history[-1], expected)


@pytest.mark.parametrize("tau", [0.25, 0.5])
def test_the_interpolating_measure_lies_on_the_geodesic(tau):
    pool, silo = cloud(0, 80), cloud(1, 80, shift=(4, 1), scale=0.5)
    support, _ = jax.jit(interpolating_measure, static_argnums=5)(
        uniform_measure(pool), uniform_measure(silo), cloud(2, 80, 1.0), tau, EXCHANGE, 40
    )
    whole, before, after = (exact_distance(*pair) for pair in ((pool, silo), (pool, support), (support, silo)))
    assert before + after < 1.01 * whole
    assert_allclose(before, tau * whole, rtol=0.02)


def test_scheme_one_across_processes_is_the_program():
    pool, silo, support = uniform_measure(cloud(0, 30)), uniform_measure(cloud(1, 20, 3.0)), cloud(2, 10)
    expected, _ = jax.jit(interpolating_measure, static_argnums=5)(pool, silo, support, 0.4, EXCHANGE, 2)
    for _ in range(2):
        support = server_interpolate(support, pool, interpolate(silo, support, EXCHANGE), jnp.asarray(0.4), EXCHANGE)
    assert_allclose(support, expected, rtol=1e-8, atol=1e-8)


def test_federated_potentials_are_the_pooled_ones():
    parts, pool, epsilon = silos(), uniform_measure(cloud(7, 50, 1.0)), 0.5
    pooled = Measure(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))
    federated = jax.jit(federated_sinkhorn, static_argnums=3)(pool, stack_padded(parts), epsilon, 200)
    expected = sinkhorn(pool, pooled, epsilon, num_outer=20, num_inner=9)
    assert expected.error < 1e-8
    assert_allclose(federated.f, expected.f, rtol=0, atol=1e-5 * float(jnp.std(expected.f)))
    assert federated.error < 1e-8


def test_federated_potentials_across_processes_are_the_program():
    parts, pool = silos(), uniform_measure(cloud(7, 50, 1.0))
    f, g = jnp.zeros(50), [jnp.zeros(m.weights.shape) for m in parts]
    for _ in range(3):
        g, replies = zip(*[silo_update(m, g_k, pool, f, 0.5) for m, g_k in zip(parts, g, strict=True)], strict=True)
        f = server_update(jax.tree.map(lambda *leaves: jnp.stack(leaves), *replies), 0.5).f
    expected = jax.jit(federated_sinkhorn, static_argnums=(3, 4))(pool, stack_padded(parts), 0.5, 3, 1.0)
    assert_allclose(f, expected.f, rtol=1e-8, atol=1e-8)


def test_the_union_of_moments_is_the_moments_of_the_union():
    parts = silos()
    merged = union(jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(as_moments, parts)))
    expected = as_moments(Measure(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True))))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-12), merged, expected)


def test_images_are_means_of_many_points_where_epsilon_is_large_enough():
    # Whoever knows the step can undo it, so what matters is the image itself.
    support, points = cloud(5, 30), cloud(2, 60)
    silo, exchange = uniform_measure(points), Exchange(epsilon=1.0, step=0.5)
    message = np.asarray(interpolate(silo, support, exchange))
    image = support + (message - support) / exchange.step
    nearest = np.sqrt(((image[:, None] - np.asarray(points)[None]) ** 2).sum(-1)).min(1)
    assert nearest.min() > 1e-3
    assert exposure(silo, support, exchange) < 0.5


def test_exposure_warns_where_images_are_single_points():
    # As many support points as data, and hardly any regularisation: the plan is close to a permutation.
    support, points = cloud(5, 30), cloud(2, 30)
    exchange = Exchange(epsilon=0.01, step=1.0)
    image = np.asarray(interpolate(uniform_measure(points), support, exchange))
    nearest = np.sqrt(((image[:, None] - np.asarray(points)[None]) ** 2).sum(-1)).min(1)
    assert nearest.min() < 1e-3
    assert exposure(uniform_measure(points), support, exchange) > 0.99
