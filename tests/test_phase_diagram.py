"""The phase diagram: its quantities by hand, theory by closed forms, and simulation by brute force."""

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.special import gammaln

from jaxcollapse.experiments import phase_diagram
from jaxcollapse.experiments.phase_diagram import COMPARED, PRESETS, Config, compare, half_life, lever, measure, predict
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.theory.exponents import kappa

SMOKE = Config(**PRESETS["smoke"])
(DIM,), (NUM_KEPT,), LAST = SMOKE.dims, SMOKE.num_kept, SMOKE.num_generations
T = np.arange(LAST + 1)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("expected", [0.25, 1.0, 2.0, 3.7, 9.5])
def test_half_life_of_a_geometric_decay_is_exact(expected):
    traces = 2 ** (-np.arange(12) / expected)
    np.testing.assert_allclose(half_life(np.stack([traces, traces], axis=1), 0), expected)


def test_half_life_is_the_first_and_may_be_missing():
    traces = np.array([[1, 0.6, 0.4, 0.9, 0.1], [1, 0.9, 0.8, 0.7, 0.51], [1, 1.2, 0.5, 0.6, 0.7]])
    np.testing.assert_allclose(half_life(traces, 1), [1 + np.log(1.2) / np.log(1.5), np.nan, 2])


def by_workflow(traces):
    """Lay traces [W, T + 1] out by name."""
    coords = {"workflow": list(COMPARED), "generation": np.arange(np.shape(traces)[-1])}
    return xr.DataArray(np.array(traces, float), coords, ("workflow", "generation"))


def test_exponent_is_a_fit_over_the_last_half_above_the_floor():
    t = np.arange(21)
    noise = RNG.normal(size=(3, 21))
    mean_field = by_workflow([0.2**t, 1 / (1 + t), np.full(21, 0.7)])
    found = (lever(mean_field) * noise).sum("generation")
    last = int(np.log(1e-6) / np.log(0.2))  # 8
    late, clocks = [slice(last // 2, last + 1), slice(10, 21), slice(10, 21)], [t, np.log(np.maximum(t, 1))]
    slopes = [np.polyfit(clocks[min(i, 1)][where], noise[i, where], 1)[0] for i, where in enumerate(late)]
    np.testing.assert_allclose(found, -np.array(slopes))
    assert lever(mean_field).notnull().sum("generation").values.tolist() == [5, 11, 11]


def test_exponent_of_a_collapse_within_a_generation_is_missing():
    assert lever(by_workflow([[1, 1e-7, 1e-14, 0, 0]] * 3)).isnull().all()


def test_errors_are_those_of_leaving_a_seed_out():
    logs = -0.4 * np.arange(LAST + 1) + 0.2 * RNG.normal(size=(6, 3, LAST + 1)) * (np.arange(LAST + 1) > 0)
    traces = xr.concat([by_workflow(np.exp(each)) for each in logs], "seed")
    exact = xr.Dataset({"mean_field": by_workflow(np.exp([-0.4 * T] * 3)).expand_dims(num_kept=[10])})
    exact = exact.assign(offset=0.5 * exact.mean_field, variance=0.3 * T * exact.mean_field**2)
    found = measure(traces, exact).isel(num_kept=0)
    for w in range(3):
        without = np.array([half_life(np.exp(np.delete(logs, s, 0)[:, w]).mean(0), 0) for s in range(6)])
        error = np.sqrt(5 / 6 * np.sum((without - without.mean()) ** 2))
        np.testing.assert_allclose(found.half_life_error[w], error)
        clock = T if w == 0 else np.log(np.maximum(T, 1))
        late = slice(LAST // 2, None)
        slopes = [-np.polyfit(clock[late], each[w, late], 1)[0] for each in logs]
        np.testing.assert_allclose(found.exponent[w], np.mean(slopes))
        np.testing.assert_allclose(found.exponent_error[w], np.std(slopes, ddof=1) / np.sqrt(6))
        shifted = -0.4 * T + 0.5 / 10 - 0.3 * T / 10 / 2
        np.testing.assert_allclose(found.exponent_finite_n[w], -np.polyfit(clock[late], shifted[late], 1)[0])
    np.testing.assert_allclose(found.half_life_mean_field, np.log(2) / 0.4)
    np.testing.assert_allclose(found.half_life_finite_n, (np.log(2) + 0.05) / 0.4)


def test_agreement_counts_cells():
    dims = {"dim": [2], "budget": [0.1, 0.2, 0.3, 0.4, 0.5], "bias": [0.0]}
    values = {"": [2, 4, 9, np.nan, 3], "_error": [1, 1, 1, np.nan, 1], "_mean_field": [1, 1, 1, 1, np.nan]}
    cells = {f"half_life{k}": ([*dims], np.reshape(v, (1, 5, 1))) for k, v in values.items()}
    found = compare(xr.Dataset(cells, dims), "half_life", "mean_field")
    expected = {"num_compared": 3, "within_2": 1 / 3, "within_4": 2 / 3, "num_in_one_alone": 2}
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)
    assert float(found.median_difference) == pytest.approx(np.log(4))


@pytest.fixture(scope="module")
def found():
    """Run the smallest preset."""
    return phase_diagram.run(SMOKE, Runner()).arrays.sel(dim=DIM, num_kept=NUM_KEPT)


def test_mean_field_of_a_centred_target_by_closed_forms(found):
    for budget in SMOKE.budgets:
        shrinkage, cell = kappa(DIM, budget), found.sel(budget=budget, bias=0)
        late = np.arange(LAST // 2, LAST + 1)
        accumulated = gammaln(T + shrinkage) - gammaln(shrinkage) - gammaln(T + 1)
        replaced = cell.sel(workflow="replace")
        np.testing.assert_allclose(replaced.exponent_mean_field, -np.log(shrinkage), rtol=1e-7)
        if shrinkage > 0.5:
            np.testing.assert_allclose(replaced.half_life_mean_field, -np.log(2) / np.log(shrinkage), rtol=1e-7)
        kept = cell.sel(workflow="accumulate")
        slope = np.polyfit(np.log(late), accumulated[late], 1)[0]
        np.testing.assert_allclose(kept.exponent_mean_field, -slope, rtol=1e-7)
        assert accumulated[-1] < -np.log(2)
        first = np.flatnonzero(accumulated <= -np.log(2))[0]
        expected = np.interp(np.log(2), -accumulated[first - 1 : first + 1], [first - 1, first])
        np.testing.assert_allclose(kept.half_life_mean_field, expected, rtol=1e-7)


def test_first_correction_is_that_of_truncated_exponentials():
    """In the plane about the target the energy of a standard normal is exponential, and all is elementary."""
    with jax.enable_x64(True):
        found = predict(SMOKE, Runner(), 2).isel(num_kept=0, generation=1).sel(bias=0)
    for p in SMOKE.budgets:
        log = np.log1p(-p)
        mean, square = 2 + 2 * (1 - p) * log / p, 4 * (2 - (1 - p) * (log**2 - 2 * log + 2)) / p
        first, second = -2 * (p + log) / p**2, 2 * (p**2 / (1 - p) + 2 * (p + log)) / p**3
        offset = p * (1 - p) * first + p**2 * (1 - p) * second / 2 - mean
        variance = square - mean**2 + p**2 * (1 - p) * first**2
        cell = found.sel(budget=p, workflow=["replace", "accumulate"])
        np.testing.assert_allclose(cell.mean_field, mean / 2, rtol=1e-8)
        np.testing.assert_allclose(cell.offset, offset / 2, rtol=1e-6)
        np.testing.assert_allclose(cell.variance, variance / 4, rtol=1e-6)
        assert found.sel(workflow="fresh_mix")[["offset", "variance"]].to_array().isnull().all()


def brute_force(budget, bias, num_seeds=2000):
    """Simulate trace ratios in NumPy, selecting from whole pools; shape [W, seeds, T + 1]."""
    num_candidates, share = round(NUM_KEPT / budget), SMOKE.fresh_share
    num_fresh, shift = round(NUM_KEPT * share / (1 - share)), np.eye(DIM)[0] * bias
    traces = np.ones((3, num_seeds, LAST + 1))
    for traces_of, workflow in zip(traces, COMPARED, strict=True):
        mean, root, past = np.tile(shift, (num_seeds, 1)), np.tile(np.eye(DIM), (num_seeds, 1, 1)), []
        for t in T[1:]:
            pool = mean[:, None] + RNG.normal(size=(num_seeds, num_candidates, DIM)) @ root.transpose(0, 2, 1)
            order = np.argsort((pool**2).sum(-1), axis=1)[:, :NUM_KEPT, None]
            kept = np.take_along_axis(pool, order, 1)
            past.append(kept)
            new = shift + RNG.normal(size=(num_seeds, num_fresh, DIM))
            data = {"replace": [kept], "accumulate": past, "fresh_mix": [kept, new]}[workflow]
            data = np.concatenate(data, axis=1)
            mean, data = data.mean(1), data - data.mean(1, keepdims=True)
            covariance = data.transpose(0, 2, 1) @ data / data.shape[1]
            traces_of[:, t], root = np.trace(covariance, axis1=1, axis2=2) / DIM, np.linalg.cholesky(covariance)
    return traces


@pytest.mark.parametrize("bias", SMOKE.biases)
def test_simulation_is_that_of_whole_pools(found, bias):
    cell = found.sel(budget=0.5, bias=bias)
    late = slice(LAST // 2, None)
    for w, traces in enumerate(brute_force(0.5, bias)):
        here = cell.isel(workflow=w)
        clock = T if w == 0 else np.log(np.maximum(T, 1))
        slopes = -np.polyfit(clock[late], np.log(traces[:, late]).T, 1)[0]
        error = np.hypot(here.exponent_error, slopes.std() / len(slopes) ** 0.5)
        assert abs(here.exponent - slopes.mean()) < 5 * error
        mean = traces.mean(0)
        below = np.flatnonzero(mean <= 0.5)
        assert np.isfinite(here.half_life) == (len(below) > 0)
        if len(below):
            around = slice(below[0] - 1, below[0] + 1)
            expected = np.interp(np.log(2), -np.log(mean[around]), T[around])
            assert abs(here.half_life - expected) < 5 * here.half_life_error * np.hypot(
                1, (SMOKE.num_seeds / 2000) ** 0.5
            )
