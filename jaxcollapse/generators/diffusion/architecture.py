"""What learns the velocity, and what architectures share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

NUM_HARMONICS = 4  # of the angle, as features

Spread = Callable[[Float[Array, " d"]], Float[Array, " d"]]


class Architecture(NamedTuple):
    """What learns the velocity of standardised data.

    Attributes:
        init: `init(key, dim, dtype) -> weights`, a pytree of arrays; best where the velocity begins at zero.
        apply: `apply(weights, x, angle) -> velocity`, shape [n, d], of points x, shape [n, d], and their angles,
            shape [n], or one for all.
        spread: `spread(variances) -> scale`, that the data are standardised by, both of shape [d]; zero keeps a
            coordinate at its mean.
    """

    init: Callable[[Key[Array, ""], int, Any], Any]
    apply: Callable[[Any, Float[Array, "n d"], Float[Array, "*n"]], Float[Array, "n d"]]
    spread: Spread = jnp.sqrt


def angle_features(angle: Float[Array, "*n"]) -> Float[Array, "*n f"]:
    r"""Compute cosines and sines of multiples of the angle; the first is one, and makes offsets needless."""
    multiples = angle[..., None] * jnp.arange(NUM_HARMONICS + 1, dtype=angle.dtype)
    return jnp.concatenate([jnp.cos(multiples), jnp.sin(multiples[..., 1:])], axis=-1)


def common_spread(variances: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""Give every axis the same spread, :math:`(\operatorname{tr} \Sigma / d)^{1/2}`.

    What hardly varies is then not blown up to the size of the rest, as margins of images or late components would be.
    An axis whose own spread is below 1e-4 of that, a rounding error, has none.
    """
    mean = jnp.mean(variances)
    return jnp.where(variances > 1e-8 * mean, jnp.sqrt(mean), 0)


def normals(key: Key[Array, ""], size: int, dtype) -> Float[Array, " n"]:
    """Draw one flat stream, behind a barrier: each use of it would compile and run the generator again."""
    return jax.lax.optimization_barrier(jax.random.normal(key, (size,), dtype))
