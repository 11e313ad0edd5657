"""Metrics of whole distributions. Each takes data: moments have no shape to compare."""

from jaxtyping import Array, Float

from jaxcollapse.base import Data, MetricFn, Moments
from jaxcollapse.transport.sliced import sliced_wasserstein


def sliced_w(num_projections: int = 100, p: float = 2) -> MetricFn:
    """Make the sliced p-Wasserstein metric between generated data and data of the truth, in data units [bonneel2015]_.

    Args:
        num_projections: random directions, drawn afresh from each key.
        p: order, at least 1.

    The metric raises TypeError where it is given moments.
    """

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        for name, data in (("generated", generated), ("truth", truth)):
            if isinstance(data, Moments):
                raise TypeError(f"{name} = Moments: sliced_w compares points, a Measure; bures_w2 compares moments")
        return sliced_wasserstein(key, generated, truth, num_projections, p)

    return metric
