"""Siloed recursion on real images: what each verifier does to quality, diversity, and the silos that it cannot see."""

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Measure, Record
from jaxcollapse.checks import check_range
from jaxcollapse.classifier import classify, penultimate
from jaxcollapse.experiments.support.comparison import Verifiers
from jaxcollapse.experiments.support.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    Space,
    deal,
    over_seeds,
    problem,
    seed_by_seed,
    simulate,
    starts,
    warnings,
)
from jaxcollapse.experiments.support.ranges import Count, NumSilos, Range
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS, frechet
from jaxcollapse.sweep import along, seeds
from jaxcollapse.verifiers import VERIFIERS

COMPARED = {
    name: (METRICS | POINT_METRICS)[name]
    for name in ("frechet", "precision", "recall", "density", "coverage", "trace_ratio", "vendi")
}
SCORED = (
    "frechet", "frechet_classifier", "precision", "recall", "density", "coverage", "trace_ratio", "vendi",
    "class_entropy", "smallest_class", "verifier_silo_recall", "least_silo_recall",
)  # fmt: skip
DIMS = {"silo_recall": ("of_silo",), "shown": ("image", "pixel")}


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Images divided among silos, a generator retrained on what verifiers keep, and what becomes of it."""

    splits: tuple[Literal[tuple(SPLITS)], ...] = ("ExDir(1, 0.1)",)
    """How images are divided among silos."""
    generators: tuple[Literal[tuple(SPACES)], ...] = ("gaussian_mixture",)
    """Generators."""
    verifiers: Verifiers = (
        "random", "k_means", "center_matching", "covariance_matching", "single_silo", "scheme_i", "scheme_ii",
        "per_silo", "federated_sinkhorn", "logistic_ratio", "recoloured", "tilt", "private_tilt", "balanced",
        "capped", "kernel_balanced", "landmark_balanced", "private_balanced", "pooled", "unbiased_silo",
        "reversed_silo", "keep_all",
    )  # fmt: skip
    """Ways to select, and controls."""
    num_verifying_silos: NumSilos = 1
    """Silos that verify in turn, where one silo does."""
    num_scored: Annotated[int, Range(2, 10**6)] = 1000
    """Samples of each model that are scored."""
    num_shown: Count = 10
    """Samples of each model that are kept for the grid, and real images, of the first seed."""


PRESETS = {
    "smoke": {
        "verifiers": ("random", "single_silo"), "num_kept": 60, "num_generations": 2, "num_train": 400,
        "num_test": 200, "num_components": 8, "num_gaussians": 4, "num_verifying_silos": 2, "num_scored": 60,
        "num_shown": 3, "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("random", "single_silo", "tilt", "pooled"),
        "num_kept": 400, "num_generations": 5, "num_components": 16, "num_gaussians": 10, "num_support": 50,
        "num_rounds": 5, "num_scored": 500, "num_seeds": 2,
    },
    "paper": {"num_verifying_silos": 2, "num_seeds": 8},
}  # fmt: skip


def scores(images: Images, key: jax.Array, pixels: jax.Array, features: jax.Array) -> dict[str, jax.Array]:
    """Compare generated images and their features with those held out, and count the classes that the labeller sees."""
    generated, truth = uniform_measure(features), uniform_measure(images.test_features)
    seen, known = (uniform_measure(penultimate(images.classifier, x)) for x in (pixels, images.test.points))
    num_classes = images.classifier.last.shape[-1]
    share = jnp.bincount(classify(images.classifier, pixels), length=num_classes) / len(pixels)
    return {name: metric(key, generated, truth) for name, metric in COMPARED.items()} | {
        "frechet_classifier": frechet(key, seen, known),
        "class_entropy": jax.scipy.special.entr(share).sum(),
        "smallest_class": share.min(),
    }


def record_scores(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record the scores of samples of the model, how much of each silo they reach, and some of the samples."""

    def record(key, state, info):
        points = space.trained.sample(key, state.params, config.num_scored)
        pixels, features = space.decode(points), space.embed(points)
        recalls = jax.vmap(lambda held: COMPARED["recall"](key, uniform_measure(features), held))(silos)
        return scores(images, key, pixels, features) | {
            "silo_recall": recalls,
            "verifier_silo_recall": recalls[silo],
            "least_silo_recall": recalls.min(),
            "shown": pixels[: config.num_shown],
        }

    return record


def run(config: Config, runner: Runner) -> Output:
    """Run every verifier with every generator on every split."""
    check_range("num_verifying_silos", config.num_verifying_silos, high=config.num_silos)
    check_range("num_shown", config.num_shown, high=min(config.num_scored, config.num_train))
    runner.expect(2 + len(config.splits) * len(config.generators) * (1 + len(config.verifiers)))
    images, labels, accuracies = problem(config, runner)
    runner.warnings += warnings(accuracies)
    splits = {}
    for split in config.splits:
        silos, generators = deal(config, [SPLITS[split]], images, labels), {}
        for generator in config.generators:
            make = SPACES[generator]
            start, runs = starts(config, runner, f"first {generator}", images, make, silos), {}
            for name in config.verifiers:
                in_turn = np.arange(1 if VERIFIERS[name].everyone else config.num_verifying_silos)
                found = simulate(
                    config, runner, f"{split}, {generator}, {name}", make, name,
                    partial(record_scores, config), {"seed": start, "silo": in_turn}, dims=DIMS,
                )  # fmt: skip
                runs[name] = found.assign(shown=grid(found.shown.isel(seed=0, silo=0, drop=True)))
            generators[generator] = along("verifier", runs)
        splits[split] = along("generator", generators)
    shown = xr.DataArray(images.train.points[0, : config.num_shown], dims=DIMS["shown"])
    arrays = along("split", splits).assign(real_images=grid(shown))
    compared = summarise(arrays.isel(generation=-1, drop=True))
    # The best that a generator can be: real training images, scored as if they were generated.
    keys, some = seeds(config.num_seeds, config.seed).values, np.s_[:, : config.num_scored]
    real = runner.once(
        "real images", seed_by_seed(scores), images, keys, images.train.points[some], images.train_features[some]
    )
    summary = over_seeds(accuracies, real) | {
        "last_frechet": compared.sel(score="frechet", drop=True).to_dataframe().reset_index().to_dict("records"),
    }
    return Output(arrays.merge(compared), summary)


def grid(shown: xr.DataArray) -> xr.DataArray:
    """Turn pixels in [-1, 1] into grey levels or colours of 8 bits."""
    return ((shown + 1) * 127.5).round().astype(np.int16)  # netCDF 3 knows no unsigned bytes


def summarise(last: xr.Dataset) -> xr.Dataset:
    """Average over seeds, and compare with random selection seed by seed, with 95% intervals of Student.

    A verifier that is one silo appears twice if several silos verified in turn: with the first, and with any.
    """
    scored, several = last[list(SCORED)], last.frechet.isel(silo=slice(1, None)).dropna("verifier", how="all").verifier
    each = {name: scored.sel(verifier=name, drop=True) for name in last.verifier.to_numpy()}
    first = {name: found.isel(silo=0, drop=True) for name, found in each.items()}
    whichever = {f"{name}, any": each[name].mean("silo") for name in several.to_numpy()}
    # Warnings are of the runs: as attributes of an array, netCDF could not hold them.
    runs = along("selection", first | whichever).drop_attrs().to_dataarray("score")
    differences = runs - runs.reindex(selection=["random"]).isel(selection=0, drop=True)

    def interval(values: xr.DataArray, prefix: str = "") -> dict[str, xr.DataArray]:
        """Average over seeds, with half the width of the interval."""
        mean, _, high = xr.apply_ufunc(
            seed_interval, values, kwargs={"axis": -1}, input_core_dims=[["seed"]], output_core_dims=[[], [], []]
        )
        return {f"{prefix}mean": mean, f"{prefix}half": high - mean}

    found = xr.Dataset(interval(runs) | interval(differences, "difference_"))
    return found.transpose("split", "generator", "selection", "score")
