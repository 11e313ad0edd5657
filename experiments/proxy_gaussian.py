"""Every reference and selector in the recursion: Gaussian silos, a Gaussian model, and the bytes that each costs."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from jaxcollapse.base import Measure, ReferenceFn, SelectFn
from jaxcollapse.batches import sampled
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.references import all_silos, pooled, single_silo
from jaxcollapse.references.barycenter import Exchange, barycenter
from jaxcollapse.references.geodesic import geodesic
from jaxcollapse.references.mixture import mixture
from jaxcollapse.selectors import calibrated_gradient, from_scores, keep_all
from jaxcollapse.selectors.aggregate import bottom_budget, soft_budget, top_budget
from jaxcollapse.selectors.density_ratio import logistic_ratio, moment_ratio
from jaxcollapse.selectors.matching import center_matching, covariance_matching, k_means
from jaxcollapse.selectors.submodular import fixed_point
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import build_collapse, record_model
from jaxcollapse.transport.sinkhorn import mean_cost
from jaxcollapse.validation import check_fit, check_names, check_range, make_controls
from jaxcollapse.workflows import accumulate

NAME = "proxy_gaussian"
RECORDED = ("trace_ratio", "mean_error", "bures_w2")
METHODS = (
    "random", "single silo", "bottom, single silo", "pooled", "per silo", "Scheme I", "Scheme II", "mixture",
    "moment ratio", "logistic ratio", "center matching", "covariance matching", "k-means",
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
        floats: numbers that travel between server and silos in a generation, and once.
    """

    select: SelectFn
    reference_fn: ReferenceFn
    setup: Callable[[jax.Array, Measure], Any]
    floats: tuple[int, int]


def methods(config: Config, epsilon) -> dict[str, Method]:
    """List the methods; the score is the transport gradient but where a name says otherwise."""
    n, k, m, d, s, r = (
        config.num_kept, config.num_silos, config.silo_size, config.dim, config.num_support, config.num_rounds,
    )  # fmt: skip
    num_candidates = round(n / config.budget)
    exchange = Exchange(epsilon, 1.0)
    score = calibrated_gradient(epsilon)
    top, bottom = (from_scores(score, aggregate(n)) for aggregate in (top_budget, bottom_budget))
    pool_and_scores = num_candidates * (d + 1)
    points = 2 * s * d * r * k

    def as_they_are(key, silos):
        return silos

    def centre(key, silos):
        return barycenter(exchange, s, r)(key, silos, None, None)

    def as_one_mixture(key, silos):
        return jax.tree.map(lambda leaf: leaf[None], silos)

    one, union_ = single_silo(), pooled()
    moments, features = 1 + d + d * d, 1 + d + d * (d + 1) // 2
    gradients = 2 * features * config.num_gradients
    per_silo = from_scores(calibrated_gradient(epsilon, config.tau), fixed_point(n))
    return {
        "random": Method(keep_all, all_silos(), as_they_are, (0, 0)),
        "single silo": Method(top, one, as_they_are, (pool_and_scores, 0)),
        "bottom, single silo": Method(bottom, one, as_they_are, (pool_and_scores, 0)),
        "pooled": Method(top, union_, as_they_are, (0, k * m * d)),
        "per silo": Method(from_scores(score, fixed_point(n)), all_silos(), as_they_are, (k * pool_and_scores, 0)),
        "Scheme I": Method(per_silo, geodesic(exchange, config.tau, s, r), as_they_are, (points, 0)),
        "Scheme II": Method(top, all_silos(), centre, (0, points + k * moments)),
        "mixture": Method(top, mixture(epsilon, 4 * r), as_they_are, (k * num_candidates * (d + 2 * 4 * r), 0)),
        "moment ratio": Method(
            from_scores(moment_ratio(), soft_budget(n)), all_silos(), as_one_mixture, (0, k * moments)
        ),
        "logistic ratio": Method(
            from_scores(logistic_ratio(config.num_gradients), soft_budget(n)),
            all_silos(),
            as_one_mixture,
            (k * gradients, k * moments),
        ),
        "center matching": Method(center_matching(n), one, as_they_are, (0, d)),
        "covariance matching": Method(covariance_matching(n), one, as_they_are, (0, moments)),
        "k-means": Method(k_means(n), one, as_they_are, (0, 0)),
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
        method = methods(config, config.epsilon * mean_cost(truth, truth))[name]
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
    check_range("num_seeds", config.num_seeds, low=1)
    check_fit(config.num_kept, config.dim)
    check_fit(config.silo_size, config.dim)
    seeds = np.arange(config.num_seeds)
    lanes = {"seed": (lane_keys(config.key, seeds), problem(config))}
    coords = {"seed": seeds, "generation": np.arange(config.num_generations + 1)}
    available = methods(config, 1.0)
    costs = {name: available[name].floats for name in config.methods}
    histories = [
        frame(parts.sweep(name, simulation(config, name), lanes, config.num_generations), tuple(coords), coords)
        for name in costs
    ]
    arrays = xr.concat(histories, pd.Index(list(costs), name="method"))
    table = arrays.to_dataframe().reset_index()
    each, once = (table.method.map({name: floats[i] for name, floats in costs.items()}) for i in (0, 1))
    table = table.assign(bytes=4 * (once + each * table.generation))
    table = table[["method", "seed", "generation", *RECORDED, "bytes"]]
    last = table[table.generation == config.num_generations].drop(columns=["seed", "generation"])
    summary = last.groupby("method", sort=False).mean().reset_index()
    return Output(arrays, table, {"last_generation": summary.to_dict("records")})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
