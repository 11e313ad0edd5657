"""Collapse of a Gaussian with and without biased selection, on the published problem instances."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.base import Run
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import Count, Range, Seed, Share
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, target_distance
from jaxcollapse.record import record_model, record_side_by_side
from jaxcollapse.recursion import sample_and_select, side_by_side
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import keep_all, top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import PUBLISHED_SEEDS, Instance, published_instance
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import kept_moments, limit
from jaxcollapse.tree import cast, stack
from jaxcollapse.workflows import WORKFLOWS

RIDGE = 1e-6
SAMPLED = ("replace", "accumulate", "accumulate_subsample")
RECORDED = ("trace_ratio", "mean_error", "target_distance", "bures_w2")
SETTINGS = tuple(w + suffix for w in SAMPLED for suffix in ("", "+select"))


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Six settings of the Gaussian recursion beside closed forms and mean field [qiao2026]."""

    num_kept: Count = 500
    """Samples n kept in each generation."""
    budget: Share = 0.05
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: Count = 300
    """Generations after the true model."""
    dim: Annotated[int, Range(2, 4096)] = 10
    """Dimension of the data."""
    seeds: tuple[Seed, ...] = PUBLISHED_SEEDS
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
    metrics = {name: METRICS[name] for name in ("trace_ratio", "mean_error", "bures_w2")}
    metrics["target_distance"] = target_distance(instance.target)
    return record_side_by_side(record_model(metrics, instance.truth))


def simulation(config: Config, names: Sequence[str] = SAMPLED, *, selected: bool):
    """Make the builder of runs with or without selection, under some workflows side by side."""
    recursion = sizes(config.num_kept, config.budget if selected else 1.0, config.num_generations)
    workflows = [WORKFLOWS[w](buffer_memory() if w == "accumulate_subsample" else moments_memory()) for w in names]

    def build(seed) -> Run:
        key, instance = seed
        if selected and config.sampler == "direct":
            keep = top_of_gaussian(instance.target)
        else:
            keep = sample_and_select(gaussian(), top(mahalanobis(instance.target)) if selected else keep_all())
        collapse = side_by_side(gaussian(RIDGE), keep, workflows)
        return Run(key, collapse, instance.truth, recursion, record(instance))

    return build


def prediction(config: Config):
    """Make the builder of mean fields, under all workflows side by side."""
    recursion = sizes(config.num_kept, config.budget, config.num_generations)
    workflows = [WORKFLOWS[limit(w)](moments_memory()) for w in SAMPLED]

    def build(seed) -> Run:
        key, instance = seed
        collapse = side_by_side(gaussian(RIDGE), kept_moments(instance.target), workflows)
        return Run(key, collapse, instance.truth, recursion, record(instance))

    return build


def closed_forms(config: Config) -> xr.Dataset:
    """Evaluate the expectations without selection; the expected Bures distance has no closed form."""
    instances = stack([published_instance(seed, config.dim) for seed in config.seeds])
    variance = np.stack([CLOSED_FORMS[w](config.num_kept, config.num_generations) for w in SAMPLED], axis=-1)
    total = np.trace(instances.truth.covariance, axis1=-2, axis2=-1)[:, None, None]
    bias = np.sum((instances.truth.mean - instances.target.location) ** 2, axis=-1)[:, None, None]
    mean_error = (1 - variance) * total
    expected = {
        "trace_ratio": np.broadcast_to(variance, mean_error.shape),
        "mean_error": mean_error,
        "bures_w2": np.full_like(mean_error, np.nan),
        "target_distance": bias + mean_error,
    }
    return xr.Dataset({name: (("seed", "generation", "workflow"), values) for name, values in expected.items()})


def instances_of(config: Config, dtype) -> Axis:
    """Stack the instances, each with the key of its seed."""
    instances = stack([published_instance(seed, config.dim) for seed in config.seeds])
    labels, keys = seeds(config.seeds, config.seed)
    return Axis(labels, (keys, cast(instances, dtype)))


def run(config: Config, runner: Runner) -> Output:
    """Simulate the six settings and compute their theory."""
    runner.expect(3)
    check_fit(config.num_kept, config.dim)
    options = {"dims": dict.fromkeys(RECORDED, ("workflow",)), "coords": {"workflow": list(SAMPLED)}}
    with jax.enable_x64(True):
        axes = {"seed": instances_of(config, jnp.float64)}
        mean_field = runner.sweep("mean field", prediction(config), axes, **options)
    axes = {"seed": instances_of(config, jnp.float32)}
    random, selected = (
        runner.sweep(name, simulation(config, selected=selected), axes, **options)
        for name, selected in (("without selection", False), ("with selection", True))
    )
    settings = {}
    for suffix, simulated, theory in (("", random, closed_forms(config)), ("+select", selected, mean_field)):
        both = along("source", {"simulation": simulated, "theory": theory})
        settings |= {w + suffix: both.sel(workflow=w, drop=True) for w in SAMPLED}
    arrays = along("setting", {name: settings[name] for name in SETTINGS})
    final = arrays.trace_ratio.isel(generation=-1).mean("seed")
    summary = {
        setting: {source: float(final.sel(setting=setting, source=source)) for source in ("simulation", "theory")}
        for setting in SETTINGS
    }
    return Output(arrays, {"final_mean_trace_ratio": summary})
