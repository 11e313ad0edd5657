"""The exponent map: how fast the trace decays under accumulate, beside the theory's power law."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Runner, Settings, main
from jaxcollapse.analysis import local_slopes, log_spaced, seed_interval
from jaxcollapse.base import Moments, Run, Target
from jaxcollapse.checks import check_fit, check_range
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

NAME = "power_law"
TARGETS = ("centred", "offset")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Local slopes of log trace against log generation, and psi = 1 - kappa_d(alpha)."""

    dims: tuple[int, ...] = (2, 5, 10, 32)
    """Dimensions."""
    budgets: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)
    """Shares of candidates kept, each in (0, 1)."""
    num_kept: int = 250
    """Samples n kept in each generation."""
    num_generations: int = 10_000
    """Generations; slopes are taken over half decades."""
    num_seeds: int = 4
    """Independent simulations of each cell."""
    offset: float = 3.0
    """Distance of the offset target from the true mean, in standard deviations."""
    condition: float = 10.0
    """Condition number of the true covariance, which selection first evens out."""


PRESETS = {
    "smoke": {"dims": (2, 5), "budgets": (0.1, 0.5), "num_kept": 40, "num_generations": 200, "num_seeds": 2},
    "quick": {"dims": (2, 10), "num_kept": 100, "num_seeds": 3, "num_generations": 1_000},
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
    truth, targets = cast(problem(config, dim), jnp.float64 if exact else jnp.float32)

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


def run(config: Config, runner: Runner) -> Output:
    """Map the exponents, and thin trajectories to a logarithmic grid of generations."""
    check_range("num_generations", config.num_generations, low=10)
    check_range("num_seeds", config.num_seeds, low=1)
    check_range("condition", config.condition, low=1)
    check_fit(config.num_kept, max(config.dims))
    simulated = along("dim", {dim: simulate(config, runner, dim, exact=False) for dim in config.dims})
    with jax.enable_x64(True):
        exact = along("dim", {dim: simulate(config, runner, dim, exact=True).isel(seed=0) for dim in config.dims})
    arrays = simulated.merge(exact.rename({name: f"{name}_mean_field" for name in exact}))

    rows = []
    for target, dim, budget in itertools.product(TARGETS, config.dims, config.budgets):
        cell = arrays.sel(target=target, dim=dim, budget=budget)
        centre, slopes = local_slopes(cell.trace_ratio.transpose("seed", "generation"), cell.generation)
        _, exact_slopes = local_slopes(cell.trace_ratio_mean_field, cell.generation)
        interval = seed_interval(-slopes)
        row = {
            "target": target,
            "dim": dim,
            "budget": budget,
            "num_kept": config.num_kept,
            "psi": psi(dim, budget),
            "psi_finite": psi_finite(dim, budget, config.num_kept),
            "generation": centre.round().astype(int),
            "slope": interval.mean,
            "slope_low": interval.low,
            "slope_high": interval.high,
            "slope_mean_field": -exact_slopes,
        }
        rows.append(pd.DataFrame(row))
    final = pd.concat([cell_rows.tail(1) for cell_rows in rows])
    inside = {}
    for theory in ("psi", "psi_finite", "slope_mean_field"):
        hits = (final.slope_low <= final[theory]) & (final[theory] <= final.slope_high)
        inside[f"{theory}_inside_interval"] = f"{int(hits.sum())} of {len(final)}"
    return Output(arrays, pd.concat(rows), inside | {"final": final.to_dict("records")})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
