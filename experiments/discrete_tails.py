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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from jaxtyping import Array

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from jaxcollapse.base import Controls, Measure, ScoreFn
from jaxcollapse.batches import sampled
from jaxcollapse.generators import categorical
from jaxcollapse.memories import buffer_memory
from jaxcollapse.references import all_silos
from jaxcollapse.selectors import SELECTORS
from jaxcollapse.sweep import Trajectory
from jaxcollapse.theory import surviving_symbols
from jaxcollapse.trajectory import record_side_by_side, side_by_side
from jaxcollapse.validation import check_budget, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "discrete_tails"
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

    num_symbols: int = 1000
    """Symbols S of the truth."""
    exponent: float = 1.0
    """Of the Zipf law: the symbol of rank r has probability proportional to r^-exponent."""
    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that the verifier keeps, in (0, 1]."""
    num_silos: int = 2
    """Silos K that share the symbols out; the verifier's has seen those of rank K, 2K, and so on."""
    num_generations: int = 100
    """Generations after the truth."""
    num_seeds: int = 20
    """Independent simulations."""


PRESETS = {
    "smoke": {"num_symbols": 100, "num_kept": 50, "num_generations": 10, "num_seeds": 2},
    "quick": {"num_generations": 50, "num_seeds": 5},
    "paper": {},
}


class Verifier(NamedTuple):
    """What a verifier has seen, and how many candidates it is shown; one who keeps them all is none.

    Attributes:
        seen: of each symbol, one or zero, shape [S].
        controls: n and N.
    """

    seen: Array
    controls: Controls


def problem(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """List the probabilities of the truth, and which symbols the silo has seen."""
    rank = np.arange(1, config.num_symbols + 1)
    mass = rank**-config.exponent
    return mass / mass.sum(), rank % config.num_silos == 0


def membership(num_symbols: int) -> ScoreFn:
    """Score a candidate one where the reference has its symbol, and zero elsewhere."""

    def score(key, pool: Measure, reference: Measure):
        seen = categorical(num_symbols).init(key, reference) > 0
        return seen[pool.points[:, 0].astype(jnp.int32)].astype(pool.points.dtype)

    return score


def simulation(config: Config) -> Callable[..., Trajectory]:
    """Make the builder of trajectories, all workflows side by side; the symbols that a verifier knows are masses."""
    n, num_candidates = config.num_kept, round(config.num_kept / config.budget)
    truth = jnp.float32(problem(config)[0])
    generator, symbols = (
        categorical(config.num_symbols),
        jnp.arange(config.num_symbols, dtype=truth.dtype)[None, :, None],
    )
    select = SELECTORS["top"](membership(config.num_symbols), n)
    capacity = {"replace": n}
    workflows = [WORKFLOWS[name](buffer_memory(capacity.get(name, n * config.num_generations), n)) for name in THEORY]

    def record(key, state, info):
        known = state.params > 0
        return {"symbols": jnp.sum(known), "lost_mass": truth @ ~known}

    def build(verifier: Verifier, seed) -> Trajectory:
        silo = Measure(symbols, verifier.seen[None])
        collapse = side_by_side(generator, sampled(generator, select, all_silos(), silo, num_candidates), workflows)
        return Trajectory(seed, collapse, truth, verifier.controls, record_side_by_side(record))

    return build


def prediction(config: Config, verifier: str) -> xr.Dataset:
    """Evaluate the theory of every workflow; after the first generation that of a verifier is of its silo's law."""
    truth, seen = problem(config)
    law = truth * seen if verifier == "silo" else truth
    survival = [theory(law / law.sum(), config.num_kept, config.num_generations) for theory in THEORY.values()]
    survival = np.stack(survival, axis=1)
    survival[0] = 1
    dims = ("generation", "workflow")
    return xr.Dataset({"symbols": (dims, survival.sum(-1)), "lost_mass": (dims, (1 - survival) @ truth)})


def run(config: Config, parts: Parts) -> Output:
    """Simulate every workflow, with the verifier and without, and predict it."""
    check_budget(config.budget)
    check_range("num_silos", config.num_silos, low=1, high=config.num_symbols)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_seeds", config.num_seeds, low=1)
    truth, seen = problem(config)
    held = scipy.stats.binom.ppf(1e-6, round(config.num_kept / config.budget), truth[seen].sum())
    # The theory wants n candidates of the silo's.
    check_range("num_kept", config.num_kept, low=2, high=held)
    seeds = np.arange(config.num_seeds)
    keys = lane_keys(config.key, seeds)
    coords = {
        "verifier": list(VERIFIERS),
        "seed": seeds,
        "generation": np.arange(config.num_generations + 1),
        "workflow": list(THEORY),
    }

    verifiers = (
        Verifier(jnp.ones(config.num_symbols), make_controls(config.num_kept)),
        Verifier(jnp.float32(seen), make_controls(config.num_kept, config.budget)),
    )
    axes = {"verifier": jax.tree.map(lambda *leaves: jnp.stack(leaves), *verifiers), "seed": keys}
    history = parts.sweep("verifiers", simulation(config), axes, config.num_generations)
    theory = xr.concat([prediction(config, name) for name in VERIFIERS], "verifier")
    pair = [frame(history, tuple(coords), coords), theory.expand_dims(seed=seeds).assign_coords(coords)]
    arrays = xr.concat(pair, pd.Index(["simulation", "theory"], name="source"))

    table = arrays.to_dataframe().reset_index()
    table = table[["workflow", "verifier", "seed", "generation", *RECORDED, "source"]]
    last = table[table.generation == config.num_generations]
    final = last.groupby(["source", "workflow", "verifier"]).symbols.mean()
    return Output(arrays, table, {"final_mean_symbols": {" / ".join(labels): float(v) for labels, v in final.items()}})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
