"""What metrics of points share."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure
from jaxcollapse.measures import require_points, total


def shares(metric: str, **data: Data) -> list[Measure]:
    """Require points, and divide masses by their sum.

    All shares are NaN where one of the measures has no finite mass to divide, or has mass at a point that is not
    finite.

    Raises:
        TypeError: if moments are given, which have no points.
    """
    measures = [Measure(x, w / total(w)) for x, w in require_points(metric, **data)]
    known = functools.reduce(jnp.logical_and, (jnp.isfinite(leaf).all() for m in measures for leaf in m))
    return [Measure(x, jnp.where(known, w, jnp.nan)) for x, w in measures]


def average(measure: Measure, values: Array) -> Float[Array, ""]:
    """Average values of a measure's points by `shares`, and keep NaN, which a compiled product with False would not."""
    w = measure.weights
    return total(jnp.where(jnp.isnan(w), w, w * values))
