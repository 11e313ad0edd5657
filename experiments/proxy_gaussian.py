"""Every verifier in the recursion: Gaussian silos, a Gaussian model, and the bytes that each costs."""

import dataclasses
from typing import Annotated

import jax
import numpy as np
import xarray as xr

from jaxcollapse.base import Measure, Run
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.comparison import Comparison, Verifiers, settings
from jaxcollapse.experiments.support.ranges import Count, Dim, NumSilos, Range
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.record import record_model
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.tree import row
from jaxcollapse.verifiers import VERIFIERS, verifier, verifier_bytes
from jaxcollapse.workflows import accumulate

RECORDED = ("trace_ratio", "mean_error", "bures_w2")


@dataclasses.dataclass(frozen=True)
class Config(Comparison):
    """What a verifier is shown, and how it selects, under accumulate."""

    verifiers: Verifiers = tuple(v for v in VERIFIERS if v not in ("unbiased_silo", "keep_all"))
    """Ways to select."""
    num_generations: Count = 30
    """Generations after the fit to real data."""
    num_silos: NumSilos = 5
    """Silos K, each a sample of a Gaussian of its own."""
    dim: Dim = 4
    """Dimension."""
    silo_size: Count = 150
    """Samples m of a silo."""
    separation: Annotated[float, Range(0.0, 1e3)] = 2.0
    """Spread of the silos' means, in standard deviations within a silo."""


PRESETS = {
    "smoke": {
        "verifiers": ("random", "federated_sinkhorn"),
        "num_kept": 20,
        "num_generations": 2,
        "silo_size": 12,
        "num_support": 10,
        "num_rounds": 2,
        "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("random", "single_silo", "scheme_ii", "federated_sinkhorn", "tilt"),
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
        rng = np.random.default_rng([config.seed, seed])
        means = config.separation * rng.standard_normal((config.num_silos, 1, config.dim))
        roots = rng.standard_normal((config.num_silos, config.dim, config.dim)) / np.sqrt(config.dim)
        noise = rng.standard_normal((config.num_silos, config.silo_size, config.dim))
        silos.append(means + noise @ (roots + 0.5 * np.eye(config.dim)))
    return uniform_measure(np.float32(silos))


def simulate(config: Config, runner: Runner, silos: Measure, name: str) -> xr.Dataset:
    """Run one verifier on every problem, and count the bytes that it has cost by each generation."""
    budget = 1.0 if name in ("random", "keep_all") else config.budget
    recursion = sizes(config.num_kept, budget, config.num_generations, temperature=1.0)
    metrics = {metric: METRICS[metric] for metric in RECORDED}

    def prepare(seed):
        key, silos = seed
        return {"select": verifier(name, silos, jax.random.split(key)[0], **settings(config))}

    def build(seed, select) -> Run:
        key, silos = seed
        truth = union(as_moments(silos))
        collapse = build_collapse(gaussian(), sample_and_select(gaussian(), select), accumulate(moments_memory()))
        return Run(jax.random.split(key)[1], collapse, truth, recursion, record_model(metrics, truth))

    labels, keys = seeds(config.num_seeds, config.seed)
    history = runner.sweep(name, build, {"seed": Axis(labels, (keys, silos))}, prepare=prepare)
    (before, one), (_, two) = (
        verifier_bytes(name, row(silos, 0), recursion.max_candidates, max_rounds=rounds, **settings(config))
        for rounds in (1, 2)
    )
    later = history.get("exchange_rounds", 1 + 0 * history.trace_ratio) - 1  # rounds of a generation after the first
    each = (one + (two - one) * later).where(history.generation > 0, 0)
    return history.assign(bytes=before + each.astype(float).cumsum("generation"))  # netCDF has no longer integers


def run(config: Config, runner: Runner) -> Output:
    """Run every verifier on every problem."""
    check_fit(config.num_kept, config.dim)
    check_fit(config.silo_size, config.dim)
    runner.expect(len(config.verifiers))
    silos = problem(config)
    arrays = along("verifier", {name: simulate(config, runner, silos, name) for name in config.verifiers})
    last = arrays.isel(generation=-1, drop=True).mean("seed").to_dataframe()
    return Output(arrays, {"last_generation": last.reset_index().to_dict("records")})
