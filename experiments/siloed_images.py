"""Siloed recursion on real images: what each verifier does to quality, diversity, and the silos that it cannot see."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.common import Output, Runner, main
from experiments.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    Space,
    check_images,
    deal,
    problem,
    simulate,
    starts,
    warnings,
)
from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Measure, Record
from jaxcollapse.checks import check_range
from jaxcollapse.classifier import classify, penultimate
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS, frechet
from jaxcollapse.sweep import along, seeds
from jaxcollapse.verifiers import VERIFIERS

NAME = "siloed_images"
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

    splits: tuple[str, ...] = ("ExDir(1, 0.1)",)
    """How images are divided among silos."""
    generators: tuple[str, ...] = ("gaussian_mixture",)
    """Generators."""
    verifiers: tuple[str, ...] = (
        "random", "k_means", "center_matching", "covariance_matching", "single_silo", "scheme_i", "scheme_ii",
        "per_silo", "federated_sinkhorn", "logistic_ratio", "tilt", "private_tilt",
        "pooled", "unbiased_silo", "reversed_silo", "keep_all",
    )  # fmt: skip
    """Ways to select, and controls."""
    num_verifying_silos: int = 1
    """Silos that verify in turn, where one silo does."""
    num_scored: int = 1000
    """Samples of each model that are scored."""
    num_shown: int = 10
    """Samples of each model that are kept for the grid, of the first seed."""


PRESETS = {
    "smoke": {
        "verifiers": ("random", "single_silo", "tilt"), "num_kept": 60, "num_generations": 2, "num_train": 400,
        "num_components": 8, "num_gaussians": 4, "num_verifying_silos": 2, "num_scored": 60, "num_shown": 3,
        "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("random", "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "tilt", "pooled"),
        "num_kept": 400, "num_generations": 5, "num_components": 16, "num_gaussians": 10, "num_support": 50,
        "num_rounds": 5, "num_scored": 500, "num_seeds": 2,
    },
    "paper": {"num_verifying_silos": 2},
    "splits": {
        "splits": ("Dirichlet(0.1)", "iid"),
        "verifiers": (
            "random", "center_matching", "single_silo", "scheme_i", "scheme_ii", "tilt", "pooled", "unbiased_silo",
        ),
    },
    "tilts": {
        "generators": ("gaussian_mixture", "diffusion"), "verifiers": ("random", "tilt", "balanced"), "num_seeds": 8,
        "seed": 1,
    },
    "diffusion": {
        "generators": ("diffusion",),
        "verifiers": (
            "random", "center_matching", "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "tilt",
            "pooled", "unbiased_silo",
        ),
        "num_seeds": 5,
    },
    "unet": {
        "generators": ("unet",), "verifiers": ("random", "single_silo", "tilt"), "num_generations": 5,
        "num_steps": 1500, "num_seeds": 1,
    },
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
        points = space.generator.sample(key, state.params, config.num_scored)
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
    check_images(config, config.splits, config.generators)
    check_range("num_verifying_silos", config.num_verifying_silos, low=1, high=config.num_silos)
    check_range("num_shown", config.num_shown, low=1, high=config.num_scored)
    images, labels, labeller_accuracy = problem(config, runner)
    runner.warnings += warnings(labeller_accuracy)
    splits, samples = {}, []
    for split in config.splits:
        silos, generators = deal(config, [SPLITS[split]], images, labels), {}
        for generator in config.generators:
            start, runs = starts(config, runner, f"first {generator}", images, generator, silos), {}
            for name in config.verifiers:
                in_turn = np.arange(1 if VERIFIERS[name].everyone else config.num_verifying_silos)
                found = simulate(
                    config, runner, f"{split}, {generator}, {name}", images, generator, name,
                    partial(record_scores, config), {"seed": start, "silo": in_turn}, dims=DIMS, chunk_size=1,
                )  # fmt: skip
                shown = grid(found.shown[0, 0].to_numpy())
                samples.append(shown.assign(split=split, generator=generator, verifier=name))
                runs[name] = found.drop_vars("shown")
            generators[generator] = along("verifier", runs)
        splits[split] = along("generator", generators)
    arrays = along("split", splits)
    table = arrays[list(SCORED)].to_dataframe().reset_index().dropna(subset=["frechet"])
    compared = summarise(table[table.generation == config.num_generations])
    headline = compared[compared.score == "frechet"].drop(columns="score")
    real = floor(config, images)
    summary = {
        "labeller_accuracy": labeller_accuracy,
        "real_images": real,
        "last_frechet": headline.to_dict("records"),
    }
    table = pd.concat([table, pd.DataFrame([real])], ignore_index=True)
    return Output(arrays, table, summary, {"samples": pd.concat(samples), "table": compared})


def grid(shown: np.ndarray) -> pd.DataFrame:
    """Tabulate images in grey levels or colours of 8 bits, a row for each: generation, image, pixels in order."""
    levels = np.round((shown + 1) * 127.5).astype(int)
    generations, images, pixels = levels.shape
    index = pd.MultiIndex.from_product([range(generations), range(images)], names=["generation", "image"])
    return pd.DataFrame(levels.reshape(-1, pixels), index, [f"p{i}" for i in range(pixels)]).reset_index()


def floor(config: Config, images: Images) -> dict[str, Any]:
    """Score real training images as if they were generated: the best that a generator can be, a row of the table."""
    pixels, features = (x[: config.num_scored] for x in (images.train.points, images.train_features))
    scored = jax.jit(scores)(images, seeds(1, config.seed).values[0], pixels, features)
    row = {"split": "", "generator": "", "verifier": "real images", "seed": 0, "silo": 0, "generation": 0}
    return row | {name: float(value) for name, value in scored.items()}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds, and compare with random selection seed by seed, with 95% intervals of Student.

    A verifier that is one silo appears twice if several silos verified in turn: with the first, and with any.
    """
    each_run = ["split", "generator", "verifier", "seed"]
    first = table[table.silo == 0]
    several = table[table.verifier.isin(table[table.silo > 0].verifier.unique())]
    whichever = several.groupby(each_run, sort=False)[list(SCORED)].mean().reset_index()
    each = pd.concat([first, whichever.assign(verifier=whichever.verifier + ", any")])
    long = each.melt(each_run, list(SCORED), "score")
    random = long[long.verifier == "random"].drop(columns="verifier")
    long = long.merge(random, on=["split", "generator", "seed", "score"], how="left", suffixes=("", "_random"))
    long["difference"] = long.value - long.value_random

    def intervals(column: str, prefix: str = "") -> pd.DataFrame:
        by_seed = long.pivot(index=["split", "generator", "verifier", "score"], columns="seed", values=column)
        mean, _, high = seed_interval(by_seed.to_numpy(), axis=1)
        return pd.DataFrame({f"{prefix}mean": mean, f"{prefix}half": high - mean}, by_seed.index)

    order = long[["split", "generator", "verifier", "score"]].drop_duplicates()
    both = intervals("value").join(intervals("difference", "difference_")).reset_index()
    return order.merge(both)


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
