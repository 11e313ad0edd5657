"""An experiment of two small sweeps and what is computed between them, for tests of shards and of kills."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxcollapse.base import Collapse, Info, Run, State
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import along, seeds


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Random walks."""

    scales: tuple[float, ...] = (0.5, 2.0)
    """Lengths of a step."""
    num_seeds: int = 4
    """Walks of each."""
    num_generations: int = 60
    """Steps."""
    pair: tuple[tuple[int, float], ...] = ((1, 2.0),)
    """What JSON turns into lists."""
    place: Path = Path("nowhere")
    """What it turns into text."""


PRESETS = {"smoke": {}, "quick": {"num_seeds": 5}, "paper": {"num_seeds": 6}}


def walk(num_generations: int):
    """Make the builder of walks, which count their steps that are long."""

    def build(scale, seed, start) -> Run:
        def init(params, sizes):
            return State(jnp.int32(0), params, ())

        def step(key, state, sizes):
            by = jax.random.normal(key)
            trouble = {"large steps": (jnp.abs(by) > 2.0).astype(jnp.int32), "largest": jnp.abs(by)}
            return State(state.generation + 1, state.params + scale * by, ()), Info((), (), trouble)

        bounds = sizes(1, 1.0, num_generations)
        return Run(seed, Collapse(init, step), start, bounds, lambda key, state, info: {"place": state.params})

    return build


def run(config: Config, runner: Runner) -> Output:
    """Walk twice, from zero and from one."""
    runner.expect(3)
    axes = {"scale": config.scales, "seed": seeds(config.num_seeds, config.seed)}
    first = runner.sweep("first", walk(config.num_generations), axes, fixed={"start": jnp.float32(0)})
    total = runner.once("total", lambda x: x.sum(), jnp.asarray(first.place.values))
    second = runner.sweep("second", walk(config.num_generations), axes, fixed={"start": jnp.float32(1)})
    return Output(along("part", {"first": first, "second": second}), {"total": float(total)})
