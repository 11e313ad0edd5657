"""Whole processes: six settings, ten instances, beside the authors' protocol in plain NumPy. `make bench` prints it."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.table import Table

# No jax here: a process takes over the peak memory of the one that starts it.


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is timed."""

    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.05
    """Share of candidates kept."""
    num_generations: int = 300
    """Generations."""
    repeats: int = 3
    """Runs of compiled programs; the fastest is printed."""
    alone: bool = False
    """Only run all six settings, say when they are through, and print the seconds of a run compiled."""


PINS = shutil.which("taskset") is not None


def whole(benchmark: Benchmark) -> None:
    """Run all six settings from nothing, both programs at once, and again as they are compiled."""
    from concurrent.futures import ThreadPoolExecutor

    from benchmarks import recursion

    of_programs = recursion.Benchmark(benchmark.num_kept, benchmark.budget, benchmark.num_generations)

    def compile_and_run(name):
        program = recursion.compiled(of_programs, "direct", name)
        program()
        return program

    with ThreadPoolExecutor() as pool:
        programs = list(pool.map(compile_and_run, recursion.PROGRAMS))
    print("through", flush=True)
    print(min(sum(map(recursion.seconds, programs)) for _ in range(benchmark.repeats)))


def timed(arguments: Sequence[str], cores: int, cache: str = "") -> tuple[float, str, float]:
    """Time a process until it says that it is through; what else it prints, and its peak in MB."""
    environment = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    pinned = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))] if PINS else []
    command = [*pinned, sys.executable, "-m", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    seconds = time.perf_counter() - started
    rest = process.stdout.read()
    _, process.returncode, usage = os.wait4(process.pid, 0)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: failed")
    return seconds, rest, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    benchmark = tyro.cli(Benchmark)
    if benchmark.alone:
        whole(benchmark)
        return
    numbers = [str(number) for number in dataclasses.astuple(benchmark)[:3]]
    flags = ["--num-kept", numbers[0], "--budget", numbers[1], "--num-generations", numbers[2]]
    here = ["benchmarks.processes", "--alone", *flags]
    protocol = ["benchmarks.numpy_baseline", *numbers, "10", *map(str, range(10))]
    table = Table(
        "", "cores", "cold", "ratio", "warm", "ratio", "compiled", "ratio", "peak, MB",
        title=f"seconds of whole processes, six settings, ten instances, n = {numbers[0]}, budget {numbers[1]}, "
        f"{numbers[2]} generations",
    )  # fmt: skip
    all_cores = (1, 2) if PINS else (os.cpu_count() or 1,)
    numpy, _, peak = timed(protocol, all_cores[-1])
    table.add_row("the authors' protocol in NumPy", str(all_cores[-1]), f"{numpy:.1f}", *[""] * 5, f"{peak:.0f}")
    for cores in all_cores:
        with tempfile.TemporaryDirectory() as cache:
            cold, _, _ = timed(here, cores, cache)
            warm, compiled, peak = timed(here, cores, cache)
        cells = [text for t in (cold, warm, float(compiled)) for text in (f"{t:.2f}", f"{numpy / t:.1f}x")]
        table.add_row("here", str(cores), *cells, f"{peak:.0f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
