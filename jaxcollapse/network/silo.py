"""A silo: answers the exchanges of one server, within its policy, and sends nothing else."""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import jax
import jax.numpy as jnp
import numpy as np

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.measures import uniform_measure
from jaxcollapse.network.codec import Refused, decode, encode
from jaxcollapse.network.policy import Declined, Ledger, Policy, check_begin, check_request, squares_of
from jaxcollapse.tree import num_bytes

METHOD = "/jaxcollapse.Silos/Attend"
MAX_MESSAGE = 32 * 2**20  # bytes; of a frame, either way
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

Say = Callable[[str], None]


class Under(NamedTuple):
    """An exchange that goes on.

    Attributes:
        selection: as the server names it.
        number: of the exchange in the selection.
        exchange: of which it is.
        state: the silo's.
        round: that is due.
    """

    selection: str
    number: int
    exchange: Exchange
    state: Any
    round: int


@jax.jit
def _begin(exchange: Exchange, key: jax.Array, silo: Measure, opening: Any) -> Any:
    return exchange.silo_init(key, silo, opening)


@jax.jit
def _reply(exchange: Exchange, state: Any, silo: Measure, request: Any) -> tuple[Any, Any]:
    return exchange.reply(state, silo, request)


class Silo:
    """The silo's part of the protocol, without the wire: one frame in, one or none out.

    Attributes:
        num_finished: selections that it took part in to the end.

    Its random keys are its own: noise that a server could draw too would protect nothing.
    """

    def __init__(self, points: np.ndarray, policy: Policy, ledger: Ledger):
        self.data = uniform_measure(jnp.asarray(points))
        self.policy, self.ledger, self.under = policy, ledger, None
        self.sent: dict[str, int] = {}
        self.refused: Any = None
        self.num_finished = 0

    def finish(self) -> None:
        """Count a selection that the server has ended, if the silo took part."""
        self.num_finished += bool(self.sent)
        self.sent = {}

    def answer(self, data: bytes) -> bytes | None:
        """Answer a frame; whatever is wrong is told by the name of a limit or of a type."""
        frame: Any = {}
        try:
            frame = decode(data)
            match frame:
                case {"selection": str() as selection} if selection == self.refused:
                    return None
                case {"begin": exchange, "opening": opening, "selection": str() as selection, "number": int() as i}:
                    return self._begin(selection, i, exchange, opening)
                case {"request": request, "selection": str(), "number": int(), "round": int()}:
                    return self._reply(request, frame)
            raise Refused("frame")
        except Declined as reason:
            return self._refuse(frame, f"declined: {reason}")
        except Refused as reason:
            return self._refuse(frame, f"not understood: {reason}")
        except Exception as error:  # noqa: BLE001  its words may tell of data
            return self._refuse(frame, f"failed: {type(error).__name__}")

    def _begin(self, selection: str, number: int, exchange: Any, opening: Any) -> None:
        self.under = None
        if not isinstance(exchange, Exchange):
            raise Refused("exchange")
        check_begin(self.policy, self.ledger, exchange, self.data, opening)
        key = jax.random.wrap_key_data(np.frombuffer(os.urandom(8), np.uint32))
        self.under = Under(selection, number, exchange, _begin(exchange, key, self.data, opening), 0)

    def _reply(self, request: Any, frame: Mapping[str, Any]) -> bytes:
        at = self.under
        place = {key: frame[key] for key in ("selection", "number", "round")}
        if at is None or place != {"selection": at.selection, "number": at.number, "round": at.round}:
            raise Refused("order")
        if at.round >= at.exchange.num_rounds:
            raise Declined("rounds")
        check_request(self.policy, at.exchange, self.data, request)
        state, reply = _reply(at.exchange, at.state, self.data, request)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(reply))):
            raise Declined("a reply that is not finite")
        total = self.sent.get(at.selection, 0) + num_bytes(reply)
        if total > self.policy.max_bytes:
            raise Declined("bytes")
        squares = squares_of(at.exchange)
        told = {"exchange": type(at.exchange).__name__, "bytes": num_bytes(reply), "noisy": squares is not None}
        self.ledger.write(squares or 0.0, **place, **told)
        self.sent = {at.selection: total}
        self.under = at._replace(state=state, round=at.round + 1)
        return encode({"reply": reply, **place})

    def _refuse(self, frame: Any, reason: str) -> bytes:
        selection = frame.get("selection") if isinstance(frame, dict) else None
        self.under, self.refused = None, selection
        self.ledger.write(selection=str(selection)[:64], refused=reason)
        return encode({"refusal": reason, "selection": selection if isinstance(selection, str) else ""})


def credentials(directory: Path, name: str) -> tuple[bytes, bytes, bytes]:
    """Read the authority's certificate, a party's key, and its certificate: ca.pem, NAME.key, NAME.pem.

    Raises:
        FileNotFoundError: if one is missing.
    """
    authority, key, certificate = ((directory / file).read_bytes() for file in ("ca.pem", f"{name}.key", f"{name}.pem"))
    return authority, key, certificate


def attend(silo: Silo, address: str, directory: Path, name: str, stopped: threading.Event, say: Say) -> None:
    """Answer a server until stopped: dial out, and again whenever the connection is lost.

    Args:
        silo: that answers.
        address: HOST:PORT of the server, HOST as its certificate names it.
        directory: of certificates.
        name: of the silo, and its files there.
        stopped: set when no more is to be answered.
        say: is told what goes on.
    """
    secrets = grpc.ssl_channel_credentials(*credentials(directory, name))
    pause, calls = 0.2, []
    threading.Thread(target=lambda: (stopped.wait(), [call.cancel() for call in calls]), daemon=True).start()
    while not stopped.is_set():
        outgoing: queue.Queue[bytes | None] = queue.Queue()
        with grpc.secure_channel(address, secrets, OPTIONS) as channel:
            call = channel.stream_stream(METHOD)(iter(outgoing.get, None))
            calls[:] = [call]
            try:
                for frame in call:
                    pause = 0.2
                    if (answer := silo.answer(frame)) is not None:
                        outgoing.put(answer)
                silo.finish()
                lost = "the server has finished"
            except grpc.RpcError as error:
                lost = _reason(error)
            outgoing.put(None)
        if not stopped.is_set():
            say(f"{name}: {lost}; dials again in {pause:.3g} s")
            stopped.wait(pause)
            pause = min(2 * pause, 30.0)


def _reason(error: Any) -> str:
    """Name what ended a call; gRPC's own words stay here, since they may quote a message."""
    known = {
        grpc.StatusCode.UNAVAILABLE: "no server is reached, or it knows no such certificate",
        grpc.StatusCode.PERMISSION_DENIED: "the server has not this certificate in its list",
        grpc.StatusCode.ALREADY_EXISTS: "the server has a silo of this name already",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "a message was larger than is allowed",
    }
    return known.get(error.code(), f"the call ended with {error.code().name}")
