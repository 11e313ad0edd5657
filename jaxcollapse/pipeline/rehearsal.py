r"""What a silo would send in a selection, and what the package's attacks make of it, before anything is sent.

An attack recovers points; its error is the median distance of these to the nearest of the silo's rows, over the median
distance of a row to its nearest other. A draw from a Gaussian of the silo's moments is what needs no attack.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.spatial.distance import cdist

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.exchanges import barycenter, federated_sinkhorn, geodesic, kernel_densities
from jaxcollapse.exchanges.federated_sinkhorn import Request
from jaxcollapse.network.codec import decode
from jaxcollapse.network.server import Network, Session
from jaxcollapse.network.silo import Silo
from jaxcollapse.privacy import differentiate_partition, invert_interpolant

NUM_ATTACKED = 100  # points at which an attack asks
NEAR = 0.1  # of the typical distance among rows: recovered
WIDTH = 0.05  # of neighbours that an attacking server chooses, over the scale of the kernel


class Direct(Session):
    """A session whose silo is in this process; it keeps what passes.

    Attributes:
        frames: of the server, each with the silo's answer.
    """

    def __init__(self, silo: Silo):
        super().__init__()
        self.silo, self.frames, self.outgoing = silo, [], self  # pyright: ignore[reportAttributeAccessIssue]

    def put(self, frame: bytes) -> None:
        """Take a frame, and answer."""
        answer = self.silo.answer(frame)
        self.frames.append((frame, answer))
        if answer is not None:
            self.incoming.put(answer)


class Message(NamedTuple):
    """A request and its reply.

    Attributes:
        exchange: of which they are.
        request: the server's.
        reply: the silo's.
        bytes: of the reply's frame.
    """

    exchange: Exchange
    request: Any
    reply: Any
    bytes: int


def network_of(silo: Silo, dim: int) -> tuple[Network, Direct]:
    """Make a network of one silo, here."""
    session = Direct(silo)
    return Network({"silo": session}, ("silo",), dim, 1, 1.0), session


def messages(session: Direct) -> Iterator[Message]:
    """List what was answered."""
    exchange: Any = None
    for frame, answer in session.frames:
        told = decode(frame)
        exchange = told.get("begin", exchange)
        if answer is not None and "reply" in (found := decode(answer)):
            used, request, reply = jax.tree.map(jnp.asarray, (exchange, told["request"], found["reply"]))
            yield Message(used, request, reply, len(answer))


def attacks(silo: Silo, session: Direct, candidates: Float[np.ndarray, "n d"], seed: int) -> pd.DataFrame:
    """Attack every exchange that was answered.

    Returns:
        A row an exchange: rounds, bytes, the attack, its error, and the share of its points that are within a tenth.
    """
    rows = np.asarray(silo.data.points)
    own = cdist(rows, rows)
    spacing = np.median((own + np.diag(np.full(len(rows), np.inf))).min(axis=1))

    def errors(points: Any) -> tuple[float, float]:
        distance = cdist(np.asarray(points, float), rows).min(axis=1) / spacing
        return float(np.median(distance)), float(np.mean(distance < NEAR))

    rng = np.random.default_rng(seed)
    asked = rng.permutation(candidates)[:NUM_ATTACKED]
    drawn = rng.multivariate_normal(rows.mean(axis=0), np.cov(rows.T, ddof=0), NUM_ATTACKED)
    found = [("", 0, 0, "a draw from a Gaussian of the silo's moments, for comparison", *errors(drawn))]
    answered = list(messages(session))
    for name in dict.fromkeys(type(message.exchange).__name__ for message in answered):
        these = [message for message in answered if type(message.exchange).__name__ == name]
        attack, points = attack_on(these[0], silo.data, asked)
        told = errors(points) if points is not None else (np.nan, np.nan)
        found.append((name, len(these), sum(message.bytes for message in these), attack, *told))
    columns = ["exchange", "messages", "bytes", "attack", "error", "share_recovered"]
    return pd.DataFrame(found, columns=columns)


def attack_on(message: Message, data: Measure, candidates: Float[np.ndarray, "s d"]) -> tuple[str, Any]:
    """Choose the attack on a message; the points that it recovers, or none where there is no attack here."""
    exchange = message.exchange
    if isinstance(exchange, geodesic | barycenter):
        points = invert_interpolant(message.request, message.reply.points, exchange.step)
        return "the step is known, and undone", points
    if isinstance(exchange, kernel_densities | federated_sinkhorn):
        scale = exchange.width if isinstance(exchange, kernel_densities) else exchange.epsilon
        width = WIDTH * np.sqrt(float(scale))
        dim = candidates.shape[1]
        steps = width / 2 * np.stack([-np.eye(dim), np.eye(dim)], axis=1)
        chosen = jnp.asarray((candidates[:, None, None] + steps).reshape(-1, dim), jnp.float32)
        if isinstance(exchange, kernel_densities):
            told = exchange.reply((chosen, scale), data, None)[1].log_sum
        else:
            asked = Request(jnp.zeros(len(chosen)), jnp.float32(scale))
            told = exchange.reply(Measure(chosen, jnp.ones(len(chosen))), data, asked)[1].log_partition
        points = differentiate_partition(told.reshape(-1, dim, 2), jnp.asarray(candidates), width, scale)
        return "candidates in chosen places, differentiated", points
    return "none in this package: sums over all rows", None
