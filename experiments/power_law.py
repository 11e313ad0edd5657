"""The exponent map: how fast the trace decays under accumulate, beside the theory's power law."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.analysis import local_slopes, log_spaced, seed_interval
from jaxcollapse.base import Moments, Run, Target
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import BelowOne, Count, Dim, NumSeeds, Range
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import effective_rank, target_distance, trace_ratio
from jaxcollapse.record import record_model
from jaxcollapse.recursion import build_collapse
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import isotropic_target
from jaxcollapse.theory.exponents import psi, psi_finite
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import cast, stack
from jaxcollapse.workflows import accumulate

TARGETS = ("centred", "offset")
DRAWN = ("slope", "slope_low", "slope_high", "slope_mean_field", "psi", "psi_finite")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Local slopes of log trace against log generation, and psi = 1 - kappa_d(alpha)."""

    dims: tuple[Dim, ...] = (2, 5, 10, 32)
    """Dimensions."""
    budgets: tuple[BelowOne, ...] = (0.05, 0.1, 0.25, 0.5)
    """Shares of candidates kept, each in (0, 1)."""
    num_kept: Count = 250
    """Samples n kept in each generation."""
    num_generations: Annotated[int, Range(10, 10**6)] = 10_000
    """Generations; slopes are taken over half decades."""
    num_seeds: NumSeeds = 4
    """Independent simulations of each cell."""
    offset: Annotated[float, Range(0.0, 1e3)] = 3.0
    """Distance of the offset target from the true mean, in standard deviations."""
    condition: Annotated[float, Range(1.0, 1e6)] = 10.0
    """Condition number of the true covariance, which selection first evens out."""


PRESETS = {
    "smoke": {"dims": (2, 5), "budgets": (0.1, 0.5), "num_kept": 40, "num_generations": 200, "num_seeds": 2},
    "quick": {"dims": (2, 10), "budgets": (0.05, 0.5), "num_kept": 100, "num_seeds": 3, "num_generations": 1_000},
    "paper": {},
}


def problem(config: Config, dim: int) -> tuple[Moments, Target]:
    """Make the truth, and the stack of the centred and the offset target."""
    spectrum = np.geomspace(1, 1 / config.condition, dim)
    truth = Moments(np.float64(1), np.zeros(dim), np.diag(spectrum))
    locations = (np.zeros(dim), config.offset * np.sqrt(spectrum / dim))
    return truth, stack([isotropic_target(location) for location in locations])


def simulate(config: Config, runner: Runner, dim: int, *, exact: bool) -> xr.Dataset:
    """Run all targets, budgets and seeds of one dimension; the mean field needs no seeds."""
    truth, targets = cast(problem(config, dim), jnp.float64 if exact else config.dtype)

    def build(target, budget, seed) -> Run:
        workflow = accumulate(moments_memory())
        metrics = {"trace_ratio": trace_ratio, "target_distance": target_distance(target)}
        if exact:
            collapse = mean_field(target, workflow)
            metrics["effective_rank"] = effective_rank
        else:
            collapse = build_collapse(gaussian(), top_of_gaussian(target), workflow)
        return Run(seed, collapse, truth, budget, record_model(metrics, truth))

    axes = {
        "target": Axis(TARGETS, targets),
        "budget": Axis(config.budgets, sizes(config.num_kept, config.budgets, config.num_generations)),
        "seed": seeds(1 if exact else config.num_seeds, config.seed),
    }
    found = runner.sweep(f"d = {dim}" + (" (mean field)" if exact else ""), build, axes)
    return found.sel(generation=log_spaced(config.num_generations, per_decade=20))


def slopes(traces: xr.DataArray) -> xr.DataArray:
    """Fit the decay of traces over half decades of generations, about the centre of each."""
    traces = traces.transpose(..., "generation")
    centres, found = local_slopes(traces, traces.generation)
    return xr.DataArray(-found, {"centre": centres.round().astype(int)}, [*traces.dims[:-1], "centre"])


def run(config: Config, runner: Runner) -> Output:
    """Map the exponents, and thin trajectories to a logarithmic grid of generations."""
    check_fit(config.num_kept, max(config.dims))
    runner.expect(2 * len(config.dims))
    simulated = along("dim", {dim: simulate(config, runner, dim, exact=False) for dim in config.dims})
    with jax.enable_x64(True):
        exact = along("dim", {dim: simulate(config, runner, dim, exact=True).isel(seed=0) for dim in config.dims})
    arrays = simulated.merge(exact.rename({name: f"{name}_mean_field" for name in exact}))

    each = slopes(arrays.trace_ratio).transpose("seed", ...)
    interval = zip(("slope", "slope_low", "slope_high"), seed_interval(each), strict=True)
    cells = [[(psi(d, b), psi_finite(d, b, config.num_kept)) for b in config.budgets] for d in config.dims]
    arrays = arrays.assign_coords(centre=each.centre).assign(
        **{name: (each.dims[1:], values) for name, values in interval},
        slope_mean_field=slopes(arrays.trace_ratio_mean_field),
        psi=(("dim", "budget"), np.array(cells)[..., 0]),
        psi_finite=(("dim", "budget"), np.array(cells)[..., 1]),
    )
    final, inside = arrays[list(DRAWN)].isel(centre=-1), {}
    for theory in ("psi", "psi_finite", "slope_mean_field"):
        hits = (final.slope_low <= final[theory]) & (final[theory] <= final.slope_high)
        inside[f"{theory}_inside_interval"] = f"{int(hits.sum())} of {hits.size}"
    return Output(arrays, inside | {"final": final.to_dataframe().reset_index().to_dict("records")})
