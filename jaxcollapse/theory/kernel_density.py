r"""Exact expectations without selection: kernel densities refitted on n points of their own, under replace.

A fit keeps its n training points, with covariance :math:`S_t` (maximum likelihood), and adds the kernel's :math:`H_t`:
the model has covariance :math:`S_t + H_t`, and n draws from it are the points of the next, so that

.. math:: E[S_{t+1} \mid S_t] = (1 - 1/n) (S_t + H_t).

With the growth correction the model has covariance :math:`S_t`, whatever the bandwidth, and
:math:`E[S_t] = (1 - 1/n)^t S_0` as for a Gaussian (`jaxcollapse.theory.closed_forms.replace`). Without it the noise of
kernels, which never leaves, opposes the collapse. Derived here.
"""

import numpy as np
from numpy.typing import NDArray

from jaxcollapse.checks import check_range, check_recursion


def fixed_bandwidth(
    num_samples: int, num_generations: int, bandwidth: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    r"""Compute :math:`v_t` and :math:`a_t` of :math:`E[S_t] = v_t S_0 + a_t I` with :math:`H_t = h^2 I`, for t = 0..T.

    .. math:: v_t = (1 - 1/n)^t, \qquad a_t = (n - 1) h^2 (1 - v_t).

    The truth is forgotten at a Gaussian's rate, but the variance tends to :math:`(n - 1) h^2`, above the truth's
    or below, instead of zero. That of the model is larger by :math:`h^2`.

    Args:
        num_samples: n, draws a generation.
        num_generations: T.
        bandwidth: h, in units of the data.

    Example:
        >>> from jaxcollapse.theory.kernel_density import fixed_bandwidth
        >>> of_truth, added = fixed_bandwidth(2, 2, bandwidth=1.0)
        >>> of_truth.tolist(), added.tolist()
        ([1.0, 0.5, 0.25], [0.0, 0.5, 0.75])
    """
    check_recursion(num_samples, num_generations)
    check_range("bandwidth", bandwidth, low=0)
    v = (1 - 1 / num_samples) ** np.arange(num_generations + 1)
    return v, (num_samples - 1) * bandwidth**2 * (1 - v)


def relative_bandwidth(num_samples: int, num_generations: int, bandwidth: float) -> NDArray[np.floating]:
    r"""Compute :math:`v_t` of :math:`E[S_t] = v_t S_0` with :math:`H_t = b^2 S_t`, for t = 0..T.

    .. math:: v_t = \left( (1 - 1/n) (1 + b^2) \right)^t.

    It grows without bound where :math:`b^2 > 1 / (n - 1)`: with the rules of Scott and of Silverman, whose b is of the
    order :math:`n^{-1/(d+4)}`, at every n that matters.

    Args:
        num_samples: n, draws a generation, and the points of the first model.
        num_generations: T.
        bandwidth: b of n points, in units of their spread.

    Example:
        >>> from jaxcollapse.theory.kernel_density import relative_bandwidth
        >>> relative_bandwidth(2, 2, bandwidth=1.0).tolist()  # at b^2 = 1 / (n - 1) variance stays
        [1.0, 1.0, 1.0]
    """
    check_recursion(num_samples, num_generations)
    check_range("bandwidth", bandwidth, low=0)
    return ((1 - 1 / num_samples) * (1 + bandwidth**2)) ** np.arange(num_generations + 1)
