"""Speed of transport beside the libraries that users would pick, in one run: `make bench` prints it."""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as ott_sinkhorn
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import seconds
from jaxcollapse.base import Measure, counted
from jaxcollapse.measures import uniform_measure
from jaxcollapse.selectors import submodular, submodular_greedy
from jaxcollapse.selectors.submodular import min_max, objective
from jaxcollapse.sizes import sizes
from jaxcollapse.transport.sinkhorn import TOLERANCE, mean_cost, sinkhorn
from jaxcollapse.tree import closure


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Potentials of one problem, solved to the same marginal error by all, and the choice of a kept set."""

    num_candidates: int = 6000
    """Points N of the source."""
    num_reference: int = 1000
    """Points M of the target."""
    dim: int = 32
    """Dimension."""
    epsilons: tuple[float, ...] = (0.05, 0.01)
    """Regularisations, relative to the mean cost."""
    max_sweeps: int = 500
    """Sweeps of the other solvers at most."""
    repeats: int = 5
    """Runs, in turns; the median is printed. Peers that take seconds run twice."""
    num_scored: int = 20_000
    """Candidates of the aggregation."""
    num_chosen: int = 5_000
    """Candidates that it keeps."""
    num_silos: int = 10
    """Scores of each."""


def problem(config: Benchmark) -> tuple[Measure, Measure]:
    """Draw both measures, with random masses."""
    rng = np.random.default_rng(0)

    def draw(size, shift):
        points = shift + rng.standard_normal((size, config.dim))
        masses = 0.1 + rng.gamma(2, size=size)
        return Measure(jnp.float32(points), jnp.float32(masses / masses.sum()))

    return draw(config.num_candidates, 0.5), draw(config.num_reference, 0)


def solvers(
    config: Benchmark, source: Measure, target: Measure, epsilon: float
) -> dict[str, tuple[str, Callable, Callable]]:
    """List the solvers, each with the package that it needs, a call, and what makes a plan of its result."""
    x, y, a, b = (
        np.asarray(leaf, np.float64) for leaf in (source.points, target.points, source.weights, target.weights)
    )
    cost = np.maximum(np.sum(x**2, 1)[:, None] + np.sum(y**2, 1) - 2 * x @ y.T, 0)

    @jax.jit
    def ours(source, target):
        potentials = sinkhorn(source, target, epsilon)
        return potentials.f, potentials.g

    @jax.jit
    def ott_dense(source, target):
        squares = (jnp.sum(m.points**2, axis=1) for m in (source, target))
        cross = jnp.matmul(source.points, target.points.T, precision="highest")
        geom = geometry.Geometry(next(squares)[:, None] + next(squares) - 2 * cross, epsilon=epsilon)
        solve = ott_sinkhorn.Sinkhorn(threshold=TOLERANCE, max_iterations=config.max_sweeps)
        out = solve(linear_problem.LinearProblem(geom, source.weights, target.weights))
        return out.f - epsilon * jnp.log(source.weights), out.g - epsilon * jnp.log(target.weights)

    def geomloss_tensorized():
        import torch
        from geomloss._legacy.sinkhorn_divergence import log_weights
        from geomloss._legacy.sinkhorn_samples import cost_routines, softmin_tensorized

        tensors = [torch.tensor(v, dtype=torch.float32)[None] for v in (x, y, a, b)]
        log_a, log_b = log_weights(tensors[2]), log_weights(tensors[3])
        c_xy, c_yx = (2 * cost_routines[2](*pair) for pair in ((tensors[0], tensors[1]), (tensors[1], tensors[0])))
        g = torch.zeros_like(log_b)
        for _ in range(config.max_sweeps):
            f = softmin_tensorized(epsilon, c_xy, log_b + g / epsilon)
            last, g = g, softmin_tensorized(epsilon, c_yx, log_a + f / epsilon)
            if (log_b.exp() * torch.expm1((last - g) / epsilon).abs()).sum() < TOLERANCE:
                break
        return f[0].numpy(), last[0].numpy()

    def pot_stabilised():
        import ot

        return ot.bregman.sinkhorn_stabilized(a, b, cost, epsilon, numItermax=config.max_sweeps, stopThr=TOLERANCE)

    def pot_log():
        import ot

        return ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=config.max_sweeps, stopThr=TOLERANCE)

    def pot_exact():
        import ot

        return ot.emd(a, b, cost, numItermax=10**7)

    def plan(potentials):
        f, g = (np.asarray(v, np.float64) for v in potentials)
        return a[:, None] * b * np.exp((f[:, None] + g - cost) / epsilon)

    return {
        "jaxcollapse": ("jax", lambda: ours(source, target), plan),
        "ott dense": ("ott", lambda: ott_dense(source, target), plan),
        "geomloss tensorized": ("geomloss", geomloss_tensorized, plan),
        "POT stabilised": ("ot", pot_stabilised, np.asarray),
        "POT log-domain": ("ot", pot_log, np.asarray),
        "POT exact": ("ot", pot_exact, np.asarray),
    }


def transport_table(config: Benchmark, relative: float) -> Table:
    """Time every solver that is installed, in turns."""
    source, target = problem(config)
    epsilon = relative * float(mean_cost(source, target))
    a, b = np.asarray(source.weights, np.float64), np.asarray(target.weights, np.float64)
    table = Table(
        "solver", "ms", "ratio", "marginal L1 error",
        title=f"potentials, N = {config.num_candidates}, M = {config.num_reference}, d = {config.dim}, "
        f"epsilon {relative:g} mean cost, to a marginal error of {TOLERANCE:g}",
    )  # fmt: skip
    times, errors, absent = {}, {}, {}
    listed = solvers(config, source, target, epsilon)
    for name, (package, solve, plan) in listed.items():
        if importlib.util.find_spec(package) is None:
            absent[name] = package
            continue
        p = plan(solve())
        errors[name] = np.abs(p.sum(1) - a / a.sum()).sum() + np.abs(p.sum(0) - b / b.sum()).sum()
        times[name] = []
    for repeat in range(config.repeats):
        for name in times:
            if repeat < 2 or not name.startswith("POT"):
                times[name].append(seconds(lambda solve=listed[name][1]: jax.block_until_ready(solve())))
    reference = statistics.median(times["jaxcollapse"])
    for name in listed:
        if name in absent:
            table.add_row(name, f"{absent[name]} is not installed: the extra 'bench' has it", "", "")
        else:
            median = statistics.median(times[name])
            table.add_row(name, f"{1e3 * median:.0f}", f"{median / reference:.1f}x", f"{errors[name]:.1e}")
    return table


def numpy_greedy(utilities: np.ndarray, num_kept: int) -> np.ndarray:
    """Choose one candidate after another, the plain way."""
    total, weights = np.zeros(len(utilities)), np.zeros(utilities.shape[1])
    for _ in range(num_kept):
        gain = np.log1p(utilities / (1 + total)[:, None]).sum(0)
        gain[weights > 0] = -np.inf
        best = gain.argmax()
        weights[best] = 1
        total += utilities[:, best]
    return weights


@closure
class known:
    """A score that is known beforehand.

    Attributes:
        values: of all candidates, shape [n].
    """

    values: jax.Array

    def __call__(self, key, pool: Measure) -> jax.Array:
        return self.values


def aggregation_table(config: Benchmark) -> Table:
    """Time the greedy choice and its fixed point against a NumPy loop."""
    scores = np.random.default_rng(1).standard_normal((config.num_silos, config.num_scored)).astype(np.float32)
    pool = uniform_measure(jnp.zeros((config.num_scored, 1)))
    arguments = jax.random.key(0), pool, sizes(config.num_chosen, config.num_chosen / config.num_scored)
    utilities = np.asarray(min_max(jnp.asarray(scores), pool.weights), np.float64)
    plain = numpy_greedy(utilities, config.num_chosen)
    plain_time = seconds(lambda: numpy_greedy(utilities, config.num_chosen))
    table = Table(
        "aggregation", "ms", "ratio", "same choices", "objective",
        title=f"{config.num_chosen} of {config.num_scored} candidates for {config.num_silos} silos",
    )  # fmt: skip

    def value(weights):
        return f"{float(objective(utilities, np.asarray(weights, np.float64))):.7f}"

    table.add_row("NumPy loop", f"{1e3 * plain_time:.0f}", "", "", value(plain))
    run = jax.jit(lambda select, *arguments: counted(select(*arguments)).value)
    for name, make in (("greedy", submodular_greedy), ("fixed point", submodular)):
        select = make(known(scores))
        kept = np.asarray(run(select, *arguments))
        repeats = 2 if name == "greedy" else config.repeats

        def call(select=select):
            return jax.block_until_ready(run(select, *arguments))

        median = statistics.median(seconds(call) for _ in range(repeats))
        same = f"{int((kept * plain).sum())} of {config.num_chosen}"
        table.add_row(name, f"{1e3 * median:.1f}", f"{plain_time / median:.0f}x", same, value(kept))
    return table


def main() -> None:
    """Print all tables."""
    config = tyro.cli(Benchmark)
    console = Console(width=110)
    for relative in config.epsilons:
        console.print(transport_table(config, relative))
    console.print(aggregation_table(config))


if __name__ == "__main__":
    main()
