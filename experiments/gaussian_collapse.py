"""Collapse of a Gaussian with and without biased selection, on the published problem instances."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from jaxcollapse.batches import proposals_needed, sampled, top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, target_distance
from jaxcollapse.references import all_silos
from jaxcollapse.selectors import SELECTORS, keep_all, mahalanobis
from jaxcollapse.sweep import Trajectory
from jaxcollapse.targets import PUBLISHED_SEEDS, Instance, cast, published_instance, stack
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import kept_moments, limit
from jaxcollapse.trajectory import record_model, record_side_by_side, side_by_side
from jaxcollapse.validation import check_fit, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "gaussian_collapse"
RIDGE = 1e-6
SAMPLED = ("replace", "accumulate", "accumulate_subsample")
SETTINGS = tuple(w + suffix for w in SAMPLED for suffix in ("", "+select"))


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Six settings of the Gaussian recursion beside closed forms and mean field [qiao2026]."""

    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 300
    """Generations after the true model."""
    dim: int = 10
    """Dimension of the data."""
    seeds: tuple[int, ...] = PUBLISHED_SEEDS
    """Seeds of the problem instances."""
    sampler: Literal["direct", "pool"] = "direct"
    """Draw the kept set directly, or draw the whole pool and select: equal in law."""


PRESETS = {
    "smoke": {"num_kept": 50, "num_generations": 10, "seeds": PUBLISHED_SEEDS[:2]},
    "quick": {"num_generations": 100},
    "paper": {},
}


def record(instance: Instance):
    """Record the four metrics of the published experiment."""
    names = ("trace_ratio", "mean_error", "bures_w2")
    metrics = {name: METRICS[name] for name in names}
    metrics["target_distance"] = target_distance(instance.target)
    return record_model(metrics, instance.truth)


def simulation(config: Config, names: Sequence[str] = SAMPLED, *, selected: bool):
    """Make the builder of trajectories with or without selection, under some workflows side by side."""
    n, budget = config.num_kept, config.budget if selected else 1.0
    controls = make_controls(n, budget)
    moments, buffer = moments_memory(), buffer_memory(n * config.num_generations, n)
    workflows = [WORKFLOWS[w](buffer if w == "accumulate_subsample" else moments) for w in names]

    def build(seed) -> Trajectory:
        key, instance = seed
        if selected and config.sampler == "direct":
            batch_fn = top_of_gaussian(instance.target, n, proposals_needed(n, budget, config.dim))
        else:
            silos = jax.tree.map(lambda x: x[None], instance.target)
            select = SELECTORS["top"](mahalanobis(), n) if selected else keep_all
            batch_fn = sampled(gaussian(), select, all_silos(), silos, round(n / budget))
        collapse = side_by_side(gaussian(RIDGE), batch_fn, workflows)
        return Trajectory(key, collapse, instance.truth, controls, record_side_by_side(record(instance)))

    return build


def prediction(config: Config):
    """Make the builder of mean fields, under all workflows side by side."""
    controls = make_controls(config.num_kept, config.budget)
    workflows = [WORKFLOWS[limit(w)](moments_memory()) for w in SAMPLED]

    def build(seed) -> Trajectory:
        key, instance = seed
        collapse = side_by_side(gaussian(RIDGE), kept_moments(instance.target), workflows)
        return Trajectory(key, collapse, instance.truth, controls, record_side_by_side(record(instance)))

    return build


def closed_forms(config: Config) -> dict[str, np.ndarray]:
    """Evaluate the expectations without selection; the expected Bures distance has no closed form."""
    instances = stack([published_instance(seed, config.dim) for seed in config.seeds])
    variance = np.stack([CLOSED_FORMS[w](config.num_kept, config.num_generations) for w in SAMPLED], axis=-1)
    total = np.trace(instances.truth.covariance, axis1=-2, axis2=-1)[:, None, None]
    bias = np.sum((instances.truth.mean - instances.target.location) ** 2, axis=-1)[:, None, None]
    mean_error = (1 - variance) * total
    return {
        "trace_ratio": np.broadcast_to(variance, mean_error.shape),
        "mean_error": mean_error,
        "bures_w2": np.full_like(mean_error, np.nan),
        "target_distance": bias + mean_error,
    }


def lanes_of(config: Config, dtype) -> tuple[jax.Array, Instance]:
    """Stack the instances, each with the key of its seed."""
    instances = stack([published_instance(seed, config.dim) for seed in config.seeds])
    return lane_keys(config.key, config.seeds), cast(instances, dtype)


def run(config: Config, parts: Parts) -> Output:
    """Simulate the six settings and compute their theory."""
    check_range("num_generations", config.num_generations, low=1)
    check_fit(config.num_kept, config.dim)
    make_controls(config.num_kept, config.budget)
    lanes = {"seed": lanes_of(config, jnp.float32)}
    with jax.enable_x64(True):
        exact_lanes = {"seed": lanes_of(config, jnp.float64)}
        mean_fields = parts.sweep("mean field", prediction(config), exact_lanes, config.num_generations)
    random, selected = (
        parts.sweep(name, simulation(config, selected=selected), lanes, config.num_generations)
        for name, selected in (("without selection", False), ("with selection", True))
    )
    coords = {
        "seed": list(config.seeds),
        "generation": np.arange(config.num_generations + 1),
        "workflow": list(SAMPLED),
    }
    settings = {}
    for suffix, *pair in (("", random, closed_forms(config)), ("+select", selected, mean_fields)):
        sources = [frame(history, tuple(coords), coords) for history in pair]
        both = xr.concat(sources, pd.Index(["simulation", "theory"], name="source"))
        settings |= {w + suffix: both.sel(workflow=w, drop=True) for w in SAMPLED}
    arrays = xr.concat([settings[name] for name in SETTINGS], pd.Index(list(SETTINGS), name="setting"))
    final = arrays.trace_ratio.isel(generation=-1).mean("seed")
    summary = {
        setting: {source: float(final.sel(setting=setting, source=source)) for source in ("simulation", "theory")}
        for setting in SETTINGS
    }
    return Output(arrays, table(arrays, config), {"final_mean_trace_ratio": summary})


def table(arrays: xr.Dataset, config: Config) -> pd.DataFrame:
    """Lay the arrays out as one row for each setting, seed, generation and source."""
    rows = arrays.to_dataframe().reset_index()
    rows = rows.assign(num_kept=config.num_kept, budget=config.budget, dim=config.dim)
    columns = ["setting", "num_kept", "budget", "dim", "seed", "generation"]
    metrics = ["trace_ratio", "mean_error", "target_distance", "bures_w2"]
    return rows[[*columns, *metrics, "source"]]


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
