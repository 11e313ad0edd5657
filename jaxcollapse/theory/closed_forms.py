r"""Exact expectations without selection: maximum likelihood Gaussians under every workflow.

Each function returns :math:`E[\Sigma_t] = v_t \Sigma_0` for t = 0..T. Training sets that mix real and synthetic data
by fixed or exchangeable weights conserve the second moment about the truth, so that the mean error follows:

.. math:: E[\Sigma_t] + E[(\mu_t - \mu_0)(\mu_t - \mu_0)'] = \Sigma_0, \qquad
          E\lVert \mu_t - \mu_0 \rVert^2 = (1 - v_t) \operatorname{Tr} \Sigma_0.

Generation 1 is fitted on n draws from the truth. A sample mean estimates :math:`E[\Sigma_t]` only while t is well
below n: later, rare chains carry the expectation.
"""

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxcollapse.checks import check_count, check_recursion


def replace(num_samples: int, num_generations: int) -> NDArray[np.floating]:
    """Compute :math:`v_t = (1 - 1/n)^t` [shumailov2024]_.

    Example:
        >>> from jaxcollapse.theory.closed_forms import replace
        >>> replace(10, 3).round(3)
        array([1.   , 0.9  , 0.81 , 0.729])
    """
    check_recursion(num_samples, num_generations)
    return (1 - 1 / num_samples) ** np.arange(num_generations + 1)


def accumulate(num_samples: int, num_generations: int) -> NDArray[np.floating]:
    r"""Compute :math:`v_t = \prod_{k \le t} (1 - 1/(n k^2)) \to \sin(\pi/\sqrt n) / (\pi/\sqrt n)` [kazdan2025]_.

    Example:
        >>> from jaxcollapse.theory.closed_forms import accumulate
        >>> accumulate(4, 2).round(4)  # 1, 1 - 1/4, (1 - 1/4)(1 - 1/16)
        array([1.    , 0.75  , 0.7031])
        >>> accumulate(4, 1000)[-1].round(3)  # sin(pi / 2) / (pi / 2)
        np.float64(0.637)
    """
    check_recursion(num_samples, num_generations)
    k = np.arange(1, num_generations + 1)
    return np.concatenate([[1], np.cumprod(1 - 1 / (num_samples * k**2))])


def accumulate_subsample(num_samples: int, num_generations: int) -> NDArray[np.floating]:
    r"""Compute the fitted variance :math:`v_t = V_t \, t (n-1) / (tn - 1) \to 1 - (\pi^2/2 - 2)/n + O(n^{-2})`.

    The variance of the pool of tn points obeys :math:`V_1 = 1 - 1/n` and

    .. math:: V_{t+1} = V_t \Bigl(1 - \frac{1 + (n-1)(t-1)/(tn-1)}{n (t+1)^2}\Bigr).

    Derived here; the workflow is that of [kazdan2025]_.

    Example:
        >>> from jaxcollapse.theory.closed_forms import accumulate, accumulate_subsample
        >>> accumulate(100, 50)[-1].round(3), accumulate_subsample(100, 50)[-1].round(3)
        (np.float64(0.984), np.float64(0.972))
    """
    check_recursion(num_samples, num_generations)
    n = num_samples
    t = np.arange(1, num_generations + 1)
    rest = np.maximum(t * n - 1, 1)  # of one sample the variance is zero
    factor = 1 - (1 + (n - 1) * (t - 1) / rest) / (n * (t + 1) ** 2)
    pool = (1 - 1 / n) * np.concatenate([[1], np.cumprod(factor[:-1])])
    return np.concatenate([[1], pool * t * (n - 1) / rest])


def fresh_mix(num_samples: int, num_generations: int, num_fresh: int) -> NDArray[np.floating]:
    r"""Compute :math:`v_t = 1 - e_t` of n synthetic and r real samples a generation.

    With :math:`N = n + r` and :math:`\lambda = n / N` the mean error, in units of the truth's variance, obeys

    .. math:: e_{t+1} = (\lambda^2 - \lambda / N) \, e_t + 1/N, \qquad e_t \to 1 / (N (1 - \lambda^2) + \lambda).

    Derived here; compare [bertrand2024]_.

    Example:
        >>> from jaxcollapse.theory.closed_forms import fresh_mix
        >>> fresh_mix(10, 2, num_fresh=0).round(3)  # as under replace
        array([1.  , 0.9 , 0.81])
        >>> fresh_mix(10, 100, num_fresh=10)[-1].round(3)
        np.float64(0.935)
    """
    check_recursion(num_samples, num_generations)
    check_count("num_fresh", num_fresh)
    total = num_samples + num_fresh
    share = num_samples / total
    ratio = share**2 - share / total
    limit = 1 / (total * (1 - share**2) + share)
    return 1 - limit * (1 - ratio ** np.arange(num_generations + 1))


def replace_log_det(num_samples: int, num_generations: int, dim: int) -> NDArray[np.floating]:
    r"""Compute :math:`E[\log\det\Sigma_t - \log\det\Sigma_0]` under replace, for t = 0..T.

    The scatter of n draws is Wishart with n - 1 degrees of freedom, so each generation adds

    .. math:: \sum_{i=1}^d \Psi\Bigl(\frac{n - i}{2}\Bigr) - d \log\frac{n}{2},

    with the digamma function :math:`\Psi`. Unlike :math:`E[\Sigma_t]` this is what a typical chain does, for any t.
    Compare the one-dimensional rates of [suresh2024]_.

    Example:
        >>> from jaxcollapse.theory.closed_forms import replace_log_det
        >>> replace_log_det(100, 2, dim=2).round(2)
        array([-0.  , -0.05, -0.1 ])
    """
    check_recursion(num_samples, num_generations)
    check_count("dim", dim, low=1, high=num_samples - 1)
    step = scipy.special.digamma((num_samples - np.arange(1, dim + 1)) / 2).sum()
    return (step - dim * np.log(num_samples / 2)) * np.arange(num_generations + 1)


CLOSED_FORMS = {
    "replace": replace,
    "accumulate": accumulate,
    "accumulate_subsample": accumulate_subsample,
    "fresh_mix": fresh_mix,
}
