r"""What selection costs downstream: classifiers trained on kept data, and the distance that bounds their risk.

For a classifier h and a labeller g the loss :math:`f(x) = \ell(h(x), g(x))` is one function of x, so that

.. math:: E_{D^*} f - E_{D_t} f \le \operatorname{Lip}(f) W_1(D_t, D^*) \le \operatorname{Lip}(f) W_2(D_t, D^*),

the third theorem of [qiao2026] at its plainest: the risk on real data exceeds the risk on the kept data by at most the
Lipschitz constant times the distance, both between images as the classifiers see them: pixels, not features.
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats

from jaxcollapse.analysis import seed_interval
from jaxcollapse.base import Measure, Record
from jaxcollapse.classifier import Classifier, accuracy, fit_classifier, log_probabilities, risk
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
from jaxcollapse.experiments.support.ranges import Count
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.metrics import frechet, sliced_w
from jaxcollapse.sweep import along, seeds
from jaxcollapse.transport.sinkhorn import TOLERANCE, mean_cost, sinkhorn, transport_cost

PREDICTORS = ("sliced_w", "entropic_w", "frechet")


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Risk on real images of classifiers trained on what was kept, against its distance to them."""

    split: Literal[tuple(SPLITS)] = "ExDir(1, 0.1)"
    """How images are divided among silos."""
    generator: Literal[tuple(SPACES)] = "gaussian_mixture"
    """Generator."""
    verifiers: Verifiers = (
        "random", "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "tilt", "pooled", "center_matching",
    )  # fmt: skip
    """Ways to select."""
    num_classifier_steps: Count = 400
    """Training steps of each classifier."""
    num_projections: Count = 100
    """Directions of the sliced distance."""


PRESETS = {
    "smoke": {
        "verifiers": ("single_silo",), "num_kept": 60, "num_generations": 2, "num_train": 400, "num_test": 200,
        "num_components": 8, "num_gaussians": 4, "num_classifier_steps": 50, "num_projections": 5, "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("random", "single_silo", "tilt"), "num_kept": 400, "num_generations": 5,
        "num_components": 16, "num_gaussians": 10, "num_support": 50, "num_rounds": 5, "num_classifier_steps": 300,
        "num_projections": 50, "num_seeds": 2,
    },
    "paper": {},
}  # fmt: skip


def divergence(first: Measure, second: Measure, epsilon: float) -> tuple[jax.Array, jax.Array]:
    r"""Compute the root of the Sinkhorn divergence, an entropic 2-Wasserstein distance without its bias.

    .. math:: S_\epsilon(P, Q) = W_\epsilon(P, Q) - \tfrac12 W_\epsilon(P, P) - \tfrac12 W_\epsilon(Q, Q).

    Returns:
        The root, and the largest marginal error of the three problems.
    """

    def solve(x, y):
        potentials = sinkhorn(x, y, epsilon)
        return transport_cost(x, y, potentials), potentials.error

    costs, errors = zip(solve(first, second), solve(first, first), solve(second, second), strict=True)
    return jnp.sqrt(jnp.maximum(costs[0] - (costs[1] + costs[2]) / 2, 0)), jnp.max(jnp.stack(errors))


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
    classifier = fit_classifier(fit_key, kept, kept_labels, config.num_classifier_steps)
    moments, seen = as_moments(images.test), kept._replace(points=images.embed(kept.points))
    entropic_w, error = divergence(kept, images.test, config.epsilon * mean_cost(moments, moments))
    return {
        "risk": risk(classifier, images.test, test_labels),
        "kept_risk": risk(classifier, kept, kept_labels),
        "accuracy": accuracy(classifier, images.test, images.test_labels),
        "slope": steepest(classifier, images.classifier, jnp.concatenate([kept.points, images.test.points])),
        "sliced_w": sliced_w(config.num_projections)(metric_key, kept, images.test),
        "entropic_w": entropic_w,
        "entropic_w_error": error,
        "frechet": frechet(metric_key, seen, uniform_measure(images.test_features)),
    }


def record_cost(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record what the training data of each generation are worth."""

    def record(key, state, info):
        return assess(config, images, key, info.training._replace(points=space.decode(info.training.points)))

    return record


def run(config: Config, runner: Runner) -> Output:
    """Measure the cost of every verifier."""
    runner.expect(3 + len(config.verifiers))
    images, labels, accuracies = problem(config, runner)
    runner.warnings += warnings(accuracies)
    silos, record = deal(config, [SPLITS[config.split]], images, labels), partial(record_cost, config)
    make = SPACES[config.generator]
    axes = {"seed": starts(config, runner, "first", images, make, silos)}
    runs = {name: simulate(config, runner, name, make, name, record, axes) for name in config.verifiers}
    arrays = along("verifier", runs).isel(generation=slice(1, None))
    keys = seeds(config.num_seeds, config.seed).values
    real = runner.once("real images", seed_by_seed(partial(assess, config)), images, keys, images.train)
    runner.warnings += unconverged(np.append(arrays.entropic_w_error, real["entropic_w_error"]))
    judged = judge(arrays.to_dataframe().reset_index())
    return Output(arrays, {**over_seeds(accuracies, real), **judged})


def unconverged(errors: np.ndarray) -> list[str]:
    """Say how far from convergence the transport problems of the distances are, where it matters."""
    if (worst := errors.max()) <= TOLERANCE:
        return []
    return [f"entropic_w: the largest marginal error of a transport problem is {worst:.1e}, above {TOLERANCE:g}"]


def judge(table: pd.DataFrame) -> dict[str, float]:
    """Say which distance goes with the risk, how steeply (with its interval), and how much of the bound is used."""
    table = table.assign(excess=table.risk - table.kept_risk)
    ranks = {f"rank_correlation_{p}": scipy.stats.spearmanr(table.risk, table[p]).statistic for p in PREDICTORS}
    slopes = [scipy.stats.linregress(seed.entropic_w, seed.excess).slope for _, seed in table.groupby("seed")]
    slope, low, _ = seed_interval(np.asarray(slopes))
    return ranks | {
        "slope_of_excess_risk": float(slope),
        "slope_half": float(slope - low),
        "largest_share_of_bound": (table.excess / (table.slope * table.entropic_w)).max(),
        "mean_steepest_loss": table.slope.mean(),
    }
