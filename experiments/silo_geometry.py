"""When is selection better than random? Silos, budget, the generator's fit and its defects, each on a dial."""

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
    ImageComparison,
    Images,
    Space,
    deal,
    real_images,
    simulate,
    sizes_at,
    starts,
    variants,
)
from jaxcollapse.experiments.support.ranges import (
    MAY_BE_EMPTY,
    Count,
    Fraction,
    NumSeeds,
    NumSilos,
    Range,
    Share,
    Spread,
)
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.record import record_samples
from jaxcollapse.silos import exdir_split
from jaxcollapse.sweep import Axis, along

MIN_SIZE = 2
RECORDED = ("frechet", "precision", "recall", "trace_ratio")
DIALS = ("num_silos", "num_train", "num_iterations")
DEFECTS: dict[str, str] = {
    "noise": "gaussian_mixture_with_noise",
    "junk_share": "gaussian_mixture_with_junk",
    "blend_share": "gaussian_mixture_with_blends",
    "bandwidth": "kernel_density",
}


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Distances to the truth relative to those of random selection, over silos, budgets and the generator's defects."""

    verifiers: Verifiers = (
        "single_silo", "scheme_i", "scheme_ii", "pooled", "recoloured", "tilt", "kernel_balanced", "landmark_balanced",
        "capped",
    )  # fmt: skip
    """Ways to select, each compared with random selection."""
    generator: Literal[tuple(SPACES)] = "gaussian_mixture"
    """Generator."""
    classes: tuple[Count, ...] = (1, 2, 5, 10)
    """Classes C of a silo, in ExDir(C, alpha)."""
    alpha: Annotated[float, Range(1e-3, 1e6)] = 0.1
    """Evenness of the shares that silos of one class have of it; along the dials of silos and fits it is one."""
    budgets: tuple[Share, ...] = (0.5, 0.25, 0.1)
    """Shares of the candidates that selection keeps."""
    dials: Annotated[tuple[Literal[(*DIALS, *DEFECTS)], ...], MAY_BE_EMPTY] = (*DIALS, *DEFECTS)
    """What else is varied, one at a time: silos, real images in all of them, iterations of the generator's fits, and
    defects, each of the generator that has it."""
    of_num_silos: tuple[NumSilos, ...] = (10, 20, 40)
    """Silos K."""
    of_num_train: tuple[Count, ...] = (200, 500, 1000)
    """Real images in all silos together."""
    of_num_iterations: tuple[Count, ...] = (1, 4, 20)
    """Iterations of expectation maximisation in each fit, which starts from the last model."""
    of_noise: tuple[Spread, ...] = (0.1, 0.2, 0.4, 0.8)
    """Noise of gaussian_mixture_with_noise, in units of its samples' spread."""
    of_junk_share: tuple[Fraction, ...] = (0.05, 0.2, 0.4)
    """Share of junk among candidates of gaussian_mixture_with_junk."""
    of_blend_share: tuple[Fraction, ...] = (0.25, 0.5, 1.0)
    """Share of means of two samples among candidates of gaussian_mixture_with_blends."""
    of_bandwidth: tuple[Spread, ...] = (0.2, 0.4, 0.6)
    """Bandwidth of kernel_density, in units of the data's spread."""
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
    num_seeds: NumSeeds = 8
    """Seeds, each with training and held-out images, features, silos and simulation of its own."""
    num_support: Count = 50
    """Support points S of the schemes' references."""
    num_rounds: Count = 5
    """Rounds of the schemes."""


PRESETS = {
    "smoke": {
        "verifiers": ("single_silo",), "classes": (1, 10), "budgets": (0.5,), "dials": ("noise",),
        "of_noise": (0.1, 0.4), "num_kept": 60, "num_generations": 2, "num_train": 400, "num_test": 200,
        "num_components": 8, "num_gaussians": 4, "num_scored": 60, "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("single_silo", "tilt"), "classes": (1, 10), "budgets": (0.5, 0.1), "dials": ("noise",),
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
    # Silos that share their one class share it evenly: at an alpha of 0.1 some would hold less than two images.
    even = dataclasses.replace(config, alpha=1.0)
    for dial in (dial for dial in config.dials if dial in DIALS):
        for value in getattr(config, f"of_{dial}"):
            if value != getattr(config, dial):
                yield dataclasses.replace(even, **{dial: value}), config.classes[:1], middle(config)


def middle(config: Config) -> tuple[float, ...]:
    """Pick the budget along the dials."""
    return (config.budgets[len(config.budgets) // 2],)


def compare(
    config: Config,
    runner: Runner,
    images: Images,
    silos: Measure,
    classes: tuple[int, ...],
    budgets: tuple[float, ...],
    label: str,
    **varied: np.ndarray,
) -> xr.Dataset:
    """Run random selection and every verifier for all classes and budgets, and all values of a field that varies."""
    make = SPACES[config.generator]
    start, runs = starts(config, runner, f"first {label}", images, make, silos, **varied), {}
    for name in ("random", *config.verifiers):
        axes = {
            "seed": start,
            "division": Axis(classes, np.arange(len(classes))),
            "budget": Axis(budgets, sizes_at(config, name, budgets)),
        } | ({"variant": variants(**varied)} if varied else {})
        record = partial(record_distance, config)
        runs[name] = simulate(config, runner, f"{label}, {name}", make, name, record, axes)
    return along("verifier", runs).rename(division="classes")


def gain(frechet: xr.DataArray) -> xr.DataArray:
    """Compare distances with random selection's, seed by seed: log2 of the ratio."""
    return np.log2(frechet.sel(verifier="random", drop=True) / frechet).transpose(*frechet.dims)


def turn(config: Config, runner: Runner, images: Images, silos: Measure, defect: str) -> xr.Dataset:
    """Turn a defect's severity, one axis of each sweep, with the images and silos of the map.

    Returns:
        Scores of the last generation and gains, and `growth`: what a generation of random selection adds to the
        logarithm of the trace of features, in the mean.
    """
    setting = dataclasses.replace(config, generator=DEFECTS[defect])
    severities = np.asarray(getattr(config, f"of_{defect}"))
    found = (
        compare(setting, runner, images, silos, config.classes[:1], middle(config), defect, **{defect: severities})
        .isel(classes=0, budget=0, drop=True)
        .rename(variant="severity")
    )
    traces = np.log(found.trace_ratio.sel(verifier="random", drop=True))
    growth = (traces.isel(generation=-1) - traces.isel(generation=0)) / config.num_generations
    last = found.isel(generation=-1, drop=True)
    return last.assign(gain=gain(last.frechet), growth=growth)


def run(config: Config, runner: Runner) -> Output:
    """Turn every dial."""
    if config.features == "classifier":
        raise ValueError("features = 'classifier': must be pca, or MODULE:FUNCTION: no labeller is fitted here")
    varied, defects, prepared = list(settings(config)), [dial for dial in config.dials if dial in DEFECTS], []
    runner.expect((len(varied) + len(defects)) * (2 + len(config.verifiers)))
    for setting, classes, budgets in varied:
        images, labels = real_images(setting)
        check_range("classes", max(classes), high=int(labels.max()) + 1)
        prepared.append((setting, images, deal_all(setting, images, labels, classes), classes, budgets))
    compared = {}
    for setting, *given in prepared:
        label = "-".join(str(getattr(setting, dial)) for dial in DIALS)
        compared[label] = compare(setting, runner, *given, label).isel(generation=-1, drop=True)
    arrays = along("setting", compared).sel(classes=list(config.classes), budget=list(config.budgets))
    arrays = arrays.assign_coords({dial: ("setting", [getattr(s, dial) for s, *_ in prepared]) for dial in DIALS})
    arrays["gain"] = gain(arrays.frechet)
    summary = {"gain": over_seeds(arrays.gain, "classes", "budget", *DIALS, "verifier")}
    if defects:
        _, images, silos, *_ = prepared[0]
        turned = along("defect", {defect: turn(config, runner, images, silos, defect) for defect in defects})
        arrays = arrays.merge(turned.rename({name: f"defect_{name}" for name in turned.data_vars}))
        summary["growth"] = over_seeds(turned.growth, "defect", "severity")
        summary["defect_gain"] = over_seeds(turned.gain, "defect", "severity", "verifier")
    return Output(arrays, summary)


def over_seeds(values: xr.DataArray, *by: str) -> list[dict[str, Any]]:
    """Average over seeds, with standard errors."""
    cells = values.to_dataframe(values.name).dropna().groupby(list(by), sort=False)[values.name]
    return cells.agg(["mean", "sem"]).reset_index().to_dict("records")
