"""How simulation approaches mean field as more samples are kept, and what few samples do without selection."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.analysis import standard_error
from jaxcollapse.base import Moments, Run
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import BelowOne, Count, Range, Seed
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.record import record_model
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.selectors import keep_all
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import Instance, published_instance
from jaxcollapse.theory.closed_forms import replace_log_det
from jaxcollapse.theory.finite_size import linear_noise
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import cast, stack
from jaxcollapse.workflows import accumulate, replace

RIDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Ratio of simulated to mean-field trace under accumulate+select, and log determinants under replace."""

    num_kept: tuple[Count, ...] = (125, 250, 500, 1000, 2000, 4000)
    """Samples n kept in each generation, increasing."""
    budget: BelowOne = 0.05
    """Share of candidates kept, in (0, 1)."""
    num_generations: Count = 100
    """Generations of both parts."""
    dim: Annotated[int, Range(2, 4096)] = 10
    """Dimension of the published instances."""
    seeds: tuple[Seed, ...] = (2023, 42)
    """Seeds of the instances."""
    num_replicates: Annotated[int, Range(2, 10**4)] = 64
    """Independent simulations of each instance."""
    replace_num_samples: tuple[Annotated[int, Range(4, 10**6)], ...] = (16, 32, 64, 128)
    """Samples n of each generation without selection, in two dimensions."""
    replace_replicates: Annotated[int, Range(2, 10**6)] = 2000
    """Independent simulations without selection."""


PRESETS = {
    "smoke": {
        "num_kept": (50, 100),
        "num_generations": 10,
        "num_replicates": 4,
        "replace_replicates": 50,
    },
    "quick": {"num_kept": (125, 500), "num_replicates": 16, "replace_replicates": 200},
    "paper": {},
}


def instances_of(config: Config, dtype) -> Instance:
    """Stack the instances."""
    return cast(stack([published_instance(seed, config.dim) for seed in config.seeds]), dtype)


def selected(config: Config, runner: Runner, num_kept: int) -> xr.Dataset:
    """Simulate accumulate+select at one n."""
    recursion = sizes(num_kept, config.budget, config.num_generations)

    def build(instance, replicate) -> Run:
        collapse = build_collapse(gaussian(RIDGE), top_of_gaussian(instance.target), accumulate(moments_memory()))
        record = record_model({"trace_ratio": trace_ratio}, instance.truth)
        return Run(replicate, collapse, instance.truth, recursion, record)

    axes = {
        "instance": Axis(config.seeds, instances_of(config, jnp.float32)),
        "replicate": seeds(config.num_replicates, config.seed),
    }
    return runner.sweep(f"n = {num_kept}", build, axes)


def expansion(config: Config, runner: Runner) -> xr.Dataset:
    """Compute the mean-field trace ratio, and n times its first correction, in double precision."""
    recursion = sizes(config.num_kept[-1], config.budget, config.num_generations)
    instances = instances_of(config, float)

    def build(instance) -> Run:
        collapse = mean_field(instance.target, accumulate(moments_memory()), ridge=RIDGE)
        return Run(jax.random.key(0), collapse, instance.truth, recursion, lambda key, state, info: state.params)

    def correct(models, instance):
        weights = 1 / jnp.arange(1.0, config.num_generations + 1)
        return linear_noise(models, weights, instance.target, jnp.asarray(config.budget)).covariance

    found = runner.sweep("mean field", build, {"instance": Axis(config.seeds, instances)})
    models = Moments(*(jnp.asarray(found[name].values) for name in Moments._fields))
    corrections = jax.jit(jax.vmap(correct))(models, instances)
    total = jnp.trace(instances.truth.covariance, axis1=-2, axis2=-1)[:, None]
    ratios = [jnp.trace(c, axis1=-2, axis2=-1) / total for c in (models.covariance, corrections)]
    names = ("trace_ratio_mean_field", "trace_ratio_correction")
    traces = {name: (("instance", "generation"), np.asarray(r)) for name, r in zip(names, ratios, strict=True)}
    return xr.Dataset(traces, found.coords)


def unselected(config: Config, runner: Runner) -> xr.Dataset:
    """Simulate replace without selection, in double precision: few samples leave a spread of 1e-8 of the mean.

    The number of samples is traced, so that all are one program.
    """
    truth = cast(Moments(np.float64(1), np.zeros(2), np.eye(2)), float)

    def record(key, state, info):
        return {"log_det": jnp.linalg.slogdet(state.params.covariance)[1]}

    def build(num_samples, unselected_replicate) -> Run:
        collapse = build_collapse(gaussian(), sample_and_select(gaussian(), keep_all()), replace(moments_memory()))
        return Run(unselected_replicate, collapse, truth, num_samples, record)

    recursions = sizes(config.replace_num_samples, num_generations=config.num_generations)
    axes = {
        "num_samples": Axis(config.replace_num_samples, recursions),
        "unselected_replicate": seeds(config.replace_replicates, config.seed),
    }
    return runner.sweep("replace, small n", build, axes)


def run(config: Config, runner: Runner) -> Output:
    """Measure the approach to mean field as a rate, and compare replace with its closed form."""
    check_fit(min(config.num_kept), config.dim)
    runner.expect(len(config.num_kept) + 2)
    simulated = along("num_kept", {n: selected(config, runner, n) for n in config.num_kept})
    with jax.enable_x64(True):
        arrays = xr.merge([simulated, expansion(config, runner), unselected(config, runner)])

    last = arrays.isel(generation=-1, drop=True)
    ratio = (last.trace_ratio / last.trace_ratio_mean_field).transpose("instance", "num_kept", "replicate")
    linear = 1 + last.trace_ratio_correction / last.trace_ratio_mean_field / last.num_kept
    closed_form = [replace_log_det(n, config.num_generations, 2)[-1] for n in config.replace_num_samples]
    arrays = arrays.assign(
        final_ratio=ratio.mean("replicate"),
        final_ratio_error=ratio.reduce(standard_error, "replicate"),
        final_ratio_theory=linear,
        final_log_det=last.log_det.mean("unselected_replicate"),
        final_log_det_error=last.log_det.reduce(standard_error, "unselected_replicate"),
        final_log_det_theory=("num_samples", closed_form),
    )
    return Output(arrays, {"rate": {str(seed): rate(arrays.sel(instance=seed)) for seed in config.seeds}})


def rate(arrays: xr.Dataset) -> dict[str, float]:
    """Fit ratio - 1 = c n^exponent by weighted least squares in the logarithms, where the excess is significant."""
    n, excess, error = (arrays[name].values for name in ("num_kept", "final_ratio", "final_ratio_error"))
    excess = excess - 1
    known = excess > 3 * error
    if known.sum() < 2:
        return {"exponent": float("nan"), "standard_error": float("nan")}
    x, y = np.log(n[known]), np.log(excess[known])
    weight = (excess / error)[known] ** 2
    centred = x - np.average(x, weights=weight)
    information = np.sum(weight * centred**2)
    return {
        "exponent": float(np.sum(weight * centred * y) / information),
        "standard_error": float(information**-0.5),
    }
