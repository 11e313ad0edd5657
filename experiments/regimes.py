"""When biased selection pays: generators that expand or produce junk, over budget, bias and workflow, beside theory."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from jaxcollapse.analysis import standard_error
from jaxcollapse.base import Run
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import Range
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.record import record_model, record_side_by_side
from jaxcollapse.recursion import sample_and_select, side_by_side
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, seeds
from jaxcollapse.theory.critical import Regime, members
from jaxcollapse.theory.exponents import kappa
from jaxcollapse.theory.mean_field import kept_moments
from jaxcollapse.theory.regimes import growth, mean_errors, multiplier
from jaxcollapse.workflows import WORKFLOWS

COMPARED = ("replace", "accumulate")
RECORDED = ("bures_w2", "trace_ratio", "mean_error")
# Of points that say no others; `expansion` is the square of the generator's noise, `error` that of the first mean.
USUAL = {"bias": 0.0, "expansion": 0.0, "share": 0.0, "scale": 3.0, "error": 0.0}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Truth N(0, I), a verifier's target at a distance, and a generator made worse; nothing is fitted to simulations.

    Log ratio: of the Bures distances of selection and of random selection from the truth, after all generations; below
    zero selection pays. Its exact counterpart is the mean field's. Exponents are of the trace, for an unbiased target
    and without junk. The best budget is the one of the smallest Bures distance. Turning times are those of the mean's
    error, of a first model that errs across the bias, at the expansion that balances selection.
    """

    dim: Annotated[int, Range(2, 20)] = 10
    """Dimension."""
    num_kept: Annotated[int, Range(10, 10**5)] = 200
    """Samples n kept in each generation, of maps and best budgets."""
    many_kept: Annotated[int, Range(10, 10**5)] = 5000
    """Samples kept likewise, of exponents and turning times."""
    budgets: tuple[Annotated[float, Range(1e-2, 0.99)], ...] = (0.25, 0.5, 0.75, 0.9)
    """Shares of candidates kept by selection."""
    biases: tuple[Annotated[float, Range(0.0, 10.0)], ...] = (0.0, 2.0, 4.0)
    """Distances of the target from the true mean, in standard deviations."""
    expansions: tuple[Annotated[float, Range(0.0, 3.0)], ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    """Squares of the generator's noise, in units of its own variance."""
    shares: tuple[Annotated[float, Range(0.0, 0.9)], ...] = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4)
    """Shares of junk among candidates."""
    scales: tuple[Annotated[float, Range(1.0, 100.0)], ...] = (3.0, 1.5)
    """Standard deviations of junk. The first is that of the maps; best budgets are found for each."""
    candidates: tuple[Annotated[float, Range(1e-2, 1.0)], ...] = tuple(round(0.5 + i / 40, 3) for i in range(21))
    """Budgets among which the best is found."""
    turning_budgets: tuple[Annotated[float, Range(1e-2, 0.99)], ...] = (0.25, 0.5, 0.75, 0.9, 0.95)
    """Budgets of which turning times are found."""
    turning_biases: tuple[Annotated[float, Range(0.1, 10.0)], ...] = (0.4, 0.6, 0.9)
    """Distances of the target, likewise."""
    error: Annotated[float, Range(1e-3, 10.0)] = 0.1
    """Squared error of the first model's mean, likewise."""
    num_generations: Annotated[int, Range(4, 10**4)] = 40
    """Generations."""
    num_seeds: Annotated[int, Range(3, 10**4)] = 12
    """Independent simulations of each cell."""


PRESETS = {
    "smoke": {
        "dim": 2,
        "num_kept": 40,
        "many_kept": 200,
        "budgets": (0.5,),
        "biases": (0.0,),
        "expansions": (0.0, 0.5),
        "shares": (0.0, 0.2),
        "scales": (3.0,),
        "candidates": (0.5, 0.8, 1.0),
        "turning_budgets": (0.9,),
        "turning_biases": (0.6,),
        "num_generations": 6,
        "num_seeds": 4,
    },
    "quick": {
        "budgets": (0.25, 0.5, 0.9),
        "biases": (2.0,),
        "expansions": (0.0, 0.1, 0.2, 0.4),
        "shares": (0.0, 0.02, 0.05, 0.1, 0.2),
        "candidates": (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0),
        "turning_budgets": (0.5, 0.9, 0.95),
        "turning_biases": (0.4, 0.6),
        "num_generations": 20,
        "num_seeds": 4,
    },
    "paper": {},  # 14 minutes of one core
}


def cells(**axes: Sequence[float]) -> pd.DataFrame:
    """List the points of a product of numbers: columns, and the index that tells them apart."""
    return pd.MultiIndex.from_product(axes.values(), names=axes).to_frame()


def sweep_of(config: Config, runner: Runner, kind: str, parts: Sequence[pd.DataFrame]) -> list[xr.Dataset]:
    """Run both workflows side by side at points of which all numbers but the budget are those of `USUAL`, or given.

    Points that differ in nothing but the budget share their random numbers.

    Args:
        config: of the experiment.
        runner: of the sweep, one for all parts.
        kind: pool, direct or exact: candidates are drawn and selected from; the kept set is drawn directly, without
            junk; or the mean field.
        parts: from `cells`.

    Returns:
        The records of each part, over its index; for each seed, unless they are exact.
    """
    exact, dtype = kind == "exact", jnp.float64 if kind == "exact" else config.dtype
    table = pd.concat(parts, ignore_index=True).reindex(columns=["budget", *USUAL]).fillna(USUAL)
    num_kept = config.many_kept if kind == "direct" else config.num_kept
    grid = sizes(num_kept, table.pop("budget").to_numpy(), config.num_generations)
    groups = table.groupby(list(USUAL)).ngroup().to_numpy()
    made = [WORKFLOWS[workflow](moments_memory()) for workflow in COMPARED]

    def build(cell, seed) -> Run:
        at, group, numbers = cell
        noise, rest = jnp.sqrt(numbers["expansion"]), {name: numbers[name] for name in ("bias", "share", "scale")}
        truth, target, generator = members(Regime(noise=noise, **rest), config.dim)

        def directly(key, params, sizes):
            expanded = params._replace(covariance=(1 + noise**2) * params.covariance)
            return top_of_gaussian(target)(key, expanded, sizes)

        if kind == "pool":
            keep = sample_and_select(generator, top(mahalanobis(target)))
        else:
            keep = kept_moments(target, generator) if exact else directly
        record = record_model({metric: METRICS[metric] for metric in RECORDED}, truth)
        start = truth._replace(mean=truth.mean.at[1].set(jnp.sqrt(numbers["error"])))
        collapse = side_by_side(generator, keep, made)
        return Run(jax.random.fold_in(seed, group), collapse, start, at, record_side_by_side(record))

    numbers = {name: column.to_numpy(dtype) for name, column in table.items()}
    axes = {"cell": Axis(table.index, (grid, groups, numbers))}
    axes["seed"] = seeds(1 if exact else config.num_seeds, config.seed)
    options = {"dims": dict.fromkeys(RECORDED, ("workflow",)), "coords": {"workflow": list(COMPARED)}}
    found = runner.sweep(kind, build, axes, **options).astype(float).drop_vars("cell")
    ends = np.cumsum([0, *map(len, parts)])
    split = [found.isel(cell=slice(*each)) for each in itertools.pairwise(ends)]
    indices = [xr.Coordinates.from_pandas_multiindex(part.index, "cell") for part in parts]
    split = [each.assign_coords(index).unstack("cell") for each, index in zip(split, indices, strict=True)]
    return [each.isel(seed=0, drop=True) for each in split] if exact else split


def log_ratio(found: xr.Dataset) -> xr.DataArray:
    """Compare the last distances of all budgets but the last, which is one, with those of that."""
    with np.errstate(divide="ignore"):  # random selection from a perfect generator is perfect
        logs = np.log(found.bures_w2.isel(generation=-1))
    return logs.isel(budget=slice(-1)) - logs.isel(budget=-1, drop=True)


def exponents(traces: xr.DataArray) -> xr.DataArray:
    r"""Fit :math:`1 - \lambda` to traces by least squares of logarithms over the last half of the generations.

    Under accumulate it is the exponent, and under replace what a generation takes away.
    """
    t = traces.generation
    within = (traces > 1e-30) & (traces < 1e30)  # as far as float32 reaches
    logs: xr.DataArray = np.log(traces.where((t >= t[-1] / 2) & within))
    clock = xr.where(traces.workflow == "replace", t, np.log(np.maximum(t, 1))).where(logs.notnull())
    clock = clock - clock.mean("generation")
    slope = (clock * logs).sum("generation", min_count=2) / (clock**2).sum("generation")
    return xr.where(traces.workflow == "replace", 1 - np.exp(slope), -slope)


def crossing(errors: NDArray, axis: int) -> NDArray:
    """Find when errors first exceed that of generation 0, interpolating between generations; NaN where they do not."""
    excess = np.moveaxis(errors, axis, 0) - np.take(errors, [0], axis).squeeze(axis)
    above = excess > 0
    last = np.maximum(above.argmax(0), 1)
    before, after = (np.take_along_axis(excess, at[None], 0)[0] for at in (last - 1, last))
    return np.where(above.any(0), last - 1 + before / np.where(above.any(0), before - after, 1), np.nan)


def left_out(samples: xr.DataArray, measure: Callable[..., NDArray], dim: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Measure the mean over seeds along a dimension, with the standard error of leaving one out."""
    count = samples.sizes["seed"]
    others = (samples.sum("seed") - samples) / (count - 1)
    error = (count - 1) * others.reduce(measure, dim).reduce(standard_error, "seed")
    return samples.mean("seed").reduce(measure, dim), error


def predicted_traces(factors: xr.DataArray, num_generations: int) -> xr.DataArray:
    """Evaluate the `growth` of factors in every generation, under both workflows."""
    t = xr.DataArray(np.arange(num_generations + 1), dims="generation", name="generation")
    t = t.assign_coords(generation=t)
    curves = [xr.apply_ufunc(partial(growth, workflow), factors, t, vectorize=True) for workflow in COMPARED]
    return xr.concat(curves, pd.Index(COMPARED, name="workflow"))


def predicted_crossings(config: Config) -> xr.DataArray:
    """Find the crossings of the mean's errors at the balancing expansion, in closed form."""

    def curve(workflow, budget, bias):
        noise = (1 / kappa(config.dim, budget) - 1) ** 0.5
        arguments = {"bias": bias, "error": config.error, "noise": noise, "num_kept": config.many_kept}
        return mean_errors(workflow, config.dim, budget, config.num_generations, **arguments)

    dims = {"workflow": COMPARED, "budget": config.turning_budgets, "bias": config.turning_biases}
    curves = np.array([curve(*point) for point in itertools.product(*dims.values())])
    times = crossing(curves, 1).reshape([len(labels) for labels in dims.values()])
    return xr.DataArray(times, {name: list(labels) for name, labels in dims.items()}, list(dims))


def run(config: Config, runner: Runner) -> Output:
    """Map where selection pays, and measure exponents, best budgets and turning times beside theory."""
    check_fit(min(config.num_kept, config.many_kept), config.dim)
    runner.expect(3)
    numbers = {"expansion": config.expansions, "share": config.shares}
    mapped = cells(budget=(*config.budgets, 1.0), bias=config.biases, **numbers).assign(scale=config.scales[0])
    middle = config.biases[len(config.biases) // 2]
    of_best = cells(budget=config.candidates, share=config.shares, scale=config.scales).assign(bias=middle)
    decaying = cells(budget=config.budgets, expansion=config.expansions)
    turning = cells(budget=config.turning_budgets, bias=config.turning_biases).assign(error=config.error)
    turning["expansion"] = [1 / kappa(config.dim, budget) - 1 for budget in turning.budget]
    with jax.enable_x64(True):
        exact, exact_best = sweep_of(config, runner, "exact", [mapped, of_best])
    found, found_best = sweep_of(config, runner, "pool", [mapped, of_best])
    decayed, turned = sweep_of(config, runner, "direct", [decaying, turning])

    ratios, slopes = log_ratio(found), exponents(decayed.trace_ratio)
    best = found_best.bures_w2.isel(generation=-1).idxmin("budget")
    times, times_error = left_out(turned.mean_error, crossing, "generation")
    factors = pd.Series([multiplier(config.dim, a, e**0.5) for a, e in decaying.index], decaying.index).to_xarray()
    arrays = {
        "log_ratio": ratios.mean("seed"),
        "log_ratio_error": ratios.reduce(standard_error, "seed"),
        "log_ratio_exact": log_ratio(exact),
        "best_budget": best.mean("seed"),
        "best_budget_error": best.reduce(standard_error, "seed"),
        "best_budget_exact": exact_best.bures_w2.isel(generation=-1).idxmin("budget"),
        "exponent": slopes.mean("seed"),
        "exponent_error": slopes.reduce(standard_error, "seed"),
        "exponent_limit": 1 - factors,
        "exponent_theory": exponents(predicted_traces(factors, config.num_generations)),
    }
    turned = {"crossing": times, "crossing_error": times_error, "crossing_theory": predicted_crossings(config)}
    turned = xr.Dataset(turned).rename(budget="turning_budget", bias="turning_bias")
    arrays = xr.Dataset(arrays).drop_vars("generation", errors="ignore").assign(turned)
    return Output(arrays, summarise(arrays))


def summarise(arrays: xr.Dataset) -> dict[str, Any]:
    """Count the points of the map on the right side, and those of exponents and times within errors of theory."""
    right = np.sign(arrays.log_ratio) == np.sign(arrays.log_ratio_exact)
    clear = abs(arrays.log_ratio) > 2 * arrays.log_ratio_error
    found: dict[str, Any] = {
        "points": right.size,
        "right_side": float(right.mean()),
        "clear": int(clear.sum()),
        "right_side_of_clear": float(right.where(clear).mean()),
        "best_budget_median_difference": float(abs(arrays.best_budget - arrays.best_budget_exact).median()),
    }
    for name in ("exponent", "crossing"):
        theory = arrays[f"{name}_theory"].where(arrays[f"{name}_theory"] != 0)  # within a generation nothing is gained
        off = abs(arrays[name] - theory)
        within = off.where(off.notnull()) <= 4 * arrays[f"{name}_error"]
        found |= {f"{name}_median_difference": float(off.median()), f"{name}_num_compared": int(off.notnull().sum())}
        found[f"{name}_within_4_errors"] = float(within.where(off.notnull()).mean())
    return found
