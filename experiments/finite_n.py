"""How simulation approaches mean field as more samples are kept, and what few samples do without selection."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, lane_keys, main
from jaxcollapse.analysis import standard_error
from jaxcollapse.base import Moments
from jaxcollapse.batches import proposals_needed, sampled, top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.references import all_silos
from jaxcollapse.selectors import keep_all
from jaxcollapse.sweep import Trajectory
from jaxcollapse.targets import Instance, cast, published_instance, stack
from jaxcollapse.theory.closed_forms import replace_log_det
from jaxcollapse.theory.finite_size import linear_noise
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.trajectory import build_collapse, record_model
from jaxcollapse.validation import check_fit, check_range, make_controls
from jaxcollapse.workflows import accumulate, replace

NAME = "finite_n"
RIDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Ratio of simulated to mean-field trace under accumulate+select, and log determinants under replace."""

    num_kept: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000)
    """Samples n kept in each generation, increasing."""
    budget: float = 0.05
    """Share of candidates kept, in (0, 1)."""
    num_generations: int = 100
    """Generations of both parts."""
    dim: int = 10
    """Dimension of the published instances."""
    seeds: tuple[int, ...] = (2023, 42)
    """Seeds of the instances."""
    num_replicates: int = 64
    """Independent simulations of each instance."""
    replace_num_samples: tuple[int, ...] = (16, 32, 64, 128)
    """Samples n of each generation without selection, in two dimensions."""
    replace_replicates: int = 2000
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


def selected(config: Config, parts: Parts) -> xr.Dataset:
    """Simulate accumulate+select at every n, beside its mean field and the correction to that."""
    instances = stack([published_instance(seed, config.dim) for seed in config.seeds])
    names = ("instance", "replicate", "generation")
    histories = []
    for n in config.num_kept:

        def build(instance, replicate, n=n) -> Trajectory:
            batch_fn = top_of_gaussian(instance.target, n, proposals_needed(n, config.budget, config.dim))
            collapse = build_collapse(gaussian(RIDGE), batch_fn, accumulate(moments_memory()))
            record = record_model({"trace_ratio": trace_ratio}, instance.truth)
            return Trajectory(replicate, collapse, instance.truth, make_controls(n, config.budget), record)

        keys = lane_keys(config.key, range(config.num_replicates))
        axes = {"instance": cast(instances, jnp.float32), "replicate": keys}
        histories.append(parts.sweep(f"n = {n}", build, axes, config.num_generations)["trace_ratio"])

    coords = {"instance": list(config.seeds), "num_kept": list(config.num_kept)}
    exact, correction = expansion(config, parts, instances)
    return xr.Dataset(
        {
            "trace_ratio": (("num_kept", *names), np.stack(histories)),
            "trace_ratio_mean_field": (("instance", "generation"), exact),
            "trace_ratio_correction": (("instance", "generation"), correction),
        },
        coords,
    )


def expansion(config: Config, parts: Parts, instances: Instance) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean-field trace ratio, and n times its first correction."""

    def build(instance) -> Trajectory:
        collapse = mean_field(instance.target, accumulate(moments_memory()), ridge=RIDGE)
        controls = make_controls(config.num_kept[-1], config.budget)
        return Trajectory(jax.random.key(0), collapse, instance.truth, controls, lambda key, state, info: state.params)

    def correct(models, instance):
        weights = 1 / jnp.arange(1.0, config.num_generations + 1)
        return linear_noise(models, weights, instance.target, config.budget).covariance

    with jax.enable_x64(True):
        instances = cast(instances, jnp.float64)
        models = parts.sweep("mean field", build, {"instance": instances}, config.num_generations)
        covariances = jax.jit(jax.vmap(correct))(jax.tree.map(jnp.asarray, models), instances)
        total = jnp.trace(instances.truth.covariance, axis1=-2, axis2=-1)[:, None]
        traces = [jnp.trace(c, axis1=-2, axis2=-1) / total for c in (models.covariance, covariances)]
    return np.asarray(traces[0]), np.asarray(traces[1])


def unselected(config: Config, parts: Parts) -> xr.DataArray:
    """Simulate replace without selection, in double precision: few samples leave a spread of 1e-8 of the mean.

    The number of samples is traced, so that all are one program.
    """
    truth = cast(Moments(np.float64(1), np.zeros(2), np.eye(2)), jnp.float64)
    controls = [make_controls(n) for n in config.replace_num_samples]

    def record(key, state, info):
        return jnp.linalg.slogdet(state.params.covariance)[1]

    def build(num_samples, replicate) -> Trajectory:
        pool = sampled(gaussian(), keep_all, all_silos(), (), max(config.replace_num_samples))
        collapse = build_collapse(gaussian(), pool, replace(moments_memory()))
        return Trajectory(replicate, collapse, truth, num_samples, record)

    axes = {
        "num_samples": jax.tree.map(lambda *x: jnp.stack(x), *controls),
        "replicate": lane_keys(config.key, range(config.replace_replicates)),
    }
    history = parts.sweep("replace, small n", build, axes, config.num_generations)
    coords = {"num_samples": list(config.replace_num_samples)}
    return xr.DataArray(history, dims=("num_samples", "unselected_replicate", "generation"), coords=coords)


def run(config: Config, parts: Parts) -> Output:
    """Measure the approach to mean field as a rate, and compare replace with its closed form."""
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_replicates", config.num_replicates, low=2)
    check_fit(min(config.num_kept), config.dim)
    check_fit(min(config.replace_num_samples), 2)
    arrays = selected(config, parts)
    with jax.enable_x64(True):
        log_det = unselected(config, parts)

    last = arrays.isel(generation=-1)
    ratio = last.trace_ratio / last.trace_ratio_mean_field
    excess = last.trace_ratio_correction / last.trace_ratio_mean_field
    rows = []
    for seed in config.seeds:
        for n in config.num_kept:
            values = ratio.sel(instance=seed, num_kept=n).values
            rows.append(
                (
                    "trace over mean field",
                    seed,
                    n,
                    values.mean(),
                    standard_error(values),
                    1 + float(excess.sel(instance=seed)) / n,
                )
            )
    for n in config.replace_num_samples:
        values = log_det.sel(num_samples=n).values[:, -1]
        expected = replace_log_det(n, config.num_generations, 2)[-1]
        rows.append(("log determinant", "", n, values.mean(), standard_error(values), expected))
    columns = ["quantity", "instance", "num_kept", "simulation", "standard_error", "theory"]
    table = pd.DataFrame(rows, columns=columns).assign(generation=config.num_generations)

    measured = table[table.quantity == "trace over mean field"]
    rates = {str(seed): rate(measured[measured.instance == seed]) for seed in config.seeds}
    return Output(arrays.assign(log_det=log_det), table, {"rate": rates})


def rate(rows: pd.DataFrame) -> dict[str, float]:
    """Fit ratio - 1 = c n^exponent by weighted least squares in the logarithms, where the excess is significant."""
    excess = rows.simulation - 1
    known = excess > 3 * rows.standard_error
    if known.sum() < 2:
        return {"exponent": float("nan"), "standard_error": float("nan")}
    x, y = np.log(rows.num_kept[known]), np.log(excess[known])
    weight = (excess / rows.standard_error)[known] ** 2
    centred = x - np.average(x, weights=weight)
    information = np.sum(weight * centred**2)
    return {
        "exponent": float(np.sum(weight * centred * y) / information),
        "standard_error": float(information**-0.5),
    }


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
