"""Screens: what they make of silos that lie, against NumPy and SciPy, and of silos that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from jaxcollapse.base import Measure, Moments
from jaxcollapse.exchanges import (
    SCREENS,
    barycenter,
    carry_out_counted,
    feature_means,
    federated_sinkhorn,
    in_turn,
    kernel_densities,
    moments,
    screened,
)
from jaxcollapse.exchanges.feature_means import FeatureMean
from jaxcollapse.exchanges.kernel_densities import Density
from jaxcollapse.experiments.poisoned_silos import Config, cases_of, lying, poison
from jaxcollapse.measures import uniform_measure
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import row
from jaxcollapse.verifiers import verifier

pytestmark = pytest.mark.usefixtures("x64")

KEY, K, M, DIM = jax.random.key(0), 7, 200, 3
RULES = {name: make() for name, make in SCREENS.items()}
RULES["all"] = in_turn((RULES["bounded_mass"], RULES["near_median"], RULES["geometric_median"]))
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def waves(points):
    """Compute features bounded by one."""
    return jnp.cos(points)


def honest(seed=0):
    """Draw silos of one law."""
    return uniform_measure(jnp.asarray(np.random.default_rng(seed).standard_normal((K, M, DIM))))


def with_liar(mass=1e6, shift=100.0):
    """Let the last silo move its data and claim a mass, in units of the others'."""
    silos = honest()
    return Measure(silos.points.at[-1].add(shift), silos.weights.at[-1].mul(mass))


def told(exchange, silos, pool=None):
    """Collect the replies of a first round."""
    server = exchange.server_init(KEY, pool)

    def answer(silo):
        state = exchange.silo_init(KEY, silo, exchange.opening(server))
        return exchange.reply(state, silo, exchange.request(server))[1]

    return jax.vmap(answer)(silos)


def outcome(exchange, silos, rule, pool=None):
    return carry_out_counted(exchange, KEY, pool, screened(silos, rule))


def replies(seed=0, size=4):
    rng = np.random.default_rng(seed)
    return FeatureMean(jnp.asarray(rng.standard_normal((K, size))), jnp.asarray(rng.uniform(1, 3, K)))


def test_masses_are_cut_at_the_median():
    found = SCREENS["bounded_mass"](1.5)(replies()._replace(mass=jnp.array([1.0, 2, 3, 0, 4, 5, 1e6])))
    assert_allclose(found.mass, [1, 2, 3, 0, 4, 5, 5.25])  # of six present: median 3.5
    assert_array_equal(found.mean, replies().mean.at[3].set(0))


@pytest.mark.parametrize("limit", [1.0, 1.1, 3.0])
def test_a_cut_by_the_median_in_numpy(limit):
    given = replies()
    z = np.asarray(given.mean)
    distance = np.linalg.norm(z - np.median(z, axis=0), axis=1)
    kept = distance <= limit * np.median(distance)
    assert kept.sum() == {1.0: 4, 1.1: kept.sum(), 3.0: K}[limit]
    found = SCREENS["near_median"](limit)(given)
    assert_allclose(found.mass, given.mass * kept)
    assert_array_equal(found.mean, z * kept[:, None])


def test_the_mean_by_the_weights_is_the_geometric_median_of_scipy():
    given = replies()
    z, m = np.asarray(given.mean), np.asarray(given.mass)
    exact = minimize(lambda x: m @ np.linalg.norm(z - x, axis=1), m @ z / m.sum(), tol=1e-12).x
    found = SCREENS["geometric_median"](num_steps=200)(given)
    assert_allclose(found.mass @ found.mean / found.mass.sum(), exact, atol=1e-6)
    assert found.mass.max() <= m.max()
    fifty = SCREENS["geometric_median"]()(given)
    assert_allclose(fifty.mass @ fifty.mean / fifty.mass.sum(), exact, atol=1e-3)


@pytest.mark.parametrize("name", ["bounded_mass", "all"])
def test_one_liar_moves_the_mean_by_its_bounded_share(name):
    """Its share is at most c / (c + K - 1), and features differ by two at most."""
    exchange, claims = feature_means(waves), with_liar()
    others = told(exchange, claims).mean[:-1].mean(axis=0)
    moved = np.abs(outcome(exchange, claims, RULES[name]).value - others).max()
    assert moved < 2 * 2 / (2 + K - 1)
    assert np.abs(carry_out_counted(exchange, KEY, None, claims).value - others).max() > 2 * moved


def test_a_liar_far_away_is_missing():
    claims = with_liar()
    found = outcome(moments(), claims, RULES["near_median"])
    others = Measure(claims.points, claims.weights.at[-1].set(0))
    expected = carry_out_counted(moments(), KEY, None, others).value
    jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-9, atol=1e-12), found.value, expected)
    assert found.trouble["replies screened out"] == 1


@pytest.mark.parametrize("shift", [1e2, 1e4, 1e6])
def test_a_geometric_median_is_moved_by_no_more_however_far_a_liar_goes(shift):
    """Of [lopuhaa1991]: 2 (K - f) / (K - 2 f) times the largest norm of the honest."""
    z = np.asarray(replies().mean)
    moved = FeatureMean(jnp.asarray(z).at[:2].add(shift), jnp.ones(K))
    found = SCREENS["geometric_median"](num_steps=200)(moved)
    assert np.linalg.norm(found.mass @ found.mean / found.mass.sum()) < 2 * 5 / 3 * np.linalg.norm(z[2:], axis=1).max()


@every_rule
@pytest.mark.parametrize("exchange", [feature_means(waves), moments()], ids=["features", "moments"])
def test_silos_of_one_law_lose_at_most_sampling_error(exchange, rule):
    plain, found = carry_out_counted(exchange, KEY, None, honest()).value, outcome(exchange, honest(), rule)
    assert found.trouble["replies screened out"] <= 2
    gaps = [np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (plain, found.value)), strict=True)]
    if isinstance(plain, Moments):
        gaps = gaps[1:]  # the mass counts silos
    spread = np.sqrt(2 / M)  # of a variance in one silo, the widest of all that is told
    assert max(gaps) < 4 * spread * np.sqrt(2 / K)


@every_rule
def test_a_screen_does_not_know_the_order_of_silos(rule):
    order = jnp.array([3, 6, 0, 2, 5, 1, 4])
    for given in (replies(), told(moments(), with_liar()), told(kernel_densities(1.0), with_liar(), row(honest(1), 0))):
        there, back = rule(jax.tree.map(lambda leaf: leaf[order], given)), rule(given)
        jax.tree.map(lambda x, y: assert_allclose(x, y[order], rtol=1e-9, atol=1e-12), there, back)


@every_rule
def test_missing_silos_stay_missing_and_count_for_nothing(rule):
    silos = with_liar(mass=1.0)
    fewer = row(silos, np.r_[0, 2:K])
    silos = silos._replace(weights=silos.weights.at[1].set(0))
    found, expected = outcome(moments(), silos, rule), outcome(moments(), fewer, rule)
    jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-9, atol=1e-12), found, expected)
    nobody = rule(jax.tree.map(jnp.zeros_like, replies()))
    jax.tree.map(lambda leaf: assert_array_equal(leaf, 0 * leaf), nobody)


@every_rule
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_reply_that_is_not_finite_is_missing(rule, value):
    given = replies()
    spoilt = rule(given._replace(mean=given.mean.at[2, 1].set(value)))
    absent = rule(FeatureMean(given.mean.at[2].set(0), given.mass.at[2].set(0)))
    jax.tree.map(assert_array_equal, spoilt, absent)


@every_rule
def test_log_sums_are_those_of_the_masses_that_are_left(rule):
    silos, pool = with_liar(mass=50.0, shift=3.0), row(honest(1), 0)
    given = told(kernel_densities(1.0), silos, pool)
    found = rule(given)
    cost = ((np.asarray(pool.points)[:, None, None] - np.asarray(silos.points)) ** 2).sum(-1)
    mean_kernels = np.exp(-cost).mean(-1)
    result = outcome(kernel_densities(1.0), silos, rule, pool).value
    assert isinstance(given, Density)
    assert_allclose(np.exp(result), mean_kernels @ (found.mass / found.mass.sum()), rtol=1e-6)


def test_interpolants_of_a_liar_are_left_out_of_a_barycenter():
    silos = jax.tree.map(lambda leaf: leaf[:, :40], with_liar(mass=1.0))
    start = jnp.asarray(np.random.default_rng(1).standard_normal((20, DIM)))
    exchange = barycenter(start, 0.5, num_rounds=2)
    found = jax.jit(carry_out_counted, static_argnums=2)(exchange, KEY, None, screened(silos, RULES["near_median"]))
    assert found.trouble["replies screened out"] == 2
    assert np.abs(found.value.points.mean(axis=0)).max() < 0.5


def test_exchanges_whose_replies_hang_together_are_refused():
    pool = row(honest(1), 0)
    with pytest.raises(TypeError, match="replies: Reply cannot be screened; must be one of FeatureMean, Density"):
        outcome(federated_sinkhorn(1.0), honest(), RULES["near_median"], pool)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("bounded_mass", {"limit": 0.5}, r"limit = 0.5: must be"),
        ("near_median", {"limit": -1}, r"limit = -1: must be"),
        ("geometric_median", {"num_steps": 0}, r"num_steps = 0: must be at least 1"),
        ("geometric_median", {"floor": 2.0}, r"floor = 2.*: must be in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(name, setting, message):
    with pytest.raises(ValueError, match=message):
        SCREENS[name](**setting)


def test_limits_and_liars_are_mapped_in_one_program():
    exchange, masses, limits = feature_means(waves), jnp.array([1.0, 10, 1e6]), jnp.array([1.0, 2, 3])

    def found(limit, mass):
        silos = with_liar(1.0, shift=1.0)
        silos = silos._replace(weights=silos.weights.at[-1].mul(mass))
        rule = in_turn((SCREENS["bounded_mass"](limit), SCREENS["geometric_median"]()))
        return outcome(exchange, silos, rule)

    mapped = jax.jit(jax.vmap(found))(limits, masses)
    for i in range(3):
        assert_allclose(mapped.value[i], found(limits[i], masses[i]).value, rtol=1e-9)


def test_verifiers_take_screened_silos():
    """A liar that shifts its data moves the goal of balanced selection; a screen puts it back."""
    pool = row(honest(1), 0)
    kept = {}
    for name, silos in {
        "truth": honest(),
        "lied": with_liar(),
        "screened": screened(with_liar(), RULES["all"]),
    }.items():
        weights = jax.jit(verifier("landmark_balanced", silos))(KEY, pool, sizes(50, 0.25)).value
        kept[name] = weights @ pool.points / weights.sum()
    away = {name: np.linalg.norm(kept[name] - kept["truth"]) for name in ("lied", "screened")}
    assert away["screened"] < 0.5 < away["lied"]


def test_lies_are_what_liars_hold():
    """Divisions are honest, silent, and each lie; three liars are the first and two others."""
    config = Config(divisions=("alike",), num_liars=(1, 3), num_silos=K)
    silos, sample = honest(), row(honest(1), 0).points
    divisions, cases = cases_of(config)
    found = poison(config, KEY, jax.tree.map(lambda leaf: leaf[None], silos), sample)
    spread = np.asarray(silos.points)[..., 0].std()
    liars = {f: np.asarray(lying(KEY, K, f)) for f in (0, 1, 3)}
    assert [mask.sum() for mask in liars.values()] == [0, 1, 3]
    assert (liars[1] <= liars[3]).all()
    for i, (_, lie, f) in enumerate(divisions.itertuples(index=False)):
        told, truth = (jax.tree.map(np.asarray, part) for part in (row(found, i), silos))
        masses = truth.weights * np.where(liars[f], {"silent": 0, "amplify": 100}.get(lie, 1), 1)[:, None]
        assert_array_equal(told.weights, masses)
        assert_array_equal(told.points[~liars[f]], truth.points[~liars[f]])
        false, true = told.points[liars[f]], truth.points[liars[f]]
        if lie in ("shift", "amplify"):
            assert_allclose(false - true, np.broadcast_to([3 * spread, 0, 0], true.shape), atol=1e-12)
        elif lie == "collapse":
            assert_array_equal(false, np.broadcast_to(true[:, :1], true.shape))
        elif lie == "copy":
            assert set(map(tuple, false.reshape(-1, DIM))) <= set(map(tuple, np.asarray(sample)))
    assert len(cases) == 5 * (1 + 4 * 2) + 2
