"""Kill the toy experiment at every write, and toy sweeps at random; run them again, and print what was found as JSON.

Children are forked before jax starts its threads, so that each costs a moment. Arguments: a directory to work in, and
how many random kills: `PYTHONPATH=. python tests/kills.py DIRECTORY 20`.
"""

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import toy_experiment
import toy_sweeps

from jaxcollapse import results
from jaxcollapse.experiments.support.display import Display
from jaxcollapse.experiments.support.runner import Options, Places, execute, merge_shards

SECONDS_A_WRITE = 0.05  # so that a sweep lasts, and kills come between its writes as well
OLD, NEW = toy_experiment.Config(seed=1), toy_experiment.Config(seed=2)


def child(action) -> int:
    """Do something in a child; its exit status, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OSError:
            os._exit(2)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def run(out: Path, config, *, overwrite: bool = False, before=lambda: None) -> int:
    def action():
        before()
        execute("toy", toy_experiment, config, Options(out=out, overwrite=overwrite), Display())

    return child(action)


def kill_at(write: int, stage: str):
    """Make what kills the process at one of its writes: half done, done but not yet renamed, or renamed."""

    def prepare():
        count, whole, replace = [0], results.write_atomic, os.replace

        def die(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

        def write_atomic(path, content):
            count[0] += 1
            if count[0] != write:
                return whole(path, content)
            if stage == "half":
                return whole(path, lambda file: (file.write(b"half"), file.flush(), die()))
            os.replace = die if stage == "written" else lambda *names: (replace(*names), die())
            whole(path, content)

        results.write_atomic = write_atomic

    return prepare


def state(out: Path) -> str:
    """Say whose results are there."""
    path = out / "toy.nc"
    return {None: "none", 1: "old", 2: "new"}[
        results.load(path).attrs["configuration"]["seed"] if path.exists() else None
    ]


def swept(out: Path, shard: str = "") -> None:
    execute("toy", toy_sweeps, toy_sweeps.Config(), Options(out=out, lanes=2, shard=shard), Display())


def put_together(out: Path) -> None:
    merge_shards("toy", toy_sweeps, Places(out=out), Display())


def kill_after(seconds: float):
    """Make what kills the process some seconds after its first write begins."""
    timer, whole = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)), results.write_atomic

    def write_atomic(path, content):
        if not timer.is_alive():
            timer.start()
        whole(path, content)
        time.sleep(SECONDS_A_WRITE)

    results.write_atomic = write_atomic


def killed_then_done(action, seconds: float, finished) -> list:
    """Kill an action, then let it be done; was it killed, was it done, does what was finished stay as it was."""

    def doomed():
        kill_after(seconds)
        action()

    first, before = child(doomed), finished()
    again, after = child(action), finished()
    return [first in (0, -signal.SIGKILL), again, all(after.get(path, at) == at for path, at in before.items())]


def random_kills(place: Path, number: int) -> list:
    """Kill a run, a shard or a merge at a random moment, in turn."""
    rng, found = random.Random(0), []
    assert child(lambda: swept(place / "single")) == 0
    for i in (1, 2):
        assert child(lambda i=i: swept(place / "sharded", f"{i}/2")) == 0
    assert child(lambda: put_together(place / "sharded")) == 0
    for trial in range(number):
        out, kind = place / f"random {trial}", ("run", "shard", "merge")[trial % 3]

        def finished(out=out):
            """List the chunks that are done, each with the time of its last change."""
            paths = [path for path in out.glob("toy.*/**/*.npz") if "total" not in path.name]
            stored = {path: results.read_arrays(path) for path in paths}
            done = [path for path, (arrays, identity) in stored.items() if arrays[0] > int(identity["generations"])]
            return {str(path): path.stat().st_mtime_ns for path in done}

        moment = rng.uniform(0, SECONDS_A_WRITE * {"run": 10, "shard": 5, "merge": 2}[kind])
        steps = {
            "shard": lambda out=out: swept(out, "1/2"),
            "other": lambda out=out: swept(out, "2/2"),
            "merge": lambda out=out: put_together(out),
        }
        for name, step in ({"run": lambda out=out: swept(out)} if kind == "run" else steps).items():
            if name == kind:
                outcome = killed_then_done(step, moment, finished)
            else:
                assert child(step) == 0
        whole = place / ("single" if kind == "run" else "sharded") / "toy.nc"
        others = [path.name for path in out.iterdir() if path.name not in ("toy.nc", "toy.shards")]
        found.append([kind, *outcome, (out / "toy.nc").read_bytes() == whole.read_bytes(), others])
    return found


def main(place: Path, number: int) -> None:
    results.code()  # is read once
    found = {"kills": [], "others": {}}
    assert run(place / "whole", NEW) == 0
    for overwrite in (False, True):
        for write in (1, 2, 3):
            for stage in ("half", "written", "renamed"):
                out = place / f"{overwrite}-{write}-{stage}"
                if overwrite:
                    assert run(out, OLD) == 0
                killed = run(out, NEW, overwrite=overwrite, before=kill_at(write, stage))
                between, again = state(out), run(out, NEW, overwrite=overwrite)
                found["kills"].append([overwrite, write, stage, killed, between, again, state(out), left(out)])
    for name, limit in {"full disk at a checkpoint": 300, "full disk at the results": 1200}.items():
        out = place / name

        def fill(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        assert run(out, OLD) == 0
        full = run(out, NEW, overwrite=True, before=fill)
        found["others"][name] = [full, state(out), run(out, NEW, overwrite=True), state(out), left(out)]
    work = place / "two" / "toy.parts"
    work.mkdir(parents=True)
    with results.lock(work / "lock"):
        found["others"]["two at once"] = [run(place / "two", NEW), state(place / "two")]
    found["random"] = random_kills(place, number)
    sys.stdout.write(json.dumps(found))


def left(out: Path) -> list[str]:
    """List what is in a directory besides the bytes that a run which nothing befell has written."""
    same = (out / "toy.nc").read_bytes() == (out.parent / "whole" / "toy.nc").read_bytes()
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if not (same and path.name == "toy.nc"))


main(Path(sys.argv[1]), int(sys.argv[2]))
