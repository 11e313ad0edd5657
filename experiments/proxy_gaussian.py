"""Every reference and selector in the recursion: Gaussian silos, a Gaussian model, and the bytes that each costs."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from jaxcollapse.base import Measure, Moments, ReferenceFn, SelectFn
from jaxcollapse.batches import sampled
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.privacy import gaussian_mechanism, message_bytes, noise_needed
from jaxcollapse.references import all_silos, pooled, single_silo
from jaxcollapse.references.barycenter import Exchange, barycenter, interpolate
from jaxcollapse.references.geodesic import geodesic
from jaxcollapse.references.mixture import mixture, silo_update
from jaxcollapse.selectors import calibrated_gradient, from_scores, keep_all
from jaxcollapse.selectors.aggregate import bottom_budget, soft_budget, top_budget
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
from jaxcollapse.sweep import Trajectory
from jaxcollapse.targets import fit_target
from jaxcollapse.trajectory import build_collapse, record_model
from jaxcollapse.transport.sinkhorn import mean_cost
from jaxcollapse.validation import check_fit, check_names, check_range, make_controls
from jaxcollapse.workflows import accumulate

NAME = "proxy_gaussian"
RECORDED = ("trace_ratio", "mean_error", "bures_w2")
METHODS = (
    "random", "single silo", "bottom, single silo", "pooled", "per silo", "Scheme I", "Scheme II", "mixture",
    "moment ratio", "logistic ratio", "tilt", "private tilt",
    "center matching", "covariance matching", "k-means",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """What a verifier is shown, and how it selects, under accumulate."""

    methods: tuple[str, ...] = METHODS
    """Ways to select."""
    num_kept: int = 150
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 30
    """Generations after the fit to real data."""
    dim: int = 4
    """Dimension."""
    num_silos: int = 5
    """Silos K, each a sample of a Gaussian of its own."""
    silo_size: int = 150
    """Samples m of a silo."""
    separation: float = 2.0
    """Spread of the silos' means, in standard deviations within a silo."""
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


PRESETS = {
    "smoke": {
        "methods": ("random", "Scheme I", "mixture", "logistic ratio"),
        "num_kept": 20,
        "num_generations": 2,
        "silo_size": 12,
        "num_support": 10,
        "num_rounds": 2,
        "num_seeds": 2,
    },
    "quick": {
        "methods": ("random", "single silo", "Scheme I", "Scheme II", "mixture", "tilt"),
        "num_kept": 80,
        "num_generations": 12,
        "silo_size": 60,
        "num_support": 50,
        "num_rounds": 5,
        "num_seeds": 3,
    },
    "paper": {},
}


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


def message_sizes(config: Config) -> Bytes:
    """Count the bytes of what the functions of the exchanges take and return."""
    dim, num_candidates = config.dim, round(config.num_kept / config.budget)

    def abstract(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    def result(function, *arguments):
        return jax.eval_shape(function, *arguments)

    pool = Measure(abstract(num_candidates, dim), abstract(num_candidates))
    silo = Measure(abstract(config.silo_size, dim), abstract(config.silo_size))
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


def methods(config: Config, truth: Moments) -> dict[str, Method]:
    """List the methods; the score is the transport gradient but where a name says otherwise."""
    n, k, s, r = config.num_kept, config.num_silos, config.num_support, config.num_rounds
    epsilon, (loss, delta) = config.epsilon * mean_cost(truth, truth), config.privacy
    size, exchange, score = message_sizes(config), Exchange(epsilon, 1.0), calibrated_gradient(epsilon)
    top, bottom = (from_scores(score, aggregate(n)) for aggregate in (top_budget, bottom_budget))
    scaled = from_scores(calibrated_gradient(epsilon, config.tau), fixed_point(n))
    frame = fit_target(truth)  # known to all who know the generator's first model
    free, bounded = Features(frame, jnp.inf), Features(frame, config.max_norm)
    by_moments, by_gradients, by_tilt, by_private_tilt = (
        from_scores(ratio, soft_budget(n))
        for ratio in (
            moment_ratio(), logistic_ratio(config.num_gradients), tilted_ratio(free), tilted_ratio(bounded, 1e-2)
        )
    )  # fmt: skip

    def centre(key, silos):
        return barycenter(exchange, s, r)(key, silos, None, None)

    def as_one_mixture(key, silos):
        return jax.tree.map(lambda leaf: leaf[None], silos)

    def means(key, silos):
        return as_one_mixture(key, jax.vmap(silo_mean, in_axes=(None, 0))(free, silos))

    def noisy_means(key, silos):
        def message(key, silo):
            mean, mass = silo_mean(bounded, silo)
            sensitivity = 2 * config.max_norm / config.silo_size
            return FeatureMean(gaussian_mechanism(key, mean, noise_needed(loss, 1, delta) * sensitivity), mass)

        return as_one_mixture(key, jax.vmap(message)(jax.random.split(key, k), silos))

    return {
        "random": Method(keep_all, all_silos()),
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
        "private tilt": Method(by_private_tilt, all_silos(), noisy_means, once=k * size.means),
        "center matching": Method(center_matching(n), single_silo(), once=size.moments),
        "covariance matching": Method(covariance_matching(n), single_silo(), once=size.moments),
        "k-means": Method(k_means(n), single_silo()),
    }


def problem(config: Config) -> Measure:
    """Draw the silos of every seed, [seed, K, m, d]."""
    silos = []
    for seed in range(config.num_seeds):
        rng = np.random.default_rng([config.key, seed])
        means = config.separation * rng.standard_normal((config.num_silos, 1, config.dim))
        roots = rng.standard_normal((config.num_silos, config.dim, config.dim)) / np.sqrt(config.dim)
        noise = rng.standard_normal((config.num_silos, config.silo_size, config.dim))
        silos.append(means + noise @ (roots + 0.5 * np.eye(config.dim)))
    return uniform_measure(np.float32(silos))


def simulation(config: Config, name: str) -> Callable[..., Trajectory]:
    """Make the builder of one method's trajectories."""
    budget = 1.0 if name == "random" else config.budget
    controls = make_controls(config.num_kept, budget, temperature=1.0)

    def build(seed) -> Trajectory:
        key, silos = seed
        truth = union(jax.vmap(as_moments)(silos))
        method = methods(config, truth)[name]
        setup_key, run_key = jax.random.split(key)
        batch_fn = sampled(
            gaussian(), method.select, method.reference_fn, method.setup(setup_key, silos), int(controls.num_candidates)
        )
        collapse = build_collapse(gaussian(), batch_fn, accumulate(moments_memory()))
        metrics = {metric: METRICS[metric] for metric in RECORDED}
        return Trajectory(run_key, collapse, truth, controls, record_model(metrics, truth))

    return build


def run(config: Config, parts: Parts) -> Output:
    """Run every method on every problem."""
    check_names("methods", config.methods, METHODS)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_silos", config.num_silos, low=1)
    check_range("epsilon", config.epsilon, low=1e-6)
    check_range("tau", config.tau, low=1e-3, high=1 - 1e-3)
    loss, delta = config.privacy
    check_range("privacy, epsilon", loss, low=1e-6)
    check_range("privacy, delta", delta, low=1e-15, high=0.5)
    check_range("max_norm", config.max_norm, low=1e-6)
    check_range("num_seeds", config.num_seeds, low=1)
    check_fit(config.num_kept, config.dim)
    check_fit(config.silo_size, config.dim)
    seeds = np.arange(config.num_seeds)
    lanes = {"seed": (lane_keys(config.key, seeds), problem(config))}
    coords = {"seed": seeds, "generation": np.arange(config.num_generations + 1)}
    identity = Moments(jnp.ones(()), jnp.zeros(config.dim), jnp.eye(config.dim))
    available = methods(config, identity)
    histories = [
        frame(parts.sweep(name, simulation(config, name), lanes, config.num_generations), tuple(coords), coords)
        for name in config.methods
    ]
    arrays = xr.concat(histories, pd.Index(list(config.methods), name="method"))
    table = arrays.to_dataframe().reset_index()
    each, once = (table.method.map({m: getattr(available[m], part) for m in available}) for part in ("each", "once"))
    table = table.assign(bytes=once + each * table.generation)
    table = table[["method", "seed", "generation", *RECORDED, "bytes"]]
    last = table[table.generation == config.num_generations].drop(columns=["seed", "generation"])
    summary = last.groupby("method", sort=False).mean().reset_index()
    return Output(arrays, table, {"last_generation": summary.to_dict("records")})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
