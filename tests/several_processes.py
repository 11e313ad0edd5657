"""One of the processes that run as one: a command, and a sweep that breaks and goes on. Arguments: a directory."""

import contextlib
import sys
from pathlib import Path

import jax
from several_devices import BrokenError, break_at, small

from jaxcollapse import command, results


def main(place: Path) -> None:
    command.RUNNABLE["geodesic"] = "toy_sweeps"
    flags = ["--distributed", "--lanes", "4", "--cache", "none", "--out", str(place)]
    assert command.main(["run", "geodesic", *flags]) == 0
    options = {"devices": jax.devices(), "lanes": 4, "interval": 0, "checkpoint": place / "part.npz"}
    with contextlib.suppress(BrokenError):
        small(progress=break_at(8), **options)
    seen = []
    found = small(progress=lambda *at: seen.append(at), **options)
    assert next(done for done, _, doing in seen if doing == "compiling") == 8
    results.save(place / "found.nc", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
