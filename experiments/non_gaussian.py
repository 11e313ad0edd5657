"""Collapse beyond the Gaussian: mixtures and Laplace models in the published protocol, beside Gaussian theory."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, lane_keys, main
from jaxcollapse.analysis import log_spaced
from jaxcollapse.base import Generator, Memory, Moments
from jaxcollapse.batches import sampled
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.generators.gaussian_mixture import Mixture, gaussian_mixture, mixture_moments
from jaxcollapse.generators.laplace import Laplace, laplace, laplace_moments
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import dispersion, sliced_w
from jaxcollapse.references import all_silos
from jaxcollapse.selectors import SELECTORS, keep_all, mahalanobis
from jaxcollapse.sweep import Trajectory
from jaxcollapse.targets import Instance, cast, published_instance, stack
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import kept_moments, limit
from jaxcollapse.trajectory import record_side_by_side, side_by_side
from jaxcollapse.validation import check_fit, check_names, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "non_gaussian"
RIDGE = 1e-6
RECURSIONS = ("replace", "accumulate")
SETTINGS = tuple(w + suffix for w in RECURSIONS for suffix in ("", "+select"))


class Family(NamedTuple):
    """A generator, and where it starts.

    Attributes:
        generator: of the recursion.
        truth: `truth(seed, instance) -> params`, the true model of an instance, host arrays.
        moments: `moments(params) -> Moments`, exactly.
        components: `components(params) -> [k]`, weights of a mixture's components.
        memory: `memory(capacity, max_batch)`, what its fit needs of past data.
    """

    generator: Generator
    truth: Callable[[int, Instance], Any]
    moments: Callable[[Any], Moments]
    components: Callable[[Any], jax.Array] = lambda params: jnp.ones(1)
    memory: Callable[[int, int], Memory] = buffer_memory


def two_components(*weights: float) -> Callable[[int, Instance], Mixture]:
    """Split a truth along a random direction v: means 0.9 v to either side, covariances .7 and .9 times its own."""

    def truth(seed: int, instance: Instance) -> Mixture:
        mean, covariance = instance.truth.mean, instance.truth.covariance
        v = np.random.default_rng(seed).standard_normal(len(mean))
        v *= 0.9 / np.linalg.norm(v)
        return Mixture(
            np.array(weights), np.stack([mean + v, mean - v]), np.stack([0.7 * covariance, 0.9 * covariance])
        )

    return truth


def as_laplace(seed: int, instance: Instance) -> Laplace:
    """Keep the truth's mean and variances, without correlations."""
    return Laplace(instance.truth.mean, np.sqrt(np.diag(instance.truth.covariance) / 2))


def as_gaussian(seed: int, instance: Instance) -> Moments:
    """Keep the truth as it is."""
    return instance.truth


def of_gaussian(capacity: int, max_batch: int) -> Memory:
    """Remember moments: nothing else of the past is needed."""
    return moments_memory()


EM = gaussian_mixture(num_components=2, num_iterations=5, ridge=RIDGE)
FAMILIES = {
    "gmm": Family(EM, two_components(0.5, 0.5), mixture_moments, lambda p: p.weights),
    "unequal_gmm": Family(EM, two_components(0.8, 0.2), mixture_moments, lambda p: p.weights),
    "laplace": Family(laplace(), as_laplace, laplace_moments),
    "anisotropic": Family(gaussian(RIDGE), as_gaussian, lambda p: p, memory=of_gaussian),
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Families of generators in four settings, on problem instances drawn by the published recipe [qiao2026]."""

    families: tuple[str, ...] = tuple(FAMILIES)
    """Families of generators."""
    num_kept: tuple[int, ...] = (100, 300, 500)
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 200
    """Generations after the true model."""
    dim: int = 10
    """Dimension of the data."""
    seeds: tuple[int, ...] = tuple(range(20))
    """Seeds of the problem instances."""
    num_recorded: int = 6
    """Generations of a decade at which metrics are evaluated."""
    num_samples: int = 2048
    """Model samples of the sliced distance."""
    num_projections: int = 50
    """Directions of the sliced distance."""


PRESETS = {
    "smoke": {
        "families": ("gmm",),
        "num_kept": (20,),
        "num_generations": 5,
        "seeds": (0, 1),
        "num_samples": 64,
        "num_projections": 4,
    },
    "quick": {
        "families": ("gmm", "laplace"),
        "num_kept": (100,),
        "num_generations": 40,
        "seeds": (0, 1, 2, 3),
    },
    "paper": {},
}


def simulation(config: Config, family: Family, num_kept: int, *, selected: bool):
    """Make the builder of trajectories with or without selection, both workflows side by side, models recorded."""
    budget = config.budget if selected else 1.0
    controls = make_controls(num_kept, budget)
    select = SELECTORS["top"](mahalanobis(), num_kept) if selected else keep_all
    capacities = {"replace": num_kept, "accumulate": num_kept * config.num_generations}
    workflows = [WORKFLOWS[w](family.memory(capacities[w], num_kept)) for w in RECURSIONS]

    def build(seed) -> Trajectory:
        key, params, target = seed
        silos = jax.tree.map(lambda x: x[None], target)
        batch_fn = sampled(family.generator, select, all_silos(), silos, round(num_kept / budget))
        collapse = side_by_side(family.generator, batch_fn, workflows)
        record_fn = record_side_by_side(lambda key, state, info: state.params)
        return Trajectory(key, collapse, params, controls, record_fn)

    return build


def evaluate(config: Config, family: Family):
    """Make the function of a key, a model and the true one to all metrics."""
    distance = sliced_w(config.num_projections)

    def metrics(key, params, truth) -> dict[str, jax.Array]:
        model_key, truth_key, metric_key = jax.random.split(key, 3)
        pair = ((model_key, params), (truth_key, truth))
        samples = [uniform_measure(family.generator.sample(k, p, config.num_samples)) for k, p in pair]
        spread, start = (dispersion(key, family.moments(p), None) for _, p in pair)
        weights = family.components(params)
        entropy = -jnp.sum(weights * jnp.log(jnp.where(weights > 0, weights, 1)))
        return {
            "dispersion_ratio": spread / start,
            "sliced_w": distance(metric_key, *samples),
            "min_component_weight": weights.min(),
            "component_entropy": entropy,
        }

    return metrics


def prediction(config: Config):
    """Make the builder of the Gaussian mean field with selection from the moments of a true model, whatever n."""
    controls = make_controls(config.num_kept[0], config.budget)
    workflows = [WORKFLOWS[limit(w)](moments_memory()) for w in RECURSIONS]

    def build(lane) -> Trajectory:
        key, moments, target = lane
        collapse = side_by_side(gaussian(RIDGE), kept_moments(target), workflows)
        record_fn = record_side_by_side(lambda key, state, info: dispersion(key, state.params, None))
        return Trajectory(key, collapse, moments, controls, record_fn)

    return build


def mean_fields(config: Config, parts: Parts) -> np.ndarray:
    """Compute dispersion ratios of the Gaussian theory with selection, [family, seed, generation, workflow]."""
    with jax.enable_x64(True):
        lanes = []
        for name in config.families:
            keys, truths, targets = lanes_of(config, FAMILIES[name], jnp.float64)
            lanes.append((keys, jax.vmap(FAMILIES[name].moments)(truths), targets))
        stacked = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *lanes)
        spread = parts.sweep("mean field", prediction(config), {"lane": stacked}, config.num_generations)
    spread = spread.reshape(len(lanes), len(config.seeds), *spread.shape[1:])
    return spread / spread[:, :, :1]


def lanes_of(config: Config, family: Family, dtype):
    """Stack keys, true models and targets of the instances."""
    instances = [published_instance(seed, config.dim) for seed in config.seeds]
    truths = [family.truth(seed, instance) for seed, instance in zip(config.seeds, instances, strict=True)]
    targets = [instance.target for instance in instances]
    return lane_keys(config.key, config.seeds), *(cast(stack(items), dtype) for items in (truths, targets))


def cell(config: Config, parts: Parts, name: str, num_kept: int, mean_field: np.ndarray) -> xr.Dataset:
    """Simulate one family at one n in all settings, and lay its theory beside it."""
    family, label = FAMILIES[name], f"{name}, n = {num_kept}"
    lanes = lanes_of(config, family, jnp.float32)
    generations = np.append(0, log_spaced(config.num_generations, config.num_recorded))
    keys, truths, _ = lanes

    def one_lane(key, models, truth):
        each = jax.vmap(evaluate(config, family), in_axes=(None, 0, None))
        return jax.lax.map(lambda row: each(key, row, truth), models)

    metrics = jax.jit(jax.vmap(one_lane))
    found = {}
    for suffix, selected in (("", False), ("+select", True)):
        build = simulation(config, family, num_kept, selected=selected)
        models = parts.sweep(f"{label}{suffix}", build, {"seed": lanes}, config.num_generations)
        found[suffix] = metrics(keys, jax.tree.map(lambda x: x[:, generations], models), truths)
    dims = ("seed", "generation")
    settings = {}
    for i, workflow in enumerate(RECURSIONS):
        closed = CLOSED_FORMS[workflow](num_kept, config.num_generations)
        ratios = {"": np.tile(closed, (len(config.seeds), 1)), "+select": mean_field[..., i]}
        for suffix, ratio in ratios.items():
            arrays = {metric: (dims, np.asarray(values)[..., i]) for metric, values in found[suffix].items()}
            arrays["dispersion_theory"] = (dims, ratio[:, generations])
            settings[workflow + suffix] = xr.Dataset(arrays, {"seed": list(config.seeds), "generation": generations})
    return xr.concat([settings[s] for s in SETTINGS], pd.Index(list(SETTINGS), name="setting"))


def run(config: Config, parts: Parts) -> Output:
    """Simulate every family at every n."""
    check_names("families", config.families, FAMILIES)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_recorded", config.num_recorded, low=1)
    check_range("num_samples", config.num_samples, low=2)
    check_range("num_projections", config.num_projections, low=1)
    for num_kept in config.num_kept:
        check_fit(num_kept, config.dim)
        make_controls(num_kept, config.budget)
    families = []
    for name, mean_field in zip(config.families, mean_fields(config, parts), strict=True):
        cells = [cell(config, parts, name, n, mean_field) for n in config.num_kept]
        families.append(xr.concat(cells, pd.Index(list(config.num_kept), name="num_kept")))
    arrays = xr.concat(families, pd.Index(list(config.families), name="family"))
    mixtures = [f for f in config.families if "gmm" in f]
    for metric in ("min_component_weight", "component_entropy"):
        arrays[metric] = arrays[metric].where(arrays.family.isin(mixtures))
    rows = arrays.to_dataframe().reset_index().assign(budget=config.budget)
    keys = ["family", "setting", "num_kept", "budget", "seed", "generation"]
    measured = ["dispersion_ratio", "sliced_w", "min_component_weight", "component_entropy"]
    final = rows[rows.generation == config.num_generations]
    ratios = final.groupby(["family", "num_kept", "setting"], sort=False).dispersion_ratio
    summary = ratios.agg(["mean", "sem"]).reset_index().to_dict("records")
    return Output(arrays, rows[[*keys, *measured, "dispersion_theory"]], {"final_dispersion_ratio": summary})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
