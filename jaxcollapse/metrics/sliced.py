"""Metrics of whole distributions. Each takes data: moments have no shape to compare."""

from jaxtyping import Array, Float

from jaxcollapse.base import Data, Metric
from jaxcollapse.metrics.points import shares
from jaxcollapse.transport.sliced import sliced_wasserstein


def sliced_w(num_projections: int = 100, p: float = 2) -> Metric:
    """Make the sliced p-Wasserstein metric between generated data and data of the truth, in data units [bonneel2015]_.

    Args:
        num_projections: random directions, drawn afresh from each key.
        p: order, at least 1.

    The metric raises TypeError where it is given moments.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated, truth = jc.uniform_measure(np.zeros((2, 1))), jc.uniform_measure(np.ones((2, 1)))
        >>> round(float(jc.metrics.sliced_w()(jax.random.key(0), generated, truth)), 2)
        1.0
    """

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        y, x = shares("sliced_w", generated=generated, truth=truth)
        return sliced_wasserstein(key, y, x, num_projections, p)

    return metric
