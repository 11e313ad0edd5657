"""Collapse beyond the Gaussian: mixtures and Laplace models in the published protocol, beside Gaussian theory."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.analysis import log_spaced
from jaxcollapse.base import Generator, Moments, Run
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import Count, Range, Seed, Share
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.generators.gaussian_mixture import Mixture, gaussian_mixture, mixture_moments
from jaxcollapse.generators.laplace import Laplace, laplace, laplace_moments
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import dispersion, sliced_w
from jaxcollapse.record import record_side_by_side
from jaxcollapse.recursion import sample_and_select, side_by_side
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import keep_all, top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import Instance, published_instance
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import kept_moments, limit
from jaxcollapse.tree import cast, stack
from jaxcollapse.workflows import WORKFLOWS

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
    """

    generator: Generator
    truth: Callable[[int, Instance], Any]
    moments: Callable[[Any], Moments]
    components: Callable[[Any], jax.Array] = lambda params: jnp.ones(1)


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


EM = gaussian_mixture(num_components=2, num_iterations=5, ridge=RIDGE)
FAMILIES = {
    "gmm": Family(EM, two_components(0.5, 0.5), mixture_moments, lambda p: p.weights),
    "unequal_gmm": Family(EM, two_components(0.8, 0.2), mixture_moments, lambda p: p.weights),
    "laplace": Family(laplace(), as_laplace, laplace_moments),
    "anisotropic": Family(gaussian(RIDGE), as_gaussian, lambda p: p),
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Families of generators in four settings, on problem instances drawn by the published recipe [qiao2026]."""

    families: tuple[Literal[tuple(FAMILIES)], ...] = tuple(FAMILIES)
    """Families of generators."""
    num_kept: tuple[Count, ...] = (100, 300, 500)
    """Samples n kept in each generation."""
    budget: Share = 0.05
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: Count = 200
    """Generations after the true model."""
    dim: Annotated[int, Range(2, 4096)] = 10
    """Dimension of the data."""
    seeds: tuple[Seed, ...] = tuple(range(20))
    """Seeds of the problem instances."""
    num_recorded: Count = 6
    """Generations of a decade at which metrics are evaluated."""
    num_samples: Annotated[int, Range(2, 10**6)] = 2048
    """Model samples of the sliced distance."""
    num_projections: Count = 50
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
        "num_samples": 512,
        "num_projections": 20,
    },
    "paper": {},
}


def problems(config: Config, family: Family, dtype) -> Axis:
    """Stack the instances: the key of each, its true model and its target."""
    instances = [published_instance(seed, config.dim) for seed in config.seeds]
    truths = stack([family.truth(seed, instance) for seed, instance in zip(config.seeds, instances, strict=True)])
    targets = stack([instance.target for instance in instances])
    labels, keys = seeds(config.seeds, config.seed)
    return Axis(labels, (keys, cast(truths, dtype), cast(targets, dtype)))


def simulation(config: Config, generator: Generator, num_kept: int, *, selected: bool) -> Callable[..., Run]:
    """Make the builder of runs with or without selection, both workflows side by side, models recorded."""
    recursion = sizes(num_kept, config.budget if selected else 1.0, config.num_generations)
    memory = moments_memory() if generator.takes_moments else buffer_memory()
    workflows = [WORKFLOWS[w](memory) for w in RECURSIONS]

    def build(seed) -> Run:
        key, params, target = seed
        keep = sample_and_select(generator, top(mahalanobis(target)) if selected else keep_all())
        record = record_side_by_side(lambda key, state, info: state.params)
        return Run(key, side_by_side(generator, keep, workflows), params, recursion, record)

    return build


def evaluate(config: Config, family: Family):
    """Make the function of a key, a model and the true one to all metrics."""
    distance = sliced_w(config.num_projections)

    def metrics(key, params, truth) -> dict[str, jax.Array]:
        model_key, truth_key, metric_key = jax.random.split(key, 3)
        pair = ((model_key, params), (truth_key, truth))
        samples = [uniform_measure(family.generator.sample(k, p, config.num_samples)) for k, p in pair]
        spread, start = (dispersion(key, family.moments(p), family.moments(truth)) for _, p in pair)
        weights = family.components(params)
        entropy = -jnp.sum(weights * jnp.log(jnp.where(weights > 0, weights, 1)))
        return {
            "dispersion_ratio": spread / start,
            "sliced_w": distance(metric_key, *samples),
            "min_component_weight": weights.min(),
            "component_entropy": entropy,
        }

    return metrics


def mean_field(config: Config, runner: Runner, name: str) -> xr.DataArray:
    """Compute dispersion ratios of the Gaussian mean field with selection, from the moments of true models."""
    recursion = sizes(config.num_kept[0], config.budget, config.num_generations)  # it is the same for every n
    workflows = [WORKFLOWS[limit(w)](moments_memory()) for w in RECURSIONS]

    def build(seed) -> Run:
        key, params, target = seed
        collapse = side_by_side(gaussian(RIDGE), kept_moments(target), workflows)
        record = record_side_by_side(lambda key, state, info: {"spread": dispersion(key, state.params, state.params)})
        return Run(key, collapse, FAMILIES[name].moments(params), recursion, record)

    axes = {"seed": problems(config, FAMILIES[name], float)}
    options = {"dims": {"spread": ("workflow",)}, "coords": {"workflow": RECURSIONS}}
    spread = runner.sweep(f"{name}, mean field", build, axes, **options).spread
    return spread / spread.isel(generation=0)


def cell(config: Config, runner: Runner, name: str, num_kept: int, exact: xr.DataArray) -> xr.Dataset:
    """Simulate one family at one n in all settings, and lay its theory beside it."""
    family, generations = FAMILIES[name], np.append(0, log_spaced(config.num_generations, config.num_recorded))
    axis = problems(config, family, jnp.float32)
    keys, truths, _ = axis.values

    @jax.vmap
    def metrics(key, models, truth):
        each = jax.vmap(evaluate(config, family), in_axes=(None, 0, None))
        return jax.lax.map(lambda of_workflows: each(key, of_workflows, truth), models)

    closed_forms = [CLOSED_FORMS[w](num_kept, config.num_generations) for w in RECURSIONS]
    theory = {"": xr.DataArray(closed_forms, dims=("workflow", "generation")), "+select": exact}
    dims, coords = ("seed", "generation", "workflow"), (axis.labels, generations, list(RECURSIONS))
    settings = {}
    for suffix, expected in theory.items():
        build = simulation(config, family.generator, num_kept, selected=suffix == "+select")
        label = f"{name}, n = {num_kept}{suffix}"
        found = runner.sweep(label, build, {"seed": axis}).isel(generation=generations)
        models = type(truths)(*(jnp.asarray(found[field].values) for field in truths._fields))
        measured = runner.once(f"{label}, metrics", metrics, keys, models, truths)
        measured = {metric: (dims, np.asarray(x)) for metric, x in measured.items()}
        measured["dispersion_theory"] = expected.isel(generation=generations)
        arrays = xr.Dataset(measured, dict(zip(dims, coords, strict=True)))
        settings |= {w + suffix: arrays.sel(workflow=w, drop=True) for w in RECURSIONS}
    return along("setting", {setting: settings[setting] for setting in SETTINGS})


def run(config: Config, runner: Runner) -> Output:
    """Simulate every family at every n."""
    check_fit(min(config.num_kept), config.dim)
    runner.expect(len(config.families) * (1 + 4 * len(config.num_kept)))
    families = {}
    for name in config.families:
        with jax.enable_x64(True):
            exact = mean_field(config, runner, name)
        families[name] = along("num_kept", {n: cell(config, runner, name, n, exact) for n in config.num_kept})
    arrays = along("family", families)
    mixtures = [f for f in config.families if "gmm" in f]
    for metric in ("min_component_weight", "component_entropy"):
        arrays[metric] = arrays[metric].where(arrays.family.isin(mixtures))
    final = arrays.dispersion_ratio.isel(generation=-1).to_dataframe()
    ratios = final.groupby(["family", "num_kept", "setting"], sort=False).dispersion_ratio
    return Output(arrays, {"final_dispersion_ratio": ratios.agg(["mean", "sem"]).reset_index().to_dict("records")})
