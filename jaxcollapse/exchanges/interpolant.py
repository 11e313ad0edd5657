"""Interpolants: what a silo replies to a support, and what a server makes of the replies."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.measures import uniform_measure
from jaxcollapse.transport.sinkhorn import barycentric_map, largest_share, sinkhorn

Scalar = Float[Array | float, ""]
Start = Moments | Float[Array, "s d"]


def first_support(key: Key[Array, ""], start: Start, num_support: int) -> Float[Array, "s d"]:
    """Draw a support from moments, or take the one that is given."""
    return gaussian().sample(key, start, num_support) if isinstance(start, Moments) else start


def interpolate(
    measure: Measure, support: Float[Array, "s d"], epsilon: Scalar, step: Scalar
) -> tuple[Float[Array, "s d"], Float[Array, ""]]:
    r"""Move the support towards a measure, :math:`z_i = (1 - s) x_i + s T(x_i)`.

    T is the barycentric projection of the entropic plan. Each :math:`T(x_i)` is a weighted mean of the silo's points,
    but a mean all the same: who knows s recovers it. A small epsilon makes it a mean of few points, and one point
    in a silo of its own is its own mean; `exposure` tells.

    Args:
        measure: a silo's data.
        support: x.
        epsilon: of the plan, in squared units of the data.
        step: s, in (0, 1].

    Returns:
        z, and the marginal error of the plan.
    """
    potentials = sinkhorn(uniform_measure(support), measure, epsilon)
    image = barycentric_map(support, measure, potentials.g, epsilon)
    return (1 - step) * support + step * image, potentials.error


def exposure(silo: Measure, support: Float[Array, "s d"], epsilon: Scalar) -> Float[Array, ""]:
    """Find the largest share that a single point has in any image: near one, a reply gives that point away."""
    return largest_share(support, silo, sinkhorn(uniform_measure(support), silo, epsilon).g, epsilon).max()


def average(
    support: Float[Array, "s d"],
    replies: Float[Array, "k s d"],
    weights: Float[Array, " k"],
    epsilon: Scalar,
    step: Scalar,
) -> tuple[Float[Array, "s d"], Float[Array, ""]]:
    r"""Average the replies, and undo the blur of epsilon that they share.

    .. math:: x \leftarrow \sum_k w_k z_k - s (T_x(x) - x)

    Here :math:`T_x` is the entropic map from the support to itself, which the server can compute: a step down the
    gradient of :math:`\sum_k w_k S_\epsilon(x, Q_k)`, whose minimiser is the debiased barycenter [janati2020]_. Without
    the second term every round would shrink the support.

    Returns:
        The next support, and the marginal error of the plan from it to itself.
    """
    blurred, error = interpolate(uniform_measure(support), support, epsilon, step)
    return jnp.tensordot(weights, replies, axes=1) - (blurred - support), error
