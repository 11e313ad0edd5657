r"""Potentials towards the union of all silos, by a Sinkhorn iteration that they share.

A barycenter is not the mixture: it averages points where the mixture keeps all of them. The potential of a candidate
towards the mixture is a soft minimum over the points of every silo, and a soft minimum of soft minima: one number for
each candidate and silo a round, and at every round the result is that of the same iteration on pooled data, to
rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.transport.sinkhorn import Potentials, Scalar, log_partition, soft_c_transform
from jaxcollapse.tree import closure, static


class Server(NamedTuple):
    r"""What the server knows.

    Attributes:
        pool: of candidates.
        f: over-relaxed, which the silos are asked about, shape [n].
        potentials: of the last round, without relaxation, so that the pool's marginal is exact; g stays with the silos.
    """

    pool: Measure
    f: Float[Array, " n"]
    potentials: Potentials


class Silo(NamedTuple):
    """What a silo knows besides its data.

    Attributes:
        pool: of candidates.
        g: its own potentials, shape [m].
    """

    pool: Measure
    g: Float[Array, " m"]


class Reply(NamedTuple):
    r"""A silo's message.

    Attributes:
        log_partition: :math:`\ell_{ki} = \log \sum_j w_{kj} \exp((g_{kj} - |x_i - y_{kj}|^2) / \epsilon)`, shape [n].
        mass: :math:`\sum_j w_{kj}`, shape [].
        potential: :math:`\sum_j w_{kj} g_{kj}`, which anchors the potentials, shape [].
        error: :math:`\sum_j |p_j - w_{kj}|`, with p the marginal before this update, shape [].
    """

    log_partition: Float[Array, "*stack n"]
    mass: Float[Array, "*stack"]
    potential: Float[Array, "*stack"]
    error: Float[Array, "*stack"]


@closure
class federated_sinkhorn(Exchange):
    r"""Find the potentials f of the pool towards the mixture of all silos; the result are `Potentials` without g.

    The silos update their own g from the server's f, the server combines what they reply,

    .. math:: f'_i = -\epsilon \log \sum_k e^{\ell_{ki}} / \sum_k m_k,

    anchors it as `sinkhorn` does, and over-relaxes between rounds, :math:`f \leftarrow f + \omega (f' - f)`. The error
    is that before the last round.

    Attributes:
        epsilon: in squared units of the data, shape [].
        relaxation: :math:`\omega` in [1, 2), shape [].
        num_rounds: R.
    """

    epsilon: Scalar
    relaxation: Scalar = 1.5
    num_rounds: int = static(default=50)

    tau = 1.0  # where the result lies on the way from the pool

    def __post_init__(self):
        check_numbers(1, 1.9, relaxation=self.relaxation)
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Server:
        zeros, dtype = jnp.zeros_like(pool.weights), pool.weights.dtype
        return Server(pool, zeros, Potentials(zeros, jnp.zeros(0, dtype), jnp.zeros((), dtype)))

    def opening(self, server: Server) -> Measure:
        return server.pool

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: Measure) -> Silo:
        return Silo(opening, jnp.zeros_like(silo.weights))

    def request(self, server: Server) -> Float[Array, " n"]:
        return server.f

    def reply(self, state: Silo, silo: Measure, request: Float[Array, " n"]) -> tuple[Silo, Reply]:
        pool, g = state
        updated = soft_c_transform(silo.points, pool, request, self.epsilon)
        return Silo(pool, updated), Reply(
            log_partition=log_partition(pool.points, silo, updated, self.epsilon),
            mass=silo.weights.sum(),
            potential=silo.weights @ updated,
            error=silo.weights @ jnp.abs(jnp.expm1((g - updated) / self.epsilon)),
        )

    def update(self, server: Server, replies: Reply) -> Server:
        pool, f, _ = server
        total = replies.mass.sum()
        known = jnp.where(replies.mass[:, None] > 0, replies.log_partition, -jnp.inf)
        updated = self.epsilon * (jnp.log(total) - jax.nn.logsumexp(known, axis=0)) + replies.potential.sum() / total
        potentials = Potentials(updated, jnp.zeros(0, f.dtype), replies.error.sum() / total)
        return Server(pool, f + self.relaxation * (updated - f), potentials)

    def result(self, server: Server) -> Potentials:
        return server.potentials
