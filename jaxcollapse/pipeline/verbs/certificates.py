"""Make certificates for a demonstration."""

import dataclasses
from pathlib import Path

import tyro

from jaxcollapse.network.certificates import DAYS, make
from jaxcollapse.pipeline.report import Report
from jaxcollapse.pipeline.tiles import Tell


@dataclasses.dataclass(frozen=True)
class Request:
    """Make an authority's, a server's and silos' certificates, all in one place: for demonstrations alone."""

    directory: tyro.conf.Positional[Path]
    """Where they go; files that are there are kept, and refused."""
    silos: str
    """Names of silos, with commas between them."""
    host: str = "localhost"
    """Name or address of the server that silos call."""


def answer(request: Request, tell: Tell) -> tuple[Report, int]:
    """Make them; the status is zero.

    Raises:
        FileExistsError: if a file is there.
    """
    tell("making keys")
    names = [name.strip() for name in request.silos.split(",") if name.strip()]
    if not names or "server" in names or "ca" in names:
        raise ValueError(f"silos = {request.silos}: must be names, none of them server or ca")
    written = make(request.directory, names, request.host)
    return Report(
        "certificates",
        f"{len(written)} files in {request.directory}, good for {DAYS} days. Whoever has them can be any party: on "
        "real hosts each makes its own key.",
    ), 0
