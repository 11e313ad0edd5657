r"""The mixture reference: potentials towards the union of all silos, by a Sinkhorn iteration that they share.

A barycenter is not the mixture: it averages points where the mixture keeps all of them. The potential of a
candidate towards the mixture is a soft minimum over the points of every silo, and a soft minimum of soft
minima: one number for each candidate and silo a round, and the result is the pooled one to rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Controls, Measure, ReferenceFn
from jaxcollapse.transport.sinkhorn import Potentials, Scalar, log_partition, soft_c_transform
from jaxcollapse.validation import check_range


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


def silo_update(
    silo: Measure, g: Float[Array, " m"], pool: Measure, f: Float[Array, " n"], epsilon: Scalar
) -> tuple[Float[Array, " m"], Reply]:
    """Update the silo's own potentials g from the server's f, and reply with what the candidates need of them."""
    updated = soft_c_transform(silo.points, pool, f, epsilon)
    return updated, Reply(
        log_partition=log_partition(pool.points, silo, updated, epsilon),
        mass=silo.weights.sum(),
        potential=silo.weights @ updated,
        error=silo.weights @ jnp.abs(jnp.expm1((g - updated) / epsilon)),
    )


def server_update(replies: Reply, epsilon: Scalar) -> Potentials:
    r"""Combine the replies, stacked [K]: :math:`f_i = -\epsilon \log \sum_k e^{\ell_{ki}} / \sum_k w_k`.

    Returns:
        f, anchored as by `sinkhorn`, and the error before this round; g stays with the silos.
    """
    mass = replies.mass.sum()
    f = epsilon * (jnp.log(mass) - jax.nn.logsumexp(replies.log_partition, axis=0))
    return Potentials(f + replies.potential.sum() / mass, jnp.zeros(0, f.dtype), replies.error.sum() / mass)


def federated_sinkhorn(
    pool: Measure,
    silos: Measure,
    epsilon: Scalar,
    num_rounds: int,
    relaxation: float = 1.5,
) -> Potentials:
    r"""Run the exchange in one program.

    Between rounds the server over-relaxes, :math:`f \leftarrow f + \omega (f' - f)`; the last f' is returned as
    it is, so that the pool's marginal is exact.

    Args:
        pool: candidates, which every party knows, [n, d].
        silos: stacked [K, m, d].
        epsilon: in squared units of the data.
        num_rounds: R.
        relaxation: :math:`\omega` in [1, 2).

    Returns:
        As `server_update`, of the last round.
    """
    everyone = jax.vmap(silo_update, in_axes=(0, 0, None, None, None))

    def one_round(carry, _):
        f, g = carry
        g, replies = everyone(silos, g, pool, f, epsilon)
        potentials = server_update(replies, epsilon)
        return (f + relaxation * (potentials.f - f), g), potentials

    start = jnp.zeros_like(pool.weights), jnp.zeros_like(silos.weights)
    _, history = jax.lax.scan(one_round, start, length=num_rounds)
    return jax.tree.map(lambda leaf: leaf[-1], history)


def mixture(epsilon: Scalar, num_rounds: int = 50) -> ReferenceFn:
    """Show the potentials of the pool towards the union of the silos, r = 1."""
    check_range("num_rounds", num_rounds, low=1)

    def reference(key, silos: Measure, pool: Measure, controls: Controls) -> Potentials:
        return jax.tree.map(lambda leaf: leaf[None], federated_sinkhorn(pool, silos, epsilon, num_rounds))

    return reference
