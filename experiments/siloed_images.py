"""Siloed recursion on real images: what each verifier does to quality, diversity, and the silos that it cannot see."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, frame, lane_keys, main
from experiments.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    Space,
    check_images,
    deal,
    first_models,
    problem,
    simulation,
    warnings,
)
from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Measure
from jaxcollapse.classifier import classify, penultimate
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import coverage, density, frechet, precision, recall, trace_ratio, vendi
from jaxcollapse.trajectory import RecordFn
from jaxcollapse.validation import check_range

NAME = "siloed_images"
SHOWN_ONE_SILO = ("single silo", "bottom, single silo", "center matching", "covariance matching")


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Images divided among silos, a generator retrained on what verifiers keep, and what becomes of it."""

    splits: tuple[str, ...] = ("ExDir(1, 0.1)",)
    """How images are divided among silos."""
    generators: tuple[str, ...] = ("mixture",)
    """Generators."""
    methods: tuple[str, ...] = (
        "random", "k-means", "center matching", "covariance matching", "single silo", "Scheme I", "Scheme II",
        "per silo", "mixture", "logistic ratio", "tilt", "private tilt",
        "pooled", "unbiased silo", "bottom, single silo", "no choice",
    )  # fmt: skip
    """Ways to select, and controls."""
    num_verifiers: int = 1
    """Silos that verify in turn, where one silo does."""
    num_scored: int = 1000
    """Samples of each model that are scored."""
    num_shown: int = 10
    """Samples of each model that are kept for the grid, of the first seed."""


PRESETS = {
    "smoke": {
        "methods": ("random", "single silo", "tilt"), "num_kept": 60, "num_generations": 2, "num_train": 400,
        "num_components": 8, "num_gaussians": 4, "num_verifiers": 2, "num_scored": 60, "num_shown": 3, "num_seeds": 2,
    },
    "quick": {
        "methods": ("random", "single silo", "Scheme I", "Scheme II", "mixture", "tilt", "pooled"),
        "num_kept": 400, "num_generations": 5, "num_components": 16, "num_gaussians": 10, "num_support": 50,
        "num_rounds": 5, "num_scored": 500, "num_seeds": 2,
    },
    "paper": {"num_verifiers": 2},
    "splits": {
        "splits": ("Dirichlet(0.1)", "iid"),
        "methods": (
            "random", "center matching", "single silo", "Scheme I", "Scheme II", "tilt", "pooled", "unbiased silo",
        ),
    },
    "tilts": {
        "generators": ("mixture", "diffusion"), "methods": ("random", "tilt", "balanced"), "num_seeds": 8, "key": 1,
    },
    "diffusion": {
        "generators": ("diffusion",),
        "methods": (
            "random", "center matching", "single silo", "Scheme I", "Scheme II", "mixture", "tilt", "pooled",
            "unbiased silo",
        ),
        "num_seeds": 5,
    },
    "unet": {
        "generators": ("unet",), "methods": ("random", "single silo", "tilt"), "num_generations": 5, "num_steps": 1500,
        "num_seeds": 1,
    },
}  # fmt: skip
SCORED = (
    "frechet", "frechet_classifier", "precision", "recall", "density", "coverage", "trace_ratio", "vendi",
    "class_entropy", "smallest_class", "verifier_silo_recall", "least_silo_recall",
)  # fmt: skip


def scores(config: Config, images: Images, silos: Measure) -> Callable[..., dict[str, jax.Array]]:
    """Make the function of a key, generated images and their features to all metrics; the truth is what is held out."""
    truth = uniform_measure(images.test_features)
    known = uniform_measure(penultimate(images.classifier, images.test.points))
    num_classes = images.classifier.last.shape[-1]

    def measured(key, pixels, features) -> dict[str, jax.Array]:
        generated, seen = uniform_measure(features), uniform_measure(penultimate(images.classifier, pixels))
        share = jnp.bincount(classify(images.classifier, pixels), length=num_classes) / len(pixels)
        return {
            "frechet": frechet(key, generated, truth),
            "frechet_classifier": frechet(key, seen, known),
            "precision": precision(3)(key, generated, truth),
            "recall": recall(3)(key, generated, truth),
            "density": density(5)(key, generated, truth),
            "coverage": coverage(5)(key, generated, truth),
            "trace_ratio": trace_ratio(key, generated, truth),
            "vendi": vendi(key, generated, truth),
            "class_entropy": jax.scipy.special.entr(share).sum(),
            "smallest_class": share.min(),
            "silo_recall": jax.vmap(lambda silo: recall(3)(key, generated, silo))(silos),
        }

    return measured


def record_scores(config: Config, images: Images, space: Space, silos: Measure) -> RecordFn:
    """Record the scores of samples of the model, and some of the samples."""
    measured = scores(config, images, silos)

    def record(key, state, info):
        points = space.generator.sample(key, state.params, config.num_scored)
        pixels = space.decode(points)
        return measured(key, pixels, space.embed(points)) | {"shown": pixels[: config.num_shown]}

    return record


def run(config: Config, parts: Parts) -> Output:
    """Run every method with every generator on every split."""
    check_images(config, config.splits, config.generators)
    check_range("num_verifiers", config.num_verifiers, low=1, high=config.num_silos)
    check_range("num_shown", config.num_shown, low=1, high=config.num_scored)
    images, labels, labeller_accuracy = problem(config, parts)
    keys = lane_keys(config.key, np.arange(config.num_seeds))
    splits, samples = [], []
    for split in config.splits:
        silos, generators = deal(config, SPLITS[split], images, labels), []
        for generator in config.generators:
            models = parts.once(f"first {generator}", partial(first_models, config, images, generator), keys)
            histories = []
            for method in config.methods:
                build = simulation(config, images, generator, method, partial(record_scores, config, images))
                verifiers = np.arange(config.num_verifiers if method in SHOWN_ONE_SILO else 1)
                axes = {"seed": (keys, models, silos), "verifier": verifiers}
                name = f"{split}, {generator}, {method}"
                history = parts.sweep(name, build, axes, config.num_generations, chunk_size=1)
                samples.append(grid(history.pop("shown")[0, 0]).assign(split=split, generator=generator, method=method))
                histories.append(named(config, history, len(verifiers)))
            generators.append(xr.concat(histories, pd.Index(config.methods, name="method"), join="outer"))
        splits.append(xr.concat(generators, pd.Index(config.generators, name="generator")))
    arrays = xr.concat(splits, pd.Index(config.splits, name="split"))
    table = arrays[list(SCORED)].to_dataframe().reset_index().dropna(subset=["frechet"])
    compared = summarise(table[table.generation == config.num_generations])
    headline = compared[compared.score == "frechet"].drop(columns="score")
    real = floor(config, images, keys[0])
    summary = {
        "labeller_accuracy": labeller_accuracy,
        "warnings": warnings(labeller_accuracy),
        "real_images": real,
        "last_frechet": headline.to_dict("records"),
    }
    table = pd.concat([table, pd.DataFrame([real])], ignore_index=True)
    return Output(arrays, table, summary, {"samples": pd.concat(samples), "table": compared})


def named(config: Config, history: dict[str, np.ndarray], num_verifiers: int) -> xr.Dataset:
    """Name the axes of one method's scores; the verifier's silo comes first among the silos."""
    recalls = history.pop("silo_recall")
    history |= {"verifier_silo_recall": recalls[..., 0], "least_silo_recall": recalls.min(axis=-1)}
    coords = {
        "seed": np.arange(config.num_seeds),
        "verifier": np.arange(num_verifiers),
        "generation": np.arange(config.num_generations + 1),
    }
    arrays = frame(history, tuple(coords), coords)
    return arrays.assign(silo_recall=((*coords, "silo"), recalls))


def grid(shown: np.ndarray) -> pd.DataFrame:
    """Tabulate images in grey levels or colours of 8 bits, a row for each: generation, image, pixels in order."""
    levels = np.round((shown + 1) * 127.5).astype(int)
    generations, images, pixels = levels.shape
    index = pd.MultiIndex.from_product([range(generations), range(images)], names=["generation", "image"])
    return pd.DataFrame(levels.reshape(-1, pixels), index, [f"p{i}" for i in range(pixels)]).reset_index()


def floor(config: Config, images: Images, key: jax.Array) -> dict[str, Any]:
    """Score real training images as if they were generated: the best that a generator can be, a row of the table."""
    pixels, features = (x[: config.num_scored] for x in (images.train.points, images.train_features))
    silos = jax.tree.map(lambda leaf: leaf[None], uniform_measure(features))
    scored = jax.jit(scores(config, images, silos))(key, pixels, features)
    row = {name: float(scored[name]) for name in SCORED if name in scored}
    return {"split": "", "generator": "", "method": "real images", "seed": 0, "verifier": 0, "generation": 0} | row


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds, and compare with random selection seed by seed, with 95% intervals of Student.

    A method that shows one silo appears twice if several silos verified in turn: with the first, and with any.
    """
    lanes = ["split", "generator", "method", "seed"]
    first = table[table.verifier == 0]
    several = table[table.method.isin(table[table.verifier > 0].method.unique())]
    whichever = several.groupby(lanes, sort=False)[list(SCORED)].mean().reset_index()
    each = pd.concat([first, whichever.assign(method=whichever.method + ", any")])
    long = each.melt(lanes, list(SCORED), "score")
    random = long[long.method == "random"].drop(columns="method")
    long = long.merge(random, on=["split", "generator", "seed", "score"], how="left", suffixes=("", "_random"))
    long["difference"] = long.value - long.value_random

    def intervals(column: str, prefix: str = "") -> pd.DataFrame:
        by_seed = long.pivot(index=["split", "generator", "method", "score"], columns="seed", values=column)
        mean, _, high = seed_interval(by_seed.to_numpy(), axis=1)
        return pd.DataFrame({f"{prefix}mean": mean, f"{prefix}half": high - mean}, by_seed.index)

    order = long[["split", "generator", "method", "score"]].drop_duplicates()
    both = intervals("value").join(intervals("difference", "difference_")).reset_index()
    return order.merge(both)


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
