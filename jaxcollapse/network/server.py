"""The server of silos on other hosts: takes their calls, and carries exchanges out with those that answer in time."""

import collections
import concurrent.futures
import copy
import hashlib
import itertools
import queue
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Exchange, Measure, Moments, Parties
from jaxcollapse.network.codec import Refused, check_like, decode, encode
from jaxcollapse.network.silo import METHOD, OPTIONS, certificate_in, check_address, credentials, read_pem
from jaxcollapse.tree import zeros_like_shape

MAX_STALE = 10  # frames of earlier selections, which a silo that was late still sends
LARGEST = 1e30  # sum of squares of a silo's rows, which single precision holds several times


class QuorumLost(ValueError):
    """Fewer silos answer than must."""


class Session:
    """One silo's call: frames to it, and frames from it."""

    def __init__(self):
        self.outgoing: queue.Queue[bytes | None] = queue.Queue()
        self.incoming: queue.Queue[bytes | None] = queue.Queue(maxsize=2)

    def read(self, frames: Iterator[bytes]) -> None:
        """Take what comes until the call ends."""
        try:
            for frame in frames:
                self.incoming.put(frame)
        except grpc.RpcError:
            pass
        self.outgoing.put(None)
        self.incoming.put(None)


class Listener:
    """Takes calls of silos whose certificates are listed: mutual TLS, one call a silo.

    Args:
        address: HOST:PORT; port 0 is any that is free.
        directory: of certificates: ca.pem, server.pem, server.key, and NAME.pem of every silo.
        names: of silos.

    Attributes:
        sessions: by the names of silos, those that are there.
        turned_away: who was not let in, and why, in words, and how often.

    Raises:
        FileNotFoundError: if a certificate is missing.
        ValueError: if a certificate or the address cannot be used, or silos share one.
        OSError: if the address cannot be listened at.
    """

    def __init__(self, address: str, directory: Path, names: Sequence[str]):
        check_address("listen", address)
        self.names = {fingerprint(read_pem(directory, f"{name}.pem", certificate_in)): name for name in names}
        if len(self.names) < len(names):
            raise ValueError(f"silos = {', '.join(names)}: each must be named once, with a certificate of its own")
        self.sessions, self.changed = {}, threading.Condition()
        self.turned_away = collections.Counter()
        authority, key, certificate = credentials(directory, "server")
        workers = concurrent.futures.ThreadPoolExecutor(2 * len(names) + 8)
        options = (*OPTIONS, ("grpc.so_reuseport", 0))  # by default two servers share a port, and silos
        self._server = grpc.server(workers, options=options, maximum_concurrent_rpcs=2 * len(names) + 4)
        service, method = METHOD[1:].split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._attend)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        both = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
        try:
            self.port = self._server.add_secure_port(address, both)
        except RuntimeError as error:
            raise OSError(f"listen = {address}: cannot be listened at") from error
        self._server.start()

    def wait(self, seconds: float, stopped: Callable[[], None]) -> dict[str, Session]:
        """Wait until all silos are there, or the time is over; those that are."""
        end = time.monotonic() + seconds
        with self.changed:
            while len(self.sessions) < len(self.names) and time.monotonic() < end:
                self.changed.wait(0.2)
                stopped()
            return dict(self.sessions)

    def close(self) -> None:
        """End all calls."""
        for session in list(self.sessions.values()):
            session.outgoing.put(None)
        self._server.stop(1.0).wait()

    def _attend(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        pem = b"".join(context.auth_context().get("x509_pem_cert", ()))
        name = self.names.get(fingerprint(pem))
        if name is None:
            self._turn_away(context, "its certificate is none of the silos'")
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "certificate")
        session = Session()
        with self.changed:
            if name in self.sessions:
                self._turn_away(context, f"silo {name} is there already")
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "name")
            self.sessions[name] = session
            self.changed.notify_all()
        threading.Thread(target=session.read, args=(requests,), daemon=True).start()
        try:
            yield from iter(session.outgoing.get, None)
        finally:
            with self.changed:
                self.sessions.pop(name, None)

    def _turn_away(self, context: grpc.ServicerContext, reason: str) -> None:
        host, _, _ = context.peer().rpartition(":")
        self.turned_away[f"{host} was turned away: {reason}"] += 1


class Account:
    """What was exchanged with one silo.

    Attributes:
        sent: bytes of the frames to it.
        received: bytes of the frames from it.
        rounds: that it answered.
        screened: replies of it that were not believed.
        missing: why it was left out, or nothing.
    """

    def __init__(self):
        self.sent = self.received = self.rounds = self.screened = 0
        self.missing = ""


@jax.jit
def _server_init(exchange: Exchange, key: Array, pool: Measure | None) -> Any:
    return exchange.server_init(key, pool)


@jax.jit
def _update(exchange: Exchange, server: Any, replies: Any) -> tuple[Any, Any]:
    server = exchange.update(server, replies)
    return server, jnp.asarray(exchange.finished(server))


@jax.tree_util.register_static
class Network(Parties):
    """Silos on other hosts, for one selection. Who does not answer in time, or not well, is left out of the rest.

    Args:
        sessions: by the names of silos, those that are there.
        names: of all silos, in order.
        dim: d.
        quorum: silos that have to answer.
        seconds: for a round.
        said: what is to be said of who came, and how often it was so; it may grow.
        screen: of stacked replies, from `SCREENS`; exchanges whose replies cannot be screened are refused.
        stopped: raises where the work is to stop.
    """

    def __init__(
        self,
        sessions: Mapping[str, Session],
        names: Sequence[str],
        dim: int,
        quorum: int,
        seconds: float,
        said: Mapping[str, int] = {},
        screen: Callable[[Any], Any] | None = None,
        stopped: Callable[[], None] = lambda: None,
    ):
        self.sessions, self.names, self.quorum, self.seconds = dict(sessions), tuple(names), quorum, seconds
        self.points = jax.ShapeDtypeStruct((len(names), 1, dim), np.float32)
        self.weights = jax.ShapeDtypeStruct((len(names), 1), np.float32)
        self.screen = jax.jit(screen) if screen else None
        self.accounts, self.said, self.stopped = {name: Account() for name in names}, said, stopped
        self.selection, self.numbers, self.members = secrets.token_hex(8), itertools.count(1), self.names
        for name in set(names) - set(sessions):
            self.accounts[name].missing = "never came, or its certificate has expired or is not of the authority"
        self._check()

    def carry_out(self, exchange: Exchange, key: Key[Array, ""], pool: Measure | None) -> Counted:
        server, number = _server_init(exchange, key, pool), next(self.numbers)
        opening = exchange.opening(server)
        dim = self.points.shape[-1]
        at = {"selection": self.selection, "number": number}
        self._send(encode({"begin": exchange, "opening": opening, "columns": dim, **at}))
        expected = jax.eval_shape(self._first_reply, exchange, key, pool)
        for r in range(exchange.num_rounds):
            request = exchange.request(server)
            place = {**at, "round": r}
            self._send(encode({"request": request, **place}))
            replies = self._believed(self._collect(expected, place))
            server, finished = _update(exchange, server, replies)
            if finished:
                break
        return Counted(exchange.result(server), exchange.trouble(server))

    def _believed(self, replies: Any) -> Any:
        """Screen replies, and count who is not believed."""
        if self.screen is None:
            return replies
        believed = self.screen(replies)
        for name, before, after in zip(self.members, replies.mass, believed.mass, strict=True):
            self.accounts[name].screened += int((before > 0) & ~(after > 0))
        return believed

    def each(self) -> tuple["Network", ...]:
        """Give every silo that is there alone."""
        return tuple(self._alone(name) for name in self.names if name in self.sessions)

    def _alone(self, name: str) -> "Network":
        one = copy.copy(self)
        one.members = (name,)
        one.points, one.weights = (x.update(shape=(1, *x.shape[1:])) for x in (self.points, self.weights))
        return one

    def _first_reply(self, exchange: Exchange, key: Array, pool: Measure | None) -> Any:
        server = exchange.server_init(key, pool)
        silo = Measure(jnp.zeros(self.points.shape[1:]), jnp.ones(self.weights.shape[1:]))
        state = exchange.silo_init(key, silo, exchange.opening(server))
        _, reply = exchange.reply(state, silo, exchange.request(server))
        return reply

    def _send(self, frame: bytes) -> None:
        for name in self._there():
            self.sessions[name].outgoing.put(frame)
            self.accounts[name].sent += len(frame)

    def _there(self) -> list[str]:
        return [name for name in self.members if name in self.sessions]

    def _collect(self, expected: Any, at: Mapping[str, Any]) -> Any:
        """Take the replies of a round, stacked; of silos that are missing zeros."""
        end = time.monotonic() + self.seconds
        replies = {}
        for name in self._there():
            try:
                replies[name] = self._reply(name, expected, at, end)
                self.accounts[name].rounds += 1
            except (Refused, TimeoutError) as reason:
                self._leave_out(name, str(reason))
            except Exception as error:  # noqa: BLE001  whatever its bytes do, they end no selection of the others
                self._leave_out(name, f"its message cannot be read: {type(error).__name__}")
        self._check()
        nothing = zeros_like_shape(expected)
        rows = [replies.get(name, nothing) for name in self.members]
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *rows)

    def _leave_out(self, name: str, reason: str) -> None:
        self.accounts[name].missing = reason
        del self.sessions[name]

    def _reply(self, name: str, expected: Any, at: Mapping[str, Any], end: float) -> Any:
        for _ in range(1 + MAX_STALE):
            match decode(self._next(name, end)):
                case {"selection": str() as selection} if selection != self.selection:
                    continue  # a late answer to an earlier one
                case {"refusal": str() as reason}:
                    raise Refused(f"it refuses: {re.sub('[^ -~]', '?', reason[:80])}")
                case {"reply": reply, "selection": str(), "number": int(), "round": int(), **rest} as found if (
                    not rest and all(found[key] == value for key, value in at.items())
                ):
                    check_like(reply, expected)
                    check_possible(reply)
                    return reply
            raise Refused("its message is not the one that is due")
        raise Refused("it sends messages of other selections")

    def _next(self, name: str, end: float) -> bytes:
        while True:
            self.stopped()
            try:
                data = self.sessions[name].incoming.get(timeout=min(0.2, max(0.01, end - time.monotonic())))
            except queue.Empty:
                if time.monotonic() > end:
                    raise TimeoutError(f"no answer within {self.seconds:.3g} s") from None
                continue
            if data is None:
                raise Refused("the connection is lost")
            self.accounts[name].received += len(data)
            return data

    def _check(self) -> None:
        if len(self.sessions) < self.quorum:
            missing = "; ".join(f"{name}: {a.missing}" for name, a in self.accounts.items() if a.missing)
            raise QuorumLost(f"silos: {len(self.sessions)} answer, and {self.quorum} must ({missing})")


def check_possible(reply: Any) -> None:
    """Check that a silo can have what it tells: some mass, and of moments those of rows.

    Raises:
        Refused: if none can.
    """
    if not 0 < reply.mass < LARGEST:
        raise Refused("mass that no silo has")
    if isinstance(reply, Moments):
        mass, mean, covariance = (np.asarray(leaf, float) for leaf in reply)
        trace = covariance.trace()
        if not mass * (trace + mean @ mean) < LARGEST:
            raise Refused("moments that no silo has")
        if not np.linalg.eigvalsh(covariance).min() >= -1e-5 * trace or not np.allclose(
            covariance, covariance.T, atol=1e-5 * abs(trace)
        ):
            raise Refused("covariance that no silo has")


def fingerprint(pem: bytes) -> str:
    """Hash a certificate as it is signed."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest() if pem else ""
