"""Speed and error of moments in single precision beside plain sums, in one run. `make bench` prints it."""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import seconds
from jaxcollapse.base import Measure, Moments
from jaxcollapse.measures import as_moments


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is timed."""

    shapes: tuple[tuple[int, int, int], ...] = ((10, 500, 10), (1, 500, 10), (1, 10_000, 10), (1, 1_000_000, 10))
    """Measures side by side, points of each, dimensions."""
    mean: float = 100.0
    """Of standard normal points, from the origin."""
    mass: float = 0.1
    """Of every point."""
    repeats: int = 15
    """Timings, in turns; the median is printed."""
    per_timing: int = 2_000_000
    """Numbers read for each timing, at least."""


def plain(data: Measure) -> Moments:
    """Reduce data to moments by sums as they stand."""
    w = data.weights / data.weights.sum()
    mean = w @ data.points
    centred = data.points - mean
    return Moments(data.weights.sum(), mean, (w[:, None] * centred).T @ centred)


def errors(found: Moments, data: Measure) -> tuple[float, float]:
    """Compare with double precision: the mean in units of its size or the spread's, covariances in units of spreads."""
    x, w = (np.asarray(leaf, np.float64) for leaf in data)
    mean, covariance = np.average(x, axis=0, weights=w), np.atleast_2d(np.cov(x.T, aweights=w, ddof=0))
    spread = np.sqrt(np.diagonal(covariance))
    of_mean = np.abs(found.mean - mean) / np.maximum(np.abs(mean), spread)
    return of_mean.max(), (np.abs(found.covariance - covariance) / np.outer(spread, spread)).max()


def main() -> None:
    """Print the table."""
    benchmark = tyro.cli(Benchmark)
    jax.config.update("jax_enable_compilation_cache", False)
    table = Table(
        "measures, points, dimensions", "plain sums", "here", "ratio",
        "error of the mean", "here", "of covariances", "here",
        title=f"microseconds a call, mean {benchmark.mean:g}, masses {benchmark.mass:g}, jax {jax.__version__}",
    )  # fmt: skip
    for lanes, size, dim in benchmark.shapes:
        points = benchmark.mean + np.random.default_rng(0).standard_normal((lanes, size, dim))
        data = Measure(jnp.float32(points), jnp.full((lanes, size), benchmark.mass, jnp.float32))
        calls = max(1, benchmark.per_timing // points.size)
        programs = [jax.jit(jax.vmap(f)).lower(data).compile() for f in (plain, as_moments)]

        def repeat(program, calls=calls, data=data):
            for _ in range(calls - 1):
                program(data)
            return jax.block_until_ready(program(data))

        times = [
            [seconds(lambda p=program: repeat(p)) / calls for program in programs] for _ in range(benchmark.repeats)
        ]
        medians = [1e6 * statistics.median(column) for column in zip(*times, strict=True)]
        first = jax.tree.map(lambda leaf: leaf[0], data)
        found = [errors(jax.tree.map(lambda leaf: np.asarray(leaf[0]), program(data)), first) for program in programs]
        (of_mean, of_covariance), (mean_here, covariance_here) = found
        table.add_row(
            f"{lanes} x {size} x {dim}", *(f"{t:.0f}" for t in medians), f"{medians[1] / medians[0]:.2f}x",
            f"{of_mean:.1e}", f"{mean_here:.1e}", f"{of_covariance:.1e}", f"{covariance_here:.1e}",
        )  # fmt: skip
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
