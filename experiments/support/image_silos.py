"""What experiments on images divided among silos share: the problem, the generators, and the recursion."""

import dataclasses
import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.base import Generator, Measure, Record, Run, Sizes
from jaxcollapse.checks import check_names, check_range
from jaxcollapse.classifier import Classifier, accuracy, fit_classifier
from jaxcollapse.data import DATASETS
from jaxcollapse.data.features import PCA, cached_features, fit_pca, on_host, project, reconstruct
from jaxcollapse.experiments.support.comparison import Comparison, check_comparison, settings
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.generators.diffusion import diffusion, residual, unet
from jaxcollapse.generators.diffusion.architecture import common_spread
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.silos import Silos, dirichlet_split, exdir_split, iid_split, stack_silos
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, seeds
from jaxcollapse.tree import closure, row, static
from jaxcollapse.verifiers import verifier
from jaxcollapse.workflows import WORKFLOWS

Embed = Callable[[jax.Array], jax.Array]
Split = Callable[[int, np.ndarray, int], Silos]
SPLITS: dict[str, Split] = {
    "ExDir(1, 0.1)": partial(exdir_split, classes_per_silo=1, alpha=0.1),
    "Dirichlet(0.1)": partial(dirichlet_split, alpha=0.1),
    "iid": lambda seed, labels, num_silos: iid_split(seed, len(labels), num_silos),
}
LEAST_ACCURACY = 0.9
_FIRST = 2**32 - 1  # beyond the generations that a key is folded with


@dataclasses.dataclass(frozen=True)
class ImageComparison(Comparison):
    """Configuration of every experiment on images divided among silos."""

    workflow: Literal[tuple(name for name in WORKFLOWS if name != "fresh_mix")] = "accumulate_subsample"
    """How kept data become the next training set."""
    num_kept: int = 1000
    """Samples n kept in each generation."""
    dataset: Literal[tuple(DATASETS)] = "digits"
    """Images: digits, or one of the data sets that are read from a directory."""
    data: Path = Path("data")
    """Directory of the data set."""
    num_train: int = 1000
    """Real images in the silos."""
    num_test: int = 2000
    """Real images that nothing is fitted to, at most: what generated images are compared with."""
    features: str = "pca"
    """What verifiers see: pca, or MODULE:FUNCTION, from arrays of images [n, h w c] in [-1, 1] to features [n, f]."""
    feature_cache: str = ".cache/features"
    """Directory for features of real images that such a function computed."""
    num_components: int = 32
    """Principal components, in which gaussian_mixture and diffusion work."""
    num_gaussians: int = 20
    """Components of the mixture model."""
    num_iterations: int = 20
    """Iterations of expectation maximisation in each of its fits."""
    num_steps: int = 1000
    """Training steps of a diffusion model in each fit."""
    num_gradients: int = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    num_seeds: int = 6
    """Independent divisions among silos and simulations."""


def check_images(config: ImageComparison, splits: Sequence[str], generators: Sequence[str]) -> None:
    """Check the configuration before anything runs.

    Raises:
        ValueError: at the first value that is not allowed.
    """
    check_comparison(config)
    check_names("dataset", [config.dataset], DATASETS)
    check_range("num_test", config.num_test, low=10)
    check_names("split", splits, SPLITS)
    check_names("generator", generators, SPACES)
    check_names("workflow", [config.workflow], set(WORKFLOWS) - {"fresh_mix"})
    check_range("num_components", config.num_components, low=2)


@closure
class Images:
    """What all verifiers share: real images, the features of them, and a classifier that was trained on them.

    Attributes:
        pca: of the training images.
        classifier: of the training images.
        train: training images, uniform, [n, p] pixels.
        test: images held out, uniform.
        test_labels: their classes, one and zeros, [n, c].
        train_features: what verifiers see of the training images, [n, f].
        test_features: and of those held out.
        embed: from images to features, a pytree.
        shape: height, width and channels of an image.
    """

    pca: PCA
    classifier: Classifier
    train: Measure
    test: Measure
    test_labels: jax.Array
    train_features: jax.Array
    test_features: jax.Array
    embed: Embed
    shape: tuple[int, int, int] = static()


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


def in_components(config: ImageComparison, images: Images, generator: Generator) -> Space:
    """Let a generator work in principal components."""

    def decode(components):
        return clip(reconstruct(images.pca, components))

    seen = same if config.features == "pca" else lambda components: images.embed(decode(components))
    return Space(generator, partial(project, images.pca), decode, seen)


def in_pixels(images: Images, generator: Generator) -> Space:
    """Let a generator work in pixels."""
    return Space(generator, same, clip, lambda pixels: images.embed(clip(pixels)))


def clip(pixels: jax.Array) -> jax.Array:
    """Bring pixels into their range."""
    return jnp.clip(pixels, -1, 1)


def same(points: jax.Array) -> jax.Array:
    """Leave points as they are."""
    return points


SPACES: dict[str, Callable[[ImageComparison, Images], Space]] = {
    "gaussian_mixture": lambda config, images: in_components(
        config, images, gaussian_mixture(config.num_gaussians, config.num_iterations, ridge=1e-3)
    ),
    "diffusion": lambda config, images: in_components(
        config, images, diffusion(residual(128, 3, common_spread), config.num_steps, 128)
    ),
    "unet": lambda config, images: in_pixels(
        images, diffusion(unet(images.shape, (16, 32, 64)), config.num_steps, 32, 10, sample_chunk=250)
    ),
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


def problem(config: ImageComparison, runner: Runner) -> tuple[Images, np.ndarray, float]:
    """Divide real images into training and held-out ones, and fit features and labeller to the former."""
    train, test = DATASETS[config.dataset](config.data, config.seed)
    check_range("num_train", config.num_train, low=config.num_components + 1, high=len(train.labels))
    kept, rest = slice(config.num_train), slice(config.num_train, None)
    points = np.concatenate([train.points[rest], test.points])[: config.num_test]
    test_labels = np.concatenate([train.labels[rest], test.labels])[: config.num_test]
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    labels, test_labels = (jax.nn.one_hot(found, num_classes) for found in (train.labels[kept], test_labels))
    pca = fit_pca(train.points[kept], config.num_components)
    real, held_out = uniform_measure(train.points[kept]), uniform_measure(points)
    key = jax.random.key(config.seed)
    classifier = runner.once(f"labeller of {config.num_train}", fit_classifier, key, real, labels)
    pairs = {"train": real.points, "test": held_out.points}
    if config.features == "pca":
        embed: Embed = jax.tree_util.Partial(project, pca)
        features = {part: embed(pixels) for part, pixels in pairs.items()}
    else:
        function, directory = user_function(config.features), Path(config.feature_cache)
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"{config.features.replace(':', '.')}.{config.dataset}"
        features = {
            part: jnp.asarray(cached_features(directory / f"{stem}.{part}.npz", function, np.asarray(pixels)))
            for part, pixels in pairs.items()
        }
        embed = jax.tree_util.Partial(on_host(function, features["train"].shape[1]))
    images = Images(pca, classifier, real, held_out, test_labels, *features.values(), embed, train.shape)
    return images, train.labels[kept], float(accuracy(classifier, held_out, test_labels))


class Start(NamedTuple):
    """What a seed determines.

    Attributes:
        key: of everything random after it.
        model: of generation 0, fitted to all real training images.
        silos: by each division, [D, K, m, d].
    """

    key: jax.Array
    model: Any
    silos: Measure


def deal(config: ImageComparison, splits: Sequence[Split], images: Images, labels: np.ndarray) -> Measure:
    """Divide the features of the training images among silos, [seed, split, K, m, d], anew for each seed.

    Raises:
        ValueError: if a silo has fewer than two images.
    """
    divisions = itertools.product(range(config.num_seeds), splits)
    dealt = [silo for seed, split in divisions for silo in split(seed, labels, config.num_silos)]
    check_range("images of the smallest silo", min(map(len, dealt)), low=2)
    shape = (config.num_seeds, len(splits), config.num_silos)
    silos = stack_silos(np.asarray(images.train_features), dealt)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), silos)


def starts(config: ImageComparison, runner: Runner, label: str, images: Images, generator: str, silos: Measure) -> Axis:
    """Make the axis of seeds, and fit each one's first model."""
    labels, keys = seeds(config.num_seeds, config.seed)

    def fit(images, keys):
        space = SPACES[generator](config, images)
        real = uniform_measure(space.encode(images.train.points))
        return jax.vmap(lambda key: space.generator.init(jax.random.fold_in(key, _FIRST), real))(keys)

    return Axis(labels, Start(keys, runner.once(label, fit, images, keys), silos))


def sizes_at(config: ImageComparison, name: str, budgets: Any) -> Sizes:
    """Say the sizes of a verifier's recursion at a budget, or at several, all of which draw as many candidates."""
    return sizes(
        config.num_kept,
        np.where(name == "keep_all", 1.0, budgets),
        config.num_generations,
        temperature=1.0,
        max_candidates=round(config.num_kept / np.min(budgets)),
    )


def simulate(
    config: ImageComparison,
    runner: Runner,
    label: str,
    images: Images,
    generator: str,
    name: str,
    record: Callable[[Images, Space, Measure, Any], Record],
    axes: Mapping[str, Any],
    **options: Any,
) -> xr.Dataset:
    """Run one verifier's recursions.

    Args:
        config: of the experiment.
        runner: of its sweeps.
        label: of this one.
        images: what all verifiers share.
        generator: its name.
        name: of the verifier.
        record: makes what is recorded from the images, the generator's space, the silos, and the index of the one that
            verifies.
        axes: `seed`, of `starts`, and where they vary `silo`, the one that verifies, `division`, which of a seed's
            divisions, and `budget`, of `sizes_at`.
        options: of the sweep.
    """
    at_budget = sizes_at(config, name, config.budget)

    def prepare(images, seed: Start, silo=0, division=0, **others):
        setup_key, _ = jax.random.split(seed.key)
        return {"select": verifier(name, row(seed.silos, division), setup_key, silo=silo, **settings(config))}

    def build(images, select, seed: Start, silo=0, division=0, budget=at_budget) -> Run:
        space = SPACES[generator](config, images)
        keep = sample_and_select(space.generator, select, space.embed)
        collapse = build_collapse(space.generator, keep, WORKFLOWS[config.workflow](buffer_memory()))
        _, run_key = jax.random.split(seed.key)
        return Run(run_key, collapse, seed.model, budget, record(images, space, row(seed.silos, division), silo))

    return runner.sweep(label, build, axes, prepare=prepare, fixed={"images": images}, **options)


def warnings(labeller_accuracy: float) -> list[str]:
    """Say what makes the result doubtful."""
    if labeller_accuracy >= LEAST_ACCURACY:
        return []
    return [f"the labeller is right on {labeller_accuracy:.1%} of held-out images, below {LEAST_ACCURACY:.0%}"]
