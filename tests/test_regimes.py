"""When selection pays: closed forms beside plain recursions and integrals, exact mean fields and simulations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracle import radial_distances
from scipy import integrate, optimize, stats

import jaxcollapse as jc
from jaxcollapse.base import Moments, State, Target
from jaxcollapse.generators import contaminate, expand, gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.recursion import build_collapse, run
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes
from jaxcollapse.theory import regimes
from jaxcollapse.theory.critical import Regime, best_budget, critical_share, distances
from jaxcollapse.theory.exponents import kappa
from jaxcollapse.theory.mean_field import fresh_moments, kept_moments
from jaxcollapse.theory.spectrum import eigenvalues, spectrum
from jaxcollapse.workflows import WORKFLOWS

KEY = jax.random.key(0)
eigenvalues_of = jax.jit(eigenvalues)
BOTH = pytest.mark.parametrize("workflow", ["replace", "accumulate"])
x64 = pytest.mark.usefixtures("x64")


def mean_field_of(workflow, generator, target, start, at, truth=None):
    """Run an exact mean field; its models of generations 0..T."""

    def models(start, target):
        made = WORKFLOWS[workflow](moments_memory())
        fresh = fresh_moments(start if truth is None else truth)
        collapse = build_collapse(generator, kept_moments(target, generator), made, fresh)
        return run(KEY, collapse, start, at, lambda key, state, info: state.params)[1]

    return jax.jit(models)(start, target)


def moments(mean, covariance):
    return Moments(jnp.ones(()), jnp.asarray(mean, float), jnp.asarray(covariance, float))


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
def test_growth_is_a_product(factor):
    t = np.arange(1, 13)
    assert_allclose(regimes.growth("accumulate", factor, t), np.cumprod(1 - (1 - factor) / t), rtol=1e-12)
    assert_allclose(regimes.growth("replace", factor, t), factor**t, rtol=1e-12)
    for workflow in ("replace", "accumulate"):
        assert regimes.growth(workflow, factor, 0) == 1
    late = np.array([1e6, 4e6])
    if factor:
        slope = np.diff(np.log(regimes.growth("accumulate", factor, late))) / np.log(4)
        assert_allclose(slope, factor - 1, atol=1e-6)


@x64
@BOTH
def test_growth_is_the_covariance_of_an_expanding_generator(workflow):
    dim, budget, noise = 3, 0.4, 0.9
    covariance = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.7]])
    start, target = (
        moments(np.ones(dim), covariance),
        Target(jnp.ones(dim), jnp.linalg.inv(jnp.linalg.cholesky(covariance))),
    )
    models = mean_field_of(workflow, expand(gaussian(), noise), target, start, sizes(100, budget, 12))
    radius = np.sqrt(stats.chi2.ppf(budget, dim))
    square = integrate.quad(lambda r: r**2 * stats.chi.pdf(r, dim), 0, radius)[0] / (dim * budget)
    assert_allclose(regimes.multiplier(dim, budget, noise), (1 + noise**2) * square, rtol=1e-10)
    grown = regimes.growth(workflow, (1 + noise**2) * square, np.arange(13))
    assert_allclose(models.covariance, grown[:, None, None] * covariance, rtol=1e-8, atol=1e-12)


@x64
def test_far_junk_only_widens_the_budget():
    dim, budget, noise, share = 3, 0.5, 0.6, 0.2
    junk = moments(np.zeros(dim), 1e10 * np.eye(dim))
    generator = contaminate(expand(gaussian(), noise), share, junk)
    start, target = moments(np.zeros(dim), np.eye(dim)), Target(jnp.zeros(dim), jnp.eye(dim))
    models = mean_field_of("replace", generator, target, start, sizes(100, budget, 3))
    factor = regimes.multiplier(dim, budget, noise, share)
    assert_allclose(models.covariance[:, 1, 1], factor ** np.arange(4), rtol=1e-7)
    assert_allclose(factor, (1 + noise**2) * kappa(dim, budget / (1 - share)), rtol=1e-12)


@x64
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_spectrum_is_that_of_the_linearised_step(noise):
    dim, budget = 3, 0.3
    q = stats.chi2.ppf(budget, dim)
    fourth = integrate.quad(lambda r: r**4 * stats.chi.pdf(r, dim), 0, q**0.5)[0] / (dim * (dim + 2) * budget)
    mean, scale, shape = spectrum(dim, budget, noise)
    assert_allclose(shape, (1 + noise**2) * fourth, rtol=1e-10)
    found = eigenvalues_of(
        moments(np.ones(dim), 5 * np.eye(dim)), Target(jnp.ones(dim), jnp.eye(dim) / 7), budget, noise
    )
    assert_allclose(np.sort(found.real), np.sort([mean] * dim + [scale] + [shape] * 5), rtol=1e-7)
    assert_allclose(found.imag, 0, atol=1e-12)


@x64
@BOTH
def test_covariances_homogenise_at_the_rate_of_the_spectrum(workflow):
    """Relative to the trace, anisotropy is multiplied by kappa' / kappa, or falls with the difference as exponent."""
    budget, generator = 0.5, expand(gaussian(), 0.8)
    start, target = moments(np.zeros(2), np.diag([9.0, 1.0])), Target(jnp.zeros(2), jnp.eye(2))
    models = mean_field_of(workflow, generator, target, start, sizes(100, budget, 40))
    variances = np.diagonal(models.covariance, axis1=1, axis2=2)
    anisotropy = np.log(variances[:, 0] / variances[:, 1])
    _, scale, shape = spectrum(2, budget, 0.8)
    if workflow == "replace":
        assert_allclose(anisotropy[8] / anisotropy[7], shape / scale, rtol=1e-4)
    else:
        predicted = regimes.growth(workflow, shape, [20, 40]) / regimes.growth(workflow, scale, [20, 40])
        assert_allclose(anisotropy[40] / anisotropy[20], predicted[1] / predicted[0], rtol=0.02)
        assert_allclose(predicted[1] / predicted[0], 2 ** (shape - scale), rtol=0.02)


@x64
def test_eigenvalues_are_those_of_the_jacobian_where_a_fresh_mix_settles():
    """An anisotropic score and a biased target; the Jacobian by differences, in means and covariances."""
    truth, target = moments(np.zeros(2), np.eye(2)), Target(jnp.array([0.8, -0.3]), jnp.diag(jnp.array([1.0, 0.4])))
    at, generator = sizes(600, 0.6, 60, num_fresh=150), expand(gaussian(), 0.5)
    models = mean_field_of("fresh_mix", generator, target, truth, at)
    last = jax.tree.map(lambda leaf: leaf[-1], models)
    made = WORKFLOWS["fresh_mix"](moments_memory())
    collapse = build_collapse(generator, kept_moments(target, generator), made, fresh_moments(truth))

    def step(x):
        model = moments(x[:2], x[jnp.array([[2, 3], [3, 4]])])
        _, mean, covariance = collapse.step(KEY, State(jnp.zeros((), int), model, ()), at)[0].params
        return jnp.concatenate([mean, covariance[[0, 0, 1], [0, 1, 1]]])

    x, small = jnp.concatenate([last.mean, last.covariance[[0, 0, 1], [0, 1, 1]]]), 1e-5 * jnp.eye(5)
    changes = jax.jit(jax.vmap(step))(jnp.concatenate([x + small, x - small, x[None]]))
    assert_allclose(changes[-1], x, rtol=1e-10)
    jacobian = (changes[:5] - changes[5:10]).T / 2e-5
    found = 0.8 * eigenvalues_of(last, target, jnp.asarray(0.6), 0.5)
    assert_allclose(np.sort(found), np.sort(np.linalg.eigvals(jacobian)), rtol=1e-6)


@x64
@pytest.mark.parametrize("workflow", ["replace", "accumulate", "fresh_mix"])
def test_junk_among_what_is_not_selected(workflow):
    share, num_fresh, c = 0.2, 50 * (workflow == "fresh_mix"), np.array([3.0, -1.0])
    junk = moments(c, 4 * np.eye(2))
    predicted = jc.predict(
        contaminate(gaussian(), share, junk), "random", workflow, moments(np.zeros(2), np.eye(2)),
        num_kept=200, num_fresh=num_fresh, num_generations=9, metrics=("mean_error", "trace_ratio"),
    )  # fmt: skip
    fresh, name = num_fresh / 250, "accumulate" if workflow == "accumulate" else "replace"
    q = regimes.junk_share(name, share, fresh, np.arange(10))
    assert_allclose(predicted.mean_error, q**2 * (c @ c), rtol=1e-9, atol=1e-15)
    assert_allclose(predicted.trace_ratio, 1 + 3 * q + q * (1 - q) * (c @ c) / 2, rtol=1e-9)
    renewed = fresh + (1 - fresh) * share
    assert_allclose(regimes.junk_share(name, share, fresh, 1e12), (1 - fresh) * share / renewed, rtol=5e-3)
    assert_allclose(regimes.junk_share(name, 0.0, 0.0, [1, 5]), 0)


@x64
def test_fresh_data_hold_the_trace():
    """At the target's distance of zero the exact mean field tends to the closed form, collapsing or exploding."""
    truth, target = moments(np.zeros(2), np.eye(2)), Target(jnp.zeros(2), jnp.eye(2))
    for noise, num_fresh in ((0.0, 25), (1.2, 100)):
        at = sizes(100, 0.5, 80, num_fresh=num_fresh)
        models = mean_field_of("fresh_mix", expand(gaussian(), noise), target, truth, at)
        factor, fresh = regimes.multiplier(2, 0.5, noise), num_fresh / (100 + num_fresh)
        limit, rest = regimes.fresh_limit(factor, fresh), regimes.growth("replace", (1 - fresh) * factor, np.arange(81))
        assert_allclose(models.covariance[:, 0, 0], limit + (1 - limit) * rest, rtol=1e-8)


@pytest.mark.parametrize(("factor", "level"), [(0.4, 0.5), (0.9, 0.99), (1.5, 3.0), (0.7, 1.0)])
def test_the_least_share_of_fresh_data_reaches_its_level(factor, level):
    fresh = regimes.least_fresh(factor, level)
    assert_allclose(regimes.fresh_limit(factor, fresh), level, rtol=1e-12)
    if level == 0.5:
        assert_allclose(fresh, (1 - factor) / (2 - factor), rtol=1e-12)


def test_fresh_data_too_few_hold_no_explosion():
    assert regimes.fresh_limit(1.5, 1 / 3 - 1e-9) == np.inf
    assert np.isfinite(regimes.fresh_limit(1.5, 1 / 3 + 1e-9))


SETTINGS = {"budget": 0.5, "noise": 0.4, "share": 0.1, "scale": 2.5}


@x64
@BOTH
def test_distances_are_those_of_a_radial_recursion(workflow):
    regime = Regime(**SETTINGS)._replace(budget=jnp.array([0.5, 1.0]))
    found = distances(workflow, 4, 6, regime)
    for i, budget in enumerate((0.5, 1.0)):
        expected = radial_distances(workflow, 6, dim=4, **SETTINGS | {"budget": budget})
        assert_allclose(found[i], expected, rtol=1e-6, atol=1e-9)


@x64
@BOTH
def test_critical_noise_makes_selection_and_chance_equal(workflow):
    noise = regimes.critical_noise(workflow, 4, 0.3, 6)
    selected, random = distances(workflow, 4, 6, Regime(budget=jnp.array([0.3, 1.0]), noise=noise))[:, -1]
    assert_allclose(selected, random, rtol=1e-6)
    if workflow == "replace":
        shrinkage = kappa(4, 0.3)
        assert_allclose(1 + noise**2, (2 / (1 + shrinkage**3)) ** (1 / 3), rtol=1e-12)
        assert_allclose(regimes.critical_noise("replace", 4, 0.3, 10**4) ** 2 * 10**4, 2 * np.log(2), rtol=1e-3)
        assert all(regimes.critical_noise("replace", 2, 0.05, t) > 0 for t in range(1, 200))


@BOTH
def test_critical_share_is_that_of_a_radial_recursion(workflow):
    def excess(share):
        selected, random = (radial_distances(workflow, 6, dim=4, budget=b, share=share)[-1] for b in (0.5, 1.0))
        return selected - random

    found = critical_share(workflow, 4, 6, Regime(budget=0.5))
    assert_allclose(found, optimize.brentq(excess, 0, 1), atol=3e-6)


def test_critical_share_of_a_collapsed_model():
    """Of a thousandth kept six generations leave a point, which has arrived at a target two deviations away."""
    found = critical_share("replace", 4, 6, Regime(budget=0.001, bias=2.0, scale=6.0))
    assert_allclose(found, regimes.critical_share_collapsed(4, 2.0, 6.0, 6), rtol=2e-3)
    assert np.isnan(regimes.critical_share_collapsed(4, 2.0, 1 + 2**0.5 - 1e-9, 6))
    # Random selection of junk alone is as wrong as the point mass, where the share is one.
    assert_allclose(regimes.critical_share_collapsed(4, 2.0, 1 + 2**0.5, 6), 1)


def test_critical_share_is_zero_or_missing_where_nothing_is_to_be_decided():
    assert critical_share("accumulate", 4, 6, Regime(budget=0.5, noise=1.5)) == 0
    assert np.isnan(critical_share("accumulate", 4, 6, Regime(budget=0.5, bias=9.0, scale=1.5)))


@pytest.mark.parametrize(("scale", "expected"), [(30.0, 0.8), (1.5, None)])
def test_best_budget_is_what_is_not_junk_if_that_is_far(scale, expected):
    found = best_budget("accumulate", 4, 6, Regime(share=0.2, scale=scale))
    if expected is None:

        def distance(budget):
            return radial_distances("accumulate", 6, dim=4, budget=budget, share=0.2, scale=scale)[-1]

        expected = optimize.minimize_scalar(distance, bounds=(0.5, 1), method="bounded").x
        assert expected > 0.85
    assert_allclose(found, expected, atol=2e-3)


@x64
@BOTH
def test_mean_errors_are_those_of_the_exact_mean_field_at_small_gaps(workflow):
    dim, budget, small = 3, 0.6, 1e-3
    noise = (1 / kappa(dim, budget) - 1) ** 0.5
    start, truth = moments([0, 2 * small, 0], np.eye(dim)), moments(np.zeros(dim), np.eye(dim))
    target = Target(jnp.array([3 * small, 0, 0]), jnp.eye(dim))
    models = mean_field_of(workflow, expand(gaussian(), noise), target, start, sizes(600, budget, 12), truth)
    predicted = regimes.mean_errors(workflow, dim, budget, 12, bias=3 * small, error=4 * small**2, noise=noise)
    assert_allclose((models.mean**2).sum(1), predicted, rtol=1e-4)


@BOTH
@pytest.mark.parametrize("noise", [0.0, 0.9])
def test_mean_errors_are_those_of_simulations(workflow, noise):
    """In NumPy, from whole pools: 1,500 runs that keep half of 200 candidates in the plane."""
    rng, (n, dim, last, runs) = np.random.default_rng(0), (100, 2, 6, 1500)
    bias, error = 0.15, 0.02
    mean = rng.normal(size=(runs, dim)) * (error / dim) ** 0.5
    root, past = np.tile(np.eye(dim), (runs, 1, 1)), np.zeros((runs, 0, dim))
    found = [(mean**2).sum(1)]
    for _ in range(last):
        pool = mean[:, None] + (1 + noise**2) ** 0.5 * rng.normal(size=(runs, 2 * n, dim)) @ root.transpose(0, 2, 1)
        order = np.argsort(((pool - [bias, 0]) ** 2).sum(-1), axis=1)[:, :n, None]
        kept = np.take_along_axis(pool, order, 1)
        past = kept if workflow == "replace" else np.concatenate([past, kept], axis=1)
        mean = past.mean(1)
        centred = past - mean[:, None]
        root = np.linalg.cholesky(centred.transpose(0, 2, 1) @ centred / past.shape[1])
        found.append((mean**2).sum(1))
    found = np.array(found)
    predicted = regimes.mean_errors(workflow, dim, 0.5, last, bias=bias, error=error, noise=noise, num_kept=n)
    assert (abs(found.mean(1) - predicted) < 4.5 * found.std(1) / runs**0.5).all()


def test_mean_errors_of_a_neutral_spread_under_replace_are_elementary():
    dim, budget, b, error, n, t = 5, 0.7, 0.6, 0.2, 300, np.arange(31)
    k = kappa(dim, budget)
    found = regimes.mean_errors("replace", dim, budget, 30, bias=b, error=error, noise=(1 / k - 1) ** 0.5, num_kept=n)
    alone = dim / n / (1 - k**2)
    assert_allclose(found, (1 - k**t) ** 2 * b**2 + k ** (2 * t) * (error - alone) + alone, rtol=1e-12)


@BOTH
@pytest.mark.parametrize("shrinkage", [0.35, 0.9])
def test_turning_times_are_where_errors_turn(workflow, shrinkage):
    b, error = 0.6, 0.2

    def mean_error(t):
        x = regimes.growth(workflow, shrinkage, t)
        return (1 - x) ** 2 * b**2 + x**2 * error

    best, crossing = regimes.turning_times(workflow, shrinkage, b, error)
    assert_allclose(mean_error(best), b**2 * error / (b**2 + error), rtol=1e-10)
    assert (mean_error(best * np.array([0.99, 1.01])) > mean_error(best)).all()
    assert_allclose(mean_error(crossing), error, rtol=1e-8)
    assert 0 < best < crossing
    if workflow == "replace":
        assert_allclose(best, np.log(b**2 / (b**2 + error)) / np.log(shrinkage), rtol=1e-12)


def test_a_bias_as_small_as_the_error_never_loses_its_gain():
    for workflow in ("replace", "accumulate"):
        assert regimes.turning_times(workflow, 0.5, 0.4, 0.16 + 1e-12)[1] == np.inf


@pytest.mark.parametrize("generator", ["expand", "contaminate"])
def test_prediction_of_a_generator_made_worse_is_what_many_seeds_average_to(generator):
    junk = Moments(jnp.ones(()), jnp.array([4.0, 0.0]), jnp.eye(2))
    made = expand(gaussian(), 0.7) if generator == "expand" else contaminate(gaussian(), 0.1, junk)
    select = top(mahalanobis(Target(jnp.array([0.5, 0.0]), jnp.eye(2))))
    start = Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
    arguments = {"num_kept": 400, "budget": 0.5, "num_generations": 4, "metrics": ("trace_ratio", "mean_error")}
    simulated = jc.simulate(made, select, "accumulate", start, seeds=64, **arguments).isel(generation=-1)
    predicted = jc.predict(made, select, "accumulate", start, **arguments).isel(generation=-1)
    for name in arguments["metrics"]:
        error = float(simulated[name].std("seed", ddof=1)) / 8
        # The mean field's own error is of the order 1 / n.
        assert abs(float(simulated[name].mean("seed") - predicted[name])) < 4.5 * error + 1 / 400


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regimes.growth("fresh_mix", 0.5, 3), "workflow 'fresh_mix' is not known"),
        (lambda: regimes.growth("replace", -0.5, 3), "factor = -0.5: must be at least 0"),
        (lambda: regimes.multiplier(3, 0.5, share=0.6), r"share = 0.6: must be in \[0, 0.5\]"),
        (lambda: regimes.least_fresh(0.5, 1.5), r"level = 1.5: must be in"),
        (lambda: regimes.least_fresh(1.5, 0.5), "level = 0.5: must be at least 1"),
        (lambda: regimes.turning_times("replace", 0.5, 0.0, 1.0), "bias = 0.0: must be at least"),
        (lambda: kept_moments(Target(jnp.zeros(2), jnp.eye(2)), jc.generators.laplace()), "of a law that it tells"),
        (lambda: jc.predict(expand(gaussian(), 0.5)._replace(law=None), "random", "replace", np.eye(3), num_kept=9,
                            num_generations=1), "predict knows no theory of this generator"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
