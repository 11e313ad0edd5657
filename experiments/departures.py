"""What the published settings of the schemes change: support, rounds, debiased potentials and features."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr

from jaxcollapse.base import Measure, Record
from jaxcollapse.data.features import project
from jaxcollapse.experiments.support.comparison import Verifiers
from jaxcollapse.experiments.support.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    Space,
    deal,
    problem,
    simulate,
    starts,
    warnings,
)
from jaxcollapse.experiments.support.ranges import Range
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.sweep import Axis, along

RECORDED = ("frechet", "precision", "recall", "coverage")


def num_candidates(config: ImageComparison) -> int:
    """Count the candidates of a generation."""
    return round(config.num_kept / config.budget)


# As published [qiao2026], by what differs from the usual setting here.
CHANGES: dict[str, Callable[[ImageComparison], dict[str, Any]]] = {
    "support": lambda config: {"num_support": num_candidates(config)},
    "rounds": lambda config: {"num_rounds": 10},
    "debiased": lambda config: {"num_self": num_candidates(config)},
    "classifier": lambda config: {"features": "classifier"},
}
SETTINGS = ("usual", *CHANGES, "all")


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Distances to the truth relative to those of random selection, with the schemes as published."""

    split: Literal[tuple(SPLITS)] = "ExDir(1, 0.1)"
    """How images are divided among silos."""
    generators: tuple[Literal[tuple(SPACES)], ...] = (
        "gaussian_mixture",
        "gaussian_mixture_with_junk",
        "kernel_density",
    )
    """Generators."""
    verifiers: Verifiers = ("scheme_i", "scheme_ii")
    """Ways to select, each compared with random selection."""
    settings: tuple[Literal[SETTINGS], ...] = SETTINGS
    """What is as published: nothing, one thing, or all; features are the labeller's, as a network's are there."""
    num_scored: Annotated[int, Range(2, 10**6)] = 1000
    """Samples of each model that are scored."""


PRESETS = {
    "smoke": {
        "generators": ("gaussian_mixture",), "verifiers": ("scheme_ii",), "settings": ("usual", "all"), "num_kept": 60,
        "num_generations": 2, "num_train": 400, "num_test": 200, "num_components": 8, "num_gaussians": 4,
        "num_scored": 60, "num_seeds": 2,
    },
    "quick": {
        "generators": ("gaussian_mixture", "kernel_density"), "verifiers": ("scheme_ii",), "settings": ("usual", "all"),
        "num_kept": 200, "num_generations": 4, "num_components": 16, "num_gaussians": 5, "num_support": 50,
        "num_rounds": 5, "num_scored": 400, "num_seeds": 2,
    },
    "paper": {
        "num_kept": 300, "num_generations": 5, "num_components": 16, "num_gaussians": 5, "num_support": 50,
        "num_rounds": 5, "num_scored": 797, "num_seeds": 4,
    },
}  # fmt: skip


def changed(config: Config, setting: str) -> Config:
    """Set what is as published."""
    names = CHANGES if setting == "all" else [setting] if setting in CHANGES else []
    return dataclasses.replace(config, **{k: v for name in names for k, v in CHANGES[name](config).items()})


def record_scores(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record scores of samples in principal components, whatever the verifiers see.

    `frechet_images` is the distance of images, whose pixels are in their range: much of what is far off is cut there.
    """
    metrics = {name: (METRICS | POINT_METRICS)[name] for name in RECORDED}
    truth = uniform_measure(project(images.pca, images.test.points))

    def record(key, state, info):
        points = space.trained.sample(key, state.params, config.num_scored)
        shown = project(images.pca, space.decode(points))
        scores = {name: of(key, uniform_measure(space.components(points)), truth) for name, of in metrics.items()}
        return scores | {"frechet_images": METRICS["frechet"](key, uniform_measure(shown), truth)}

    return record


def run(config: Config, runner: Runner) -> Output:
    """Run the schemes with every generator, as usual here and as published."""
    settings = {setting: changed(config, setting) for setting in config.settings}
    seen = {chosen.features: chosen for chosen in settings.values()}
    runner.expect(len(seen) + len(config.generators) * (len(seen) + 1 + len(settings) * len(config.verifiers)))

    @cache
    def dealt(features: str) -> tuple[Images, Measure]:
        images, labels, accuracies = problem(seen[features], runner)
        runner.warnings += [told for told in warnings(accuracies) if told not in runner.warnings]
        return images, deal(config, [SPLITS[config.split]], images, labels)

    @cache
    def first(generator: str, features: str) -> Axis:
        images, silos = dealt(features)
        return starts(seen[features], runner, f"first {generator}, {features}", images, SPACES[generator], silos)

    def last(generator: str, setting: str, name: str) -> xr.Dataset:
        chosen, label = settings[setting], f"{generator}, {setting}, {name}"
        axes = {"seed": first(generator, chosen.features)}
        runs = simulate(chosen, runner, label, SPACES[generator], name, partial(record_scores, chosen), axes)
        return runs.isel(generation=-1, drop=True).drop_attrs()

    generators = {}
    for generator in config.generators:
        random = last(generator, config.settings[0], "random")  # which sees nothing of what is changed
        runs = {s: along("verifier", {v: last(generator, s, v) for v in config.verifiers}) for s in settings}
        of_random = {f"random_{name}": random[name] for name in (*RECORDED, "frechet_images")}
        compared = along("setting", runs)
        generators[generator] = compared.assign(of_random | {"gain": np.log2(random.frechet / compared.frechet)})
    arrays: xr.Dataset = along("generator", generators)
    means = arrays.gain.mean("seed").to_dataframe().reset_index()
    return Output(arrays, {"gain": means.to_dict("records")})
