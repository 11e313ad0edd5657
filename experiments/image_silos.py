"""What experiments on images divided among silos share: the problem, the generators, and the recursion."""

import dataclasses
import importlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import Parts
from experiments.methods import FURTHER, METHODS, Comparison, check_comparison, methods
from jaxcollapse.base import Generator, Measure
from jaxcollapse.batches import sampled
from jaxcollapse.classifier import Classifier, accuracy, fit_classifier
from jaxcollapse.data import DATASETS
from jaxcollapse.data.features import PCA, cached_features, fit_pca, on_host, project, reconstruct
from jaxcollapse.generators.diffusion import common_spread, diffusion, residual
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.generators.unet import unet
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.silos import Silos, dirichlet_split, exdir_split, iid_split, stack_silos
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import RecordFn, build_collapse
from jaxcollapse.validation import check_names, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

GENERATORS = ("mixture", "diffusion", "unet")
Embed = Callable[[jax.Array], jax.Array]
Split = Callable[[int, np.ndarray, int], Silos]
SPLITS: dict[str, Split] = {
    "ExDir(1, 0.1)": lambda seed, labels, num_silos: exdir_split(seed, labels, num_silos, 1, 0.1),
    "Dirichlet(0.1)": lambda seed, labels, num_silos: dirichlet_split(seed, labels, num_silos, 0.1),
    "iid": lambda seed, labels, num_silos: iid_split(seed, len(labels), num_silos),
}
LEAST_ACCURACY = 0.9
_FIRST = 2**32 - 1  # beyond the generations that a key is folded with


@dataclasses.dataclass(frozen=True)
class ImageComparison(Comparison):
    """Knobs of every experiment on images divided among silos."""

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
    num_gradients: int = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    num_seeds: int = 6
    """Independent divisions among silos and simulations."""


def check_images(config: ImageComparison, splits: Sequence[str], generators: Sequence[str]) -> None:
    """Check the knobs at the door.

    Raises:
        ValueError: at the first that is not allowed.
    """
    check_comparison(config, (*METHODS, *FURTHER))
    check_names("dataset", [config.dataset], DATASETS)
    check_range("num_test", config.num_test, low=10)
    check_names("splits", splits, SPLITS)
    check_names("generators", generators, GENERATORS)
    check_names("workflow", [config.workflow], set(WORKFLOWS) - {"fresh_mix"})
    check_range("num_components", config.num_components, low=2)


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


def spaces(config: ImageComparison, images: Images) -> dict[str, Space]:
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


def problem(config: ImageComparison, parts: Parts) -> tuple[Images, np.ndarray, float]:
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


def deal(config: ImageComparison, split: Split, images: Images, labels: np.ndarray) -> Measure:
    """Divide the features of the training images among silos, [seed, K, m, d], anew for each seed.

    Raises:
        ValueError: if a silo has fewer than two images.
    """
    dealt = tuple(itertools.chain(*(split(seed, labels, config.num_silos) for seed in range(config.num_seeds))))
    check_range("images of the smallest silo", min(map(len, dealt)), low=2)
    silos = stack_silos(np.asarray(images.train_features), dealt)
    return jax.tree.map(lambda leaf: leaf.reshape(config.num_seeds, config.num_silos, *leaf.shape[1:]), silos)


def first_models(config: ImageComparison, images: Images, generator: str, keys: jax.Array) -> Any:
    """Fit the generator to all real training images, once for each seed."""
    space = spaces(config, images)[generator]
    real = uniform_measure(space.encode(images.train.points))
    return jax.vmap(lambda key: space.generator.init(jax.random.fold_in(key, _FIRST), real))(keys)


def simulation(
    config: ImageComparison, images: Images, generator: str, method: str, record: Callable[[Space, Measure], RecordFn]
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


def warnings(labeller_accuracy: float) -> list[str]:
    """Say what makes the result doubtful."""
    if labeller_accuracy >= LEAST_ACCURACY:
        return []
    return [f"the labeller is right on {labeller_accuracy:.1%} of held-out images, below {LEAST_ACCURACY:.0%}"]
