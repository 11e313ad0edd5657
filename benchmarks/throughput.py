"""Trajectories times generations a second, by lanes, and two limits: random numbers alone, bytes alone."""

import dataclasses
from collections.abc import Callable
from time import perf_counter as now

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import draws, seconds
from jaxcollapse.base import Moments, Run
from jaxcollapse.gaussian.top import proposals_needed, top_of_gaussian
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


def moves(size: int, num_generations: int, lanes: int) -> Callable[[], object]:
    """Compile a scan that only writes and reads so many numbers in each generation."""

    def trajectory(numbers):
        return jax.lax.scan(lambda x, _: (x + 1, None), numbers, length=num_generations)[0]

    numbers = jnp.zeros((lanes, size))
    program = jax.jit(trajectory).lower(numbers).compile()
    return lambda: jax.block_until_ready(program(numbers))


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
        "bytes alone", "share",
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
        size = proposals_needed(config.num_kept, config.budget, config.dim) * (config.dim + 1)
        limits = []
        for program in alone, moves(size, config.num_generations, width):
            program()
            limits.append(seconds(program) * layout["chunks"])
        shares = [text for limit in limits for text in (f"{limit:.2f}", f"{limit / whole:.0%}")]
        table.add_row(
            f"{lanes:,}", f"{width:,} x {layout['devices']}", f"{whole:.2f}",
            f"{lanes * config.num_generations / whole:,.0f}", *shares,
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
