"""When is selection better than random? Skew, number and size of silos, quality of candidates, and budget on a dial."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, lane_keys, main
from experiments.image_silos import (
    ImageComparison,
    Images,
    Space,
    Split,
    check_images,
    deal,
    first_models,
    problem,
    simulation,
)
from jaxcollapse.base import Measure
from jaxcollapse.measures import uniform_measure
from jaxcollapse.metrics import frechet, precision, recall
from jaxcollapse.silos import exdir_split
from jaxcollapse.sweep import Trajectory
from jaxcollapse.validation import check_budget, check_names, check_range

NAME = "silo_geometry"
MIN_SIZE = 2
RECORDED = ("frechet", "precision", "recall")
DIALS = ("num_silos", "num_train", "num_iterations")


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Distances to the truth relative to those of random selection, over the shape of the silos."""

    methods: tuple[str, ...] = ("single silo", "Scheme I", "Scheme II", "pooled", "tilt")
    """Ways to select, each compared with random selection."""
    generator: str = "mixture"
    """Generator."""
    classes: tuple[int, ...] = (1, 2, 5, 10)
    """Classes C of a silo, in ExDir(C, alpha)."""
    alpha: float = 0.1
    """Evenness of the shares that silos of one class have of it; along the dials it is one."""
    budgets: tuple[float, ...] = (0.5, 0.25, 0.1)
    """Shares of the candidates that selection keeps."""
    dials: tuple[str, ...] = DIALS
    """What else is varied, one at a time: silos, real images in all of them, iterations of the generator's fits."""
    of_num_silos: tuple[int, ...] = (10, 20, 40)
    """Silos K."""
    of_num_train: tuple[int, ...] = (200, 500, 1000)
    """Real images in all silos together."""
    of_num_iterations: tuple[int, ...] = (1, 4, 20)
    """Iterations of expectation maximisation in each fit, which starts from the last model."""
    num_train: int = 500
    """Real images in the silos."""
    num_kept: int = 300
    """Samples n kept in each generation."""
    num_generations: int = 5
    """Generations after the fit to real data."""
    num_components: int = 16
    """Principal components."""
    num_gaussians: int = 5
    """Components of the mixture model."""
    num_scored: int = 1000
    """Samples of each model that are scored."""
    num_seeds: int = 4
    """Independent divisions among silos and simulations."""
    num_support: int = 50
    """Support points S of the schemes' references."""
    num_rounds: int = 5
    """Rounds of the schemes; the mixture reference takes four times as many of its own."""


PRESETS = {
    "smoke": {
        "methods": ("single silo",), "classes": (1, 10), "budgets": (0.5,), "dials": ("num_train",),
        "of_num_train": (300,), "num_kept": 60, "num_generations": 2, "num_train": 400, "num_components": 8,
        "num_gaussians": 4, "num_scored": 60, "num_seeds": 2,
    },
    "quick": {
        "methods": ("single silo", "Scheme II", "tilt"), "classes": (1, 10), "budgets": (0.5, 0.1), "dials": (),
        "num_kept": 200, "num_generations": 4, "num_scored": 400, "num_seeds": 3,
    },
    "paper": {},
}  # fmt: skip


def exdir(classes: int, alpha: float) -> Split:
    """Make the division in which each silo holds some classes."""
    return lambda seed, labels, num_silos: exdir_split(seed, labels, num_silos, classes, alpha, MIN_SIZE)


def deal_all(config: Config, images: Images, labels: np.ndarray, classes: tuple[int, ...]) -> Measure:
    """Divide the images by each number of classes, [C, seed, K, m, d]."""
    every = [exdir(c, config.alpha) for c in classes]

    def split(seed, labels, num_silos):
        return every[seed // config.num_seeds](seed % config.num_seeds, labels, num_silos)

    together = deal(dataclasses.replace(config, num_seeds=len(classes) * config.num_seeds), split, images, labels)
    return jax.tree.map(lambda leaf: leaf.reshape(len(classes), config.num_seeds, *leaf.shape[1:]), together)


def record_distance(config: Config, images: Images, space: Space, silos: Measure):
    """Record how far samples of the model are from images held out."""
    truth = uniform_measure(images.test_features)
    metrics = {"frechet": frechet, "precision": precision(3), "recall": recall(3)}

    def record(key, state, info):
        generated = uniform_measure(space.embed(space.generator.sample(key, state.params, config.num_scored)))
        return {name: metric(key, generated, truth) for name, metric in metrics.items()}

    return record


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
    parts: Parts,
    images: Images,
    silos: Measure,
    classes: tuple[int, ...],
    budgets: tuple[float, ...],
    label: str,
) -> xr.Dataset:
    """Run random selection and every method for all classes and budgets; scores of the last generation."""
    config, seeds = dataclasses.replace(config, budget=min(budgets)), np.arange(config.num_seeds)
    keys = lane_keys(config.key, seeds)
    models = parts.once(f"first {label}", partial(first_models, config, images, config.generator), keys)
    axes = {
        "seed": (keys, models, seeds),
        "classes": silos,
        "budget": jnp.asarray([round(config.num_kept / budget) for budget in budgets], jnp.int32),
    }
    coords = {"seed": seeds, "classes": list(classes), "budget": list(budgets)}
    methods = ("random", *config.methods)
    found = []
    for method in methods:
        start = simulation(config, images, config.generator, method, partial(record_distance, config, images))

        def build(seed, classes, budget, start=start) -> Trajectory:
            key, model, index = seed
            return start((key, model, jax.tree.map(lambda leaf: leaf[index], classes)), 0, budget)

        history = parts.sweep(f"{label}, {method}", build, axes, config.num_generations)
        found.append(xr.Dataset({name: (tuple(coords), history[name][..., -1]) for name in RECORDED}, coords))
    return xr.concat(found, pd.Index(methods, name="method"))


def run(config: Config, parts: Parts) -> Output:
    """Turn every dial."""
    check_images(config, (), [config.generator])
    check_names("dials", config.dials, DIALS)
    for budget in config.budgets:
        check_budget(budget)
    check_range("alpha", config.alpha, low=1e-3)
    check_range("classes", min(config.classes), low=1)
    check_range("budgets", len(config.budgets), low=1)
    prepared = []
    for setting, classes, budgets in settings(config):
        images, labels, _ = problem(setting, parts)
        prepared.append((setting, images, deal_all(setting, images, labels, classes), classes, budgets))
    tables = []
    for setting, *given in prepared:
        values = {dial: getattr(setting, dial) for dial in DIALS}
        arrays = compare(setting, parts, *given, "-".join(map(str, values.values())))
        tables.append(arrays.to_dataframe().reset_index().assign(**values))
    table = pd.concat(tables, ignore_index=True)
    columns = ["classes", "budget", *DIALS, "method", "seed"]
    random = table[table.method == "random"].drop(columns=["method", "precision", "recall"])
    table = table.merge(random, on=[c for c in columns if c != "method"], suffixes=("", "_random"))
    table["gain"] = np.log2(table.frechet_random / table.frechet)
    table = table[[*columns, *RECORDED, "gain"]]
    return Output(
        xr.Dataset.from_dataframe(table.rename_axis("point")), table, {"gain": summarise(table, columns[:-1])}
    )


def summarise(table: pd.DataFrame, by: list[str]) -> list[dict[str, Any]]:
    """Average the gains over seeds."""
    return table.groupby(by, sort=False).gain.agg(["mean", "sem"]).reset_index().to_dict("records")


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
