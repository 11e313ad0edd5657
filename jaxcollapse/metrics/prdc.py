r"""Fidelity and diversity from balls that reach to a neighbour.

Each point x of a measure with mass has a closed ball :math:`B_k(x)` about it, which reaches to its k-th nearest
neighbour among the other points with mass of that measure, or to the farthest where there are fewer. A mass says how
much a point counts in the averages; as neighbours and as centres points count one each, those of mass zero none.
Copies of a point are neighbours at distance zero.

With generated points :math:`y_j` of shares :math:`a_j` and true points :math:`x_i` of shares :math:`b_i`, k from 1:

.. math::
    \text{precision} &= \sum_j a_j \, 1[y_j \in \textstyle\bigcup_i B_k(x_i)], &
    \text{recall} &= \sum_i b_i \, 1[x_i \in \textstyle\bigcup_j B_k(y_j)], \\
    \text{density} &= \tfrac{1}{k} \sum_j a_j \textstyle\sum_i 1[y_j \in B_k(x_i)], &
    \text{coverage} &= \sum_i b_i \, 1[\exists j : y_j \in B_k(x_i)].

Time is O(k) passes over the distances of a tile. All raise TypeError where they are given moments.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure, Metric
from jaxcollapse.checks import check_range
from jaxcollapse.measures import over_rows
from jaxcollapse.metrics.points import average, shares


def precision(k: int) -> Metric:
    """Make the metric of generated mass inside the support of the truth [kynkaanniemi2019]_, in [0, 1].

    Args:
        k: neighbours, static; the authors use 3.

    Raises:
        ValueError: if k is below 1.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.uniform_measure(np.array([[0.0], [1.0], [2.0], [3.0]]))  # balls of radius 1
        >>> generated = jc.uniform_measure(np.array([[0.5], [1.5], [2.5], [9.0]]))
        >>> float(jc.metrics.precision(1)(None, generated, truth))
        0.75
    """
    check_range("k", k, low=1)

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        y, x = shares("precision", generated=generated, truth=truth)
        return average(y, _balls_about(y, x, k) > 0)

    return metric


def recall(k: int) -> Metric:
    """Make the metric of true mass inside the support of the generated data [kynkaanniemi2019]_, in [0, 1].

    Args:
        k: neighbours, static; the authors use 3.

    Raises:
        ValueError: if k is below 1.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.uniform_measure(np.array([[0.0], [1.0], [2.0], [9.0]]))
        >>> generated = jc.uniform_measure(np.array([[0.5], [1.5], [2.5], [3.5]]))  # balls of radius 1
        >>> float(jc.metrics.recall(1)(None, generated, truth))
        0.75
    """
    check_range("k", k, low=1)

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        y, x = shares("recall", generated=generated, truth=truth)
        return average(x, _balls_about(x, y, k) > 0)

    return metric


def density(k: int) -> Metric:
    """Make the metric of how many balls of the truth hold a generated point, divided by k [naeem2020]_.

    Its expectation is 1 for independent data of one distribution with equal masses, and it has no upper bound.

    Args:
        k: neighbours, static; the authors use 5.

    Raises:
        ValueError: if k is below 1.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.uniform_measure(np.array([[0.0], [1.0], [2.0], [3.0]]))  # balls of radius 1
        >>> generated = jc.uniform_measure(np.array([[0.5], [1.5], [2.5], [9.0]]))  # in 2, 2, 2 and 0 balls
        >>> float(jc.metrics.density(1)(None, generated, truth))
        1.5
    """
    check_range("k", k, low=1)

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        y, x = shares("density", generated=generated, truth=truth)
        return average(y, _balls_about(y, x, k)) / k

    return metric


def coverage(k: int) -> Metric:
    r"""Make the metric of true mass whose balls hold a generated point [naeem2020]_, in [0, 1].

    For n independent data of one distribution each, it is near :math:`1 - 2^{-k}`.

    Args:
        k: neighbours, static; the authors use 5.

    Raises:
        ValueError: if k is below 1.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.uniform_measure(np.array([[0.0], [1.0], [2.0], [3.0]]))  # balls of radius 1
        >>> generated = jc.uniform_measure(np.array([[0.5], [0.5], [0.5], [0.5]]))
        >>> float(jc.metrics.coverage(1)(None, generated, truth))
        0.5
    """
    check_range("k", k, low=1)

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        y, x = shares("coverage", generated=generated, truth=truth)
        has_mass = y.weights > 0
        held = over_rows(lambda square, reach: ((square <= reach) & has_mass).any(), x.points, y.points, _reach(x, k))
        return average(x, held)

    return metric


def _balls_about(data: Measure, centres: Measure, k: int) -> Array:
    """Count the balls about the centres that hold each point."""
    reach = _reach(centres, k)
    return over_rows(lambda square: (square <= reach).sum(), data.points, centres.points)


def _reach(measure: Measure, k: int) -> Float[Array, " n"]:
    """Square the radius of the ball about each point; there is none, -1, about a point of mass zero."""
    has_mass, index = measure.weights > 0, jnp.arange(measure.weights.size)

    def row(square: Array, i: Array):
        others = jnp.where(has_mass & (index != i), square, jnp.inf)

        def further(_, state: tuple[Array, Array]):  # k passes: on a CPU faster by far than a sort
            reach, held = state
            following = jnp.min(others, where=others > reach, initial=jnp.inf)
            reach = jnp.where((held < k) & jnp.isfinite(following), following, reach)
            return reach, jnp.sum(others <= reach)

        reach, _ = jax.lax.fori_loop(0, k, further, (jnp.full_like(square[0], -1), 0))
        return jnp.maximum(reach, 0)

    return jnp.where(has_mass, over_rows(row, measure.points, measure.points, index), -1)
