"""Kill the toy experiment at every write, run it again, and print what was found as one line of JSON.

Children are forked before jax starts its threads, so that each costs a moment. Arguments: a directory to work in.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

import toy_experiment

from jaxcollapse import results
from jaxcollapse.experiments.support.display import Display
from jaxcollapse.experiments.support.runner import Options, execute

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


def main(place: Path) -> None:
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
    sys.stdout.write(json.dumps(found))


def left(out: Path) -> list[str]:
    """List what is in a directory besides the bytes that a run which nothing befell has written."""
    same = (out / "toy.nc").read_bytes() == (out.parent / "whole" / "toy.nc").read_bytes()
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if not (same and path.name == "toy.nc"))


main(Path(sys.argv[1]))
