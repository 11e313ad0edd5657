"""The residual network of points without structure."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.checks import check_range
from jaxcollapse.generators.diffusion.architecture import (
    NUM_HARMONICS,
    Architecture,
    Spread,
    angle_features,
    normals,
)


class Network(NamedTuple):
    """Weights of a residual network.

    Attributes:
        enter: from the point, shape [d, width].
        time: from the features of the angle, shape [f, width].
        hidden: of the residual layers, shape [depth, width, width].
        leave: to the velocity, shape [width, d].
    """

    enter: Float[Array, "*stack d width"]
    time: Float[Array, "*stack f width"]
    hidden: Float[Array, "*stack depth width width"]
    leave: Float[Array, "*stack width d"]


def residual(width: int = 64, depth: int = 3, spread: Spread = jnp.sqrt) -> Architecture:
    r"""Learn by :math:`v = h_L A`, with :math:`h_0 = x E + f(\theta) T` and :math:`h_{l+1} = h_l + \tanh(h_l W_l)`.

    Weights are drawn such that they keep the size of what passes; those of A are zero.

    Args:
        width: of h.
        depth: L, residual layers.
        spread: of the data: `jax.numpy.sqrt` of the variance of each axis, or `common_spread`.

    Returns:
        An architecture with a `Network` as weights; f are the `angle_features`.

    Raises:
        ValueError: if a number is out of range.
    """
    check_range("width", width, low=1)
    check_range("depth", depth, low=0)

    def init(key: Key[Array, ""], dim: int, dtype: Any) -> Network:
        size = 2 * NUM_HARMONICS + 1
        normal = normals(key, (dim + size + depth * width) * width, dtype).reshape(-1, width)
        enter, time, hidden = jnp.split(normal, (dim, dim + size))
        hidden = hidden.reshape(depth, width, width)
        return Network(enter / dim**0.5, time / size**0.5, hidden / width**0.5, jnp.zeros((width, dim), dtype))

    def apply(network: Network, x: Float[Array, "n d"], angle: Float[Array, "*n"]) -> Float[Array, "n d"]:
        h = x @ network.enter + angle_features(angle) @ network.time
        for weights in network.hidden:
            h = h + jnp.tanh(h @ weights)
        return h @ network.leave

    return Architecture(init, apply, spread)
