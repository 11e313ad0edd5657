"""Go or no-go: what a verifier does to a generator, as predicted before anything is trained, and as it happens."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import xarray as xr

from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Measure, Record
from jaxcollapse.experiments.support.comparison import Verifiers
from jaxcollapse.experiments.support.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    MakeSpace,
    Space,
    deal,
    problem,
    simulate,
    starts,
)
from jaxcollapse.experiments.support.ranges import Count, NumSeeds
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.gain import Expansion, expansion_of, surrogate
from jaxcollapse.measures import uniform_measure, union
from jaxcollapse.metrics import METRICS
from jaxcollapse.record import record_samples
from jaxcollapse.sweep import Axis, along

GENERATORS = tuple(name for name in SPACES if "unet" not in name)


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Distances relative to those of random selection, as predicted from one pool and as they happened."""

    split: Literal[tuple(SPLITS)] = "ExDir(1, 0.1)"
    """How images are divided among silos."""
    generators: tuple[Literal[GENERATORS], ...] = (
        "gaussian_mixture", "gaussian_mixture_with_noise", "gaussian_mixture_with_junk", "gaussian_mixture_with_blends",
        "kernel_density", "diffusion",
    )  # fmt: skip
    """Generators."""
    training_steps: tuple[Count, ...] = (200, 1000, 5000)
    """Training steps of a diffusion model in each fit, each the setting of a generator."""
    verifiers: Verifiers = (
        "single_silo", "scheme_i", "scheme_ii", "pooled", "tilt", "capped", "kernel_balanced", "landmark_balanced",
    )  # fmt: skip
    """Ways to select, each compared with random selection."""
    num_kept: Count = 300
    """Samples n kept in each generation."""
    num_generations: Count = 5
    """Generations after the fit to real data."""
    num_components: Count = 16
    """Principal components."""
    num_gaussians: Count = 5
    """Components of the mixture model."""
    num_support: Count = 50
    """Support points S of the schemes' references."""
    num_rounds: Count = 5
    """Rounds of the schemes."""
    num_seeds: NumSeeds = 4
    """Seeds, each with training and held-out images, features, silos, pool and simulations of its own."""


PRESETS = {
    "smoke": {
        "generators": ("gaussian_mixture_with_junk",), "verifiers": ("single_silo",), "num_kept": 60,
        "num_generations": 2, "num_train": 400, "num_test": 200, "num_components": 8, "num_gaussians": 4,
        "num_seeds": 2, "training_steps": (20,),
    },
    "quick": {
        "generators": ("gaussian_mixture", "gaussian_mixture_with_junk"), "verifiers": ("single_silo", "tilt"),
        "num_kept": 200, "num_generations": 3, "num_seeds": 3,
    },
    "paper": {},
}  # fmt: skip
RATES = ("log_trace", "log_determinant", "junk_share")


def record_distance(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record how far candidates are from the images that silos hold, and how wide."""
    truth = uniform_measure(images.train_features)
    metrics = {name: METRICS[name] for name in ("frechet", "trace_ratio")}
    return record_samples(metrics, truth, space.generator, num_candidates(config), space.embed)


def settings_of(config: Config) -> Iterator[tuple[str, str, Config]]:
    """List every generator: its label, its name, and the configuration in which it is made."""
    for name in config.generators:
        if name.startswith("diffusion"):
            for steps in config.training_steps:
                yield f"{name}, {steps} steps", name, dataclasses.replace(config, num_steps=steps)
        else:
            yield name, name, config


def num_candidates(config: Config) -> int:
    """Count a pool, N."""
    return round(config.num_kept / config.budget)


def measure(config: Config, runner: Runner, label: str, generator: str, start: Axis) -> tuple[Expansion, jax.Array]:
    """Measure the generator's expansion, once for each seed, and draw each one's pool."""

    def measured(seed):
        space = SPACES[generator](config, seed.images)
        data = uniform_measure(space.encode(seed.images.train.points))
        pool = space.generator.sample(jax.random.fold_in(seed.key, 1), seed.model, num_candidates(config))
        return expansion_of(space.generator, seed.key, data, 2 * config.num_kept), pool

    def of_all(seeds):
        (*rates, junk), pools = jax.lax.map(measured, seeds)
        return rates, union(junk), pools

    rates, junk, pools = runner.once(f"expansion of {label}", of_all, start.values)
    log_trace, log_determinant, junk_share = (seed_interval(np.asarray(rate)) for rate in rates)
    return Expansion(log_trace, log_determinant, junk_share, jax.device_get(junk)), pools


def gains(
    config: Config, runner: Runner, label: str, make: MakeSpace, start: Axis
) -> tuple[xr.DataArray, xr.DataArray]:
    """Run random selection and every verifier.

    Returns:
        Logarithms of distances over that of random selection, seed by seed; and what a generation of random selection
        adds to the logarithm of the candidates' trace, in the mean.
    """
    record, axes = partial(record_distance, config), {"seed": start}
    runs = {
        name: simulate(config, runner, f"{label}, {name}", make, name, record, axes)
        for name in ("random", *config.verifiers)
    }
    logs = np.log(along("verifier", runs)[["frechet", "trace_ratio"]])
    traces = logs.trace_ratio.sel(verifier="random", drop=True)
    growth = (traces.isel(generation=-1) - traces.isel(generation=0)) / config.num_generations
    last = logs.frechet.isel(generation=-1, drop=True)
    return (last - last.sel(verifier="random")).sel(verifier=list(config.verifiers)), growth


def run(config: Config, runner: Runner) -> Output:
    """Predict, and let it happen."""
    settings = list(settings_of(config))
    runner.expect(1 + len(settings) * (3 + 2 * (1 + len(config.verifiers))))
    images, labels, _ = problem(config, runner)
    silos, found = deal(config, [SPLITS[config.split]], images, labels), {}
    for label, generator, setting in settings:
        start = starts(setting, runner, f"first {label}", images, SPACES[generator], silos)
        expansion, pools = measure(setting, runner, label, generator, start)
        standing_in = surrogate(expansion, max(num_candidates(config), config.num_kept))

        def resample(config, images, standing_in=standing_in, real=SPACES[generator]):
            return real(config, images)._replace(generator=standing_in, trained=standing_in)

        def begin(key, pool, standing_in=standing_in):
            return standing_in.init(key, uniform_measure(pool))

        models = runner.once(f"first stand-in of {label}", jax.vmap(begin), start.values.key, pools)
        told = Axis(start.labels, start.values._replace(model=models))
        happened, growth = gains(setting, runner, f"{label}, real", SPACES[generator], start)
        predicted, _ = gains(setting, runner, f"{label}, predicted", resample, told)
        rates = {name: getattr(expansion, name) for name in RATES}
        found[label] = xr.Dataset(
            {
                "happened": happened,
                "predicted": predicted,
                "growth": growth,
                **{name: rate.mean for name, rate in rates.items()},
                **{f"{name}_half": rate.high - rate.mean for name, rate in rates.items()},
            }
        ).drop_attrs()
    arrays = along("generator", found)
    means = arrays[["happened", "predicted"]].mean("seed")
    right = np.sign(means.happened) == np.sign(means.predicted)
    return Output(arrays, {"signs_right": int(right.sum()), "of": right.size})
