"""Answer selections of a server on another host, beside a silo's data."""

import contextlib
import dataclasses
import math
import queue
import threading
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxcollapse.network.policy import Ledger, Policy, read_policy
from jaxcollapse.network.silo import Silo, attend
from jaxcollapse.pipeline.report import Quantity, Report
from jaxcollapse.pipeline.tables import Reading, read
from jaxcollapse.pipeline.tiles import Tell
from jaxcollapse.results import lock

INTERRUPTED = "the ledger has what was sent"


@dataclasses.dataclass(frozen=True)
class Request:
    """Answer the messages of one server until interrupted, within a policy; rows of the data stay here."""

    data: tyro.conf.Positional[Path]
    """File of the silo's rows."""
    server: Annotated[str, tyro.conf.arg(metavar="HOST:PORT")]
    """Where to call, HOST as the server's certificate names it."""
    name: str
    """Of the silo, and of its files among the certificates."""
    certificates: Path = Path("certificates")
    """Directory with ca.pem, NAME.key and NAME.pem."""
    policy: Path | None = None
    """TOML file of limits; without it the policy's own, which `docs/how-to/silos.md` lists."""
    ledger: Path | None = None
    """File of what was sent, which is appended to; by default NAME.ledger. With a finite epsilon it has to be named."""
    selections: int = 0
    """Selections to take part in before it ends; 0: until interrupted."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)


def answer(request: Request, tell: Tell) -> tuple[Report, int]:
    """Serve, and account for it; the status is zero.

    Raises:
        ValueError: if files or numbers are not allowed, or another process serves with the ledger.
    """
    if request.reading.standardise:
        raise ValueError("standardise: parties have to agree on units before; prepare the file")
    tell("reading")
    table = read(request.data, request.reading)
    policy = read_policy(request.policy) if request.policy else Policy()
    if policy.epsilon < math.inf and not request.ledger:
        raise ValueError("ledger: name the file that epsilon is spent by, wherever the command starts")
    path = request.ledger or Path(f"{request.name}.ledger")
    with contextlib.ExitStack() as held:
        try:  # two would spend one budget twice
            held.enter_context(lock(path.with_name(f"{path.name}.lock")))
        except BlockingIOError as error:
            raise ValueError(f"ledger = {path}: another process serves with it") from error
        ledger = Ledger(path)
        tell(f"ledger {path}: sent {ledger.bytes:.0f} bytes, epsilon {ledger.loss(policy.delta):.3g} is spent")
        silo = Silo(np.asarray(table.points[np.arange(len(table.rows))], np.float32), policy, ledger)
        _serve(request, silo, tell)
    return Report(
        "serve",
        f"Selections that silo {request.name} took part in: {silo.num_finished}. What it sent: {path}.",
        [Quantity("selections", silo.num_finished, "that it took part in"), _loss(ledger, policy)],
        settings={"data": table.source, "server": request.server, "ledger": str(path)},
    ), 0


def _serve(request: Request, silo: Silo, tell: Tell) -> None:
    """Answer in a thread of its own, and tell here how it stands."""
    stopped, said, errors = threading.Event(), queue.SimpleQueue(), []

    def work() -> None:
        try:
            attend(silo, request.server, request.certificates, request.name, stopped, said.put)
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)

    caller = threading.Thread(target=work, daemon=True)
    caller.start()
    doing = f"{request.name}: calls {request.server}"
    over = False
    try:
        while not over:
            over = not caller.is_alive() or (request.selections and silo.num_finished >= request.selections)
            tell(doing)
            while not said.empty():
                doing = said.get()
                tell(doing)
            caller.join(0.1)
    finally:
        stopped.set()
    caller.join(5.0)
    if errors:
        raise errors[0]


def _loss(ledger: Ledger, policy: Policy) -> Quantity:
    meaning = f"loss of privacy of all noisy messages so far, at delta = {policy.delta:g}; others are not bounded"
    return Quantity("epsilon", ledger.loss(policy.delta), meaning)
