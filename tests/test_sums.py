"""Sums over many points in single precision, against double precision on the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse import measures
from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, exact, inverse_cdf, merge_exactly, total, totals_by, uniform_measure, union
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS, POINT_METRICS, energy_distance, mode_shares, vendi
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.selectors import keep_all
from jaxcollapse.sizes import sizes
from jaxcollapse.workflows import replace

KEY, DIM = jax.random.key(0), 3
moments, sums = jax.jit(as_moments), jax.jit(total)

MASSES = {
    "one": lambda rng, n: np.ones(n),
    "tenth": lambda rng, n: np.full(n, 0.1),
    "over six decades": lambda rng, n: 10 ** rng.uniform(-3, 3, n),
    "few": lambda rng, n: np.where(rng.uniform(size=n) < 0.02, 0.1, 0),
}
POINTS = {
    "normal": lambda rng, n: rng.standard_normal((n, DIM)),
    "far": lambda rng, n: rng.normal([1e4, -3e3, 100], 1, (n, DIM)),
    "far and sorted": lambda rng, n: 1e4 + np.sort(rng.standard_normal((n, DIM)), axis=0),
    "of two values": lambda rng, n: np.where(rng.uniform(size=(n, DIM)) < 0.3, [1.3, 1, 0.7], [-0.1, 0, 0.2]),
    "the first far from the rest": lambda rng, n: rng.standard_normal((n, DIM)) + 1e3 * (np.arange(n) == 0)[:, None],
}


def double(*arrays):
    return tuple(np.asarray(array, np.float64) for array in arrays)


def by_numpy(x, w):
    """Compute moments in double precision, centred twice."""
    x, w = double(x, w)
    mean = np.average(x, axis=0, weights=w)
    mean = mean + np.average(x - mean, axis=0, weights=w)
    return Moments(w.sum(), mean, np.einsum("n,ni,nj->ij", w / w.sum(), x - mean, x - mean))


def assert_moments(found, expected, tolerance=1e-6):
    """Compare the mean on the scale of its size or of the spread, and covariances on that of variances."""
    spread = np.sqrt(np.diagonal(expected.covariance))
    assert abs(found.mass - expected.mass) <= tolerance * expected.mass
    assert (np.abs(found.mean - expected.mean) <= tolerance * np.maximum(np.abs(expected.mean), spread)).all()
    assert (np.abs(found.covariance - expected.covariance) <= tolerance * np.outer(spread, spread)).all()


def drawn(points, masses, size, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(POINTS[points](rng, size)), np.float32(MASSES[masses](rng, size))


@pytest.mark.parametrize("size", [500, 20_011])
def test_moments_keep_single_precision(size):
    for points in POINTS:
        for masses in MASSES:
            x, w = drawn(points, masses, size)
            assert_moments(jax.device_get(moments(Measure(x, w))), by_numpy(x, w))


@pytest.mark.parametrize(("points", "masses"), [("far and sorted", "tenth"), ("of two values", "over six decades")])
def test_moments_of_ten_million_points_keep_single_precision(points, masses):
    x, w = drawn(points, masses, 1_000_000)
    x, w = np.tile(x[:, :1], (10, 1)), np.tile(w, 10)
    assert_moments(jax.device_get(moments(Measure(x, w))), by_numpy(x, w))


def test_equal_points_have_no_covariance():
    point = np.array([100.0, -100, 0.1], np.float32)
    for size in (3, 500, 1_000_000):
        found = moments(uniform_measure(np.tile(point, (size, 1))))
        assert found.mass == size
        assert_array_equal(found.mean, point)
        assert_array_equal(found.covariance, np.zeros((DIM, DIM)))


def test_stacks_and_derivatives_are_those_of_plain_formulas():
    x, w = drawn("normal", "over six decades", 3000)
    stacked = jax.jit(as_moments)(Measure(x.reshape(2, 3, 500, DIM), w.reshape(2, 3, 500)))
    for i, j in np.ndindex(2, 3):
        first = 500 * (3 * i + j)
        found = jax.tree.map(lambda leaf, at=(i, j): np.asarray(leaf[at]), stacked)
        assert_moments(found, by_numpy(x[first : first + 500], w[first : first + 500]))
    slope = jax.jit(jax.grad(lambda x: jnp.trace(as_moments(Measure(x, w)).covariance)))(x)
    x, w = double(x, w)
    share = w / w.sum()
    assert_allclose(slope, 2 * share[:, None] * (x - share @ x), atol=1e-6 * share.max())


def test_what_is_written_at_points_of_mass_zero_does_not_matter():
    x, w = drawn("normal", "few", 500)
    for filler in (np.nan, np.inf, 1e30):
        assert_moments(jax.device_get(moments(Measure(np.where(w[:, None] > 0, x, filler), w))), by_numpy(x, w))


def merged_by_numpy(parts):
    """Merge stacked moments in double precision."""
    mass, means, covariances = double(*parts)
    mean = by_numpy(means, mass).mean
    between = np.einsum("k,ki,kj->ij", mass / mass.sum(), means - mean, means - mean)
    return Moments(mass.sum(), mean, np.einsum("k,kij->ij", mass / mass.sum(), covariances) + between)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("masses", ["tenth", "over six decades"])
def test_thousands_of_merges_round_like_one(masses, offset):
    rng = np.random.default_rng(1)
    x = offset + rng.standard_normal((3000, 1, DIM)) + rng.standard_normal((3000, 20, DIM))
    w = np.broadcast_to(MASSES[masses](rng, 3000)[:, None], (3000, 20))
    parts = jax.device_get(moments(Measure(np.float32(x), np.float32(w))))
    memory = moments_memory()

    @jax.jit
    def remember(parts):
        empty = memory.init(jax.tree.map(lambda leaf: leaf[0], parts), sizes(1), 1)
        state, _ = jax.lax.scan(lambda state, part: (memory.add(state, part, 1), None), empty, parts)
        return memory.training(state).value

    assert_moments(jax.device_get(remember(parts)), merged_by_numpy(parts))
    assert_moments(jax.device_get(jax.jit(union)(parts)), merged_by_numpy(parts))


def test_a_light_narrow_and_a_heavy_wide_part_are_merged():
    wide, narrow = (
        Moments(jnp.float32(mass), jnp.full(2, mean), jnp.float32(scale) * jnp.array([[2.0, 1], [1, 2]]))
        for mass, mean, scale in ((1, 1.0, 1e6), (1e6, 3.0, 1))
    )
    expected = merged_by_numpy([np.stack(pair) for pair in zip(wide, narrow, strict=True)])
    for pair in ((wide, narrow), (narrow, wide)):
        assert_moments(jax.jit(measures.merge)(*pair), expected)
        twice = merge_exactly(*map(exact, pair))
        # What is left out is known to single precision, as far as the parts are.
        precise = jax.tree.map(lambda a, b: np.float64(a) + np.float64(b), *twice)
        assert_allclose(precise.mean, expected.mean, rtol=1e-12)


def test_masses_are_summed():
    rng = np.random.default_rng(2)
    for masses in MASSES.values():
        w = np.float32(masses(rng, 1_000_003))
        assert_allclose(sums(w), w.sum(dtype=np.float64), rtol=3e-7)
    assert sums(np.zeros((2, 0), np.float32)).shape == (2,)


def test_masses_are_summed_by_index():
    rng = np.random.default_rng(3)
    index, w = np.minimum(rng.geometric(0.3, 1_000_003) - 1, 9), np.full(1_000_003, 0.1, np.float32)
    found = jax.jit(totals_by, static_argnums=2)(index, w, 12)
    assert_allclose(found, np.bincount(index, np.float64(w), 12), rtol=1e-6)


@pytest.mark.parametrize("masses", MASSES)
def test_draws_have_the_proportions_of_masses(masses):
    w = np.float32(MASSES[masses](np.random.default_rng(4), 1_000_003))
    levels = np.linspace(0, 1, 100_001, dtype=np.float32).clip(max=np.nextafter(np.float32(1), 0))
    index = np.asarray(jax.jit(lambda w, u: inverse_cdf(w)(u))(w, levels))
    assert w[index].all()
    reached = np.cumsum(w, dtype=np.float64) / w.sum(dtype=np.float64)
    below = np.concatenate([[0], reached])[index]
    assert (below - 1e-6 <= levels).all()
    assert (levels <= reached[index] + 1e-6).all()


def test_a_refit_far_from_the_origin_keeps_its_variance():
    model, num_kept = gaussian(), 100_000
    truth = Moments(jnp.float32(num_kept), jnp.ones(1), jnp.full((1, 1), 1e-6))
    collapse = build_collapse(model, sample_and_select(model, keep_all()), replace(moments_memory()))
    record = lambda key, state, info: METRICS["trace_ratio"](key, state.params, truth)
    _, ratio = jax.jit(lambda: run(KEY, collapse, truth, sizes(num_kept, 1.0, 5), record))()
    # A product of five chi-square ratios, whose standard error is (2 t / n)^(1/2).
    expected, error = (1 - 1 / num_kept) ** np.arange(6), np.sqrt(2 * np.arange(6) / num_kept)
    assert (np.abs(ratio - expected) <= 4.4 * error + 1e-6).all()


def by_rows(x, y, a, b, rows=500):
    """Average distances in double precision, some rows at a time."""
    blocks = range(0, len(x), rows)
    square = lambda at: ((x[at : at + rows, None] - y) ** 2).sum(-1)
    return sum(a[at : at + rows] @ np.sqrt(square(at)) @ b for at in blocks)


def test_sums_over_pairs_keep_single_precision():
    rng = np.random.default_rng(5)
    x, y = (np.float32(10 + rng.standard_normal((size, 1)) + shift) for size, shift in ((8_000, 0), (6_001, 0.5)))
    found = jax.jit(energy_distance)(KEY, uniform_measure(x), Measure(y, np.full(len(y), 0.1, np.float32)))
    x, y = double(x, y)
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    between = by_rows(x, y, a, b)
    assert abs(found - (2 * between - by_rows(x, x, a, a) - by_rows(y, y, b, b))) <= 1e-6 * between


def test_shares_and_directions_of_a_million_points_keep_single_precision():
    rng = np.random.default_rng(6)
    side = rng.uniform(size=1_000_003) < 0.3
    x = np.float32(np.where(side[:, None], [0.6, 0.8], [0.3, -0.1]))
    data, w = Measure(x, np.full(len(x), 0.1, np.float32)), np.array([side.mean(), 1 - side.mean()])
    share = jax.jit(mode_shares)(data, np.float32([[0.6, 0.8], [0.3, -0.1]]))
    assert_allclose(share, w, rtol=1e-6)
    unit = np.float64(x[[side.argmax(), side.argmin()]])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(unit.T @ (w[:, None] * unit))
    assert_allclose(jax.jit(vendi)(KEY, data, data), np.exp(-np.sum(p * np.log(p))), rtol=1e-6)


@jax.jit
def measure_all(generated, truth):
    return {name: metric(KEY, generated, truth) for name, metric in (METRICS | POINT_METRICS).items()}


def spoil(name):
    """Make points of which one, or all, are no numbers, or whose masses are none."""
    x, w = np.random.default_rng(7).standard_normal((40, DIM)).astype(np.float32), np.ones(40, np.float32)
    x[{"a NaN": [3], "an infinity": [3], "all NaN": slice(None)}.get(name, [])] = np.inf if "inf" in name else np.nan
    return Measure(x, {"no mass": 0 * w, "a mass that is NaN": np.where(np.arange(40) == 3, np.nan, w)}.get(name, w))


BLIND_TO_THE_TRUTH = {"dispersion", "effective_rank", "vendi"}


@pytest.mark.parametrize("name", ["a NaN", "an infinity", "all NaN", "no mass", "a mass that is NaN"])
def test_metrics_of_what_is_no_number_are_no_numbers(name):
    sound = spoil("nothing")
    assert not any(map(np.isnan, measure_all(sound, sound).values()))
    assert all(map(np.isnan, measure_all(spoil(name), sound).values()))
    for metric, value in measure_all(sound, spoil(name)).items():
        assert np.isnan(value) == (metric not in BLIND_TO_THE_TRUTH), metric


def test_metrics_of_moments_that_are_no_numbers_are_no_numbers():
    sound = moments(spoil("nothing"))
    run_all = jax.jit(lambda generated: {name: metric(KEY, generated, sound) for name, metric in METRICS.items()})
    for name in ("a NaN", "no mass"):
        assert all(map(np.isnan, run_all(moments(spoil(name))).values()))


def test_a_tail_beyond_no_ball_is_refused_or_no_number():
    truth = uniform_measure(np.random.default_rng(8).standard_normal((20, 50)).astype(np.float32))
    with pytest.raises(ValueError, match=r"truth: its covariance is singular; tail_mass needs full rank, 50"):
        METRICS["tail_mass"](KEY, truth, truth)
    with pytest.raises(ValueError, match="singular"):
        jax.jit(lambda generated: METRICS["tail_mass"](KEY, generated, truth))(truth)
    assert np.isnan(jax.jit(METRICS["tail_mass"])(KEY, truth, truth))


def test_integers_are_floating_from_the_door_on():
    rng = np.random.default_rng(9)
    images = [rng.integers(low, high, (40, DIM)).astype(np.uint8) for low, high in ((0, 200), (100, 256))]
    expected = measure_all(*(uniform_measure(np.float32(x)) for x in images))
    for given in (
        map(uniform_measure, images),
        (Measure(jnp.asarray(x), jnp.ones(len(x), int)) for x in images),
    ):
        for name, value in measure_all(*given).items():
            assert value.dtype == jnp.float32, name
            assert value == expected[name], name
    assert uniform_measure(images[0]).weights.dtype == jnp.float32


def test_no_points_have_moments_of_mass_zero():
    found = jax.jit(as_moments)(Measure(jnp.zeros((0, 3)), jnp.zeros(0)))
    assert not any(np.asarray(leaf).any() for leaf in found)
    assert found.covariance.shape == (3, 3)
