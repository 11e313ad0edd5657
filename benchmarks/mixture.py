"""Speed of a recursion of mixtures beside the same loop on scikit-learn's, in one run. `make bench` prints it.

Both start expectation maximisation from the last model, take the same number of iterations and the same ridge, and
accumulate all points. scikit-learn is spared its k-means; it computes in double precision.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from sklearn.mixture import GaussianMixture

from jaxcollapse.experiments.non_gaussian import FAMILIES, RIDGE, Config, problems, simulation, two_components
from jaxcollapse.recursion import run
from jaxcollapse.targets import published_instance

FAMILY, NUM_ITERATIONS = "gmm", 5
PROGRAMS = ("without selection", "with selection")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is timed."""

    num_kept: int = 300
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share of candidates kept, with selection."""
    num_generations: int = 200
    """Generations."""
    num_seeds: int = 10
    """Problem instances."""
    num_timed: int = 1
    """Instances on which scikit-learn is timed; the others are taken to cost as much."""

    @property
    def config(self) -> Config:
        """Describe the experiment that is timed."""
        seeds = tuple(range(self.num_seeds))
        return Config(num_kept=(self.num_kept,), budget=self.budget, num_generations=self.num_generations, seeds=seeds)


def recursion(workflow: str, seed: int, config: Config, *, selected: bool) -> GaussianMixture:
    """Run one setting on one instance with scikit-learn, and return the last model."""
    rng, instance, num_kept = np.random.default_rng(seed), published_instance(seed, config.dim), config.num_kept[0]
    weights, means, covariances = two_components(0.5, 0.5)(seed, instance)
    remembered = []
    for _ in range(config.num_generations):
        counts = rng.multinomial(round(num_kept / config.budget) if selected else num_kept, weights)
        parts = zip(means, np.linalg.cholesky(covariances), counts, strict=True)
        x = np.concatenate([mean + rng.standard_normal((m, config.dim)) @ root.T for mean, root, m in parts])
        if selected:
            energy = np.sum(((x - instance.target.location) @ instance.target.factor.T) ** 2, axis=1)
            x = x[np.argpartition(energy, num_kept)[:num_kept]]
        remembered = [*remembered, x] if workflow == "accumulate" else [x]
        model = GaussianMixture(
            len(weights), weights_init=weights, means_init=means, precisions_init=np.linalg.inv(covariances),
            reg_covar=RIDGE, max_iter=NUM_ITERATIONS, tol=0, init_params="random",
        ).fit(np.concatenate(remembered))  # fmt: skip
        weights, means, covariances = model.weights_ / model.weights_.sum(), model.means_, model.covariances_
    return model


def compiled(config: Config, *, selected: bool) -> Callable[[], object]:
    """Trace and compile both workflows over all instances, and return a call that runs them."""
    family = FAMILIES[FAMILY]
    build = simulation(config, family.generator, config.num_kept[0], selected=selected)
    instances = problems(config, family, jnp.float32).values
    program = jax.jit(jax.vmap(lambda instance: run(*build(instance))[1])).lower(instances).compile()
    return lambda: jax.block_until_ready(program(instances))


class Seconds:
    """Time a block, on the wall and of the processors."""

    def __enter__(self):
        self._wall, self._processor = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.processor = time.perf_counter() - self._wall, time.process_time() - self._processor


def scikit_learn(config: Config, num_timed: int, *, selected: bool) -> Seconds:
    """Time both workflows on the first instances."""
    with Seconds() as seconds, warnings.catch_warnings(action="ignore"):
        for seed in config.seeds[:num_timed]:
            for workflow in ("replace", "accumulate"):
                recursion(workflow, seed, config, selected=selected)
    return seconds


def main() -> None:
    """Print the table."""
    benchmark = tyro.cli(Benchmark)
    jax.config.update("jax_enable_compilation_cache", False)
    config, console = benchmark.config, Console(width=110)
    table = Table(
        "", "scikit-learn", "(cpu)", "here", "(cpu)", "ratio", "(cpu)", "with compilation", "ratio",
        title=f"seconds, replace and accumulate, {benchmark.num_seeds} instances (scikit-learn: {benchmark.num_timed}, "
        f"scaled), n = {benchmark.num_kept}, {benchmark.num_generations} generations, jax {jax.__version__}",
    )  # fmt: skip
    total = np.zeros(5)
    for selected, name in enumerate(PROGRAMS):
        with Seconds() as whole:
            program = compiled(config, selected=bool(selected))
            program()
        with Seconds() as here:
            program()
        theirs = scikit_learn(config, benchmark.num_timed, selected=bool(selected))
        scale = benchmark.num_seeds / benchmark.num_timed
        row = np.array([scale * theirs.wall, scale * theirs.processor, here.wall, here.processor, whole.wall])
        total += row
        add(table, name, row)
    add(table, "all four settings", total)
    console.print(table)
    brief = dataclasses.replace(config, num_generations=min(20, config.num_generations))
    one, four = (scikit_learn(brief, number, selected=True).processor for number in (1, 4))
    console.print(f"scikit-learn, 20 generations: four instances cost {four / one:.2f} times one")


def add(table: Table, name: str, row: np.ndarray) -> None:
    """Add a row with its ratios."""
    theirs, their_processor, here, processor, whole = row
    table.add_row(
        name, f"{theirs:.0f}", f"{their_processor:.0f}", f"{here:.1f}", f"{processor:.1f}",
        f"{theirs / here:.1f}x", f"{their_processor / processor:.1f}x", f"{whole:.1f}", f"{theirs / whole:.1f}x",
    )  # fmt: skip


if __name__ == "__main__":
    main()
