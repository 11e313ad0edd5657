"""Seconds and bytes of a round among processes, beside one program and an empty round: `python -m benchmarks.silos`."""

import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcollapse.base import Measure
from jaxcollapse.exchanges import carry_out, federated_sinkhorn, kernel_densities, moments
from jaxcollapse.measures import uniform_measure
from jaxcollapse.network.certificates import make
from jaxcollapse.network.policy import Ledger, Policy
from jaxcollapse.network.server import Listener, Network
from jaxcollapse.network.silo import Silo, attend

NAMES, NUM_CANDIDATES, DIM, NUM_ROWS = ("a", "b", "c"), 20_000, 64, 2000
ROUNDS, REPEATS = 30, 3


def points_of(name: str) -> np.ndarray:
    """Draw a silo's rows."""
    rng = np.random.default_rng(NAMES.index(name))
    return rng.standard_normal((NUM_ROWS, DIM), np.float32)


def serve(name: str, address: str, directory: Path) -> None:
    """Answer, in a process of its own."""
    silo = Silo(points_of(name), Policy(), Ledger(directory / f"{name}.ledger"))
    attend(silo, address, directory, name, threading.Event(), lambda line: None)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(9)
    pool = uniform_measure(jnp.asarray(rng.standard_normal((NUM_CANDIDATES, DIM)), jnp.float32))
    stacked = Measure(jnp.stack([points_of(name) for name in NAMES]), jnp.ones((3, NUM_ROWS)))
    few = Measure(pool.points[:30], pool.weights[:30])
    cases = {
        "kernel densities at 30 points: the floor": (kernel_densities(jnp.float32(64.0)), few),
        "moments": (moments(), None),
        "kernel densities": (kernel_densities(jnp.float32(64.0)), pool),
        "federated Sinkhorn": (federated_sinkhorn(jnp.float32(2.5), num_rounds=ROUNDS), pool),
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make(directory, NAMES, "localhost")
        listener = Listener("localhost:0", directory, NAMES)
        context = multiprocessing.get_context("spawn")
        words = f"localhost:{listener.port}", directory
        silos = [context.Process(target=serve, args=(name, *words), daemon=True) for name in NAMES]
        start = time.perf_counter()
        for silo in silos:
            silo.start()
        sessions = listener.wait(120.0, lambda: None)
        print(f"three silos there after {time.perf_counter() - start:.1f} s\n")
        print("| exchange | rounds | apart, first | apart, ms a round | one program, ms a round | kB a silo |")
        print("| --- | --- | --- | --- | --- | --- |")
        together = jax.jit(carry_out)
        for title, (exchange, here) in cases.items():
            apart, whole = [], []
            for _ in range(REPEATS + 1):
                network = Network(sessions, NAMES, DIM, 3, 600.0)
                start = time.perf_counter()
                jax.block_until_ready(carry_out(exchange, jax.random.key(0), here, network))
                apart.append(time.perf_counter() - start)
                start = time.perf_counter()
                jax.block_until_ready(together(exchange, jax.random.key(0), here, stacked))
                whole.append(time.perf_counter() - start)
            account = network.accounts["a"]
            ms = [1000 * np.median(times[1:]) / account.rounds for times in (apart, whole)]
            size = (account.sent + account.received) / 1000
            print(f"| {title} | {account.rounds} | {apart[0]:.1f} s | {ms[0]:.0f} | {ms[1]:.0f} | {size:.0f} |")
        listener.close()
        for silo in silos:
            silo.kill()


if __name__ == "__main__":
    main()
