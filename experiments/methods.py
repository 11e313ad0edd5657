"""Ways to select that experiments compare, each with the bytes that its messages cost."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import Settings
from jaxcollapse.base import Measure, Moments, ReferenceFn, SelectFn
from jaxcollapse.measures import as_moments, compact
from jaxcollapse.privacy import gaussian_mechanism, message_bytes, noise_needed
from jaxcollapse.references import all_silos, pooled, single_silo
from jaxcollapse.references.barycenter import Exchange, barycenter, interpolate
from jaxcollapse.references.geodesic import geodesic
from jaxcollapse.references.mixture import mixture, silo_update
from jaxcollapse.selectors import calibrated_gradient, from_scores
from jaxcollapse.selectors.aggregate import bottom_budget, keep_highest, random_budget, soft_budget, top_budget
from jaxcollapse.selectors.balanced import Nearness, balanced
from jaxcollapse.selectors.density_ratio import (
    FeatureMean,
    Features,
    lift,
    logistic_ratio,
    moment_ratio,
    server_start,
    shared_features,
    silo_curvature,
    silo_gradient,
    silo_mean,
    tilted_ratio,
)
from jaxcollapse.selectors.matching import center_matching, covariance_matching, k_means
from jaxcollapse.selectors.submodular import fixed_point
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.sinkhorn import mean_cost
from jaxcollapse.validation import check_budget, check_names, check_range

METHODS = (
    "random", "single silo", "bottom, single silo", "pooled", "per silo", "Scheme I", "Scheme II", "mixture",
    "moment ratio", "logistic ratio", "tilt", "private tilt",
    "center matching", "covariance matching", "k-means",
)  # fmt: skip
FURTHER = ("balanced", "unbiased silo", "no choice")


@dataclasses.dataclass(frozen=True)
class Comparison(Settings):
    """Knobs of every experiment that compares ways to select."""

    methods: tuple[str, ...] = METHODS
    """Ways to select."""
    num_kept: int = 150
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 10
    """Generations after the fit to real data."""
    num_silos: int = 10
    """Silos K."""
    epsilon: float = 0.02
    """Regularisation, relative to the mean cost of the real data with themselves."""
    tau: float = 0.5
    """Place of Scheme I's references on the geodesic from the pool to a silo."""
    num_support: int = 100
    """Support points S of the schemes' references."""
    num_rounds: int = 8
    """Rounds of the schemes; the mixture reference takes four times as many of its own."""
    num_gradients: int = 100
    """Gradients that the logistic fit asks of each silo in a generation."""
    privacy: tuple[float, float] = (1.0, 1e-5)
    """Loss of privacy (epsilon, delta) of a silo's one message for the private tilt."""
    max_norm: float = 6.0
    """Bound on the features of the private tilt."""
    num_seeds: int = 6
    """Independent problems and simulations."""


def check_comparison(config: Comparison, known: tuple[str, ...]) -> None:
    """Check the knobs at the door.

    Raises:
        ValueError: at the first that is not allowed.
    """
    check_names("methods", config.methods, known)
    check_budget(config.budget)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_silos", config.num_silos, low=1)
    check_range("epsilon", config.epsilon, low=1e-6)
    check_range("tau", config.tau, low=1e-3, high=1 - 1e-3)
    loss, delta = config.privacy
    check_range("privacy, epsilon", loss, low=1e-6)
    check_range("privacy, delta", delta, low=1e-15, high=0.5)
    check_range("max_norm", config.max_norm, low=1e-6)
    check_range("num_seeds", config.num_seeds, low=1)


class Method(NamedTuple):
    """A way to select.

    Attributes:
        select: re-weights the pool.
        reference_fn: what the verifiers are shown in each generation.
        setup: makes what `reference_fn` takes for the silos, once.
        each: bytes between server and silos in a generation.
        once: bytes before the first.
    """

    select: SelectFn
    reference_fn: ReferenceFn
    setup: Callable[[jax.Array, Measure], Any] = lambda key, silos: silos
    each: int = 0
    once: int = 0


class Bytes(NamedTuple):
    """Sizes of the messages between the server and one silo."""

    silo: int
    """All of its data, which only the oracle sees."""
    moments: int
    """Its moments."""
    scores: int
    """The candidates, and its scores of them."""
    exchange: int
    """All supports and interpolants of a scheme."""
    partitions: int
    """The candidates, and all potentials and log-partitions of federated Sinkhorn."""
    gradients: int
    """The features, a curvature, and all coefficients and gradients of the logistic fit."""
    means: int
    """The features, and their mean over the silo."""


def message_sizes(config: Comparison, dim: int, silo_size: int) -> Bytes:
    """Count the bytes of what the functions of the exchanges take and return."""
    num_candidates = round(config.num_kept / config.budget)

    def abstract(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    def result(function, *arguments):
        return jax.eval_shape(function, *arguments)

    pool = Measure(abstract(num_candidates, dim), abstract(num_candidates))
    silo = Measure(abstract(silo_size, dim), abstract(silo_size))
    support, epsilon = abstract(config.num_support, dim), 1.0
    interpolant = result(lambda *a: interpolate(*a, Exchange(epsilon, 1.0)), silo, support)
    _, reply = result(lambda *a: silo_update(*a, epsilon), silo, silo.weights, pool, pool.weights)
    moments = result(as_moments, silo)
    features = result(
        lambda moments, pool: shared_features(jax.tree.map(lambda x: x[None], moments), pool), moments, pool
    )
    lifted = result(lift, features, silo)
    theta = result(server_start, features).theta
    sizes = {
        "silo": silo.points,
        "moments": moments,
        "scores": (pool.points, result(calibrated_gradient(epsilon), jax.random.key(0), pool, silo)),
        "exchange": [(support, interpolant)] * config.num_rounds,
        "partitions": [pool.points] + [(pool.weights, reply)] * (4 * config.num_rounds),
        "gradients": [features, result(silo_curvature, lifted)]
        + [(theta, result(silo_gradient, theta, lifted))] * config.num_gradients,
        "means": (features, result(silo_mean, features, silo)),
    }
    return Bytes(**{name: message_bytes(message) for name, message in sizes.items()})


def methods(config: Comparison, silo_size: int, truth: Moments) -> dict[str, Method]:
    """List the methods; the score is the transport gradient but where a name says otherwise.

    Args:
        config: their knobs.
        silo_size: samples of a silo, with its padding.
        truth: moments of the data that the first generator was fitted to.
    """
    n, k, s, r = config.num_kept, config.num_silos, config.num_support, config.num_rounds
    epsilon, (loss, delta) = config.epsilon * mean_cost(truth, truth), config.privacy
    size = message_sizes(config, truth.mean.shape[-1], silo_size)
    exchange, score = Exchange(epsilon, 1.0), calibrated_gradient(epsilon)
    top, bottom = (from_scores(score, aggregate(n)) for aggregate in (top_budget, bottom_budget))
    scaled = from_scores(calibrated_gradient(epsilon, config.tau), fixed_point(n))
    frame = fit_target(truth)  # known to all who know the generator's first model
    free, bounded = Features(frame, jnp.inf), Features(frame, config.max_norm)
    by_moments, by_gradients, by_tilt, by_private_tilt = (
        from_scores(ratio, soft_budget(n))
        for ratio in (
            moment_ratio(), logistic_ratio(config.num_gradients), tilted_ratio(free), tilted_ratio(bounded, 1e-2),
        )
    )  # fmt: skip

    def indifferent(key, pool, reference):
        return jnp.zeros_like(pool.weights)

    def centre(key, silos):
        return barycenter(exchange, s, r)(key, silos, None, None)

    def as_one_mixture(key, silos):
        return jax.tree.map(lambda leaf: leaf[None], silos)

    def messages(silos):
        return jax.vmap(silo_mean, in_axes=(None, 0))(free, silos)

    def means(key, silos):
        return as_one_mixture(key, messages(silos))

    def with_silos(key, silos):
        return messages(silos), silos

    def nearness(key, prepared, pool, controls):
        sent, silos = prepared
        return Nearness(sent, mixture(epsilon, 4 * r)(key, silos, pool, controls))

    def noisy_means(key, silos):
        def message(key, silo):
            mean, mass = silo_mean(bounded, silo)
            noise = noise_needed(loss, 1, delta) * 2 * config.max_norm / mass
            return FeatureMean(gaussian_mechanism(key, mean, noise), mass)

        return as_one_mixture(key, jax.vmap(message)(jax.random.split(key, k), silos))

    def unbiased(key, silos):
        """Deal a silo of the first one's size from all of them."""
        everyone = Measure(silos.points.reshape(-1, silos.points.shape[-1]), silos.weights.reshape(-1))
        size = jnp.sum(silos.weights[0] > 0)
        chosen = keep_highest(jax.random.uniform(key, everyone.weights.shape), everyone, size, silo_size)
        return as_one_mixture(key, compact(Measure(everyone.points, chosen), silo_size))

    return {
        "random": Method(from_scores(indifferent, random_budget(n)), all_silos()),
        "single silo": Method(top, single_silo(), each=size.scores),
        "bottom, single silo": Method(bottom, single_silo(), each=size.scores),
        "pooled": Method(top, pooled(), once=k * size.silo),
        "per silo": Method(from_scores(score, fixed_point(n)), all_silos(), each=k * size.scores),
        "Scheme I": Method(scaled, geodesic(exchange, config.tau, s, r), each=k * size.exchange),
        "Scheme II": Method(top, all_silos(), centre, once=k * (size.exchange + size.moments)),
        "mixture": Method(top, mixture(epsilon, 4 * r), each=k * size.partitions),
        "moment ratio": Method(by_moments, all_silos(), as_one_mixture, once=k * size.moments),
        "logistic ratio": Method(
            by_gradients, all_silos(), as_one_mixture, each=k * size.gradients, once=k * size.moments
        ),
        "tilt": Method(by_tilt, all_silos(), means, once=k * size.means),
        "balanced": Method(balanced(free, n), nearness, with_silos, each=k * size.partitions, once=k * size.means),
        "private tilt": Method(by_private_tilt, all_silos(), noisy_means, once=k * size.means),
        "center matching": Method(center_matching(n), single_silo(), once=size.moments),
        "covariance matching": Method(covariance_matching(n), single_silo(), once=size.moments),
        "k-means": Method(k_means(n), single_silo()),
        "unbiased silo": Method(top, all_silos(), unbiased),
        "no choice": Method(top, single_silo()),
    }
