import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FAMILY_RISK, assert_unbiased, z_scores
from scipy import stats

from jaxcollapse.base import Measure
from jaxcollapse.generators import categorical
from jaxcollapse.measures import inverse_cdf, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import run, sample_and_select, side_by_side
from jaxcollapse.selectors import keep_all
from jaxcollapse.sizes import sizes
from jaxcollapse.theory import surviving_symbols
from jaxcollapse.workflows import WORKFLOWS

KEY = jax.random.key(0)
THEORY = {name: getattr(surviving_symbols, name) for name in ("replace", "accumulate", "accumulate_subsample")}
LAW = np.array([0.0, 0.5, 0.3, 0.12, 0.05, 0.03])
SIZE, GENERATIONS = 12, 8
init = jax.jit(categorical(7).init)


@pytest.mark.usefixtures("x64")
def test_fit_is_a_weighted_histogram():
    rng = np.random.default_rng(0)
    symbols, weights = rng.integers(0, 6, 50), rng.uniform(0, 2, 50)
    expected = np.bincount(symbols, weights, minlength=7) / weights.sum()
    data = Measure(jnp.asarray(symbols[:, None], float), jnp.asarray(weights))
    assert_allclose(init(KEY, data), expected, rtol=1e-12)
    outside = Measure(jnp.array([[-1.0], [7.0], [1e30], [-jnp.inf], [0.4], [6.4]]), jnp.ones(6))
    assert_allclose(init(KEY, outside), np.eye(7)[[0, 6]].mean(axis=0), rtol=1e-12)


def test_without_data_everything_is_finite():
    params = init(KEY, Measure(jnp.ones((3, 1)), jnp.zeros(3)))
    assert_array_equal(params, np.zeros(7))
    assert_array_equal(categorical(7).sample(KEY, params, 5), np.full((5, 1), 6))


def test_no_symbols_are_refused():
    with pytest.raises(ValueError, match=r"num_symbols = 0: must be at least 1"):
        categorical(0)


def test_samples_follow_the_law_and_are_symbols():
    samples = categorical(6).sample(KEY, jnp.float32(LAW), 50_000)
    assert samples.shape == (50_000, 1)
    assert samples.dtype == jnp.float32
    counts = np.bincount(np.asarray(samples, int)[:, 0], minlength=6)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], 50_000 * LAW[1:]).pvalue > FAMILY_RISK


def test_symbols_of_mass_zero_are_not_drawn_for_the_rounding_of_sums():
    # Sums of tenths round, and differently by blocks: half the symbols in between have no mass at all.
    weights = jnp.where(jnp.arange(5000) % 2 == 0, jnp.float32(0.1), 0)
    unit = jax.random.uniform(KEY, 1_000_000)
    drawn = np.asarray(jax.jit(lambda masses, unit: inverse_cdf(masses)(unit))(weights, unit))
    assert not (drawn % 2).any()
    assert drawn.max() < 5000


@pytest.fixture(scope="module")
def simulated():
    """Run all workflows side by side; which symbols are known, [seed, generation, workflow, symbol]."""
    keep = sample_and_select(categorical(6), keep_all())
    collapse = side_by_side(categorical(6), keep, [WORKFLOWS[name](buffer_memory()) for name in THEORY])

    def record(key, state, info):
        return state.params

    @jax.jit
    @jax.vmap
    def simulate(key):
        return run(key, collapse, jnp.float32(LAW), sizes(SIZE, 1.0, GENERATIONS), record)[1]

    return np.asarray(simulate(jax.random.split(KEY, 20_000)), np.float64)


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_survival_is_that_of_theory(simulated, workflow):
    known = simulated[:, 1:, list(THEORY).index(workflow), 1:] > 0
    expected = THEORY[workflow](LAW, SIZE, GENERATIONS)
    assert_array_equal(expected[0], LAW > 0)
    assert_array_equal(expected[:, 0], np.zeros(GENERATIONS + 1))
    # The surest symbol may survive in every run.
    assert_unbiased(z_scores(known[..., 1:], expected[1:, 2:]))
    assert_unbiased(z_scores(known.sum(-1), expected[1:].sum(-1)))


def test_survival_under_accumulate_subsample_lies_between_its_bounds(simulated):
    known = simulated[:, 1:, list(THEORY).index("accumulate_subsample"), 2:] > 0
    below = THEORY["accumulate_subsample"](LAW, SIZE, GENERATIONS)[1:, 2:]
    above = THEORY["accumulate"](LAW, SIZE, GENERATIONS)[1:, 2:]
    assert_unbiased(z_scores(known[:, 0], below[0]))
    assert_unbiased(np.minimum(z_scores(known[:, 1:], below[1:]), 0))
    assert_unbiased(np.maximum(z_scores(known[:, 1:], above[1:]), 0))
    assert np.abs(known.mean(axis=0) - below).max() < 0.05


def test_probabilities_are_martingales(simulated):
    assert_unbiased(z_scores(simulated[:, 1:, :, 1:], LAW[1:]))


def test_one_generation_is_binomial():
    expected = 1 - stats.binom.pmf(0, SIZE, LAW)
    for theory in THEORY.values():
        assert_allclose(theory(LAW, SIZE, 1)[1], expected, rtol=1e-12)
    for bound in surviving_symbols.replace_bounds(LAW, SIZE, 1):
        assert_allclose(bound[1], expected, rtol=1e-12)


def test_bounds_enclose_the_chain_and_meet():
    p = np.array([1e-4, 1e-3, 0.01, 0.1, 0.5])
    gaps = []
    for n in (20, 200):
        exact = surviving_symbols.replace(p, n, 60)
        lower, upper = surviving_symbols.replace_bounds(p, n, 60)
        assert (lower <= exact + 1e-12).all()
        assert (exact <= upper + 1e-12).all()
        assert (lower[1:] >= 1 - np.exp(-n * p / np.arange(1, 61)[:, None]) - 1e-12).all()
        rare = n * p <= 2
        gaps.append(((upper - lower) / lower)[1:11, rare].max())
    assert gaps[1] < min(0.05, gaps[0] / 5)


def test_two_symbols_die_as_the_chain_of_two_draws():
    # With n = 2 a pair of different symbols becomes two of one with probability 1/2, evenly.
    p = np.array([0.3, 0.7])
    t = np.arange(1, 6)
    expected = p + p[::-1] * p * 0.5 ** (t[:, None] - 1)
    assert_allclose(surviving_symbols.replace(p, 2, 5)[1:], expected, rtol=1e-12)


def test_pool_theory_against_the_exact_chain():
    """Push the whole law of the pool's count through hypergeometric and binomial draws."""
    p, n, generations = 0.15, 4, 4
    bound = surviving_symbols.accumulate_subsample([p], n, generations)[1:, 0]
    law, survival = stats.binom.pmf(np.arange(n + 1), n, p), []
    for t in range(1, generations + 1):
        count = np.arange(t * n + 1)
        seen = stats.hypergeom.pmf(np.arange(n + 1)[None], t * n, count[:, None], n)
        survival.append(1 - law @ seen[:, 0])
        drawn = seen @ stats.binom.pmf(np.arange(n + 1)[None], n, np.arange(n + 1)[:, None] / n)
        after = np.zeros((t + 1) * n + 1)
        for j in range(n + 1):
            after[j : j + count.size] += law * drawn[:, j]
        law = after
    assert_allclose(bound[0], survival[0], rtol=1e-12)
    assert (bound <= np.array(survival) + 1e-12).all()
    assert_allclose(bound, survival, atol=0.03)


def test_padding_of_data_is_no_symbol():
    symbols = uniform_measure(jnp.array([[2.0], [2.0], [1.0]]))
    padded = Measure(jnp.append(symbols.points, jnp.zeros((4, 1)), axis=0), jnp.append(symbols.weights, jnp.zeros(4)))
    assert_array_equal(init(KEY, padded), init(KEY, symbols))
