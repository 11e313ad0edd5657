"""Kernel densities of the silos' mixture at the server's points, by one message."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.transport.sinkhorn import log_partition
from jaxcollapse.tree import closure

Scalar = Float[Array | float, ""]


class Density(NamedTuple):
    """All that a silo tells the server, once.

    Attributes:
        log_sum: logarithm of its kernel sums, shape [n].
        mass: of the silo, shape [].
    """

    log_sum: Float[Array, "*stack n"]
    mass: Float[Array, "*stack"]


@closure
class kernel_densities(Exchange):
    r"""Find the logarithms of mean kernels, :math:`\log E_Q k(x_i, Y)`, at the pool's points; shape [n].

    .. math:: k(x, y) = e^{-\lVert x - y \rVert^2 / w}, \qquad
              E_Q k(x_i, Y) = \sum_k \sum_j w_{kj} k(x_i, y_{kj}) \Big/ \sum_k m_k.

    It is the first message of `federated_sinkhorn`, at potentials zero. Logarithms keep what lies far from all data
    in order.

    Attributes:
        width: w, in squared units of the data, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[5.0]], [[5.0]]]))
        >>> print(jc.carry_out(jc.exchanges.kernel_densities(width=1.0), jax.random.key(0), pool, silos))
        [-16.  -9.  -4.  -1.]
    """

    width: Scalar

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Float[Array, "n d"]:
        return pool.points

    def opening(self, server: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Scalar]:
        return server, self.width

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: tuple) -> tuple:
        return opening

    def reply(self, state: tuple, silo: Measure, request: None) -> tuple[tuple, Density]:
        points, width = state
        return state, Density(log_partition(points, silo, jnp.zeros_like(silo.weights), width), silo.weights.sum())

    def update(self, server: Float[Array, "n d"], replies: Density) -> Float[Array, " n"]:
        there = replies.mass[:, None] > 0
        total = jax.nn.logsumexp(replies.log_sum, axis=0, where=there)
        return total - jnp.log(replies.mass.sum())
