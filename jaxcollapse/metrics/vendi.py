"""Vendi score."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data
from jaxcollapse.measures import total_product
from jaxcollapse.metrics.moments import effective_number
from jaxcollapse.metrics.points import shares


def vendi(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute the Vendi score of the generated data under the cosine kernel, an effective number of directions
    [friedman2023]_.

    .. math:: \exp(-\sum_i \lambda_i \log \lambda_i), \qquad
              K_{ij} = \sqrt{a_i} \frac{y_i \cdot y_j}{\lVert y_i \rVert \lVert y_j \rVert} \sqrt{a_j} = R R',

    with the eigenvalues of the kernel K of points y with shares a of the mass, whose sum is one. They are those of
    :math:`R'R` as well, [d, d], which takes the place of K where d is the smaller. Between 1 and min(n, d). Cosines are
    taken about the origin and do not see lengths: a point there, which has no direction, is left out, and a collapse
    onto the origin goes unnoticed.

    Raises:
        TypeError: if moments are given.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated = jc.uniform_measure(np.array([[1.0, 0.0], [0.0, 3.0]]))
        >>> round(float(jc.metrics.vendi(None, generated, generated)), 2)  # two directions
        2.0
    """
    (y,) = shares("vendi", generated=generated)
    length = jnp.sqrt(jnp.sum(y.points**2, axis=1))
    rows = y.points * (jnp.sqrt(y.weights) / jnp.where(length > 0, length, 1))[:, None]
    tall = rows if rows.shape[0] > rows.shape[1] else rows.T
    return effective_number(total_product(tall, tall))
