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

from jaxcollapse.checks import check_count, check_range, check_recursion


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


def fresh_mix(
    num_samples: int, num_generations: int, num_fresh: int, weight: float | None = None
) -> NDArray[np.floating]:
    r"""Compute :math:`v_t = 1 - e_t` of n synthetic and r real samples a generation.

    With w the real share of the training mass, r / (n + r) if no other is given, the mean error, in units of the
    truth's variance, obeys

    .. math:: e_{t+1} = \frac{w^2}{r} + (1 - w)^2 \Bigl(e_t + \frac{1 - e_t}{n}\Bigr).

    Derived here; compare [bertrand2024]_ and [he2025]_.

    Args:
        num_samples: n.
        num_generations: T.
        num_fresh: r.
        weight: w in [0, 1], of `jaxcollapse.workflows.fresh_mix`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.theory.closed_forms import fresh_mix
        >>> fresh_mix(10, 2, num_fresh=0).round(3)  # as under replace
        array([1.  , 0.9 , 0.81])
        >>> [round(float(fresh_mix(10, 100, 10, weight=w)[-1]), 3) for w in (0.4, 0.5, 0.618, 0.7)]
        [0.923, 0.935, 0.939, 0.937]
    """
    check_recursion(num_samples, num_generations)
    check_count("num_fresh", num_fresh)
    if weight is None:
        weight = num_fresh / (num_samples + num_fresh)
    check_range("weight", weight, low=0, high=1 if num_fresh else 0)
    ratio = (1 - weight) ** 2 * (1 - 1 / num_samples)
    added = (weight**2 / num_fresh if num_fresh else 0) + (1 - weight) ** 2 / num_samples
    return 1 - added * (1 - ratio ** np.arange(num_generations + 1)) / (1 - ratio)


def best_weight(num_samples: int, num_fresh: int) -> float:
    r"""Compute the weight of real data under which the mean of `fresh_mix` errs least in the end, as n and r grow.

    .. math:: k w^2 + w = 1, \qquad w = \frac{2}{1 + \sqrt{1 + 4 k}}, \qquad k = n / r.

    With as many real as synthetic samples it is the golden ratio's inverse [he2025]_. It is always above the real share
    r / (n + r): a synthetic sample is worth less than a real one.

    Args:
        num_samples: n.
        num_fresh: r, at least 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> from jaxcollapse.theory.closed_forms import best_weight
        >>> round(best_weight(100, 100), 3), round(best_weight(600, 100), 3)
        (0.618, 0.333)
    """
    ratio = check_count("num_samples", num_samples, low=1) / check_count("num_fresh", num_fresh, low=1)
    return 2 / (1 + (1 + 4 * ratio) ** 0.5)


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
