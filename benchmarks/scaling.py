"""Cost of a recursion against its sizes, with fitted exponents. `make bench` prints it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import seconds
from jaxcollapse.base import Moments
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.record import record_model
from jaxcollapse.recursion import build_collapse, run
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import seeds
from jaxcollapse.targets import isotropic_target
from jaxcollapse.workflows import accumulate


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Accumulated selections of a Gaussian, of which one size is varied at a time."""

    num_kept: tuple[int, ...] = (500, 1000, 2000, 4000)
    """Samples n kept in each generation; the first of each size stands while others are varied."""
    dim: tuple[int, ...] = (10, 20, 40, 80)
    """Dimensions d."""
    num_generations: tuple[int, ...] = (25, 50, 100, 200)
    """Generations T."""
    num_lanes: tuple[int, ...] = (8, 16, 32, 64)
    """Trajectories side by side."""
    budget: float = 0.05
    """Share of candidates kept."""
    repeats: int = 5
    """Runs of compiled programs; the fastest counts."""


def cost(config: Benchmark, num_kept: int, dim: int, num_generations: int, num_lanes: int) -> float:
    """Compile a recursion, and time it."""
    truth = Moments(jnp.float32(1), jnp.zeros(dim), jnp.eye(dim))
    collapse = build_collapse(
        gaussian(), top_of_gaussian(isotropic_target(jnp.full(dim, 0.5))), accumulate(moments_memory())
    )
    size, record = sizes(num_kept, config.budget, num_generations), record_model({"trace_ratio": trace_ratio}, truth)
    keys = seeds(num_lanes).values
    program = jax.jit(jax.vmap(lambda key: run(key, collapse, truth, size, record)[1])).lower(keys).compile()
    return min(seconds(lambda: jax.block_until_ready(program(keys))) for _ in range(1 + config.repeats))


def main() -> None:
    """Print the table."""
    config = tyro.cli(Benchmark)
    axes = {name: getattr(config, name) for name in ("num_kept", "dim", "num_generations", "num_lanes")}
    first = {name: values[0] for name, values in axes.items()}
    base = cost(config, **first)
    table = Table(
        "size", "values", "milliseconds", "exponent", "95% interval",
        title=f"cost where other sizes are {', '.join(f'{name} {value}' for name, value in first.items())}",
    )  # fmt: skip
    for name, values in axes.items():
        costs = [base] + [cost(config, **first | {name: value}) for value in values[1:]]
        (slope, _), covariance = np.polyfit(np.log(values), np.log(costs), 1, cov=True)
        half = scipy.stats.t.ppf(0.975, len(values) - 2) * covariance[0, 0] ** 0.5
        table.add_row(
            name, ", ".join(map(str, values)), ", ".join(f"{1e3 * c:.0f}" for c in costs),
            f"{slope:.2f}", f"{slope - half:.2f} to {slope + half:.2f}",
        )  # fmt: skip
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
