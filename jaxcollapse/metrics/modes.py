"""Which modes the generated data reach.

A point belongs to the mode whose centre is the nearest, the first of them in a tie. Of labelled data the centres are
the means of the classes, `as_moments(classes).mean` of a stack of measures. All raise TypeError where they are given
moments; the truth is not looked at.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Metric
from jaxcollapse.checks import check_range
from jaxcollapse.measures import over_rows, totals_by
from jaxcollapse.metrics.points import shares


def mode_shares(generated: Data, centres: Float[Array | np.ndarray, "m d"]) -> Float[Array, " m"]:
    r"""Compute the share of the mass that is nearest to each centre.

    .. math:: s_m = \sum_j a_j \, 1[m = \arg\min_l \lVert y_j - c_l \rVert].

    Args:
        generated: points y with shares a of the mass.
        centres: c, in data units.

    Raises:
        TypeError: if moments are given.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated = jc.uniform_measure(np.array([[0.1], [-0.2], [0.3], [5.1]]))
        >>> print(jc.metrics.mode_shares(generated, np.array([[0.0], [5.0]])))
        [0.75 0.25]
    """
    (y,) = shares("mode_shares", generated=generated)
    nearest = over_rows(jnp.argmin, y.points, jnp.asarray(centres, y.points.dtype))
    return totals_by(nearest, y.weights, len(centres))


def smallest_share(centres: Float[Array | np.ndarray, "m d"]) -> Metric:
    r"""Make the metric :math:`\min_m s_m` of `mode_shares`: at most 1/m, and 0 where a mode is lost.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated = jc.uniform_measure(np.array([[0.1], [-0.2], [0.3], [5.1]]))
        >>> float(jc.metrics.smallest_share(np.array([[0.0], [5.0]]))(None, generated, generated))
        0.25
    """
    return lambda key, generated, truth: mode_shares(generated, centres).min()


def mode_entropy(centres: Float[Array | np.ndarray, "m d"]) -> Metric:
    r"""Make the metric :math:`-\sum_m s_m \log s_m` of `mode_shares`, in nats: 0 where all is one mode.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated = jc.uniform_measure(np.array([[0.1], [-0.2], [4.9], [5.1]]))
        >>> entropy = jc.metrics.mode_entropy(np.array([[0.0], [5.0]]))
        >>> round(float(entropy(None, generated, generated)), 4)  # log 2
        0.6931
    """
    return lambda key, generated, truth: jax.scipy.special.entr(mode_shares(generated, centres)).sum()


def modes_covered(centres: Float[Array | np.ndarray, "m d"], threshold: float) -> Metric:
    """Make the metric of how many modes have more than a threshold of the mass.

    Args:
        centres: of the modes, in data units.
        threshold: in [0, 1], of `mode_shares`; half of a mode's share of the truth, say.

    Raises:
        ValueError: if the threshold is out of range.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generated = jc.uniform_measure(np.array([[0.1], [-0.2], [0.3], [5.1]]))
        >>> covered = jc.metrics.modes_covered(np.array([[0.0], [5.0], [9.0]]), threshold=0.1)
        >>> int(covered(None, generated, generated))
        2
    """
    check_range("threshold", threshold, low=0, high=1)

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        share = mode_shares(generated, centres)
        return jnp.where(jnp.isnan(share), share, share > threshold).sum()

    return metric
