r"""What selection costs downstream: classifiers trained on kept data, and the distance that bounds their risk.

For a classifier h and a labeller g the loss :math:`f(x) = \ell(h(x), g(x))` is one function of x, so that

.. math:: E_{D^*} f - E_{D_t} f \le \operatorname{Lip}(f) W_1(D_t, D^*) \le \operatorname{Lip}(f) W_2(D_t, D^*),

the third theorem of [qiao2026] at its plainest: the risk on real data exceeds the risk on the kept data by at most the
Lipschitz constant times the distance.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from experiments import siloed_images
from experiments.common import Output, Parts, frame, lane_keys, main
from experiments.siloed_images import SPLITS, Images, Space, deal, first_models, problem, simulation
from jaxcollapse.base import Measure
from jaxcollapse.classifier import Classifier, accuracy, fit_classifier, log_probabilities, risk
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.metrics import frechet, sliced_w
from jaxcollapse.transport.sinkhorn import mean_cost, sinkhorn, transport_cost
from jaxcollapse.validation import check_range

NAME = "generalization_cost"
RECORDED = ("risk", "kept_risk", "accuracy", "slope", "sliced_w", "entropic_w", "frechet")
PREDICTORS = ("sliced_w", "entropic_w", "frechet")


@dataclasses.dataclass(frozen=True)
class Config(siloed_images.Config):
    """Risk on real images of classifiers trained on what was kept, against its distance to them."""

    methods: tuple[str, ...] = (
        "random", "single silo", "Scheme I", "Scheme II", "mixture", "tilt", "pooled", "center matching",
    )  # fmt: skip
    """Ways to select."""
    num_steps: int = 400
    """Training steps of each classifier."""
    num_projections: int = 100
    """Directions of the sliced distance."""


PRESETS = {
    "smoke": {
        "methods": ("random", "single silo"), "num_kept": 60, "num_generations": 2, "num_train": 400,
        "num_components": 8, "num_gaussians": 4, "num_steps": 50, "num_projections": 5, "num_seeds": 2,
    },
    "quick": {
        "methods": ("random", "single silo", "Scheme II", "tilt"), "num_kept": 400, "num_generations": 5,
        "num_components": 16, "num_gaussians": 10, "num_support": 50, "num_rounds": 5, "num_steps": 300,
        "num_projections": 50, "num_seeds": 2,
    },
    "paper": {},
}  # fmt: skip


def divergence(first: Measure, second: Measure, epsilon: float) -> jax.Array:
    r"""Compute the root of the Sinkhorn divergence, an entropic 2-Wasserstein distance without its bias.

    .. math:: S_\epsilon(P, Q) = W_\epsilon(P, Q) - \tfrac12 W_\epsilon(P, P) - \tfrac12 W_\epsilon(Q, Q).
    """

    def cost(x, y):
        return transport_cost(x, y, sinkhorn(x, y, epsilon))

    total = cost(first, second) - (cost(first, first) + cost(second, second)) / 2
    return jnp.sqrt(jnp.maximum(total, 0))


def steepest(classifier: Classifier, labeller: Classifier, points: jax.Array) -> jax.Array:
    """Find the largest slope of the loss at any of the points: a lower bound of its Lipschitz constant."""

    def loss(x):
        labels = jnp.exp(log_probabilities(labeller, x[None]))
        return risk(classifier, uniform_measure(x[None]), labels)

    return jnp.linalg.norm(jax.vmap(jax.grad(loss))(points), axis=1).max()


def assess(config: Config, images: Images, key: jax.Array, kept: Measure) -> dict[str, jax.Array]:
    """Train a classifier on kept images, labelled by the labeller, and measure its risks and the distances."""
    fit_key, metric_key = jax.random.split(key)
    kept_labels, test_labels = (jnp.exp(log_probabilities(images.classifier, m.points)) for m in (kept, images.test))
    classifier = fit_classifier(fit_key, kept, kept_labels, config.num_steps)
    seen, truth = kept._replace(points=images.embed(kept.points)), uniform_measure(images.test_features)
    moments = as_moments(truth)
    return {
        "risk": risk(classifier, images.test, test_labels),
        "kept_risk": risk(classifier, kept, kept_labels),
        "accuracy": accuracy(classifier, images.test, images.test_labels),
        "slope": steepest(classifier, images.classifier, jnp.concatenate([kept.points, images.test.points])),
        "sliced_w": sliced_w(config.num_projections)(metric_key, seen, truth),
        "entropic_w": divergence(seen, truth, config.epsilon * mean_cost(moments, moments)),
        "frechet": frechet(metric_key, seen, truth),
    }


def record_cost(config: Config, images: Images, space: Space, silos: Measure):
    """Record what the training data of each generation are worth."""

    def record(key, state, info):
        return assess(config, images, key, info.training._replace(points=space.decode(info.training.points)))

    return record


def run(config: Config, parts: Parts) -> Output:
    """Measure the cost of every method."""
    siloed_images.check(config)
    check_range("num_steps", config.num_steps, low=1)
    check_range("num_projections", config.num_projections, low=1)
    images, labels, labeller_accuracy = problem(config, parts)
    seeds = np.arange(config.num_seeds)
    keys = lane_keys(config.key, seeds)
    coords = {"seed": seeds, "verifier": [0], "generation": np.arange(config.num_generations + 1)}
    splits = []
    for split in config.splits:
        silos, generators = deal(config, SPLITS[split], images, labels), []
        for generator in config.generators:
            models = parts.once(f"first {generator}", partial(first_models, config, images, generator), keys)
            axes = {"seed": (keys, models, silos), "verifier": np.arange(1)}
            histories = []
            for method in config.methods:
                build = simulation(config, images, generator, method, partial(record_cost, config, images))
                history = parts.sweep(f"{split}, {generator}, {method}", build, axes, config.num_generations, 1)
                histories.append(frame(history, tuple(coords), coords))
            generators.append(xr.concat(histories, pd.Index(config.methods, name="method")))
        splits.append(xr.concat(generators, pd.Index(config.generators, name="generator")))
    arrays = xr.concat(splits, pd.Index(config.splits, name="split")).isel(verifier=0, drop=True)
    arrays = arrays.isel(generation=slice(1, None))
    real = parts.once("real images", partial(assess, config, images), keys[0], images.train)
    columns = ["split", "generator", "method", "seed", "generation"]
    table = arrays.to_dataframe().reset_index()[[*columns, *RECORDED]]
    row = dict.fromkeys(columns[:2], "") | {"method": "real images", "seed": 0, "generation": 0}
    real = row | {name: float(value) for name, value in real.items()}
    summary = {
        "labeller_accuracy": labeller_accuracy,
        "warnings": siloed_images.warnings(labeller_accuracy),
        "real_images": real,
        **judge(table),
    }
    return Output(arrays, pd.concat([table, pd.DataFrame([real])], ignore_index=True), summary)


def judge(table: pd.DataFrame) -> dict[str, float]:
    """Say which distance goes with the risk, how steeply, and how much of the bound is used."""
    excess = table.risk - table.kept_risk
    ranks = {f"rank_correlation_{p}": scipy.stats.spearmanr(table.risk, table[p]).statistic for p in PREDICTORS}
    line = scipy.stats.linregress(table.entropic_w, excess)
    return ranks | {
        "slope_of_excess_risk": line.slope,
        "slope_error": line.stderr,
        "largest_share_of_bound": (excess / (table.slope * table.entropic_w)).max(),
        "mean_steepest_loss": table.slope.mean(),
    }


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
