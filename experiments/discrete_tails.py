"""The tail of a Zipf law: which symbols each workflow still knows, with and without a biased verifier.

The verifier prefers candidates whose symbol its silo has seen, and takes them as they come. Log-probabilities under the
silo would be sharper than that: among many candidates the best n are copies of the silo's few most frequent symbols,
one generation ends the recursion in every workflow, and what the silo has not seen plays no part. Preference by
membership isolates that part, and leaves a theory without parameters: while the candidates hold n of the silo's
symbols, what is kept are draws from the truth conditioned on the silo's symbols, in the first generation and in all.
Theory is exact for replace and accumulate, and a lower bound on the symbols of accumulate_subsample.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Array

from jaxcollapse.base import Measure, Run
from jaxcollapse.checks import check_range
from jaxcollapse.experiments.support.ranges import Count, NumSeeds, NumSilos, Range, Share
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.generators import categorical
from jaxcollapse.memories import buffer_memory
from jaxcollapse.record import record_side_by_side
from jaxcollapse.recursion import sample_and_select, side_by_side
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.theory import surviving_symbols
from jaxcollapse.tree import closure
from jaxcollapse.workflows import WORKFLOWS

THEORY = {
    "replace": surviving_symbols.replace,
    "accumulate": surviving_symbols.accumulate,
    "accumulate_subsample": surviving_symbols.accumulate_subsample,
}
VERIFIERS = ("none", "silo")
RECORDED = ("symbols", "lost_mass")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Surviving symbols of a categorical model, and the truth's mass on those that are lost."""

    num_symbols: Count = 1000
    """Symbols S of the truth."""
    exponent: Annotated[float, Range(0.0, 10.0)] = 1.0
    """Of the Zipf law: the symbol of rank r has probability proportional to r^-exponent."""
    num_kept: Count = 500
    """Samples n kept in each generation."""
    budget: Share = 0.25
    """Share n / N of the candidates that the verifier keeps, in (0, 1]."""
    num_silos: NumSilos = 2
    """Silos K that share the symbols out; the verifier's has seen those of rank K, 2K, and so on."""
    num_generations: Count = 100
    """Generations after the truth."""
    num_seeds: NumSeeds = 20
    """Independent simulations."""


PRESETS = {
    "smoke": {"num_symbols": 100, "num_kept": 50, "num_generations": 10, "num_seeds": 2},
    "quick": {"num_generations": 50, "num_seeds": 5},
    "paper": {},
}


@closure
class membership:
    """Score a candidate one where the verifier has seen its symbol, and zero elsewhere.

    Attributes:
        seen: of each symbol, one or zero, shape [S].
    """

    seen: Array

    def __call__(self, key, pool: Measure) -> Array:
        return self.seen[pool.points[:, 0].astype(jnp.int32)]


def problem(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """List the probabilities of the truth, and the symbols that each verifier has seen; who has seen all is none."""
    rank = np.arange(1, config.num_symbols + 1)
    mass = rank**-config.exponent
    return mass / mass.sum(), np.stack([rank > 0, rank % config.num_silos == 0])


def simulation(config: Config) -> Callable[..., Run]:
    """Make the builder of runs, all workflows side by side."""
    truth, generator = config.dtype(problem(config)[0]), categorical(config.num_symbols)
    workflows = [WORKFLOWS[name](buffer_memory()) for name in THEORY]

    def record(key, state, info):
        known = state.params > 0
        return {"symbols": jnp.sum(known), "lost_mass": truth @ ~known}

    def build(verifier, seed) -> Run:
        seen, recursion = verifier
        collapse = side_by_side(generator, sample_and_select(generator, top(membership(seen))), workflows)
        return Run(seed, collapse, truth, recursion, record_side_by_side(record))

    return build


def prediction(config: Config, truth: np.ndarray, seen: np.ndarray) -> xr.Dataset:
    """Evaluate the theory of every workflow; after the first generation that of a verifier is of its silo's law."""
    law = truth * seen / (truth * seen).sum()
    survival = [theory(law, config.num_kept, config.num_generations) for theory in THEORY.values()]
    survival = np.stack(survival, axis=1)
    survival[0] = 1
    dims = ("generation", "workflow")
    return xr.Dataset({"symbols": (dims, survival.sum(-1)), "lost_mass": (dims, (1 - survival) @ truth)})


def run(config: Config, runner: Runner) -> Output:
    """Simulate every workflow, with the verifier and without, and predict it."""
    check_range("num_silos", config.num_silos, low=1, high=config.num_symbols)
    truth, seen = problem(config)
    held = scipy.stats.binom.ppf(1e-6, round(config.num_kept / config.budget), truth[seen[-1]].sum())
    # The theory wants n candidates of the silo's.
    check_range("num_kept", config.num_kept, low=2, high=held)
    runner.expect(1)

    recursions = sizes(config.num_kept, (1.0, config.budget), config.num_generations)
    axes = {
        "verifier": Axis(VERIFIERS, (jnp.float32(seen), recursions)),
        "seed": seeds(config.num_seeds, config.seed),
    }
    options = {"dims": dict.fromkeys(RECORDED, ("workflow",)), "coords": {"workflow": list(THEORY)}}
    simulated = runner.sweep("verifiers", simulation(config), axes, **options)
    predicted = {name: prediction(config, truth, known) for name, known in zip(VERIFIERS, seen, strict=True)}
    arrays = along("source", {"simulation": simulated, "theory": along("verifier", predicted)})

    final = arrays.symbols.isel(generation=-1).mean("seed").transpose("source", "workflow", "verifier").to_series()
    return Output(arrays, {"final_mean_symbols": {" / ".join(k): float(v) for k, v in final.items()}})
