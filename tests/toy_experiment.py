"""An experiment of a moment's work, with two checkpoints, for tests of what runs experiments."""

import dataclasses

import jax.numpy as jnp
import xarray as xr

from jaxcollapse.experiments.support.runner import Output, Runner, Settings


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A toy."""

    size: int = 4
    """Numbers."""


PRESETS = {"smoke": {}, "quick": {"size": 5}, "paper": {"size": 6}}


def run(config: Config, runner: Runner) -> Output:
    """Square numbers, then add them up."""
    runner.expect(2)
    squares = runner.once("squares", lambda x: x**2, jnp.arange(config.size) + config.seed)
    total = runner.once("total", lambda x: x.sum(), squares)
    return Output(xr.Dataset({"squares": ("number", squares)}), {"total": int(total), "nothing": float("inf")})
