"""A silo: answers the exchanges of one server, within its policy, and sends nothing else."""

import math
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import jax
import jax.numpy as jnp
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_finite
from jaxcollapse.measures import uniform_measure
from jaxcollapse.network.codec import Refused, decode, encode
from jaxcollapse.network.policy import Declined, Ledger, Policy, check_begin, check_request, squares_of
from jaxcollapse.tree import num_bytes

METHOD = "/jaxcollapse.Silos/Attend"
MOST_PAUSE = 10.0  # seconds between calls
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
        refused: whether it has refused in this call, in which it answers nothing more.
        doing: what it did last, in words.

    Its random keys are its own: noise that a server could draw too would protect nothing.
    """

    def __init__(self, points: np.ndarray, policy: Policy, ledger: Ledger):
        check_finite("points", points)
        self.data = uniform_measure(jnp.asarray(points))
        self.policy, self.ledger, self.num_finished, self.doing = policy, ledger, 0, ""
        self.start()

    def start(self) -> None:
        """Begin a call, in which nothing has been sent."""
        self.under: Under | None = None
        self.sent, self.refused = 0, False

    def finish(self) -> None:
        """End a call that the server has ended, and count the selection if the silo took part."""
        self.num_finished += self.sent > 0 and not self.refused
        self.start()

    def answer(self, data: bytes) -> bytes | None:
        """Answer a frame; whatever is wrong is told by the name of a limit or of a type."""
        if self.refused:
            return None
        frame: Any = {}
        try:
            frame = decode(data)
            match frame:
                case {
                    "begin": exchange, "opening": opening, "columns": int() as dim,
                    "selection": str() as selection, "number": int() as number,
                }:  # fmt: skip
                    return self._begin(selection, number, exchange, opening, dim)
                case {"request": request, "selection": str(), "number": int(), "round": int()}:
                    return self._reply(request, frame)
            raise Refused("frame")
        except Declined as reason:
            return self._refuse(frame, f"declined: {reason}")
        except Refused as reason:
            return self._refuse(frame, f"not understood: {reason}")
        except Exception as error:  # noqa: BLE001  its words may tell of data
            return self._refuse(frame, f"failed: {type(error).__name__}")

    def _begin(self, selection: str, number: int, exchange: Any, opening: Any, dim: int) -> None:
        self.under = None
        if not isinstance(exchange, Exchange):
            raise Refused("exchange")
        if dim != self.data.points.shape[1]:
            raise Declined(f"its rows have not the {dim} columns of the candidates")
        check_begin(self.policy, self.ledger, exchange, self.data, opening)
        key = jax.random.wrap_key_data(np.frombuffer(os.urandom(8), np.uint32))
        self.under = Under(selection, number, exchange, _begin(exchange, key, self.data, opening), 0)

    def _reply(self, request: Any, frame: Mapping[str, Any]) -> bytes:
        """Answer a round: what refuses a noisy one depends on requests and the policy alone, and it is paid before."""
        at = self.under
        place = {key: frame[key] for key in ("selection", "number", "round")}
        if at is None or place != {"selection": at.selection, "number": at.number, "round": at.round}:
            raise Refused("order")
        if at.round >= at.exchange.num_rounds:
            raise Declined("rounds")
        check_request(self.policy, at.exchange, at.state, self.data, request)
        size = num_bytes(jax.eval_shape(_reply, at.exchange, at.state, self.data, request)[1])
        if self.sent + size > self.policy.max_bytes or self.ledger.bytes + size > self.policy.max_total_bytes:
            raise Declined("bytes")
        name, squares = type(at.exchange).__name__, squares_of(at.exchange)
        self.ledger.write(squares or 0.0, **place, exchange=name, bytes=size, noisy=squares is not None)
        state, reply = _reply(at.exchange, at.state, self.data, request)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(reply))):
            raise Declined("a reply that is not finite")
        self.sent += size
        self.under = at._replace(state=state, round=at.round + 1)
        self.doing = f"answers {name}, round {at.round + 1}"
        return encode({"reply": reply, **place})

    def _refuse(self, frame: Any, reason: str) -> bytes:
        selection = frame.get("selection") if isinstance(frame, dict) else None
        self.under, self.refused, self.doing = None, True, f"refuses, {reason}"
        self.ledger.write(selection=str(selection)[:64], refused=reason)
        return encode({"refusal": reason, "selection": selection if isinstance(selection, str) else ""})


def credentials(directory: Path, name: str) -> tuple[bytes, bytes, bytes]:
    """Read the authority's certificate, a party's key, and its certificate: ca.pem, NAME.key, NAME.pem.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if one cannot be used, or the key is not that of the certificate.
    """
    files = {"ca.pem": certificate_in, f"{name}.key": _key_in, f"{name}.pem": certificate_in}
    authority, key, certificate = (read_pem(directory, file, load) for file, load in files.items())
    if _key_in(key).public_key() != certificate_in(certificate).public_key():
        raise ValueError(f"certificates = {directory}: {name}.key is not the key of {name}.pem")
    return authority, key, certificate


certificate_in = x509.load_pem_x509_certificate


def _key_in(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def read_pem(directory: Path, file: str, load: Callable[[bytes], Any]) -> bytes:
    """Read a file that `load` accepts.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it holds something else.
    """
    try:
        pem = (directory / file).read_bytes()
        load(pem)
    except OSError as error:
        raise type(error)(f"certificates = {directory}: {file}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"certificates = {directory}: {file} cannot be used") from error
    return pem


def check_address(name: str, address: str) -> None:
    """Require HOST:PORT.

    Raises:
        ValueError: if it is something else.
    """
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{name} = {address}: must be HOST:PORT, with a port from 0 to 65535")


def attend(silo: Silo, address: str, directory: Path, name: str, stopped: threading.Event, say: Say) -> None:
    """Answer a server until stopped: dial out, and again whenever the connection is lost.

    Args:
        silo: that answers.
        address: HOST:PORT of the server, HOST as its certificate names it.
        directory: of certificates.
        name: of the silo, and its files there.
        stopped: set when no more is to be answered.
        say: is told what goes on.

    Raises:
        ValueError: if the address or a certificate cannot be used.
        FileNotFoundError: if a certificate is missing.
    """
    check_address("server", address)
    secrets = grpc.ssl_channel_credentials(*credentials(directory, name))
    pause, calls, policy = 0.2, [], silo.policy

    def connected(state: grpc.ChannelConnectivity) -> None:
        if state == grpc.ChannelConnectivity.READY:
            say(f"{name}: is connected{left()}")

    def left() -> str:
        spent = f"; epsilon {silo.ledger.loss(policy.delta):.3g} of {policy.epsilon:g} is spent"
        return spent if policy.epsilon < math.inf else ""

    threading.Thread(target=lambda: (stopped.wait(), [call.cancel() for call in calls]), daemon=True).start()
    while not stopped.is_set():
        outgoing: queue.Queue[bytes | None] = queue.Queue()
        silo.start()
        with grpc.secure_channel(address, secrets, OPTIONS) as channel:
            channel.subscribe(connected)
            call = channel.stream_stream(METHOD)(iter(outgoing.get, None))
            calls[:] = [call]
            try:
                for frame in call:
                    if (answer := silo.answer(frame)) is not None:
                        outgoing.put(answer)
                        say(f"{name}: {silo.doing}{left()}")
                    if silo.refused:
                        outgoing.put(None)  # which ends the call
                    else:
                        pause = 0.2
                lost = "the call is over, after a refusal" if silo.refused else "the server has finished"
                silo.finish()
            except grpc.RpcError as error:
                lost = _reason(error)
            outgoing.put(None)
        if not stopped.is_set():
            say(f"{name}: {lost}; dials again in {pause:.3g} s")
            stopped.wait(pause)
            pause = min(2 * pause, MOST_PAUSE)


def _reason(error: Any) -> str:
    """Name what ended a call; gRPC's own words stay here, since they may quote a message."""
    known = {
        grpc.StatusCode.UNAVAILABLE: (
            "no server is reached, or it knows no such certificate, or this silo does not trust the server's, or HOST "
            "is not its name"
        ),
        grpc.StatusCode.PERMISSION_DENIED: "the server has not this certificate in its list",
        grpc.StatusCode.ALREADY_EXISTS: "the server has a silo of this name already",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "a message was larger than is allowed",
    }
    return known.get(error.code(), f"the call ended with {error.code().name}")
