"""Energy distance."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data
from jaxcollapse.measures import over_rows, total
from jaxcollapse.metrics.points import shares


def energy_distance(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute the energy distance, in data units [szekely2013]_.

    .. math:: 2 E \lVert X - Y \rVert - E \lVert X - X' \rVert - E \lVert Y - Y' \rVert
              = -\sum_{ij} s_i s_j \lVert z_i - z_j \rVert,

    with the points z of both and the shares s of generated mass less those of true mass: a V-statistic, zero for
    equal measures alone. SciPy's distance is its root. Differentiable: points that coincide repel none.

    Raises:
        TypeError: if moments are given.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated, truth = jc.uniform_measure(np.zeros((2, 1))), jc.uniform_measure(np.ones((2, 1)))
        >>> round(float(jc.metrics.energy_distance(None, generated, truth)), 2)  # twice the distance of the two places
        2.0
    """
    y, x = shares("energy_distance", generated=generated, truth=truth)
    z, s = jnp.concatenate([y.points, x.points]), jnp.concatenate([y.weights, -x.weights])

    def row(square):
        apart = square > 0
        return total(s * jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0))

    return -total(s * over_rows(row, z, z))
