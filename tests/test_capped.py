import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, special

from jaxcollapse.base import Measure, counted
from jaxcollapse.exchanges import capped_transport, carry_out, carry_out_counted, kernel_densities
from jaxcollapse.features import kernel_features
from jaxcollapse.measures import stack_padded, uniform_measure
from jaxcollapse.selectors import kernel_goal
from jaxcollapse.sizes import sizes
from jaxcollapse.verifiers import verifier

NUM_KEPT = 3
RNG = np.random.default_rng(0)
CANDIDATES, REAL = RNG.standard_normal((8, 2)), RNG.standard_normal((4, 2))
COSTS = ((CANDIDATES[:, None] - REAL) ** 2).sum(axis=-1)
MASSES = np.array([1.0, 2.0, 1.0, 1.0])


x64 = pytest.mark.usefixtures("x64")


@functools.cache
def solve():
    silos = stack_padded(
        [Measure(jnp.asarray(REAL[part]), jnp.asarray(MASSES[part])) for part in (slice(3), slice(3, 4))]
    )

    @jax.jit
    def found(epsilon):
        exchange = capped_transport(epsilon, NUM_KEPT, 5000, 1e-9)
        return carry_out_counted(exchange, jax.random.key(0), uniform_measure(jnp.asarray(CANDIDATES)), silos)

    return found


@x64
def test_probabilities_are_those_of_a_convex_solver():
    epsilon, b = 0.5, MASSES / MASSES.sum()

    def lagrangian(x):
        """The dual to be maximised over g and f <= 0: its minimum is over the plan."""
        f, g = x[:8], x[8:]
        plan = np.exp((f[:, None] + g - COSTS) / epsilon) * b / NUM_KEPT
        gradient = np.append(plan.sum(axis=1) - 1 / NUM_KEPT, plan.sum(axis=0) - b)
        return epsilon * plan.sum() - f.sum() / NUM_KEPT - g @ b, gradient

    bounds = [(None, 0)] * 8 + [(None, None)] * 4
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000}
    dual = optimize.minimize(lagrangian, np.zeros(12), jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    expected = (np.exp((dual[:8, None] + dual[8:] - COSTS) / epsilon) * b).sum(axis=1)
    log_p, trouble = solve()(epsilon)
    assert_allclose(np.exp(log_p), expected, atol=1e-5)
    assert_allclose(np.exp(log_p).sum(), NUM_KEPT, rtol=1e-7)
    assert trouble["transport problems that have not converged"] == 0


@x64
def test_small_epsilon_comes_near_the_linear_program():
    b = MASSES / MASSES.sum()
    rows, columns = np.kron(np.eye(8), np.ones(4)), np.kron(np.ones(8), np.eye(4))
    program = optimize.linprog(COSTS.ravel(), rows, np.full(8, 1 / NUM_KEPT), columns, b)
    log_p, _ = solve()(0.005)
    assert_allclose(np.exp(log_p), NUM_KEPT * program.x.reshape(8, 4).sum(axis=1), atol=0.01)


@x64
def test_densities_are_those_of_the_union_however_far():
    silos = stack_padded([uniform_measure(jnp.asarray(REAL[:3])), uniform_measure(jnp.asarray(REAL[3:]))])
    points = jnp.asarray(np.append(CANDIDATES, [[1e3, 0]], axis=0))
    found = carry_out(kernel_densities(0.7), jax.random.key(0), uniform_measure(points), silos)
    costs = ((np.asarray(points)[:, None] - REAL) ** 2).sum(axis=-1)
    assert_allclose(found, special.logsumexp(-costs / 0.7, axis=1) - np.log(4), rtol=1e-12)


@x64
def test_kernel_features_are_those_of_a_projection_and_bounded():
    """The largest of mean differences over functions in the span of kernels at landmarks, by plain NumPy."""
    landmarks, width = RNG.standard_normal((5, 2)), 1.5

    def kernel(x, y):
        return np.exp(-((x[:, None] - y) ** 2).sum(axis=-1) / width)

    phi = np.asarray(kernel_features(jnp.asarray(landmarks), width)(jnp.asarray(CANDIDATES)))
    assert (np.linalg.norm(phi, axis=1) <= 1).all()
    among = kernel(landmarks, landmarks) + 1e-4 * np.eye(5)
    assert_allclose(phi @ phi.T, kernel(CANDIDATES, landmarks) @ np.linalg.solve(among, kernel(landmarks, CANDIDATES)))
    difference = kernel(CANDIDATES, landmarks).mean(axis=0) - kernel(REAL, landmarks).mean(axis=0)
    real = np.asarray(kernel_features(jnp.asarray(landmarks), width)(jnp.asarray(REAL)))
    distance = np.sum((phi.mean(axis=0) - real.mean(axis=0)) ** 2)
    assert_allclose(distance, difference @ np.linalg.solve(among, difference), rtol=1e-8)
    goal = kernel_goal(stack_padded([uniform_measure(jnp.asarray(REAL))]), width, num_landmarks=8)
    asked = goal(jax.random.key(0), uniform_measure(jnp.asarray(CANDIDATES)))
    # With every candidate a landmark the features are those of all of them, in some order.
    among = kernel(CANDIDATES, CANDIDATES) + 1e-4 * np.eye(8)
    expected = kernel(CANDIDATES, CANDIDATES) @ np.linalg.solve(among, kernel(CANDIDATES, REAL).mean(axis=1))
    assert_allclose(np.asarray(asked.features(jnp.asarray(CANDIDATES))) @ np.asarray(asked.mean), expected, rtol=1e-8)


RULES = ("capped", "kernel_balanced", "landmark_balanced")
CENTRES = np.array([[-3.0, 0.0], [3.0, 0.0]])


def clouds(rng, *counts):
    """Draw so many points around each centre."""
    return np.concatenate([c + rng.standard_normal((n, 2)) for c, n in zip(CENTRES, counts, strict=True)])


@functools.cache
def kept_shares(rule, first, junk=0):
    """Tell how often each of 200 candidates is kept, 50 at a time: from the first class, the second, or far away.

    The silos hold a class each, three in four of the points in the first.
    """
    rng = np.random.default_rng(1)
    real = clouds(rng, 300, 100)
    silos = [real[:300], real[300:]]
    far = rng.uniform(20, 40, (junk, 2)) * rng.choice([-1, 1], (junk, 2))
    pool = np.concatenate([clouds(rng, first, 200 - first - junk), far]).astype(np.float32)
    select, bounds = verifier(rule, silos, epsilon=0.02), sizes(50, 0.25)

    @jax.jit
    def average(points):
        keys = jax.random.split(jax.random.key(0), 30)
        return jax.lax.map(lambda key: counted(select(key, uniform_measure(points), bounds)).value, keys).mean(axis=0)

    return pool, np.asarray(average(jnp.asarray(pool)))


@pytest.mark.parametrize("rule", RULES)
def test_of_a_perfect_pool_no_class_is_preferred(rule):
    _, p = kept_shares(rule, 150)
    assert_allclose(p[:150].sum(), 37.5, atol=1.5)


@pytest.mark.parametrize("rule", ["kernel_balanced", "landmark_balanced"])
def test_of_a_perfect_pool_the_spread_stays(rule):
    pool, p = kept_shares(rule, 150)
    for cloud in (slice(150), slice(150, 200)):
        spread = np.trace(np.cov(pool[cloud].T, aweights=p[cloud])) / np.trace(np.cov(pool[cloud].T))
        assert 0.8 < spread < 1.15


@pytest.mark.parametrize("rule", RULES)
def test_classes_get_the_shares_of_the_silos_back(rule):
    _, p = kept_shares(rule, 50)
    assert_allclose(p[:50].sum(), 37.5, atol=1.5)


@pytest.mark.parametrize("rule", ["capped", "kernel_balanced"])
def test_junk_far_away_is_never_kept(rule):
    _, p = kept_shares(rule, 120, 40)
    assert p[160:].sum() == 0
    assert_allclose(p[:120].sum(), 37.5, atol=1.5)
