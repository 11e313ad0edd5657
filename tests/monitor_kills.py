"""Kill processes that add to a log, at random moments, and print what was found as JSON.

Children are forked before jax starts its threads. Arguments: a directory to work in, and how many kills.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from jaxcollapse.pipeline.monitor import Monitor, log

REFERENCE = np.random.default_rng(0).standard_normal((100, 3))
LONGEST = 0.1  # seconds between a first report and the kill: some 20 generations


def sample(generation: int) -> np.ndarray:
    return np.random.default_rng([1, generation]).standard_normal((50, 3))


def add_forever(path: Path, reports: int) -> None:
    """Add generations, and report each once it is written."""
    with Monitor(path, reference=REFERENCE) as watch:
        while True:
            verdict = watch.add(sample(len(watch.log.samples) if watch.log else 0))
            os.write(reports, f"{verdict.generation}\n".encode())


def killed(path: Path, seconds: float) -> int:
    """Kill a child so many seconds after its first report; the last generation that it reported."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        add_forever(path, writing)
    os.close(writing)
    with open(reading, "rb") as reports:
        first = reports.readline()
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return int((first + reports.read()).split()[-1])


def main(path: Path, number: int) -> None:
    rng, found = random.Random(0), []
    for _ in range(number):
        reported = killed(path, rng.uniform(0, LONGEST))
        found.append([reported, len(log.read(path).samples) - 1])
    whole = path.with_name("whole.jsonl")
    with Monitor(whole, reference=REFERENCE) as watch:
        for generation in range(found[-1][1] + 1):
            watch.add(sample(generation))
    kept = path.read_bytes()
    same = kept[: kept.rfind(b"\n") + 1] == whole.read_bytes()
    sys.stdout.write(json.dumps({"kills": found, "same": same}))


main(Path(sys.argv[1]) / "log.jsonl", int(sys.argv[2]))
