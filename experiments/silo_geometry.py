"""When is selection better than random? Skew, number and size of silos, quality of candidates, and budget on a dial."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr

from jaxcollapse.base import Measure, Record
from jaxcollapse.checks import check_range
from jaxcollapse.experiments.support.comparison import Verifiers
from jaxcollapse.experiments.support.image_silos import (
    SPACES,
    ImageComparison,
    Images,
    Space,
    deal,
    problem,
    simulate,
    sizes_at,
    starts,
)
from jaxcollapse.experiments.support.ranges import MAY_BE_EMPTY, Count, NumSeeds, NumSilos, Range, Share
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.record import record_samples
from jaxcollapse.silos import exdir_split
from jaxcollapse.sweep import Axis, along

MIN_SIZE = 2
RECORDED = ("frechet", "precision", "recall")
DIALS = ("num_silos", "num_train", "num_iterations")


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Distances to the truth relative to those of random selection, over the shape of the silos."""

    verifiers: Verifiers = ("single_silo", "scheme_i", "scheme_ii", "pooled", "recoloured", "tilt")
    """Ways to select, each compared with random selection."""
    generator: Literal[tuple(SPACES)] = "gaussian_mixture"
    """Generator."""
    classes: tuple[Count, ...] = (1, 2, 5, 10)
    """Classes C of a silo, in ExDir(C, alpha)."""
    alpha: Annotated[float, Range(1e-3, 1e6)] = 0.1
    """Evenness of the shares that silos of one class have of it; along the dials it is one."""
    budgets: tuple[Share, ...] = (0.5, 0.25, 0.1)
    """Shares of the candidates that selection keeps."""
    dials: Annotated[tuple[Literal[DIALS], ...], MAY_BE_EMPTY] = DIALS
    """What else is varied, one at a time: silos, real images in all of them, iterations of the generator's fits."""
    of_num_silos: tuple[NumSilos, ...] = (10, 20, 40)
    """Silos K."""
    of_num_train: tuple[Count, ...] = (200, 500, 1000)
    """Real images in all silos together."""
    of_num_iterations: tuple[Count, ...] = (1, 4, 20)
    """Iterations of expectation maximisation in each fit, which starts from the last model."""
    num_train: Count = 500
    """Real images in the silos."""
    num_kept: Count = 300
    """Samples n kept in each generation."""
    num_generations: Count = 5
    """Generations after the fit to real data."""
    num_components: Annotated[int, Range(2, 4096)] = 16
    """Principal components."""
    num_gaussians: Count = 5
    """Components of the mixture model."""
    num_scored: Annotated[int, Range(2, 10**6)] = 1000
    """Samples of each model that are scored."""
    num_seeds: NumSeeds = 4
    """Seeds, each with training and held-out images, features, silos and simulation of its own."""
    num_support: Count = 50
    """Support points S of the schemes' references."""
    num_rounds: Count = 5
    """Rounds of the schemes."""


PRESETS = {
    "smoke": {
        "verifiers": ("single_silo",), "classes": (1, 10), "budgets": (0.5,), "dials": ("num_iterations",),
        "of_num_iterations": (4,), "num_kept": 60, "num_generations": 2, "num_train": 400, "num_test": 200,
        "num_components": 8, "num_gaussians": 4, "num_scored": 60, "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("single_silo", "tilt"), "classes": (1, 10), "budgets": (0.5, 0.1), "dials": (),
        "num_kept": 200, "num_generations": 4, "num_scored": 400, "num_seeds": 3,
    },
    "paper": {},
}  # fmt: skip


def deal_all(config: Config, images: Images, labels: np.ndarray, classes: tuple[int, ...]) -> Measure:
    """Divide each seed's images by each number of classes, [seed, C, K, m, d]."""
    splits = [partial(exdir_split, classes_per_silo=c, alpha=config.alpha, min_size=MIN_SIZE) for c in classes]
    return deal(config, splits, images, labels)


def record_distance(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record how far samples of the model are from images held out."""
    metrics = {name: (METRICS | POINT_METRICS)[name] for name in RECORDED}
    truth = uniform_measure(images.test_features)
    return record_samples(metrics, truth, space.trained, config.num_scored, space.embed)


def settings(config: Config) -> Iterator[tuple[Config, tuple[int, ...], tuple[float, ...]]]:
    """List what is simulated: the map of classes and budgets, then each dial at the first class and middle budget."""
    yield config, config.classes, config.budgets
    middle = config.budgets[len(config.budgets) // 2]
    # Silos that share their one class share it evenly: at an alpha of 0.1 some would hold less than two images.
    even = dataclasses.replace(config, alpha=1.0)
    for dial in config.dials:
        for value in getattr(config, f"of_{dial}"):
            if value != getattr(config, dial):
                yield dataclasses.replace(even, **{dial: value}), config.classes[:1], (middle,)


def compare(
    config: Config,
    runner: Runner,
    images: Images,
    silos: Measure,
    classes: tuple[int, ...],
    budgets: tuple[float, ...],
    label: str,
) -> xr.Dataset:
    """Run random selection and every verifier for all classes and budgets; scores of the last generation."""
    make = SPACES[config.generator]
    start, runs = starts(config, runner, f"first {label}", images, make, silos), {}
    for name in ("random", *config.verifiers):
        axes = {
            "seed": start,
            "division": Axis(classes, np.arange(len(classes))),
            "budget": Axis(budgets, sizes_at(config, name, budgets)),
        }
        record = partial(record_distance, config)
        found = simulate(config, runner, f"{label}, {name}", make, name, record, axes)
        runs[name] = found.isel(generation=-1, drop=True)
    return along("verifier", runs).rename(division="classes")


def run(config: Config, runner: Runner) -> Output:
    """Turn every dial."""
    varied, prepared = list(settings(config)), []
    runner.expect(len(varied) * (3 + len(config.verifiers)))
    for setting, classes, budgets in varied:
        images, labels, _ = problem(setting, runner)
        check_range("classes", max(classes), high=int(labels.max()) + 1)
        prepared.append((setting, images, deal_all(setting, images, labels, classes), classes, budgets))
    compared = {}
    for setting, *given in prepared:
        label = "-".join(str(getattr(setting, dial)) for dial in DIALS)
        compared[label] = compare(setting, runner, *given, label)
    arrays = along("setting", compared).sel(classes=list(config.classes), budget=list(config.budgets))
    arrays = arrays.assign_coords({dial: ("setting", [getattr(s, dial) for s, *_ in prepared]) for dial in DIALS})
    gain = np.log2(arrays.frechet.sel(verifier="random", drop=True) / arrays.frechet)
    arrays["gain"] = gain.transpose(*arrays.frechet.dims)
    cells = arrays.gain.to_dataframe().dropna().groupby(["classes", "budget", *DIALS, "verifier"], sort=False).gain
    return Output(arrays, {"gain": cells.agg(["mean", "sem"]).reset_index().to_dict("records")})
