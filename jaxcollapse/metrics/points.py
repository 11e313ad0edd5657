"""What metrics of points share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure, Moments

_TILE = 2**20  # numbers per array in flight


def shares(metric: str, **data: Data) -> list[Measure]:
    """Require points, and divide masses by their sum. A measure without mass has none to divide: it gets NaN.

    Raises:
        TypeError: if moments are given, which have no points.
    """
    measures = []
    for name, given in data.items():
        if isinstance(given, Moments):
            raise TypeError(f"{name} = Moments: {metric} needs points, a Measure; bures_w2 compares moments")
        measures.append(given._replace(weights=given.weights / given.weights.sum()))
    return measures


def over_rows(row: Callable, x: Float[Array, "n d"], y: Float[Array, "m d"], *of_rows: Array) -> Array:
    r"""Apply `row` to the squared distances :math:`\lVert x_i - y_j \rVert^2`, shape [m], and what else x_i has.

    Differences are squared, not expanded: equal points are at distance zero, and near ones keep theirs. A tile of
    points is held at a time.
    """

    def apply(at):
        point, *others = at
        return row(jnp.sum((y.T - point[:, None]) ** 2, axis=0), *others)

    return jax.lax.map(apply, (x, *of_rows), batch_size=max(1, _TILE // y.size))
