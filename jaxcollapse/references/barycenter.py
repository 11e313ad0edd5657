"""Scheme II: silos agree on their Wasserstein barycenter by exchanging interpolants [qiao2026]_."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Controls, Measure, ReferenceFn
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.transport.sinkhorn import barycentric_map, sinkhorn
from jaxcollapse.validation import check_range


class Exchange(NamedTuple):
    """What all parties agree on before they exchange interpolants.

    Attributes:
        epsilon: of every transport problem, in squared units of the data, shape [].
        step: share of the way that a support point moves towards its image, in (0, 1], shape [].
    """

    epsilon: Float[Array | float, ""]
    step: Float[Array | float, ""]


def interpolate(measure: Measure, support: Float[Array, "s d"], exchange: Exchange) -> Float[Array, "s d"]:
    r"""Move the support towards a measure, :math:`z_i = (1 - s) x_i + s T(x_i)`: a silo's whole reply.

    T is the barycentric projection of the entropic plan. Each :math:`T(x_i)` is a weighted mean of the silo's points,
    but a mean all the same: who knows s recovers it. A small epsilon makes it a mean of few points, and one point
    in a silo of its own is its own mean; `exposure` tells.
    """
    epsilon, step = exchange
    potentials = sinkhorn(uniform_measure(support), measure, epsilon)
    image = barycentric_map(support, measure, potentials.g, epsilon)
    return (1 - step) * support + step * image


def exposure(silo: Measure, support: Float[Array, "s d"], exchange: Exchange) -> Float[Array, ""]:
    """Find the largest share that a single point has in any image: near one, a reply gives that point away."""
    epsilon = exchange.epsilon
    g = sinkhorn(uniform_measure(support), silo, epsilon).g
    cost = jnp.sum((support[:, None] - silo.points) ** 2, axis=-1)
    return jnp.max(jax.nn.softmax((g - cost) / epsilon + jnp.log(silo.weights), axis=1))


def server_average(
    support: Float[Array, "s d"],
    replies: Float[Array, "k s d"],
    weights: Float[Array, " k"],
    exchange: Exchange,
) -> Float[Array, "s d"]:
    r"""Average the replies, and undo the blur of epsilon that they share.

    .. math:: x \leftarrow \sum_k w_k z_k - s (T_x(x) - x)

    Here :math:`T_x` is the entropic map from the support to itself, which the server can compute: a step down the
    gradient of :math:`\sum_k w_k S_\epsilon(x, Q_k)`, whose minimiser is the debiased barycenter [janati2020]_. Without
    the second term every round would shrink the support.
    """
    blurred = interpolate(uniform_measure(support), support, exchange)
    return jnp.tensordot(weights, replies, axes=1) - (blurred - support)


def wasserstein_barycenter(
    silos: Measure, support: Float[Array, "s d"], exchange: Exchange, num_rounds: int
) -> tuple[Float[Array, "s d"], Float[Array, "r s d"]]:
    r"""Run the exchange in one program: every round the silos move the support and the server averages.

    Args:
        silos: stacked [K, m, d]; their shares of the mass are the weights :math:`w_k`.
        support: initial points, of no silo.
        exchange: epsilon and step.
        num_rounds: R.

    Returns:
        The last support, and those of all rounds.
    """
    mass = silos.weights.sum(axis=-1)

    def one_round(support, _):
        replies = jax.vmap(interpolate, in_axes=(0, None, None))(silos, support, exchange)
        support = server_average(support, replies, mass / mass.sum(), exchange)
        return support, support

    return jax.lax.scan(one_round, support, length=num_rounds)


def barycenter(exchange: Exchange, num_support: int = 200, num_rounds: int = 10) -> ReferenceFn:
    """Show the barycenter of the silos, r = 1; its support starts as a draw from the moments that silos share."""
    check_range("num_support", num_support, low=1)
    check_range("num_rounds", num_rounds, low=1)

    def reference(key, silos: Measure, pool: Measure, controls: Controls) -> Measure:
        support = gaussian().sample(key, union(jax.vmap(as_moments)(silos)), num_support)
        support, _ = wasserstein_barycenter(silos, support, exchange, num_rounds)
        return uniform_measure(support[None])

    return reference
