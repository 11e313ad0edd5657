r"""Potentials towards the union of all silos, by a Sinkhorn iteration that they share.

A barycenter is not the mixture: it averages points where the mixture keeps all of them. The potential of a candidate
towards the mixture is a soft minimum over the points of every silo, and a soft minimum of soft minima: one number for
each candidate and silo a round. What the server makes of the replies before it asks again costs no message.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.linalg import History, mixed, no_history
from jaxcollapse.measures import share
from jaxcollapse.transport.sinkhorn import (
    ANNEALING,
    TOLERANCE,
    Potentials,
    Scalar,
    log_partition,
    mean_cost,
    soft_c_transform,
)
from jaxcollapse.tree import closure, static

_BALANCING = 12


class Request(NamedTuple):
    """What the server asks.

    Attributes:
        f: potentials of the pool, shape [n].
        epsilon: of this round, shape [].
    """

    f: Float[Array, " n"]
    epsilon: Float[Array, ""]


class Reply(NamedTuple):
    r"""A silo's message.

    Attributes:
        log_partition: :math:`\ell_{ki} = \log \sum_j w_{kj} \exp((g_{kj} - |x_i - y_{kj}|^2) / \epsilon)`, shape [n].
        mass: :math:`\sum_j w_{kj}`, shape [].
        potential: :math:`\sum_j w_{kj} g_{kj}`, which anchors the potentials, shape [].
    """

    log_partition: Float[Array, "*stack n"]
    mass: Float[Array, "*stack"]
    potential: Float[Array, "*stack"]


class Server(NamedTuple):
    r"""What the server knows.

    Attributes:
        pool: of candidates.
        request: the next.
        history: of requests at the last epsilon, and what they led to.
        potentials: of the last round; the pool's marginal is exact, and g stays with the silos.
        rounds: how many there have been, shape [].
    """

    pool: Measure
    request: Request
    history: History
    potentials: Potentials
    rounds: Int[Array, ""]


@closure
class federated_sinkhorn(Exchange):
    r"""Find the potentials f of the pool towards the mixture of all silos; the result are `Potentials` without g.

    The silos compute their own g from the server's f, and the server combines what they reply,

    .. math:: f'_i = -\epsilon \log \sum_k e^{\ell_{ki} + c_k} / \sum_k m_k,

    with the c of `balance`: what a silo receives in all is right before the next round, which plain iteration (c = 0)
    learns slowly where silos lie apart. The next f is mixed from what earlier ones led to, as `sinkhorn` does, and
    epsilon falls as it does there. The exchange has finished when the error is below the tolerance: the L1 distance of
    the pool's marginal from its masses at the last request, which bounds that of the silos' marginals after it. The
    potentials are those at c = 0, anchored as those of `sinkhorn`.

    Attributes:
        epsilon: in squared units of the data, shape [].
        num_rounds: R at most.
        tolerance: of the error, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> exchange = jc.exchanges.federated_sinkhorn(epsilon=1.0)
        >>> int(jc.carry_out(exchange, jax.random.key(0), pool, silos).f.argmin())  # 4, the nearest
        3
    """

    epsilon: Scalar
    num_rounds: int = static(default=1000)
    tolerance: Scalar = TOLERANCE

    tau = 1.0  # where the result lies on the way from the pool

    def __post_init__(self):
        check_numbers(0, 2, tolerance=self.tolerance)
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Server:
        zeros, dtype = jnp.zeros_like(pool.weights), pool.weights.dtype
        first = jnp.maximum(ANNEALING * mean_cost(pool, pool), self.epsilon).astype(dtype)
        unknown = Potentials(zeros, jnp.zeros(0, dtype), jnp.full((), jnp.inf, dtype))
        return Server(pool, Request(zeros, first), no_history(zeros), unknown, jnp.zeros((), jnp.int32))

    def opening(self, server: Server) -> Measure:
        return server.pool

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: Measure) -> Measure:
        return opening

    def request(self, server: Server) -> Request:
        return server.request

    def reply(self, state: Measure, silo: Measure, request: Request) -> tuple[Measure, Reply]:
        g = soft_c_transform(silo.points, state, *request)
        return state, Reply(
            log_partition=log_partition(state.points, silo, g, request.epsilon),
            mass=silo.weights.sum(),
            potential=silo.weights @ g,
        )

    def update(self, server: Server, replies: Reply) -> Server:
        pool, (f, epsilon), history, _, rounds = server
        m, a = share(replies.mass), share(pool.weights)
        each = jnp.where(m[:, None] > 0, replies.log_partition - jnp.log(replies.mass.sum()), -jnp.inf)
        plain = -epsilon * jax.nn.logsumexp(each, axis=0)
        balanced = -epsilon * jax.nn.logsumexp(each + balance(each, a, m)[:, None], axis=0)
        last = epsilon <= self.epsilon
        error = jnp.where(last, a @ jnp.where(a > 0, jnp.abs(jnp.expm1((f - plain) / epsilon)), 0), jnp.inf)
        anchored = plain + replies.potential.sum() / replies.mass.sum()
        following, extended = mixed(history, f, balanced, a)
        history = extended._replace(count=jnp.where(last, extended.count, 0))
        request = Request(jnp.where(last, following, balanced), jnp.maximum(epsilon / 2, self.epsilon))
        return Server(pool, request, history, Potentials(anchored, jnp.zeros(0, f.dtype), error), rounds + 1)

    def finished(self, server: Server) -> Bool[Array, ""]:
        return ~(server.potentials.error > self.tolerance)  # of NaN no round makes a number

    def result(self, server: Server) -> Potentials:
        return server.potentials

    def trouble(self, server: Server) -> dict[str, Array]:
        return {"exchange_rounds": server.rounds.astype(server.potentials.f.dtype)}


def balance(log_shares: Float[Array, "k n"], a: Float[Array, " n"], m: Float[Array, " k"]) -> Float[Array, " k"]:
    r"""Find the constants c of the silos' potentials, in units of epsilon, at which each receives its mass.

    .. math:: \max_c \; \sum_k m_k c_k - \sum_i a_i \log \sum_k e^{\ell_{ki} + c_k},

    by Newton's method, whose steps d are cut to :math:`\log(1 + r) / r`, with the range r of d, as befits logarithms of
    sums of exponentials. Derived here.

    Args:
        log_shares: :math:`\ell`; that of a missing silo is :math:`-\infty`.
        a: masses of candidates.
        m: masses of silos.
    """
    there = m > 0

    def step(_, c):
        shares = jax.nn.softmax(log_shares + c[:, None], axis=0)
        received = shares @ a
        across = (shares * a) @ shares.T * (1 - jnp.eye(len(m), dtype=m.dtype))
        # The sum over others keeps the digits that received less across would lose where silos lie apart.
        hessian = jnp.diag(across.sum(axis=1) + jnp.finfo(m.dtype).eps * received + ~there) - across
        d = jnp.linalg.solve(hessian + jnp.outer(received, received), jnp.where(there, m - received, 0))
        width = jnp.max(d, where=there, initial=-jnp.inf) - jnp.min(d, where=there, initial=jnp.inf)
        return c + d * jnp.where(width > 0, jnp.log1p(width) / jnp.where(width > 0, width, 1), 0)

    return jax.lax.fori_loop(0, _BALANCING, step, jnp.zeros_like(m))
