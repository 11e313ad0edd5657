import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special

from jaxcollapse.base import Measure
from jaxcollapse.exchanges import carry_out, feature_means
from jaxcollapse.features import quadratic_features
from jaxcollapse.measures import stack_padded, uniform_measure
from jaxcollapse.scores import calibrated_gradient
from jaxcollapse.scores.standardised import standardised
from jaxcollapse.selectors import balanced, feature_goal
from jaxcollapse.selectors.balanced import Goal, features_of, fit_odds
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.sinkhorn import sinkhorn

pytestmark = pytest.mark.usefixtures("x64")

NUM_KEPT = 50


@jax.jit
def log_odds(phi, goal, offset, mass, slack):
    """Leave out the constant feature, which no goal names."""
    pool, goals = Measure(phi[:, 1:], mass), [Goal(same, goal[1:], jnp.full(len(goal) - 1, slack))]
    return offset + features_of(goals, pool.points) @ fit_odds(goals, pool, offset, NUM_KEPT).value


def same(points):
    return points


@jax.jit
def lift(real, silos, points):
    """Fit features to the real data; give those of points, and their mean as the silos tell it."""
    features = quadratic_features(fit_target(real))
    return features, features(points), carry_out(feature_means(features), jax.random.key(0), None, silos)


def problem(seed=0, size=200, dim=2):
    """Draw features of candidates, their nearness, and the mean features of a narrower population elsewhere."""
    rng = np.random.default_rng(seed)
    real, pool = 0.8 * rng.standard_normal((500, dim)) + 0.2, rng.standard_normal((size, dim))
    silos = stack_padded([uniform_measure(real[:100]), uniform_measure(real[100:])])
    real, pool = uniform_measure(real), jnp.asarray(pool)
    features, phi, goal = lift(real, silos, pool)
    return phi, goal, rng.standard_normal(size), real, pool, features


@pytest.mark.parametrize("strength", [0.0, 4.0])
def test_probabilities_have_the_mean_features_and_sum_to_the_number_kept(strength):
    phi, goal, near, *_ = problem()
    p = special.expit(log_odds(phi, goal, strength * near, np.ones(200), 1e-8))
    assert_allclose(p @ phi / NUM_KEPT, goal, atol=1e-6)
    assert_allclose(p.sum(), NUM_KEPT, rtol=1e-6)


def test_log_odds_minimise_the_objective_where_no_choice_reaches_the_goal():
    phi, _, near, *_ = problem(1)
    phi, mass = np.asarray(phi), (np.arange(200) < 150).astype(float)
    goal = np.append(1, np.random.default_rng(2).standard_normal(phi.shape[1] - 1))
    found = log_odds(phi, goal, near, mass, 0.1)

    def objective(theta):
        entropy = mass @ np.logaddexp(0, near + phi @ theta) / NUM_KEPT
        return entropy - theta @ goal + 0.05 * theta[1:] @ theta[1:]

    expected = optimize.minimize(objective, np.zeros(len(goal)), tol=1e-10).x
    assert_allclose(found, near + phi @ expected, atol=1e-4)


def test_fits_that_have_not_converged_are_counted():
    phi, _, near, *_ = problem()
    far = [Goal(same, jnp.full(phi.shape[1], 10.0), jnp.full(phi.shape[1], 1e-3))]
    fit = jax.jit(
        lambda most: fit_odds(far, uniform_measure(phi), jnp.asarray(near), float(NUM_KEPT), most), static_argnums=0
    )
    logits = [(near + features_of(far, phi) @ theta, trouble) for theta, trouble in map(fit, (2, 60))]
    found = [(int(*trouble.values()), float(special.expit(u).sum())) for u, trouble in logits]
    assert found[0][0] == 1
    assert abs(found[0][1] - NUM_KEPT) > 0.1
    assert found[1][0] == 0
    assert_allclose(found[1][1], NUM_KEPT, atol=1e-4)


def test_strong_preference_comes_near_the_linear_program():
    phi, goal, near, *_ = jax.device_get(problem(3)[:3])
    program = optimize.linprog(-near, A_eq=phi.T / NUM_KEPT, b_eq=goal, bounds=(0, 1))
    for strength in (2.0, 20.0):
        p = special.expit(log_odds(phi, goal, strength * near, np.ones(200), 1e-9))
        entropy = special.entr(p).sum() + special.entr(1 - p).sum()
        # What p maximises, entropy and all, is at least that of the program's solution, whose entropy is not negative.
        assert -program.fun - entropy / strength <= p @ near + 1e-5
        assert p @ near <= -program.fun + 1e-5


def test_kept_with_these_probabilities():
    phi, told, _, real, x, features = problem(4)
    pool = Measure(x, jnp.asarray(np.arange(200) < 180, float))
    potentials = jax.jit(sinkhorn)(pool, real, 1.0)
    select = balanced(
        (feature_goal(features, told, 1e-8, 0.7),), standardised(calibrated_gradient(potentials, 1.0)), 2.0
    )
    keys, bounds = jax.random.split(jax.random.key(0), 2000), sizes(NUM_KEPT, NUM_KEPT / 180)
    kept = np.asarray(jax.jit(jax.vmap(lambda key: select(key, pool, bounds).value))(keys))
    assert_array_equal(kept.sum(axis=1), NUM_KEPT)
    assert set(np.unique(kept)) == {0, 1}
    f, mass = np.asarray(potentials.f), np.asarray(pool.weights)
    near = (np.average(f, weights=mass) - f) / np.sqrt(np.cov(f, aweights=mass, ddof=0))
    goal = 0.7 * np.asarray(told) + 0.3 * np.average(phi, 0, mass)
    p = special.expit(log_odds(phi, goal, 2 * near, mass, 1e-8)) * mass
    error = np.sqrt(p * (1 - p) / len(keys)) + 1e-6
    z = (kept.mean(axis=0) - p) / error
    assert abs(z).max() < 5
    means = kept @ np.asarray(phi) / NUM_KEPT
    assert (abs(means.mean(axis=0) - goal) < 4 * means.std(axis=0) / np.sqrt(len(keys)) + 1e-6).all()


def test_goals_that_are_none_are_refused():
    _, goal, *_, features = problem(5)
    for goals in ((), feature_goal(features, goal)):
        with pytest.raises(ValueError, match="goals: must be a sequence of one goal or more"):
            balanced(goals)


def test_candidates_whose_score_is_no_number_do_not_disturb_the_balance():
    _, goal, near, _, x, features = problem(5)
    known = np.arange(200) % 7 > 0
    scores = np.where(known, near, np.nan), near
    pools = uniform_measure(x), Measure(x, jnp.asarray(known, float))

    @jax.jit
    def select(score, pool):
        return balanced((feature_goal(features, goal),), lambda key, pool: score)(
            jax.random.key(0), pool, sizes(NUM_KEPT, 0.25)
        )

    (spoiled, trouble), (without, _) = map(select, scores, pools)
    assert_array_equal(spoiled, without)
    assert sum(trouble.values()) == 29
