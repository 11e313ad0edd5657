"""Exchanges: what they converge to, and what their messages hold."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from jaxcollapse.exchanges import barycenter, carry_out, federated_sinkhorn, geodesic, moments, rounds
from jaxcollapse.exchanges.barycenter import Server as barycenter_server
from jaxcollapse.exchanges.geodesic import Server
from jaxcollapse.exchanges.interpolant import average, exposure, interpolate
from jaxcollapse.measures import as_moments, concatenate, stack_padded, uniform_measure, union
from jaxcollapse.transport.sinkhorn import sinkhorn
from jaxcollapse.tree import closure, expand, stack

pytestmark = pytest.mark.usefixtures("x64")

KEY, DIM = jax.random.key(0), 2
EPSILON, STEP = 0.1, 1.0
interpolated, averaged, exposed, carried_out = map(jax.jit, (interpolate, average, exposure, carry_out))


@closure
class barycenter_from(barycenter):
    """Start from a support, not from moments."""

    def server_init(self, key, pool):
        return barycenter_server(self.start, jnp.zeros(()))


@closure
class geodesic_from(geodesic):
    """Start from a support, not from the pool's moments."""

    start: jax.Array | None = None

    def server_init(self, key, pool):
        return Server(pool, self.start, jnp.zeros(()))


def result_points(exchange, pool, silos):
    return carried_out(exchange, KEY, pool, silos).points


def cloud(seed, size, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(shift + scale * rng.standard_normal((size, DIM)))


def exact_distance(x, y):
    """Solve the assignment problem between as many points: W2."""
    cost = ((np.asarray(x)[:, None] - np.asarray(y)[None]) ** 2).sum(-1)
    return np.sqrt(cost[linear_sum_assignment(cost)].mean())


def spread(x):
    return np.sqrt(np.trace(np.cov(np.transpose(x))))


def silos():
    return [uniform_measure(cloud(k, size, shift)) for k, size, shift in ((0, 40, 0), (1, 25, 2), (2, 60, (-1, 3)))]


def test_the_barycenter_of_one_silo_is_the_silo():
    silo = cloud(0, 60)
    exchange = barycenter_from(cloud(1, 60), EPSILON, num_rounds=40)
    assert exact_distance(result_points(exchange, None, uniform_measure(silo[None])), silo) < 0.05 * spread(silo)


def test_a_barycenter_of_translates_is_a_translate():
    base, shifts = cloud(0, 50), np.array([[0.0, 0], [3, 0], [0, 6]])
    stacked = uniform_measure(base + shifts[:, None])
    support = result_points(barycenter_from(cloud(1, 50), EPSILON, num_rounds=40), None, stacked)
    assert exact_distance(support, base + shifts.mean(0)) < 0.05 * spread(base)


def test_scheme_two_across_processes_is_the_program():
    support = start = cloud(5, 30)
    parts, epsilon = silos(), 0.5  # at a tenth, acceleration of the solver makes rounding a difference of 1e-7
    weights = np.array([40.0, 25, 60]) / 125
    for _ in range(3):
        replies = np.stack([interpolated(silo, support, epsilon, STEP)[0] for silo in parts])
        support, _ = averaged(support, replies, weights, epsilon, STEP)
    exchange, stacked = barycenter_from(start, epsilon, num_rounds=3), stack_padded(parts)
    expected = result_points(exchange, None, stacked)
    assert_allclose(support, expected, rtol=1e-8, atol=1e-8)
    history = jax.jit(rounds)(exchange, KEY, None, stacked)
    chex.assert_shape(history.support, (3, 30, DIM))
    assert_array_equal(history.support[-1], expected)


@pytest.mark.parametrize("tau", [0.25, 0.5])
def test_the_interpolating_measure_lies_on_the_geodesic(tau):
    pool, silo = cloud(0, 80), cloud(1, 80, shift=(4, 1), scale=0.5)
    exchange = geodesic_from(EPSILON, tau, num_rounds=40, start=cloud(2, 80, 1.0))
    support = result_points(exchange, uniform_measure(pool), uniform_measure(silo[None]))
    whole, before, after = (exact_distance(*pair) for pair in ((pool, silo), (pool, support), (support, silo)))
    assert before + after < 1.01 * whole
    assert_allclose(before, tau * whole, rtol=0.02)


def test_scheme_one_across_processes_is_the_program():
    pool, silo, start = uniform_measure(cloud(0, 30)), uniform_measure(cloud(1, 20, 3.0)), cloud(2, 10)
    expected = result_points(geodesic_from(EPSILON, 0.4, num_rounds=2, start=start), pool, expand(silo))
    support, weights = start, np.array([0.6, 0.4])
    for _ in range(2):
        images = np.stack([interpolated(measure, support, EPSILON, STEP)[0] for measure in (pool, silo)])
        support, _ = averaged(support, images, weights, EPSILON, STEP)
    assert_allclose(support, expected, rtol=1e-8, atol=1e-8)


def test_federated_potentials_are_the_pooled_ones():
    parts, pool, epsilon = silos(), uniform_measure(cloud(7, 50, 1.0)), 0.5
    federated = carried_out(federated_sinkhorn(epsilon, tolerance=1e-9), KEY, pool, stack_padded(parts))
    expected = jax.jit(sinkhorn)(pool, concatenate(parts), epsilon, tolerance=1e-9)
    assert expected.error < 1e-8
    assert_allclose(federated.f, expected.f, rtol=0, atol=1e-5 * np.std(expected.f))
    assert federated.error < 1e-8


def test_federated_potentials_across_processes_are_the_program():
    parts, pool, exchange = silos(), uniform_measure(cloud(7, 50, 1.0)), federated_sinkhorn(0.5, num_rounds=3)
    reply, update = jax.jit(exchange.reply), jax.jit(exchange.update)
    server = exchange.server_init(KEY, pool)
    states = [exchange.silo_init(KEY, silo, exchange.opening(server)) for silo in parts]
    for _ in range(3):
        answers = [reply(*at, exchange.request(server)) for at in zip(states, parts, strict=True)]
        states, replies = zip(*answers, strict=True)
        server = update(server, stack(jax.device_get(replies)))
    expected = carried_out(exchange, KEY, pool, stack_padded(parts))
    assert_allclose(exchange.result(server).f, expected.f, rtol=1e-8, atol=1e-8)


def test_the_union_of_moments_is_the_moments_of_the_union():
    parts = silos()
    expected = as_moments(concatenate(parts))
    for merged in (
        union(stack([as_moments(part) for part in parts])),
        carried_out(moments(), KEY, None, stack_padded(parts)),
    ):
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-12), merged, expected)


def test_images_are_means_of_many_points_where_epsilon_is_large_enough():
    # Whoever knows the step can undo it, so what matters is the image itself.
    support, points = cloud(5, 30), cloud(2, 60)
    silo, epsilon, step = uniform_measure(points), 1.0, 0.5
    message = np.asarray(interpolated(silo, support, epsilon, step)[0])
    image = support + (message - support) / step
    nearest = np.sqrt(((image[:, None] - np.asarray(points)[None]) ** 2).sum(-1)).min(1)
    assert nearest.min() > 1e-3
    assert exposed(silo, support, epsilon) < 0.5


def test_exposure_warns_where_images_are_single_points():
    # As many support points as data, and hardly any regularisation: the plan is close to a permutation.
    support, points = cloud(5, 30), cloud(2, 30)
    epsilon = 0.01
    image = np.asarray(interpolated(uniform_measure(points), support, epsilon, 1.0)[0])
    nearest = np.sqrt(((image[:, None] - np.asarray(points)[None]) ** 2).sum(-1)).min(1)
    assert nearest.min() < 1e-3
    assert exposed(uniform_measure(points), support, epsilon) > 0.99
