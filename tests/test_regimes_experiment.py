"""The experiment on regimes: its estimators by hand, its ways to run one cell against each other, and its theory."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from oracle import assert_unbiased, radial_distances, z_between

from jaxcollapse.experiments import regimes
from jaxcollapse.experiments.regimes import COMPARED, PRESETS, Config, cells, crossing, exponents, left_out, sweep_of
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.theory.regimes import growth

SMOKE = Config(**PRESETS["smoke"])
RNG = np.random.default_rng(0)


def by_workflow(values):
    coords = {"workflow": list(COMPARED), "generation": np.arange(np.shape(values)[-1])}
    return xr.DataArray(np.array(values, float), coords, ("workflow", "generation"))


def test_exponents_are_fits_over_the_last_half():
    t = np.arange(21)
    noise = np.exp(RNG.normal(size=(2, 21)))
    slopes = [np.polyfit(clock[10:], np.log(noise[w, 10:]), 1)[0] for w, clock in enumerate((t, np.log(t.clip(1))))]
    assert_allclose(exponents(by_workflow(noise)), [1 - np.exp(slopes[0]), -slopes[1]])
    # What float32 cannot hold does not count.
    vanishing = np.where(t < 15, 0.01**t, 0)
    exploding = np.where(t < 15, np.maximum(t, 1.0) ** 3, np.inf)
    assert_allclose(exponents(by_workflow([vanishing, exploding])), [0.99, -3])


def test_exponents_of_what_is_gone_are_missing():
    assert exponents(by_workflow(np.zeros((2, 9)))).isnull().all()


def test_crossing_is_where_errors_exceed_the_first():
    errors = np.array([[1, 0.5, 0.8, 1.2, 0.1], [1, 0.5, 0.7, 0.8, 0.9], [1, 3, 0.1, 5, 6], [2, 1, 1, 1.5, 3]])
    assert_allclose(crossing(errors, 1), [2.5, np.nan, 0, 3 + 1 / 3])
    assert_allclose(crossing(errors.T, 0), crossing(errors, 1))


def test_errors_are_those_of_leaving_a_seed_out():
    curves = np.concatenate([np.ones((6, 1)), np.linspace(0.5, 2, 8) + 0.1 * RNG.normal(size=(6, 8))], axis=1)
    samples = xr.DataArray(curves, dims=("seed", "generation"))
    value, error = left_out(samples, crossing, "generation")
    alone = [float(crossing(np.delete(curves, s, 0).mean(0)[None], 1)[0]) for s in range(6)]
    assert_allclose(value, crossing(curves.mean(0)[None], 1)[0])
    assert_allclose(error, np.sqrt(5 / 6 * np.sum((alone - np.mean(alone)) ** 2)))


@pytest.fixture(scope="module")
def found():
    """Run the smallest preset, with numbers out of order."""
    with pytest.MonkeyPatch.context() as patched:
        sweeps = []
        patched.setattr(regimes, "sweep_of", lambda *given: sweeps.append(sweep_of(*given)) or sweeps[-1])
        output = regimes.run(dataclasses.replace(SMOKE, expansions=SMOKE.expansions[::-1]), Runner())
    return output, sweeps


def test_exact_maps_are_those_of_a_radial_recursion(found):
    (budget,), (scale,), last = SMOKE.budgets, SMOKE.scales, SMOKE.num_generations
    for workflow, expansion, share in itertools.product(COMPARED, SMOKE.expansions, SMOKE.shares):
        settings = {"noise": expansion**0.5, "share": share, "scale": scale}
        selected, random = (
            radial_distances(workflow, last, dim=SMOKE.dim, budget=a, **settings)[-1] for a in (budget, 1.0)
        )
        cell = found[0].arrays.log_ratio_exact.sel(
            workflow=workflow, expansion=expansion, share=share, budget=budget, bias=0
        )
        if expansion or share:
            assert_allclose(cell, np.log(selected / random), rtol=1e-6)
        else:
            assert cell == np.inf


def test_closed_forms_lie_at_their_labels(found):
    arrays, t = found[0].arrays, np.arange(SMOKE.num_generations + 1)
    for workflow, expansion in itertools.product(COMPARED, SMOKE.expansions):
        cell = arrays.sel(workflow=workflow, expansion=expansion, budget=0.5)
        factor = (1 + expansion) * (1 + np.log(0.5))  # of the plane, where energies are exponential
        assert_allclose(cell.exponent_limit, 1 - factor, rtol=1e-9)
        clock = t if workflow == "replace" else np.log(t.clip(1))
        slope = np.polyfit(clock[3:], np.log(growth(workflow, factor, t)[3:]), 1)[0]
        assert_allclose(cell.exponent_theory, 1 - np.exp(slope) if workflow == "replace" else -slope)


def test_summary_counts(found):
    output, _ = found
    right = np.sign(output.arrays.log_ratio) == np.sign(output.arrays.log_ratio_exact)
    assert output.summary["points"] == right.size == 2 * 4
    assert_allclose(output.summary["right_side"], right.values.mean())
    assert output.summary["exponent_num_compared"] == 4


def test_a_kept_set_drawn_directly_has_the_law_of_one_selected():
    config = dataclasses.replace(SMOKE, num_seeds=200, num_kept=SMOKE.many_kept, num_generations=4)
    point = cells(budget=(0.5,), bias=(0.6,)).assign(expansion=0.5, error=0.1)
    (pool,), (direct,) = (sweep_of(config, Runner(), kind, [point]) for kind in ("pool", "direct"))
    last = {"generation": -1, "bias": 0, "budget": 0}
    z = [z_between(pool[m].isel(last), direct[m].isel(last)) for m in ("trace_ratio", "mean_error", "bures_w2")]
    assert_unbiased(np.array(z))
    assert_allclose(pool.mean_error.isel(generation=0), 0.1, rtol=1e-5)
