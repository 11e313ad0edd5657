"""What experiments on images divided among silos share: the problem, the generators, and the recursion."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.base import Generator, Measure, Record, Run, Sizes
from jaxcollapse.checks import check_range
from jaxcollapse.classifier import Classifier, accuracy, fit_classifier, penultimate
from jaxcollapse.data import DATASETS
from jaxcollapse.data.features import (
    PCA,
    HostFunction,
    cached_features,
    fit_pca,
    on_host,
    project,
    user_function,
)  # fmt: skip
from jaxcollapse.data.images import LabelledImages
from jaxcollapse.experiments.support.comparison import Comparison, settings
from jaxcollapse.experiments.support.ranges import Count, Fraction, NumSeeds, Range, Spread
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.silos import Silos, dirichlet_split, exdir_split, iid_split, stack_silos
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, seeds
from jaxcollapse.tree import closure, row, stack, static
from jaxcollapse.verifiers import verifier
from jaxcollapse.workflows import WORKFLOWS

Embed = Callable[[jax.Array], jax.Array]
Split = Callable[[int, np.ndarray, int], Silos]
SPLITS: dict[str, Split] = {
    "ExDir(1, 0.1)": partial(exdir_split, classes_per_silo=1, alpha=0.1),
    "Dirichlet(0.1)": partial(dirichlet_split, alpha=0.1),
    "iid": lambda seed, labels, num_silos: iid_split(seed, len(labels), num_silos),
}
OWN_FEATURES = ("pca", "classifier")
UNDIVIDED = ("digits", "folders", "npz")  # no division into training and test images is published
LEAST_ACCURACY = 0.9
_FIRST, _LABELLER = 2**32 - 1, 2**32 - 2  # beyond the generations that a key is folded with


@dataclasses.dataclass(frozen=True)
class ImageComparison(Comparison):
    """Configuration of every experiment on images divided among silos."""

    workflow: Literal[tuple(name for name in WORKFLOWS if name != "fresh_mix")] = "accumulate_subsample"
    """How kept data become the next training set."""
    num_kept: Count = 1000
    """Samples n kept in each generation."""
    dataset: Literal[tuple(DATASETS)] = "digits"
    """Images: digits, or one of the data sets that are read from a directory."""
    data: Path = Path("data")
    """Directory of the data set."""
    verify: bool = True
    """Whether files of published data must have their published checksums."""
    num_train: Count = 1000
    """Real images in the silos."""
    num_test: Annotated[int, Range(10, 10**6)] = 2000
    """Real images that nothing is fitted to, at most: what generated images are compared with."""
    features: str = "pca"
    """What verifiers see: pca, classifier (the labeller's last hidden layer), or MODULE:FUNCTION, from arrays of images
    [n, h w c] in [-1, 1] to features [n, f]."""
    feature_cache: str = ".cache/features"
    """Directory for features of real images that such a function computed."""
    num_components: Annotated[int, Range(2, 4096)] = 32
    """Principal components, in which gaussian_mixture and diffusion work."""
    num_gaussians: Count = 20
    """Components of the mixture model."""
    num_iterations: Count = 20
    """Iterations of expectation maximisation in each of its fits."""
    num_steps: Count = 1000
    """Training steps of a diffusion model in each fit."""
    bandwidth: Spread = 0.6
    """Bandwidth of a kernel density, in units of the data's spread."""
    noise: Spread = 0.3
    """Noise of a generator with noise, in units of its samples' spread."""
    junk_share: Fraction = 0.2
    """Share of junk among candidates of a generator with junk: Gaussian, three times as wide as the real images."""
    blend_share: Fraction = 0.5
    """Share of means of two samples among candidates of a generator with blends."""
    num_gradients: Count = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    labeller: Literal["dense", "convolutional"] = "dense"
    """Network that labels images, whose last hidden layer is a feature that verifiers do not see."""
    labeller_steps: Count = 1000
    """Training steps of the labeller."""
    num_seeds: NumSeeds = 6
    """Seeds, each with training and held-out images, features, labeller, silos and simulation of its own."""


@closure
class Images:
    """What all verifiers of a seed share: real images, the features of them, and a classifier if labels are asked for.

    Attributes:
        pca: of the training images.
        train: training images, uniform, [n, p] pixels.
        test: images held out, uniform.
        test_labels: their classes, one and zeros, [n, c].
        train_features: what verifiers see of the training images, [n, f].
        test_features: and of those held out.
        embed: from images to features, a pytree.
        shape: height, width and channels of an image.
        classifier: of the training images, where `problem` fitted one.
    """

    pca: PCA
    train: Measure
    test: Measure
    test_labels: jax.Array
    train_features: jax.Array
    test_features: jax.Array
    embed: Embed
    shape: tuple[int, int, int] = static()
    classifier: Classifier | None = None


class Space(NamedTuple):
    """Where a generator works.

    Attributes:
        generator: of points, as candidates are drawn.
        trained: the generator itself, where candidates are made worse than its samples: what is scored.
        encode: from images to points.
        decode: from points to images.
        components: from points to principal components, of pixels that may be out of their range.
        embed: from points to the features that verifiers see.
    """

    generator: Generator
    trained: Generator
    encode: Embed
    decode: Embed
    components: Embed
    embed: Embed


MakeSpace = Callable[[ImageComparison, Images], Space]


def seed_by_seed(function: Callable) -> Callable:
    """Apply a function to the arguments of each seed in turn, so that its result is that of the seed alone."""
    return lambda *stacked: jax.lax.map(lambda arguments: function(*arguments), stacked)


def host_seeds(config: ImageComparison) -> list[list[int]]:
    """Derive the seeds of the division of images and of that among silos from a label and `config.seed` alone."""
    return [np.random.SeedSequence([config.seed, s]).generate_state(2).tolist() for s in range(config.num_seeds)]


def divide(config: ImageComparison, train: LabelledImages, test: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """Choose training images, [seed, n], and held-out ones, [seed, m], at random; where both are of one set, disjoint.

    Returns:
        Indices of either.
    """

    def choose(seed):
        rng = np.random.default_rng(seed)
        kept, rest = np.split(rng.permutation(len(train.labels)), [config.num_train])
        return kept, (rest if test is train else rng.permutation(len(test.labels)))[: config.num_test]

    kept, held_out = zip(*(choose(seed) for seed, _ in host_seeds(config)), strict=True)
    return np.stack(kept), np.stack(held_out)


def real_images(config: ImageComparison) -> tuple[Images, np.ndarray]:
    """Choose each seed's training and held-out images, and fit its features to the former.

    Returns:
        Images, stacked [seed]; classes of those in training, [seed, n].

    Without the labeller its features are not known yet, and principal components stand for them.

    Raises:
        ValueError: if num_train is out of range, or the features are not of one number.
    """
    function = None if config.features in OWN_FEATURES else user_function(config.features, *OWN_FEATURES)
    train, test = DATASETS[config.dataset](config.data, config.seed, config.verify)
    check_range("num_train", config.num_train, low=config.num_components + 1, high=len(train.labels))
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    if config.dataset in UNDIVIDED:
        points, labels = (np.concatenate(both) for both in zip(train[:2], test[:2], strict=True))
        train = test = LabelledImages(points, labels, train.shape)
    kept, held_out = divide(config, train, test)
    pixels = {"train": train.points[kept], "test": test.points[held_out]}
    test_labels = jax.nn.one_hot(test.labels[held_out], num_classes)
    pca = stack([fit_pca(points, config.num_components) for points in pixels["train"]])
    if function is None:
        embed: Embed = jax.tree_util.Partial(project, pca)
        features = {part: jax.vmap(project)(pca, points) for part, points in pixels.items()}
    else:
        features = user_features(config, function, pixels)
        embed = jax.tree_util.Partial(on_host(function, features["train"].shape[-1]))
    measures = map(uniform_measure, pixels.values())
    return Images(pca, *measures, test_labels, *features.values(), embed, train.shape), train.labels[kept]


def problem(config: ImageComparison, runner: Runner) -> tuple[Images, np.ndarray, np.ndarray]:
    """Choose each seed's images, and fit its labeller to those in training.

    Returns:
        What `real_images` does, with classifiers, and their accuracies, [seed].

    Raises:
        ValueError: as `real_images` does.
    """
    images, classes = real_images(config)

    def fit(key, real, labels, tested, test_labels):
        shape = images.shape if config.labeller == "convolutional" else None
        rate = 3e-3 if shape is None else 1e-3
        labeller_key = jax.random.fold_in(key, _LABELLER)
        classifier = fit_classifier(labeller_key, real, labels, config.labeller_steps, learning_rate=rate, shape=shape)
        return classifier, accuracy(classifier, tested, test_labels)

    keys, name = seeds(config.num_seeds, config.seed).values, f"labeller of {config.num_train}"
    labels = jax.nn.one_hot(classes, images.test_labels.shape[-1])
    known = images.train, labels, images.test, images.test_labels
    classifier, accuracies = runner.once(name, seed_by_seed(fit), keys, *known)
    images = dataclasses.replace(images, classifier=classifier)
    if config.features == "classifier":
        seen = jax.vmap(penultimate)
        images = dataclasses.replace(
            images,
            train_features=seen(classifier, images.train.points),
            test_features=seen(classifier, images.test.points),
            embed=jax.tree_util.Partial(penultimate, classifier),
        )
    return images, classes, np.asarray(accuracies)


def user_features(
    config: ImageComparison, function: HostFunction, pixels: Mapping[str, np.ndarray]
) -> dict[str, jax.Array]:
    """Compute features of each seed's images, [seed, n, f], or read them from the files of that seed.

    Raises:
        ValueError: if they are not of one number.
    """
    directory = Path(config.feature_cache)
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / f"{config.features.replace(':', '.')}.{config.dataset}"
    features = {
        part: [
            cached_features(Path(f"{stem}.{seed}.{part}.npz"), function, points)
            for (seed, _), points in zip(host_seeds(config), of_seeds, strict=True)
        ]
        for part, of_seeds in pixels.items()
    }
    if len(widths := {each.shape[1] for found in features.values() for each in found}) > 1:
        raise ValueError(f"features = {config.features!r}: {sorted(widths)} features of some images must be one number")
    return {part: jnp.stack(found) for part, found in features.items()}


class Start(NamedTuple):
    """What a seed determines.

    Attributes:
        key: of everything random after it.
        images: real ones and what was fitted to them.
        model: of generation 0, fitted to all real training images; where a field of the configuration varies, at each
            of its values, [V].
        silos: by each division, [D, K, m, d].
    """

    key: jax.Array
    images: Images
    model: Any
    silos: Measure


def deal(config: ImageComparison, splits: Sequence[Split], images: Images, labels: np.ndarray) -> Measure:
    """Divide the features of each seed's training images among silos, [seed, split, K, m, d].

    Raises:
        ValueError: if a silo has fewer than two images.
    """
    rows = np.arange(labels.size).reshape(labels.shape)
    dealt = [
        own[silo]
        for own, classes, (_, seed) in zip(rows, labels, host_seeds(config), strict=True)
        for split in splits
        for silo in split(seed, classes, config.num_silos)
    ]
    if (smallest := min(map(len, dealt))) < 2:
        raise ValueError(f"num_silos = {config.num_silos}: the smallest silo has {smallest} images, and needs 2")
    silos = stack_silos(np.concatenate(images.train_features), dealt)
    shape = (config.num_seeds, len(splits), config.num_silos)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), silos)


def starts(
    config: ImageComparison,
    runner: Runner,
    label: str,
    images: Images,
    make: MakeSpace,
    silos: Measure,
    **varied: np.ndarray,
) -> Axis:
    """Make the axis of seeds, and fit each one's first model, at every value [V] of a field that varies, if any."""
    labels, keys = seeds(config.num_seeds, config.seed)

    def fit(images, key, fields):
        space = make(dataclasses.replace(config, **fields), images)
        return space.generator.init(jax.random.fold_in(key, _FIRST), uniform_measure(space.encode(images.train.points)))

    each = jax.vmap(fit, (None, None, 0)) if varied else fit
    models = runner.once(label, jax.vmap(each, (0, 0, None)), images, keys, varied)
    return Axis(labels, Start(keys, images, models, silos))


def variants(**varied: np.ndarray) -> Axis:
    """Make the axis of a field's values [V], of which `starts` knows: each one's place, and the field that it sets."""
    (values,) = varied.values()
    return Axis(values, (np.arange(len(values)), varied))


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
    make: MakeSpace,
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
        make: where the generator works, of `SPACES`.
        name: of the verifier.
        record: makes what is recorded from the seed's images, the generator's space, the silos, and the index of the
            one that verifies.
        axes: `seed`, of `starts`, and where they vary `silo`, the one that verifies, `division`, which of a seed's
            divisions, `budget`, of `sizes_at`, `variant`, of `variants`, and `hear`, functions that make of all of a
            seed's divisions the silos that a verifier hears.
        options: of the sweep.
    """
    at_budget = sizes_at(config, name, config.budget)

    def prepare(seed: Start, silo=0, division=0, hear=row, **others):
        setup_key, _ = jax.random.split(seed.key)
        return {"select": verifier(name, hear(seed.silos, division), setup_key, silo=silo, **settings(config))}

    def build(select, seed: Start, silo=0, division=0, budget=at_budget, variant=((), {}), **others) -> Run:
        place, fields = variant
        space = make(dataclasses.replace(config, **fields), seed.images)
        keep = sample_and_select(space.generator, select, space.embed)
        collapse = build_collapse(space.generator, keep, WORKFLOWS[config.workflow](buffer_memory()))
        _, run_key = jax.random.split(seed.key)
        recorded = record(seed.images, space, row(seed.silos, division), silo)
        return Run(run_key, collapse, row(seed.model, place), budget, recorded)

    return runner.sweep(label, build, axes, prepare=prepare, **options)


def over_seeds(accuracies: np.ndarray, real: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Summarise the labellers, and scores of real images, over seeds."""
    return {
        "labeller_accuracy": {"least": accuracies.min(), "mean": accuracies.mean()},
        "real_images": {name: values.mean() for name, values in real.items()},
        "real_images_of_seeds": real,
    }


def warnings(accuracies: np.ndarray) -> list[str]:
    """Say what makes the result doubtful."""
    if (least := min(accuracies)) >= LEAST_ACCURACY:
        return []
    return [f"the labeller of a seed is right on {least:.1%} of held-out images, below {LEAST_ACCURACY:.0%}"]
