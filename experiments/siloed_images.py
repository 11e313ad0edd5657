"""Siloed recursion on real images: what each verifier does to quality, diversity, and the silos that it cannot see."""

import dataclasses
import importlib
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, frame, lane_keys, main
from experiments.methods import FURTHER, METHODS, Comparison, check_comparison, methods
from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Generator, Measure
from jaxcollapse.batches import sampled
from jaxcollapse.classifier import Classifier, accuracy, classify, fit_classifier, penultimate
from jaxcollapse.data import DATASETS
from jaxcollapse.data.features import PCA, cached_features, fit_pca, on_host, project, reconstruct
from jaxcollapse.generators.diffusion import common_spread, diffusion, residual
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.generators.unet import unet
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.metrics import coverage, density, frechet, precision, recall, trace_ratio, vendi
from jaxcollapse.silos import Silos, dirichlet_split, exdir_split, iid_split, stack_silos
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import RecordFn, build_collapse
from jaxcollapse.validation import check_names, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "siloed_images"
GENERATORS = ("mixture", "diffusion", "unet")
Embed = Callable[[jax.Array], jax.Array]
Split = Callable[[int, np.ndarray, int], Silos]
SPLITS: dict[str, Split] = {
    "ExDir(1, 0.1)": lambda seed, labels, num_silos: exdir_split(seed, labels, num_silos, 1, 0.1),
    "Dirichlet(0.1)": lambda seed, labels, num_silos: dirichlet_split(seed, labels, num_silos, 0.1),
    "iid": lambda seed, labels, num_silos: iid_split(seed, len(labels), num_silos),
}
SHOWN_ONE_SILO = ("single silo", "bottom, single silo", "center matching", "covariance matching")
LEAST_ACCURACY = 0.9
_FIRST = 2**32 - 1  # beyond the generations that a key is folded with


@dataclasses.dataclass(frozen=True)
class Config(Comparison):
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
    workflow: str = "accumulate_subsample"
    """How kept data become the next training set."""
    num_kept: int = 1000
    """Samples n kept in each generation."""
    dataset: str = "digits"
    """Images: digits, or one of the data sets that are read from a directory."""
    data: str = "data"
    """Directory of the data set."""
    num_train: int = 1000
    """Real images in the silos."""
    num_test: int = 2000
    """Real images that nothing is fitted to, at most: what generated images are compared with."""
    features: str = "pca"
    """What verifiers see: pca, or MODULE:FUNCTION, from arrays of images [n, h w c] in [-1, 1] to features [n, f]."""
    cache: str = ".cache/features"
    """Directory for features of real images that such a function computed."""
    num_components: int = 32
    """Principal components, in which mixture and diffusion work."""
    num_gaussians: int = 20
    """Components of the mixture model."""
    num_iterations: int = 20
    """Iterations of expectation maximisation in each of its fits."""
    num_steps: int = 1000
    """Training steps of a diffusion model in each fit."""
    num_verifiers: int = 1
    """Silos that verify in turn, where one silo does."""
    num_support: int = 100
    """Support points S of the schemes' references."""
    num_gradients: int = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    num_scored: int = 1000
    """Samples of each model that are scored."""
    num_shown: int = 10
    """Samples of each model that are kept for the grid, of the first seed."""
    num_seeds: int = 6
    """Independent divisions among silos and simulations."""


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
    "tilts": {"generators": ("mixture", "diffusion"), "methods": ("random", "tilt", "near tilt"), "num_seeds": 5},
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


class Images(NamedTuple):
    """What all methods share: real images, the features of them, and a classifier that was trained on them.

    Attributes:
        pca: of the training images.
        classifier: of the training images.
        train: training images, uniform, [n, p] pixels.
        test: images held out, uniform.
        test_labels: their classes, one and zeros, [n, c].
        shape: height, width and channels of an image.
        train_features: what verifiers see of the training images, [n, f].
        test_features: and of those held out.
        embed: from images to features.
    """

    pca: PCA
    classifier: Classifier
    train: Measure
    test: Measure
    test_labels: jax.Array
    shape: tuple[int, int, int]
    train_features: jax.Array
    test_features: jax.Array
    embed: Embed


class Space(NamedTuple):
    """Where a generator works.

    Attributes:
        generator: of points.
        encode: from images to points.
        decode: from points to images.
        embed: from points to the features that verifiers see.
    """

    generator: Generator
    encode: Embed
    decode: Embed
    embed: Embed


def spaces(config: Config, images: Images) -> dict[str, Space]:
    """List generators: of principal components, or of pixels."""
    pca = images.pca

    def encode(pixels):
        return project(pca, pixels)

    def decode(components):
        return clip(reconstruct(pca, components))

    def clip(pixels):
        return jnp.clip(pixels, -1, 1)

    def same(points):
        return points

    def embed_pixels(pixels):
        return images.embed(clip(pixels))

    network, convolutional = residual(128, 3, common_spread), unet(images.shape, (16, 32, 64))
    embed = same if config.features == "pca" else lambda components: images.embed(decode(components))
    return {
        "mixture": Space(
            gaussian_mixture(config.num_gaussians, config.num_iterations, ridge=1e-3), encode, decode, embed
        ),
        "diffusion": Space(diffusion(network, config.num_steps, 128), encode, decode, embed),
        "unet": Space(diffusion(convolutional, config.num_steps, 32, 10, sample_chunk=250), same, clip, embed_pixels),
    }


def user_function(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Import MODULE:FUNCTION.

    Raises:
        ValueError: if there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"features = {name!r}: must be pca, or MODULE:FUNCTION ({error})") from error


def problem(config: Config, parts: Parts) -> tuple[Images, np.ndarray, float]:
    """Divide real images into training and held-out ones, and fit features and labeller to the former."""
    train, test = DATASETS[config.dataset](Path(config.data), config.key)
    check_range("num_train", config.num_train, low=config.num_components + 1, high=len(train.labels))
    kept, rest = slice(config.num_train), slice(config.num_train, None)
    points = np.concatenate([train.points[rest], test.points])[: config.num_test]
    test_labels = np.concatenate([train.labels[rest], test.labels])[: config.num_test]
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    labels, test_labels = (jax.nn.one_hot(found, num_classes) for found in (train.labels[kept], test_labels))
    pca = fit_pca(train.points[kept], config.num_components)
    real, held_out = uniform_measure(train.points[kept]), uniform_measure(points)
    classifier = parts.once(f"labeller of {config.num_train}", fit_classifier, jax.random.key(config.key), real, labels)
    pairs = {"train": real.points, "test": held_out.points}
    if config.features == "pca":
        embed: Embed = partial(project, pca)
        features = {part: embed(pixels) for part, pixels in pairs.items()}
    else:
        function, directory = user_function(config.features), Path(config.cache)
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"{config.features.replace(':', '.')}.{config.dataset}"
        features = {
            part: jnp.asarray(cached_features(directory / f"{stem}.{part}.npz", function, np.asarray(pixels)))
            for part, pixels in pairs.items()
        }
        embed = on_host(function, features["train"].shape[1])
    images = Images(pca, classifier, real, held_out, test_labels, train.shape, *features.values(), embed)
    return images, train.labels[kept], float(accuracy(classifier, held_out, test_labels))


def deal(config: Comparison, split: Split, images: Images, labels: np.ndarray) -> Measure:
    """Divide the features of the training images among silos, [seed, K, m, d], anew for each seed.

    Raises:
        ValueError: if a silo has fewer than two images.
    """
    dealt = tuple(itertools.chain(*(split(seed, labels, config.num_silos) for seed in range(config.num_seeds))))
    check_range("images of the smallest silo", min(map(len, dealt)), low=2)
    silos = stack_silos(np.asarray(images.train_features), dealt)
    return jax.tree.map(lambda leaf: leaf.reshape(config.num_seeds, config.num_silos, *leaf.shape[1:]), silos)


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


def first_models(config: Config, images: Images, generator: str, keys: jax.Array) -> Any:
    """Fit the generator to all real training images, once for each seed."""
    space = spaces(config, images)[generator]
    real = uniform_measure(space.encode(images.train.points))
    return jax.vmap(lambda key: space.generator.init(jax.random.fold_in(key, _FIRST), real))(keys)


def simulation(
    config: Config, images: Images, generator: str, method: str, record: Callable[[Space, Measure], RecordFn]
) -> Callable[..., Trajectory]:
    """Make the builder of one method's trajectories.

    Args:
        config: the knobs.
        images: what all methods share.
        generator: its name.
        method: its name.
        record: makes what is recorded from the generator's space and the silos, that of the verifier first.

    Returns:
        The builder, from a seed's key, first model and silos, the index of the verifier, and the number of candidates.
    """
    space, max_candidates = spaces(config, images)[generator], round(config.num_kept / config.budget)
    controls = make_controls(config.num_kept, 1.0 if method == "no choice" else config.budget, temperature=1.0)
    memory = buffer_memory(config.num_kept * config.num_generations, config.num_kept)
    truth = as_moments(uniform_measure(images.train_features))

    def build(seed, verifier, num_candidates=controls.num_candidates) -> Trajectory:
        key, start, silos = seed
        silos = jax.tree.map(lambda leaf: jnp.roll(leaf, -verifier, axis=0), silos)
        setup_key, run_key = jax.random.split(key)
        chosen = methods(config, silos.weights.shape[-1], truth)[method]
        references = chosen.setup(setup_key, silos)
        batch_fn = sampled(space.generator, chosen.select, chosen.reference_fn, references, max_candidates, space.embed)
        collapse = build_collapse(space.generator, batch_fn, WORKFLOWS[config.workflow](memory))
        drawn = dataclasses.replace(controls, num_candidates=num_candidates)
        return Trajectory(run_key, collapse, start, drawn, record(space, silos))

    return build


def record_scores(config: Config, images: Images, space: Space, silos: Measure) -> RecordFn:
    """Record the scores of samples of the model, and some of the samples."""
    measured = scores(config, images, silos)

    def record(key, state, info):
        points = space.generator.sample(key, state.params, config.num_scored)
        pixels = space.decode(points)
        return measured(key, pixels, space.embed(points)) | {"shown": pixels[: config.num_shown]}

    return record


def check(config: Config) -> None:
    """Check the configuration at the door.

    Raises:
        ValueError: at the first knob that is not allowed.
    """
    check_comparison(config, (*METHODS, *FURTHER))
    check_names("dataset", [config.dataset], DATASETS)
    check_range("num_test", config.num_test, low=10)
    check_names("splits", config.splits, SPLITS)
    check_names("generators", config.generators, GENERATORS)
    check_names("workflow", [config.workflow], set(WORKFLOWS) - {"fresh_mix"})
    check_range("num_verifiers", config.num_verifiers, low=1, high=config.num_silos)
    check_range("num_components", config.num_components, low=2)
    check_range("num_shown", config.num_shown, low=1, high=config.num_scored)


def run(config: Config, parts: Parts) -> Output:
    """Run every method with every generator on every split."""
    check(config)
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


def warnings(labeller_accuracy: float) -> list[str]:
    """Say what makes the result doubtful."""
    if labeller_accuracy >= LEAST_ACCURACY:
        return []
    return [f"the labeller is right on {labeller_accuracy:.1%} of held-out images, below {LEAST_ACCURACY:.0%}"]


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
