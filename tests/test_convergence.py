"""Potentials converge wherever epsilon is accepted, and tell by how much they have not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

import jaxcollapse as jc
from jaxcollapse.base import Counted, Measure, counted
from jaxcollapse.exchanges import carry_out, carry_out_counted, federated_sinkhorn
from jaxcollapse.exchanges.federated_sinkhorn import balance
from jaxcollapse.linalg import mixed, no_history
from jaxcollapse.measures import stack_padded
from jaxcollapse.scores import calibrated_gradient, exchanged_gradient
from jaxcollapse.transport.sinkhorn import TOLERANCE, Potentials, sinkhorn

KEY = jax.random.key(0)
NUM_SILOS = 10
carried_out, solve = jax.jit(carry_out_counted), jax.jit(sinkhorn, static_argnames="max_plans")


def separated(rng):
    """Draw ten Gaussians in 8 dimensions, ten standard deviations apart, and a pool of them in other shares."""
    centres = 2.5 * rng.standard_normal((NUM_SILOS, 8))
    silos = centres[:, None] + rng.standard_normal((NUM_SILOS, 60, 8))
    return centres[rng.integers(NUM_SILOS, size=800)] + rng.standard_normal((800, 8)), list(silos)


def digits(rng):
    """Split digits by class, and draw a pool from a mixture fitted to all of them."""
    pixels, labels = load_digits(return_X_y=True)
    chosen = rng.permutation(len(labels))[:600]
    pixels, labels = pixels[chosen] / 8 - 1, labels[chosen]
    points = (pixels - pixels.mean(axis=0)) @ np.linalg.svd(pixels - pixels.mean(axis=0))[2][:16].T
    model = GaussianMixture(10, reg_covar=1e-3, random_state=0).fit(points)
    return model.sample(800)[0], [points[labels == k] for k in range(NUM_SILOS)]


def pool_and_silos(case):
    name, uneven = case
    pool, silos = {"separated": separated, "digits": digits}[name](np.random.default_rng(7))
    masses = np.geomspace(1, 100, NUM_SILOS) if uneven else np.ones(NUM_SILOS)
    parts = [
        Measure(jnp.float32(silo), jnp.full(len(silo), mass, jnp.float32))
        for silo, mass in zip(silos, masses, strict=True)
    ]
    return Measure(jnp.float32(pool), jnp.ones(800, jnp.float32)), parts


def exact_potentials(pool, parts, relative):
    """Maximise the dual of the pooled problem by annealed sweeps and Newton's method, in double precision."""
    x, y = np.float64(pool.points), np.concatenate([np.float64(part.points) for part in parts])
    a = np.full(len(x), 1 / len(x))
    b = np.concatenate([np.float64(part.weights) for part in parts])
    b /= b.sum()
    cost = ((x[:, None] - y) ** 2).sum(-1)
    centred = y - b @ y
    scale = 2 * b @ (centred**2).sum(-1)
    g, epsilon = np.zeros(len(y)), relative * scale
    for each in np.geomspace(scale, epsilon, 12):
        for _ in range(8):
            f = -each * logsumexp((g - cost) / each, b=b, axis=1)
            g = -each * logsumexp((f[:, None] - cost) / each, b=a[:, None], axis=0)
    for _ in range(60):
        coupling = a[:, None] * softmax((g - cost) / epsilon + np.log(b), axis=1)
        received = coupling.sum(axis=0)
        if np.abs(received - b).sum() < 1e-10:
            break
        hessian = np.diag(received) - coupling.T @ (coupling / a[:, None]) + np.outer(b, b)
        step = epsilon * np.linalg.solve(hessian + 1e-12 * np.diag(b), b - received)
        width = np.ptp(step) / epsilon
        g = g + step * np.log1p(width) / width
    else:
        raise AssertionError("the oracle has not converged")
    return -epsilon * logsumexp((g - cost) / epsilon, b=b, axis=1), epsilon


def overlap(found, expected):
    """Compare the sets of 200 lowest potentials of 800."""
    return len(np.intersect1d(np.argsort(found)[:200], np.argsort(expected)[:200])) / 200


CASES = [("separated", False), ("separated", True), ("digits", False), ("digits", True)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0] + ", uneven" * case[1])
def problem(request):
    pool, parts = pool_and_silos(request.param)
    return pool, parts, *exact_potentials(pool, parts, 0.02)


def test_federated_and_pooled_potentials_keep_the_exact_set(problem):
    pool, parts, exact, epsilon = problem
    (federated, trouble) = carried_out(federated_sinkhorn(jnp.float32(epsilon)), KEY, pool, stack_padded(parts))
    pooled = solve(pool, jc.measures.concatenate(parts), jnp.float32(epsilon))
    for found in federated, pooled:
        assert found.error <= TOLERANCE
        assert overlap(found.f, exact) >= 0.99
    assert overlap(federated.f, pooled.f) >= 0.99
    assert trouble["exchange_rounds"] < 60


@pytest.mark.parametrize("relative", [1e-3, 5e-3, 0.1, 10.0])
def test_every_epsilon_converges_in_single_precision(relative):
    pool, parts = pool_and_silos(("digits", True))
    target = jc.measures.concatenate(parts)
    epsilon = jnp.float32(relative) * jc.transport.mean_cost(target, target)
    found = solve(pool, target, epsilon)
    assert found.error <= TOLERANCE
    x, y, b = (np.float64(leaf) for leaf in (pool.points, *target))
    exponent = np.float64(found.f)[:, None] + np.float64(found.g) - ((x[:, None] - y) ** 2).sum(-1)
    coupling = b / b.sum() * np.exp(exponent / float(epsilon)) / len(x)
    assert np.abs(coupling.sum(axis=0) - b / b.sum()).sum() <= 2 * TOLERANCE
    assert np.abs(coupling.sum(axis=1) - 1 / len(x)).sum() <= 2 * TOLERANCE


def test_what_has_not_converged_is_counted_and_told():
    pool, parts = pool_and_silos(("separated", False))
    silos = stack_padded(parts)
    epsilon = jnp.float32(0.02) * jc.transport.mean_cost(pool, pool)
    cut = federated_sinkhorn(epsilon, num_rounds=4)
    _, trouble = jax.jit(lambda score: counted(score(KEY, pool)))(exchanged_gradient(cut, silos))
    assert trouble["transport problems that have not converged"] == 1
    assert trouble["marginal_error"] > TOLERANCE
    assert trouble["exchange_rounds"] == 4
    unknown = Potentials(jnp.zeros(800), jnp.zeros(0), jnp.float32(jnp.nan))
    _, trouble = calibrated_gradient(unknown, epsilon)(KEY, pool)
    assert trouble["transport problems that have not converged"] == 1


def test_results_hold_the_error_of_every_generation():
    silos = [part.points for part in pool_and_silos(("separated", False))[1]]
    setting = {"silos": silos, "num_kept": 100, "budget": 0.25, "num_generations": 2, "metrics": ("trace_ratio",)}
    runs = jc.simulate(jc.generators.gaussian(0.1), "federated_sinkhorn", "replace", np.concatenate(silos), **setting)
    error = runs.marginal_error.squeeze().values
    assert runs.marginal_error.dims == runs.trace_ratio.dims
    assert np.isnan(error[0])
    assert (error[1:] <= TOLERANCE).all()
    assert (error[1:] > 0).all()
    assert (runs.exchange_rounds.squeeze().values[1:] >= 2).all()
    assert not runs.attrs["warnings"]


def test_mixing_solves_a_linear_problem_in_as_many_steps_as_it_has_unknowns():
    rng = np.random.default_rng(3)
    dim = 5
    matrix, offset = rng.standard_normal((dim, dim)), rng.standard_normal(dim)
    matrix *= 1.5 / np.abs(np.linalg.eigvals(matrix)).max()  # plain iteration diverges
    with jax.enable_x64(True):
        point, history = jnp.zeros(dim), no_history(jnp.zeros(dim))
        for _ in range(dim + 2):
            point, history = mixed(history, point, matrix @ point + offset, jnp.ones(dim))
    assert_allclose(point, np.linalg.solve(np.eye(dim) - matrix, offset), rtol=1e-5)


def test_mixing_looks_at_coordinates_by_their_mass():
    history = no_history(jnp.zeros(3), 1)
    _, history = mixed(history, jnp.zeros(3), jnp.array([1.0, 2, 3]), jnp.array([1.0, 0, 0]))
    # The first residual halves, by the first coordinate's mass alone: the secant doubles the last change of the image.
    following, _ = mixed(history, jnp.ones(3), jnp.array([1.5, 2.5, jnp.inf]), jnp.array([1.0, 0, 0]))
    assert_allclose(following[:2], [2.0, 3.0], rtol=1e-5)


@pytest.mark.parametrize("apart", [1.0, 30.0])
def test_every_silo_receives_its_mass(apart):
    rng = np.random.default_rng(5)
    home = rng.integers(4, size=200)
    log_shares = -apart * rng.uniform(0.5, 1, (4, 200)) * (np.arange(4)[:, None] != home)
    a, m = rng.dirichlet(np.full(200, 5.0)), np.array([0.5, 0.3, 0.0, 0.2])
    log_shares[2] = -np.inf
    c = jax.jit(balance)(jnp.float32(log_shares), jnp.float32(a), jnp.float32(m))
    received = softmax(log_shares + np.float64(c)[:, None], axis=0) @ a
    assert_allclose(received, m, atol=1e-5)


def test_missing_silos_change_nothing():
    pool, parts = pool_and_silos(("separated", False))
    epsilon = jnp.float32(0.05) * jc.transport.mean_cost(pool, pool)
    gone = parts[3]._replace(weights=jnp.zeros_like(parts[3].weights))
    kept = [part for k, part in enumerate(parts) if k != 3]
    exchange = federated_sinkhorn(epsilon)
    whole = jax.jit(carry_out)(exchange, KEY, pool, stack_padded([*parts[:3], gone, *parts[4:]]))
    fewer = jax.jit(carry_out)(exchange, KEY, pool, stack_padded(kept))
    assert whole.error <= TOLERANCE
    assert_allclose(whole.f, fewer.f, atol=10 * TOLERANCE * float(epsilon))


def test_data_that_are_no_numbers_end_the_rounds_and_are_counted():
    pool, parts = pool_and_silos(("separated", False))
    spoiled = parts[0]._replace(points=parts[0].points.at[3].set(jnp.nan))
    silos = stack_padded([spoiled, *parts[1:]])
    _, trouble = jax.jit(lambda score: score(KEY, pool))(exchanged_gradient(federated_sinkhorn(50.0), silos))
    assert trouble["exchange_rounds"] == 1
    assert trouble["transport problems that have not converged"] == 1


def test_trouble_on_the_way_to_a_reference_is_told_with_every_pool():
    pool, parts = pool_and_silos(("separated", False))
    found = Counted(parts[0], {"marginal_error": jnp.float32(0.5)})
    _, trouble = jax.jit(lambda score: score(KEY, pool))(calibrated_gradient(found, 50.0))
    assert trouble["marginal_error"] == 0.5
