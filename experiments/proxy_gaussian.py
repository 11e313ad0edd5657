"""Every reference and selector in the recursion: Gaussian silos, a Gaussian model, and the bytes that each costs."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, frame, lane_keys, main
from experiments.methods import METHODS, Comparison, check_comparison, methods
from jaxcollapse.base import Measure, Moments
from jaxcollapse.batches import sampled
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import build_collapse, record_model
from jaxcollapse.validation import check_fit, make_controls
from jaxcollapse.workflows import accumulate

NAME = "proxy_gaussian"
RECORDED = ("trace_ratio", "mean_error", "bures_w2")


@dataclasses.dataclass(frozen=True)
class Config(Comparison):
    """What a verifier is shown, and how it selects, under accumulate."""

    num_generations: int = 30
    """Generations after the fit to real data."""
    num_silos: int = 5
    """Silos K, each a sample of a Gaussian of its own."""
    dim: int = 4
    """Dimension."""
    silo_size: int = 150
    """Samples m of a silo."""
    separation: float = 2.0
    """Spread of the silos' means, in standard deviations within a silo."""


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
        method = methods(config, config.silo_size, truth)[name]
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
    check_comparison(config, METHODS)
    check_fit(config.num_kept, config.dim)
    check_fit(config.silo_size, config.dim)
    seeds = np.arange(config.num_seeds)
    lanes = {"seed": (lane_keys(config.key, seeds), problem(config))}
    coords = {"seed": seeds, "generation": np.arange(config.num_generations + 1)}
    identity = Moments(jnp.ones(()), jnp.zeros(config.dim), jnp.eye(config.dim))
    available = methods(config, config.silo_size, identity)
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
