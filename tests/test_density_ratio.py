import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracle import assert_unbiased, random_covariance, z_between, z_scores
from scipy import integrate, optimize, special, stats
from sklearn.linear_model import LogisticRegression

from jaxcollapse.base import Measure, Moments
from jaxcollapse.exchanges import carry_out, feature_means, logistic
from jaxcollapse.features import half_way, quadratic_features
from jaxcollapse.measures import as_moments, pooled, stack_padded, uniform_measure, union
from jaxcollapse.scores import logistic_ratio, moment_ratio, tilted_ratio
from jaxcollapse.scores.tilted_ratio import fit_tilt
from jaxcollapse.selectors import random, soft
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import fit_target, isotropic_target
from jaxcollapse.tree import expand

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
SILO_SIZES = (60, 25, 90)
fit, apply = jax.jit(fit_tilt), jax.jit(lambda function, points: function(points))


def lifted(function, points):
    return np.asarray(apply(function, points))


def problem(seed=0, dim=3, num_candidates=300):
    """Draw three skewed silos of unequal sizes, one with unequal masses, and a pool that covers them."""
    rng = np.random.default_rng(seed)
    silos = [1.5 * rng.standard_normal(dim) + rng.standard_normal((m, dim)) for m in SILO_SIZES]
    silos = [uniform_measure(jnp.asarray(x)) for x in silos]
    silos[0] = silos[0]._replace(weights=jnp.asarray(rng.uniform(0.5, 2, SILO_SIZES[0])))
    root = np.linalg.cholesky(random_covariance(rng, dim) + np.eye(dim))
    pool = 1.8 * rng.standard_normal((num_candidates, dim)) @ root
    return stack_padded(silos), uniform_measure(jnp.asarray(pool))


def flat(silos):
    everyone = pooled(silos)
    there = np.flatnonzero(everyone.weights)
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[there]), everyone)


def shared_features(silos, pool, ridge=0.0):
    return quadratic_features(half_way(union(as_moments(silos)), pool, ridge))


@functools.partial(jax.jit, static_argnames="num_rounds")
def fit_logistic(silos, pool, regularisation=1e-3, num_rounds=1000):
    exchange = logistic(shared_features(silos, pool, 1e-6), regularisation, num_rounds)
    return carry_out(exchange, KEY, pool, silos)


def by_logistic(silos):
    return logistic_ratio(silos, union(as_moments(silos)), num_rounds=100)


@jax.jit
def scores(silos, pool):
    """Score by both fitted ratios."""
    return moment_ratio(silos, 0.1)(KEY, pool), by_logistic(silos)(KEY, pool)


def with_padding(measure, size=7, value=50.0):
    pad = [(0, 0)] * (measure.weights.ndim - 1) + [(0, size)]
    return Measure(np.pad(measure.points, [*pad, (0, 0)], constant_values=value), np.pad(measure.weights, pad))


def test_moment_ratio_is_the_ratio_of_the_gaussian_models():
    silos, pool = problem()
    x = np.asarray(pool.points)
    mixture, total = 0, np.asarray(silos.weights).sum()
    for y, w in zip(np.asarray(silos.points), np.asarray(silos.weights), strict=True):
        mean, covariance = np.average(y, axis=0, weights=w), np.cov(y.T, aweights=w, ddof=0)
        covariance += 0.1 * np.trace(covariance) / 3 * np.eye(3)
        mixture += w.sum() / total * stats.multivariate_normal(mean, covariance).pdf(x)
    covariance = np.cov(x.T, ddof=0)
    covariance += 0.1 * np.trace(covariance) / 3 * np.eye(3)
    expected = np.log(mixture) - stats.multivariate_normal(x.mean(0), covariance).logpdf(x)
    assert (np.abs(expected) > 2).any()
    for known in silos, jax.jit(as_moments)(silos):
        assert_allclose(moment_ratio(known, 0.1)(KEY, pool), expected, rtol=1e-9, atol=1e-9)
    assert_allclose(scores(silos, pool)[0], expected, rtol=1e-9, atol=1e-9)


def test_a_silo_without_mass_is_not_there():
    silos, pool = problem()
    emptied = silos._replace(weights=silos.weights * np.array([[1], [0], [1]]))
    others = jax.tree.map(lambda leaf: np.asarray(leaf)[[0, 2]], silos)
    assert_allclose(scores(emptied, pool), scores(others, pool), rtol=1e-9, atol=1e-9)


def test_quadratic_features_are_orthonormal_for_a_whitened_gaussian():
    node, weight = np.polynomial.hermite_e.hermegauss(5)
    grid = np.stack(np.meshgrid(node, node, node), -1).reshape(-1, 3)
    mass = np.prod(np.stack(np.meshgrid(weight, weight, weight), -1).reshape(-1, 3), axis=1)
    nodes = Measure(jnp.asarray(grid), jnp.asarray(mass))
    phi = np.asarray(jax.jit(lambda nodes: quadratic_features(half_way(as_moments(nodes), nodes))(nodes.points))(nodes))
    assert phi.shape[1] == 10
    assert_allclose((phi * mass[:, None]).T @ phi / mass.sum(), np.eye(10), atol=1e-12)


def test_gradients_of_the_silos_are_those_of_their_losses():
    silos, pool = problem()
    exchange = logistic(jax.jit(shared_features)(silos, pool))
    theta = jnp.asarray(np.random.default_rng(1).standard_normal(10))

    def loss(theta, silo):
        return jnp.sum(silo.weights * jnp.logaddexp(0, -exchange.features(silo.points) @ theta))

    def answer(silo):
        return exchange.reply(exchange.silo_init(KEY, silo, exchange.features), silo, theta)[1]

    @jax.jit
    @jax.vmap
    def compare(silo):
        return answer(silo), jax.grad(loss)(theta, silo), jax.hessian(loss)(theta, silo)

    messages, slopes, hessians = jax.device_get(compare(silos))
    assert_allclose(messages.gradient, slopes, rtol=1e-10)
    assert_allclose(messages.mass, np.sum(silos.weights, axis=1))
    assert (np.linalg.eigvalsh(hessians)[:, -1] <= messages.curvature).all()


@pytest.mark.parametrize("regularisation", [1e-3, 0.1])
def test_federated_fit_equals_the_pooled_regression(regularisation):
    silos, pool = problem()
    fitted = fit_logistic(silos, pool, regularisation)
    real = flat(silos)
    x = lifted(fitted.features, np.concatenate([real.points, pool.points]))
    label = np.repeat([1, 0], [len(real.weights), len(pool.weights)])
    mass = np.concatenate([m.weights / np.sum(m.weights) for m in (real, pool)]) / 2
    model = LogisticRegression(C=1 / regularisation, tol=1e-10, max_iter=10_000)
    model.fit(x[:, 1:], label, sample_weight=mass)
    assert_allclose(fitted.theta, np.append(model.intercept_, model.coef_), rtol=1e-4, atol=1e-4)
    assert_allclose(lifted(fitted, pool.points), model.decision_function(x[len(real.weights) :, 1:]), atol=1e-4)


def test_federated_fit_depends_on_the_union_of_the_silos_only():
    silos, pool = problem()
    first, second = (lifted(fit_logistic(data, pool), pool.points) for data in (silos, expand(flat(silos))))
    assert_allclose(first, second, atol=1e-7)


@pytest.mark.parametrize("max_norm", [np.inf, 4.0])
def test_tilted_pool_has_the_mean_features_of_the_silos(max_norm):
    silos, pool = problem()
    features = quadratic_features(jax.jit(shared_features)(silos, pool).whitening, max_norm)
    real = flat(silos)
    goal = np.average(lifted(features, real.points), axis=0, weights=real.weights)
    fitted, trouble = fit(features, goal, pool, 1e-8)
    assert not any(map(int, trouble.values()))
    told = jax.jit(carry_out)(feature_means(features), KEY, None, silos)
    score = np.asarray(jax.jit(tilted_ratio.__call__)(tilted_ratio(features, told, 1e-8), KEY, pool).value)
    # A constant changes no tilt, so that only the regularisation holds it.
    expected = lifted(fitted, pool.points)
    assert_allclose(score - score.mean(), expected - expected.mean(), atol=1e-8)
    weight = np.exp(score)
    found = weight @ lifted(features, pool.points) / weight.sum()
    assert_allclose(found, goal - 1e-8 * fitted.theta, atol=1e-9)
    if max_norm == np.inf:
        assert_allclose(np.average(pool.points, 0, weight), np.average(real.points, 0, real.weights), atol=1e-5)
        covariances = [np.cov(np.transpose(x), aweights=w, ddof=0) for x, w in ((pool.points, weight), real)]
        assert_allclose(*covariances, atol=1e-5)


def test_tilt_minimises_its_objective_where_the_pool_cannot_reach_the_goal():
    _, pool = problem()
    features = quadratic_features(fit_target(pool), 4.0)
    goal = np.random.default_rng(0).standard_normal(10)
    fitted, _ = fit(features, goal, pool, 0.1)
    phi = lifted(features, pool.points)
    expected = optimize.minimize(
        lambda theta: special.logsumexp(phi @ theta) - theta @ goal + 0.05 * theta @ theta,
        np.zeros(10),
        jac=lambda theta: special.softmax(phi @ theta) @ phi - goal + 0.1 * theta,
        tol=1e-12,
    )
    assert_allclose(fitted.theta, expected.x, atol=1e-5)


def test_one_sample_moves_a_bounded_message_within_its_sensitivity():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3))
    exchange = feature_means(quadratic_features(isotropic_target(jnp.zeros(3)), 2.5))

    @jax.jit
    def message(points):
        return exchange.reply(KEY, uniform_measure(points), None)[1].mean

    moves = []
    for other in 100 * rng.standard_normal((50, 3)):
        moves.append(np.linalg.norm(np.asarray(message(np.vstack([x[:-1], other]))) - message(x)))
    assert 2.5 / 20 < max(moves) <= 2 * 2.5 / 20


def test_padding_changes_no_score():
    silos, pool = problem()
    padded = np.asarray(scores(with_padding(silos), with_padding(pool)))
    assert_allclose(padded[:, :300], scores(silos, pool), rtol=1e-9, atol=1e-9)


def test_logistic_fit_is_unbiased_for_gaussians():
    # The truth is quadratic: log N(x; m, S) - log N(x; 0, I). Standard errors are those of the replicates.
    mean, covariance = np.array([0.4, -0.3]), np.array([[0.8, 0.2], [0.2, 0.9]])
    root = np.linalg.cholesky(covariance)
    x = np.random.default_rng(0).standard_normal((8, 2))
    truth = stats.multivariate_normal(mean, covariance).logpdf(x) - stats.multivariate_normal(np.zeros(2)).logpdf(x)

    def replicate(key):
        normal = jax.random.normal(key, (7, 1000, 2))
        # Three silos: those sides of one Gaussian on which the first coordinate is low, middling, high.
        real = (mean + normal[:3] @ root.T).reshape(-1, 2)
        side = jnp.searchsorted(jnp.array([0.0, 1.0]), real[:, 0])
        silos = Measure(jnp.broadcast_to(real, (3, *real.shape)), (side == jnp.arange(3)[:, None]).astype(float))
        pool = uniform_measure(normal[3:].reshape(-1, 2))
        return fit_logistic(silos, pool, 1e-6, num_rounds=100)(jnp.asarray(x))

    fitted = jax.jit(lambda keys: jax.lax.map(replicate, keys))(jax.random.split(jax.random.key(1), 40))
    assert_unbiased(z_scores(fitted, truth), replicates=40)
    assert np.asarray(fitted).std(0).max() < 0.3


def test_regularisation_shrinks_the_ratio_towards_one():
    silos, pool = problem()
    fits = [fit_logistic(silos, pool, strength) for strength in (1e-3, 0.1, 10.0)]
    spread = [np.ptp(lifted(fitted, pool.points)) for fitted in fits]
    assert spread[0] > 2 * spread[1] > 10 * spread[2]


def kept_density(log_w, budget):
    """Tabulate the limit of Gumbel-top-n on a standard normal: p(x) (1 - exp(-tau w(x))), tau by the budget."""
    x = np.linspace(-9, 9, 4001)
    p, w = stats.norm.pdf(x), np.exp(log_w(x))
    share = lambda tau: integrate.simpson(p * -np.expm1(-tau * w), x=x)
    tau = optimize.brentq(lambda tau: share(tau) - budget, 1e-9, 1e9)
    return x, p * -np.expm1(-tau * w) / budget


@pytest.mark.parametrize("budget", [0.25, 0.01])
def test_gumbel_top_n_on_the_exact_ratio_moves_the_pool_to_the_mixture(budget):
    size, num_runs, mean, deviation = 4000, 200, 0.5, 0.8
    log_w = lambda x: -((x - mean) ** 2) / (2 * deviation**2) + x**2 / 2 - np.log(deviation)
    num_kept = round(budget * size)
    bounds = sizes(num_kept, budget, temperature=1.0)
    select = soft(lambda key, pool: log_w(pool.points[:, 0]))

    def run(key):
        draw_key, select_key = jax.random.split(key)
        pool = uniform_measure(jax.random.normal(draw_key, (size, 1)))
        kept = as_moments(pool._replace(weights=select(select_key, pool, bounds).value))
        return jnp.stack([kept.mean[0], kept.covariance[0, 0] + kept.mean[0] ** 2])

    moments = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(2), num_runs)))
    x, density = kept_density(log_w, budget)
    limit = np.array([integrate.simpson(density * x**power, x=x) for power in (1, 2)])
    assert_unbiased(z_scores(moments, limit), replicates=num_runs)
    mixture = np.array([mean, mean**2 + deviation**2])
    # What is left of the way from the pool to the mixture, in mean and second moment.
    left = np.abs(limit - mixture) / np.abs(np.array([0, 1]) - mixture)
    assert (left < (0.25 if budget > 0.1 else 0.02)).all(), left


def test_resampling_by_the_fitted_ratio_moves_moments_to_the_mixture():
    silos = Moments(jnp.array([1.0, 3.0]), jnp.array([[1.0, 0.0], [-0.2, 0.5]]), 0.5 * jnp.stack([jnp.eye(2)] * 2))
    share = np.array([0.25, 0.75])
    mean = share @ np.asarray(silos.mean)
    second = 0.5 * np.eye(2) + np.einsum("k,ki,kj->ij", share, silos.mean, silos.mean)

    def run(key):
        keys = jax.random.split(key, 3)
        real = silos.mean[:, None] + jnp.sqrt(0.5) * jax.random.normal(keys[0], (2, 900, 2))
        data = Measure(real, (jnp.arange(900) < jnp.array([[300], [900]])).astype(float))
        pool = uniform_measure(jax.random.normal(keys[1], (2000, 2)))

        def miss(select):
            kept = select(keys[2], pool, sizes(100, 0.05, temperature=1.0)).value / 100
            error = jnp.einsum("n,ni,nj->ij", kept, pool.points, pool.points) - second
            return jnp.stack([jnp.sum((kept @ pool.points - mean) ** 2), jnp.sum(error**2)])

        return jnp.stack(list(map(miss, (soft(by_logistic(data)), soft(moment_ratio(data)), random()))))

    misses = np.asarray(jax.jit(lambda keys: jax.lax.map(run, keys))(jax.random.split(jax.random.key(3), 30)))
    for ratio in (0, 1):
        assert (z_between(misses[:, ratio], misses[:, 2]) < -stats.t.isf(1e-4, 29)).all()
        assert (misses[:, ratio].mean(0) < 0.3 * misses[:, 2].mean(0)).all()
