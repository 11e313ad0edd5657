"""Siloed recursion on real images: what each verifier does to quality, diversity, and the silos that it cannot see."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, frame, lane_keys, main
from experiments.methods import CONTROLS, METHODS, Comparison, check_comparison, methods
from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Generator, Measure
from jaxcollapse.batches import sampled
from jaxcollapse.classifier import Classifier, accuracy, classify, fit_classifier, penultimate
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.features import PCA, fit_pca, project, reconstruct
from jaxcollapse.generators.diffusion import diffusion
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.metrics import coverage, density, frechet, precision, recall, trace_ratio, vendi
from jaxcollapse.silos import Silos, dirichlet_split, exdir_split, iid_split, stack_silos
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import build_collapse
from jaxcollapse.validation import check_names, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "siloed_images"
GENERATORS = ("mixture", "diffusion")
SPLITS = {
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
    methods: tuple[str, ...] = (*METHODS, *CONTROLS)
    """Ways to select, and controls."""
    workflow: str = "accumulate_subsample"
    """How kept data become the next training set."""
    num_kept: int = 1000
    """Samples n kept in each generation."""
    num_train: int = 1000
    """Real images in the silos; the rest is held out."""
    num_components: int = 32
    """Principal components: the features that verifiers see."""
    num_gaussians: int = 20
    """Components of the mixture model."""
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
    num_seeds: int = 5
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
    "paper": {"splits": tuple(SPLITS), "num_verifiers": 3},
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
    """

    pca: PCA
    classifier: Classifier
    train: Measure
    test: Measure


class Space(NamedTuple):
    """Where a generator works.

    Attributes:
        generator: of points.
        encode: from images to points.
        decode: from points to images.
        embed: from points to the features that verifiers see.
    """

    generator: Generator
    encode: Callable[[jax.Array], jax.Array]
    decode: Callable[[jax.Array], jax.Array]
    embed: Callable[[jax.Array], jax.Array]


def spaces(config: Config, pca: PCA) -> dict[str, Space]:
    """List generators."""

    def encode(images):
        return project(pca, images)

    def decode(points):
        return jnp.clip(reconstruct(pca, points), -1, 1)

    return {
        "mixture": Space(gaussian_mixture(config.num_gaussians, ridge=1e-3), encode, decode, lambda points: points),
        "diffusion": Space(diffusion(), encode, decode, lambda points: points),
    }


def problem(config: Config, parts: Parts) -> tuple[Images, np.ndarray, float]:
    """Divide real images into training and held-out ones, and fit features and labeller to the former."""
    digits = load_digits()
    order = np.random.default_rng(config.key).permutation(len(digits.labels))
    train, test = order[: config.num_train], order[config.num_train :]
    points, labels = digits.points, jax.nn.one_hot(digits.labels, digits.labels.max() + 1)
    pca = fit_pca(points[train], config.num_components)
    real, held_out = (uniform_measure(points[part]) for part in (train, test))
    classifier = parts.once("labeller", fit_classifier, jax.random.key(config.key), real, labels[train])
    images = Images(pca, classifier, real, held_out)
    return images, digits.labels[train], float(accuracy(classifier, held_out, labels[test]))


def deal(config: Config, split: str, images: Images, labels: np.ndarray) -> Measure:
    """Divide the features of the training images among silos, [seed, K, m, d], anew for each seed."""
    dealt: list[Silos] = [SPLITS[split](seed, labels, config.num_silos) for seed in range(config.num_seeds)]
    features = np.asarray(project(images.pca, images.train.points))
    silos = stack_silos(features, tuple(itertools.chain(*dealt)))
    return jax.tree.map(lambda leaf: leaf.reshape(config.num_seeds, config.num_silos, *leaf.shape[1:]), silos)


def scores(config: Config, images: Images, silos: Measure) -> Callable[..., dict[str, jax.Array]]:
    """Make the function of a key, generated images and their features to all metrics; the truth is what is held out."""
    truth = uniform_measure(project(images.pca, images.test.points))
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
    space = spaces(config, images.pca)[generator]
    real = uniform_measure(space.encode(images.train.points))
    return jax.vmap(lambda key: space.generator.init(jax.random.fold_in(key, _FIRST), real))(keys)


def simulation(config: Config, images: Images, generator: str, method: str) -> Callable[..., Trajectory]:
    """Make the builder of one method's trajectories, from a key, a first model, silos and the index of the verifier."""
    space, num_candidates = spaces(config, images.pca)[generator], round(config.num_kept / config.budget)
    controls = make_controls(config.num_kept, 1.0 if method == "no choice" else config.budget, temperature=1.0)
    memory = buffer_memory(config.num_kept * config.num_generations, config.num_kept)
    truth = as_moments(uniform_measure(project(images.pca, images.train.points)))

    def build(seed, verifier) -> Trajectory:
        key, start, silos = seed
        silos = jax.tree.map(lambda leaf: jnp.roll(leaf, -verifier, axis=0), silos)
        setup_key, run_key = jax.random.split(key)
        chosen = methods(config, silos.weights.shape[-1], truth)[method]
        batch_fn = sampled(
            space.generator,
            chosen.select,
            chosen.reference_fn,
            chosen.setup(setup_key, silos),
            num_candidates,
            space.embed,
        )
        measured = scores(config, images, silos)

        def record(key, state, info):
            points = space.generator.sample(key, state.params, config.num_scored)
            pixels = space.decode(points)
            return measured(key, pixels, space.embed(points)) | {"shown": pixels[: config.num_shown]}

        collapse = build_collapse(space.generator, batch_fn, WORKFLOWS[config.workflow](memory))
        return Trajectory(run_key, collapse, start, controls, record)

    return build


def run(config: Config, parts: Parts) -> Output:
    """Run every method with every generator on every split."""
    check_comparison(config, (*METHODS, *CONTROLS))
    check_names("splits", config.splits, SPLITS)
    check_names("generators", config.generators, GENERATORS)
    check_names("workflow", [config.workflow], set(WORKFLOWS) - {"fresh_mix"})
    check_range("num_verifiers", config.num_verifiers, low=1, high=config.num_silos)
    check_range("num_components", config.num_components, low=2)
    check_range("num_shown", config.num_shown, low=1, high=config.num_scored)
    images, labels, labeller_accuracy = problem(config, parts)
    keys = lane_keys(config.key, np.arange(config.num_seeds))
    splits, samples = [], []
    for split in config.splits:
        silos, generators = deal(config, split, images, labels), []
        for generator in config.generators:
            models = parts.once(f"first {generator}", partial(first_models, config, images, generator), keys)
            histories = []
            for method in config.methods:
                build = simulation(config, images, generator, method)
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
    last = table[table.generation == config.num_generations]
    real = floor(config, images, keys[0])
    summary = {
        "labeller_accuracy": labeller_accuracy,
        "warnings": warnings(labeller_accuracy),
        "real_images": real,
        "last_generation": summarise(last).to_dict("records"),
    }
    table = pd.concat([table, pd.DataFrame([real])], ignore_index=True)
    return Output(arrays, table, summary, {"samples": pd.concat(samples)})


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
    pixels = images.train.points[: config.num_scored]
    features = project(images.pca, pixels)
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

    def interval(column):
        stretch = seed_interval(column)
        return pd.Series({"mean": stretch.mean, "half": stretch.high - stretch.mean})

    groups = long.groupby(["split", "generator", "method", "score"], sort=False)
    values, differences = (groups[c].apply(interval).unstack() for c in ("value", "difference"))
    return values.join(differences.add_prefix("difference_")).reset_index()


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
