"""Whether generated points are new: their distance to the nearest of the data that the model was fitted to."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure, Metric
from jaxcollapse.measures import over_rows
from jaxcollapse.metrics.points import average, shares


def nearest_distance(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute the mean distance of generated points to the nearest point of the truth, in data units.

    .. math:: \sum_j a_j \min_i \lVert y_j - x_i \rVert.

    With the training set for a truth it is the generalisation score of [shi2025]_, which falls to zero where a model
    repeats its data; with a dense sample of a known manifold, the distance off it.

    Raises:
        TypeError: if moments are given.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated, truth = (jc.uniform_measure(np.array(x)) for x in ([[0.0], [2.5]], [[0.0], [2.0]]))
        >>> float(jc.metrics.nearest_distance(jax.random.key(0), generated, truth))
        0.25
    """
    y, x = shares("nearest_distance", generated=generated, truth=truth)
    there = x.weights > 0
    square = over_rows(lambda row: jnp.min(row, where=there, initial=jnp.inf), y.points, x.points)
    return average(y, jnp.sqrt(square))


def novelty(held_out: Measure) -> Metric:
    r"""Make the metric of `nearest_distance` to the training set over that of data held out.

    About one for new samples of the truth, zero for copies of the training set, above one for samples far from data.

    Args:
        held_out: real points that are in no training set.

    Returns:
        A metric whose truth is the training set.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated, training, held_out = (jc.uniform_measure(np.array([[x]])) for x in (1.0, 0.0, 2.0))
        >>> metric = jc.metrics.novelty(held_out)
        >>> float(metric(jax.random.key(0), generated, training))
        0.5
    """

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        return nearest_distance(key, generated, truth) / nearest_distance(key, held_out, truth)

    return metric
