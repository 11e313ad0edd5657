"""Silos on other hosts: what `select` needs of them, where their rows may not meet."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxcollapse.checks import check_count, check_names, check_range
from jaxcollapse.exchanges import SCREENS
from jaxcollapse.network.server import Listener, Network
from jaxcollapse.pipeline.tiles import Tell
from jaxcollapse.verifiers import APART


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
    screen: str,
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
        screen: a name of `SCREENS`, or nothing.
        tell: is told what is being done.

    Raises:
        ValueError: if an argument is not allowed, or fewer silos than the quorum come, or answer later.
        OSError: if a certificate is missing, or the address cannot be listened at.
    """
    check_names("verifier", [verifier], APART)
    quorum = check_count("quorum", len(names) if quorum is None else quorum, low=1, high=len(names))
    if screen:
        check_names("screen", [screen], SCREENS)
    check_range("wait", wait, low=0)
    check_range("round_seconds", seconds, low=0.01)
    listener = Listener(address, directory, names)
    try:
        sessions = listener.wait(
            wait, lambda: tell(f"waiting for silos, {len(listener.sessions)} of {len(names)} are there")
        )
        tell("asking silos")
        judge = SCREENS[screen]() if screen else None
        yield Network(sessions, names, dim, quorum, seconds, listener.turned_away, judge, lambda: tell("asking silos"))
    finally:
        listener.close()
