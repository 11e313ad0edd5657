"""Silos on other hosts: what `select` needs of them, where their rows may not meet."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from jaxcollapse.checks import check_count, check_names, check_range
from jaxcollapse.exchanges import carry_out, moments
from jaxcollapse.network.server import Listener, Network
from jaxcollapse.pipeline.before_after import Side
from jaxcollapse.pipeline.report import Listing
from jaxcollapse.pipeline.tiles import Tell

APART = (
    "scheme_i", "scheme_ii", "federated_sinkhorn", "logistic_ratio", "tilt", "private_tilt", "balanced",
    "kernel_balanced", "landmark_balanced", "private_balanced", "capped",
)  # fmt: skip
"""Verifiers that are made of exchanges alone."""


@contextlib.contextmanager
def connected(
    address: str,
    directory: Path,
    names: Sequence[str],
    verifier: str,
    dim: int,
    quorum: int | None,
    wait: float,
    seconds: float,
    tell: Tell,
) -> Iterator[Network]:
    """Listen until silos are there, and hand them over.

    Args:
        address: HOST:PORT.
        directory: of certificates.
        names: of silos.
        verifier: a name of `APART`.
        dim: columns d.
        quorum: silos that have to answer; all by default.
        wait: seconds for them to come.
        seconds: for each round.
        tell: is told what is being done.

    Raises:
        ValueError: if an argument is not allowed, or fewer silos than the quorum come, or answer later.
        OSError: if a certificate is missing, or the address cannot be listened at.
    """
    check_names("verifier", [verifier], APART)
    quorum = check_count("quorum", len(names) if quorum is None else quorum, low=1, high=len(names))
    check_range("wait", wait, low=0)
    check_range("round_seconds", seconds, low=0.01)
    listener = Listener(address, directory, names)
    try:
        sessions = listener.wait(wait, lambda: tell("waiting for silos", len(listener.sessions), len(names)))
        tell("asking silos")
        yield Network(sessions, names, dim, quorum, seconds, listener.turned_away, lambda: tell("asking silos"))
    finally:
        listener.close()


def side_of(network: Network) -> Side:
    """Ask for the moments of the silos' union; no row of theirs comes."""
    found = carry_out(moments(), jax.random.key(0), None, network)
    return Side(jax.tree.map(lambda leaf: np.asarray(leaf, float), found), np.empty((0, found.mean.size), np.float32))


def accounts(network: Network) -> Listing:
    """List what was exchanged with each silo."""
    rows = [(name, a.rounds, a.sent, a.received, a.missing or "took part") for name, a in network.accounts.items()]
    frame = pd.DataFrame(rows, columns=["silo", "rounds", "bytes_sent", "bytes_received", "outcome"])
    meanings = {
        "rounds": "messages of the silo that were used",
        "bytes_sent": "bytes of the server's messages to it, within the framing of TLS and HTTP/2",
        "bytes_received": "bytes of its messages, likewise",
    }
    return Listing("silos", "What was exchanged with each silo", frame, meanings)
