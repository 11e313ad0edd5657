"""Speed of the recursion: six settings, ten instances, beside plain NumPy, in one run. `make bench` prints it."""

import dataclasses
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.numpy_baseline import recursion
from jaxcollapse.experiments.gaussian_collapse import SETTINGS, Config, instances_of, simulation
from jaxcollapse.gaussian.top import proposals_needed
from jaxcollapse.prng import unrolled
from jaxcollapse.recursion import run
from jaxcollapse.sweep import sweep

PROGRAMS = ("without selection", "with selection")
CONSTANT_MEMORY = ("replace", "accumulate")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is timed, and how often."""

    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share of candidates kept."""
    num_generations: int = 300
    """Generations."""
    repeats: int = 3
    """Runs of compiled programs; the median is printed."""
    peak_memory: Literal["no", "direct", "pool"] = "no"
    """Only run the workflows of constant memory with this sampler, and print the peak in MB."""

    def config(self, sampler: Literal["direct", "pool"]) -> Config:
        """Describe the experiment that is timed."""
        return Config(
            num_kept=self.num_kept,
            budget=self.budget,
            num_generations=self.num_generations,
            sampler=sampler,
        )


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def numpy_seconds(benchmark: Benchmark) -> dict[str, float]:
    """Time the baseline on all instances."""
    config = benchmark.config("pool")

    def call(setting):
        for seed in config.seeds:
            recursion(setting, seed, config.num_kept, config.budget, config.num_generations, config.dim)

    times = dict.fromkeys(PROGRAMS, 0.0)
    for setting in SETTINGS:
        times[PROGRAMS["select" in setting]] += seconds(lambda setting=setting: call(setting))
    return times


def compiled(benchmark: Benchmark, sampler, name: str) -> Callable[[], object]:
    """Trace and compile three settings over all instances, and return a call that runs them."""
    config = benchmark.config(sampler)
    build = simulation(config, selected=name == "with selection")
    instances = instances_of(config, jnp.float32).values
    program = jax.jit(jax.vmap(lambda instance: run(*build(instance))[1])).lower(instances).compile()
    return lambda: jax.block_until_ready(program(instances))


def draws(num_kept: int, budget: float, dim: int, num_generations: int, keys: jax.Array, sampler: str = "direct"):
    """Compile a scan that only draws the random numbers of a selection in each generation."""
    direct = sampler == "direct"
    num_candidates = proposals_needed(num_kept, budget, dim) if direct else round(num_kept / budget)

    def trajectory(key):
        def body(total, t):
            normal_key, spare_key = jax.random.split(jax.random.fold_in(unrolled(key), t))
            total += jax.random.normal(normal_key, (num_candidates * dim,)).sum()
            if direct:
                total += jax.random.exponential(spare_key, (num_candidates,)).sum()
            return total, None

        return jax.lax.scan(body, 0.0, jnp.arange(num_generations))[0]

    program = jax.jit(jax.vmap(trajectory)).lower(keys).compile()
    return lambda: jax.block_until_ready(program(keys))


def random_numbers(benchmark: Benchmark, sampler) -> Callable[[], object]:
    """Compile the draws of the settings with selection."""
    config = benchmark.config(sampler)
    keys, _ = instances_of(config, jnp.float32).values
    return draws(config.num_kept, config.budget, config.dim, config.num_generations, keys, sampler)


def library_seconds(benchmark: Benchmark, sampler) -> tuple[dict[str, float], float, float]:
    """Time both programs compiled, all six settings from nothing on two threads, and the random numbers alone."""
    programs = {}

    def compile_and_run(name):
        programs[name] = compiled(benchmark, sampler, name)
        programs[name]()

    def everything():
        with ThreadPoolExecutor() as pool:
            list(pool.map(compile_and_run, PROGRAMS))

    whole = seconds(everything)
    programs["random numbers"] = random_numbers(benchmark, sampler)
    times = {name: [] for name in programs}
    for _ in range(benchmark.repeats):
        for name, program in programs.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    draws = medians.pop("random numbers")
    return medians, whole, draws


def peak_memory(num_generations: int, sampler: str) -> float:
    """Run the workflows of constant memory in a process of their own and read its peak, in MB."""
    arguments = ["--num-generations", str(num_generations), "--peak-memory", sampler]
    command = [sys.executable, "-m", "benchmarks.recursion", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    benchmark = tyro.cli(Benchmark)
    jax.config.update("jax_enable_compilation_cache", False)
    if benchmark.peak_memory != "no":
        config = benchmark.config(benchmark.peak_memory)
        axes = {"seed": instances_of(config, jnp.float32)}
        for selected in (False, True):
            sweep(simulation(config, CONSTANT_MEMORY, selected=selected), axes)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return

    lengths = benchmark.num_generations, 10 * benchmark.num_generations
    # First of all: a process takes over the peak of the one that starts it.
    peaks = {sampler: [peak_memory(length, sampler) for length in lengths] for sampler in ("direct", "pool")}
    baseline = numpy_seconds(benchmark)
    direct, direct_whole, direct_draws = library_seconds(benchmark, "direct")
    pool, pool_whole, pool_draws = library_seconds(benchmark, "pool")
    table = Table(
        "", "NumPy", "direct", "ratio", "pool", "ratio",
        title=f"seconds, three workflows, ten instances, n = {benchmark.num_kept}, budget {benchmark.budget:g}, "
        f"{benchmark.num_generations} generations, jax {jax.__version__}",
    )  # fmt: skip

    def row(name, reference, first, second):
        table.add_row(
            name, f"{reference:.2f}", f"{first:.2f}", f"{reference / first:.1f}x",
            f"{second:.2f}", f"{reference / second:.1f}x",
        )  # fmt: skip

    for name in PROGRAMS:
        row(name, baseline[name], direct[name], pool[name])
    total = sum(baseline.values())
    row("all, compiled", total, sum(direct.values()), sum(pool.values()))
    row("all, with compilation", total, direct_whole, pool_whole)
    table.add_row(
        "random numbers of selection", "",
        f"{direct_draws:.2f}", f"{direct_draws / direct['with selection']:.0%}",
        f"{pool_draws:.2f}", f"{pool_draws / pool['with selection']:.0%}",
    )  # fmt: skip
    console = Console(width=110)
    console.print(table)
    for sampler, (few, many) in peaks.items():
        console.print(
            f"peak memory of the workflows of constant memory, {sampler}: {few:.0f} MB for {lengths[0]} generations, "
            f"{many:.0f} MB for {lengths[1]} ({many / few - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
