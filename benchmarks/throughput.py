"""Trajectories times generations a second beside the random numbers alone, by lanes. `benchmarks/gpu.sh` prints it."""

import dataclasses
from time import perf_counter as now

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import draws, seconds
from jaxcollapse.base import Moments, Run
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.record import record_model
from jaxcollapse.recursion import build_collapse
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import seeds, sweep
from jaxcollapse.targets import isotropic_target
from jaxcollapse.workflows import accumulate


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Accumulated selections of a Gaussian."""

    num_lanes: tuple[int, ...] = (100, 1000)
    """Trajectories of each sweep."""
    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share of candidates kept."""
    dim: int = 10
    """Dimensions."""
    num_generations: int = 20
    """Generations."""


def main() -> None:
    """Print the table."""
    config = tyro.cli(Benchmark)
    truth = Moments(jnp.float32(1), jnp.zeros(config.dim), jnp.eye(config.dim))
    target = isotropic_target(jnp.full(config.dim, 0.5))
    recursion = sizes(config.num_kept, config.budget, config.num_generations)

    def build(seed) -> Run:
        collapse = build_collapse(gaussian(), top_of_gaussian(target), accumulate(moments_memory()))
        return Run(seed, collapse, truth, recursion, record_model({"trace_ratio": trace_ratio}, truth))

    table = Table(
        "trajectories", "at once", "seconds", "trajectories x generations a second", "random numbers alone", "share",
        title=f"n = {config.num_kept}, budget {config.budget:g}, {config.dim} dimensions, {config.num_generations} "
        f"generations, {jax.device_count()} of {jax.devices()[0].device_kind}, jax {jax.__version__}",
    )  # fmt: skip
    for lanes in config.num_lanes:
        clock = {}
        layout = sweep(
            build, {"seed": seeds(lanes)}, progress=lambda *told, c=clock: c.setdefault(told[2], now())
        ).layout
        whole, width = now() - clock["running"], layout["lanes_per_device"]
        alone = draws(config.num_kept, config.budget, config.dim, config.num_generations, seeds(width).values)
        alone()
        limit = seconds(alone) * layout["chunks"]
        table.add_row(
            f"{lanes:,}", f"{width:,} x {layout['devices']}", f"{whole:.2f}",
            f"{lanes * config.num_generations / whole:,.0f}", f"{limit:.2f}", f"{limit / whole:.0%}",
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
