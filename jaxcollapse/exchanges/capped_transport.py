r"""Partial transport of the silos' mixture onto candidates, each of which can be kept only once.

Potentials are prices: they say what a little mass is worth, and a quarter of the pool is not a little. Here the problem
of selection is solved itself: of all ways to keep n candidates, find that to which the mixture is cheapest to move.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges.federated_sinkhorn import Request
from jaxcollapse.transport.sinkhorn import ANNEALING, TOLERANCE, Scalar, log_partition, mean_cost, unconverged
from jaxcollapse.tree import closure, static


class Reply(NamedTuple):
    r"""A silo's message.

    Attributes:
        log_partition: :math:`\ell_{ki} = \log \sum_j w_{kj} \exp((g_{kj} - |x_i - y_{kj}|^2) / \epsilon)`, shape [n].
        mass: :math:`\sum_j w_{kj}`, shape [].
        error: mass that its points had too much or too little before, shape [].
    """

    log_partition: Float[Array, "*stack n"]
    mass: Float[Array, "*stack"]
    error: Float[Array, "*stack"]


class Server(NamedTuple):
    """What the server knows.

    Attributes:
        capacities: of candidates.
        request: the next.
        log_probability: of being kept, shape [n].
        error: of the marginal of the last round, shape [].
        rounds: how many there have been, shape [].
    """

    capacities: Measure
    request: Request
    log_probability: Float[Array, " n"]
    error: Float[Array, ""]
    rounds: Int[Array, ""]


@closure
class capped_transport(Exchange):
    r"""Find the probabilities of being kept that make the transport cost to the silos' mixture least; their logarithms.

    .. math:: \min_P \; \langle C, P \rangle + \epsilon \, \mathrm{KL}(P \Vert a \otimes b) \quad \text{so that} \quad
              \sum_i P_{ij} = b_j, \quad \sum_j P_{ij} \le a_i = \tfrac1n, \qquad p_i = n \sum_j P_{ij},

    partial optimal transport [caffarelli2010]_ by Sinkhorn's algorithm with a cap [chizat2018]_,

    .. math:: g_j = -\epsilon \log \sum_i a_i e^{(f_i - C_{ij}) / \epsilon}, \qquad
              f_i = \min \Big( 0, -\epsilon \log \sum_j b_j e^{(g_j - C_{ij}) / \epsilon} \Big),

    with messages like those of `federated_sinkhorn`. Epsilon falls from a tenth of the mean cost, halved each round.

    Attributes:
        epsilon: in squared units of the data, shape [].
        num_kept: n, shape [].
        num_rounds: R at most.
        tolerance: of the error, the L1 distance of the plan's marginal from the silos' masses, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> exchange = jc.exchanges.capped_transport(epsilon=0.1, num_kept=2)
        >>> print(np.exp(jc.carry_out(exchange, jax.random.key(0), pool, silos)).round(2))
        [0. 0. 1. 1.]
    """

    epsilon: Scalar
    num_kept: Scalar
    num_rounds: int = static(default=1000)
    tolerance: Scalar = TOLERANCE

    def __post_init__(self):
        check_numbers(0, 2, tolerance=self.tolerance)
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Server:
        zeros, dtype = jnp.zeros_like(pool.weights), pool.weights.dtype
        first = jnp.maximum(ANNEALING * mean_cost(pool, pool), self.epsilon).astype(dtype)
        capacities = pool._replace(weights=pool.weights / jnp.asarray(self.num_kept, dtype))
        return Server(capacities, Request(zeros, first), zeros, jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32))

    def opening(self, server: Server) -> Measure:
        return server.capacities

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: Measure) -> tuple[Measure, Float[Array, " m"]]:
        return opening, jnp.zeros_like(silo.weights)

    def request(self, server: Server) -> Request:
        return server.request

    def reply(self, state: tuple, silo: Measure, request: Request) -> tuple[tuple, Reply]:
        (capacities, before), (f, epsilon) = state, request
        g = -epsilon * log_partition(silo.points, capacities, f, epsilon)
        return (capacities, g), Reply(
            log_partition=log_partition(capacities.points, silo, g, epsilon),
            mass=silo.weights.sum(),
            error=silo.weights @ jnp.abs(jnp.expm1((before - g) / epsilon)),
        )

    def update(self, server: Server, replies: Reply) -> Server:
        capacities, (_, epsilon), _, _, rounds = server
        there = replies.mass[:, None] > 0
        mass = replies.mass.sum()
        free = -epsilon * (jax.nn.logsumexp(replies.log_partition, axis=0, where=there) - jnp.log(mass))
        f = jnp.minimum(free, 0)
        error = jnp.where(epsilon <= self.epsilon, replies.error.sum() / mass, jnp.inf)
        following = Request(f, jnp.maximum(epsilon / 2, self.epsilon))
        return Server(capacities, following, (f - free) / epsilon, error, rounds + 1)

    def finished(self, server: Server) -> Bool[Array, ""]:
        return ~(server.error > self.tolerance)  # of NaN no round makes a number

    def result(self, server: Server) -> Float[Array, " n"]:
        return server.log_probability

    def trouble(self, server: Server) -> dict[str, Array]:
        rounds = server.rounds.astype(server.error.dtype)
        return {"exchange_rounds": rounds, **unconverged(server.error, self.tolerance)}
