"""The direct sampler against sampling and sorting, in the library and in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, draw, energies, random_problem, upper, z_between
from scipy import stats

from jaxcollapse.base import Moments, Target, counted
from jaxcollapse.gaussian.quadratic_form import Energy, energy_quantile, log_laplace, standardise, tilt
from jaxcollapse.gaussian.top import _gamma, best_tilt, proposals_needed, some_true, top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments
from jaxcollapse.recursion import sample_and_select
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes

DIM, NUM_KEPT, BUDGETS, NUM_DRAWS = 3, 10, (0.05, 0.5, 1.0), 4000
MEAN, COVARIANCE, LOCATION, FACTOR = random_problem(0, DIM)
MODEL = Moments(jnp.ones((), jnp.float32), jnp.float32(MEAN), jnp.float32(COVARIANCE))
TARGET = Target(jnp.float32(LOCATION), jnp.float32(FACTOR))


def sized(budget):
    """Make the sizes of one budget: those of all budgets share their bounds, and so their programs."""
    return sizes(NUM_KEPT, budget, max_candidates=round(NUM_KEPT / min(BUDGETS)))


def summary(mean, covariance, energy):
    """List what the samplers are compared in: one row a draw."""
    return np.concatenate([mean, upper(covariance), energy], axis=-1).astype(np.float64)


@functools.cache
def compiled(sampler):
    """Compile many draws of one sampler, whatever the model and sizes."""
    direct = sampler == "direct"
    keep = top_of_gaussian(TARGET) if direct else sample_and_select(gaussian(), top(mahalanobis(TARGET)))

    def one(key, model, sizes):
        kept = counted(keep(key, model, sizes)).value
        energy = jnp.sum(((kept.points - TARGET.location) @ TARGET.factor.T) ** 2, axis=-1)
        moments = as_moments(kept)
        energy_moments = jnp.stack([kept.weights @ energy, kept.weights @ energy**2]) / moments.mass
        worst = jnp.max(jnp.where(kept.weights > 0, energy, 0), keepdims=True)
        return moments, jnp.append(energy_moments, worst)

    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))


@functools.cache
def draws(sampler, budget):
    keys = jax.random.split(jax.random.key(len(sampler)), NUM_DRAWS)
    moments, energy = compiled(sampler)(keys, MODEL, sized(budget))
    return np.asarray(moments.mass), summary(*map(np.asarray, (moments.mean, moments.covariance, energy)))


def numpy_draws(budget):
    rng, rows = np.random.default_rng(1), []
    for _ in range(NUM_DRAWS):
        x = draw(rng, MEAN, COVARIANCE, round(NUM_KEPT / budget))
        e = energies(x, LOCATION, FACTOR)
        x, e = x[np.argsort(e)[:NUM_KEPT]], np.sort(e)[:NUM_KEPT]
        rows.append((x.mean(0), np.cov(x.T, bias=True), np.array([e.mean(), (e**2).mean(), e.max()])))
    return summary(*map(np.stack, zip(*rows, strict=True)))


@pytest.mark.parametrize("budget", BUDGETS)
def test_direct_sampler_pool_and_numpy_are_equal_in_law(budget):
    direct, pool = (draws(sampler, budget)[1] for sampler in ("direct", "pool"))
    assert_unbiased(z_between(direct, pool))
    reference = numpy_draws(budget)
    for sampled_rows in direct, pool:
        assert_unbiased(z_between(sampled_rows, reference))
        # Spreads and correlations between the statistics of a kept set agree as well.
        centred, expected = sampled_rows - sampled_rows.mean(0), reference - reference.mean(0)
        assert_unbiased(z_between(centred**2, expected**2))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("sampler", ["direct", "pool"])
def test_exactly_n_are_kept(sampler, budget):
    assert_array_equal(draws(sampler, budget)[0], np.full(NUM_DRAWS, NUM_KEPT))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_degenerate_models_give_points_of_their_support(rank):
    root = np.linalg.cholesky(COVARIANCE)[:, :rank]
    model = MODEL._replace(covariance=jnp.float32(root @ root.T))
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    kept, energy = compiled("direct")(keys, model, sized(0.05))
    assert_array_equal(kept.mass, np.full(NUM_DRAWS, NUM_KEPT))
    assert np.isfinite(energy).all()
    null = np.linalg.svd(root)[0][:, rank:] if rank else np.eye(DIM)
    assert_allclose((np.asarray(kept.mean) - MEAN) @ null, 0, atol=1e-4)
    assert_allclose(np.asarray(kept.covariance) @ null, 0, atol=1e-4)


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-9])
def test_a_far_target_keeps_the_nearest_of_a_narrow_model(spread):
    # So far from the target the energy is linear: the best n of N in one direction, in units of the spread.
    direction = FACTOR.T @ FACTOR @ LOCATION
    direction /= np.linalg.norm(direction)
    model = Moments(MODEL.mass, jnp.zeros(DIM), jnp.float32(spread**2) * jnp.eye(DIM))
    keys = jax.random.split(jax.random.key(2), NUM_DRAWS)
    kept, _ = compiled("direct")(keys, model, sized(0.05))
    assert_array_equal(kept.mass, np.full(NUM_DRAWS, NUM_KEPT))
    best = np.sort(np.random.default_rng(3).standard_normal((NUM_DRAWS, 20 * NUM_KEPT)))[:, -NUM_KEPT:]
    mean = np.asarray(kept.mean, float) / spread
    assert_unbiased(z_between((mean @ direction)[:, None], best.mean(1)[:, None]))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dim", [1, 2, 10])
def test_acceptance_is_never_below_what_the_proposals_are_counted_for(dim):
    budgets, num_cases, n = np.array([1e-4, 0.01, 0.05, 0.25, 0.5, 0.9, 0.99]), 200, 10**8
    rng = np.random.default_rng(dim)
    scale = np.exp(rng.normal(0, 1.5, (num_cases, dim)))
    offset = rng.standard_normal((num_cases, dim)) * np.exp(rng.normal(0, 2, (num_cases, 1)))
    scale[0], offset[0] = 1, 0  # isotropic and centred
    scale[1], offset[1] = 1e-3, 1  # linear
    energy = Energy(jnp.asarray(scale**2), jnp.asarray(scale * offset))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def acceptance(energy, budget):
        energy, _ = standardise(energy)
        threshold, contour = energy_quantile(energy, budget / (1 - budget))
        quantile, z = threshold + tilt(energy, contour.vertex)[1], best_tilt(threshold, contour)
        return budget * jnp.exp(-log_laplace(energy, z) - z * quantile)

    rates = acceptance(energy, jnp.asarray(budgets))
    assumed = [n / proposals_needed(n, budget, dim) for budget in budgets]
    assert (np.asarray(rates) >= 0.999 * np.array(assumed)).all()


@pytest.mark.parametrize(
    ("n", "num_candidates", "dim"),
    [(10, 1000, 2), (500, 10_000, 10), (66, 132, 64), (1, 2, 3), (1, 20, 1), (50, 51, 3), (50, 55, 3), (1, 10**6, 10)],
)
def test_proposals_fall_short_once_in_a_billion(n, num_candidates, dim):
    law = stats.beta(n + 1, num_candidates - n)
    z = np.append(0, np.geomspace(1e-4, 1e20, 10_000))

    def risk(num_proposals):
        def integrand(logit):
            p = 1 / (1 + np.exp(-logit))
            chi2, normal = stats.chi2.ppf(p, dim), min(stats.norm.ppf(p), 0)
            acceptance = p * min(np.exp(-np.min(-dim / 2 * np.log1p(2 * z) + z * chi2)), np.exp(normal**2 / 2))
            return stats.binom.cdf(n - 1, num_proposals, acceptance) * law.pdf(p) * p * (1 - p)

        ends = [np.log(p) - np.log1p(-p) for p in (law.ppf(1e-16), min(law.isf(1e-16), 1 - 1e-12))]
        nodes, weights = np.polynomial.legendre.leggauss(100)
        middle, half = np.sum(ends) / 2, np.ptp(ends) / 2
        return half * weights @ [integrand(middle + half * x) for x in nodes]

    num_proposals = proposals_needed(n, n / num_candidates, dim)
    assert risk(num_proposals) < 1.01e-9 < risk(num_proposals - 1 - num_proposals // 50)


@pytest.mark.parametrize("budget", [1.0, 1 - 1e-16, 1 - 1e-9])
def test_without_selection_nobody_is_proposed_in_vain(budget):
    assert proposals_needed(500, budget, 10) == 500


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.9, 1])
def test_listed_entries_are_true_and_all_are_counted(share):
    masks, size = np.random.default_rng(0).random((50, 320)) < share, 70
    lists, counts = jax.jit(jax.vmap(functools.partial(some_true, size=size)))(masks)
    assert_array_equal(counts, masks.sum(axis=1))
    assert ((lists >= 0) & (lists < masks.shape[1])).all()
    for mask, listed, count in zip(masks, np.asarray(lists), np.minimum(counts, size), strict=True):
        assert mask[listed[:count]].all()
        assert len(set(listed[:count])) == count


@functools.cache
def drawn_within(max_kept, max_candidates):
    """Compile draws of the kept set of a standard normal model, for any numbers within bounds."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, None))
    def one(key, location, num_candidates):
        bounds = sizes(max_kept, max_kept / num_candidates, max_kept=max_kept, max_candidates=max_candidates)
        model = Moments(jnp.ones(()), jnp.zeros(DIM), jnp.eye(DIM))
        return top_of_gaussian(Target(location, jnp.eye(DIM)))(key, model, bounds)

    return one


@pytest.mark.parametrize("distance", [0, 1e4])
@pytest.mark.parametrize(
    ("bounds", "num_candidates"),
    [((50, 51), 50), ((50, 51), 51), ((50, 100), 55), ((50, 100), 100), ((1, 20), 1), ((1, 20), 2), ((1, 20), 20)],
)
def test_law_up_to_all_and_down_to_one(bounds, num_candidates, distance):
    n, location = bounds[0], np.array([distance, 0, 0])
    keys = jax.random.split(jax.random.key(num_candidates), NUM_DRAWS)
    kept = drawn_within(*bounds)(keys, jnp.float32(location), num_candidates)
    assert_array_equal(kept.weights, np.ones((NUM_DRAWS, n)))
    candidates = np.random.default_rng(num_candidates).standard_normal((NUM_DRAWS, num_candidates, DIM))
    order = np.argsort(((candidates - location) ** 2).sum(-1), axis=1)[:, :n]
    best = np.take_along_axis(candidates, order[:, :, None], axis=1)
    rows = []
    for points in np.asarray(kept.points, np.float64), best:
        score = points[..., 0] if distance else (points**2).sum(-1)
        products = (points[..., :, None] * points[..., None, :]).mean(1)
        ends = np.stack([score.min(1), score.max(1)], axis=1)
        rows.append(np.concatenate([points.mean(1), upper(products), ends, ends**2], axis=1))
    assert_unbiased(z_between(*rows))
    for first, second in zip(rows[0].T[-4:-2], rows[1].T[-4:-2], strict=True):
        assert stats.ks_2samp(first, second).pvalue > 5e-5


@pytest.fixture(scope="module")
def gamma_draws():
    def one(key, shape):
        return _gamma(jax.random.normal(key, (3, 16)), shape)

    return jax.jit(jax.vmap(one, in_axes=(0, None)))


@pytest.mark.parametrize("shape", [1.0, 1.5, 11.0, 190.0, 9500.0])
def test_gamma_draws_follow_the_gamma_law(gamma_draws, shape):
    keys = jax.random.split(jax.random.key(round(shape)), 50_000)
    sample = np.asarray(gamma_draws(keys, jnp.float32(shape)), np.float64)
    assert stats.kstest(sample, stats.gamma(shape).cdf).pvalue > 1e-4
