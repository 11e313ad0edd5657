"""Asymptotic exponents of the Gaussian recursion near its fixed point."""

import numpy as np
import scipy

from jaxcollapse.checks import check_budget, check_count


def kappa(dim: int, budget: float) -> float:
    r"""Compute the shrinkage factor of a covariance under isotropic, centred top-:math:`\alpha` selection.

    .. math:: \kappa_d(\alpha) = F_{\chi^2_{d+2}}\bigl(F^{-1}_{\chi^2_d}(\alpha)\bigr) / \alpha \le 1

    Args:
        dim: d, at least 1.
        budget: :math:`\alpha` in (0, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.theory.exponents import kappa
        >>> round(kappa(2, 0.5), 4)  # 1 - log 2
        0.3069
    """
    check_count("dim", dim, low=1)
    check_budget(budget)
    return float(scipy.stats.chi2.cdf(scipy.stats.chi2.ppf(budget, dim), dim + 2) / budget)


def psi(dim: int, budget: float) -> float:
    r"""Compute the collapse exponent under accumulate, :math:`\psi = 1 - \kappa_d(\alpha)`.

    :math:`\operatorname{Tr} \Sigma_t \sim t^{-\psi}` and :math:`\lVert \mu_t - u \rVert^2 \sim t^{-2\psi}`;
    the rate is the spectral gap of [qiao2026]_, its value is derived here. Under replace,
    :math:`\operatorname{Tr} \Sigma_t \sim \kappa^t`.

    Example:
        >>> from jaxcollapse.theory.exponents import psi
        >>> round(psi(2, 0.5), 4)  # log 2
        0.6931
    """
    return 1 - kappa(dim, budget)


def psi_finite(dim: int, budget: float, num_kept: int) -> float:
    r"""Compute the collapse exponent at n kept samples a generation.

    .. math:: \psi_n = 1 - E[\kappa_d(p)], \qquad p \sim \mathrm{Beta}(n + 1, N - n).

    Given the energy of the first rejected candidate the kept ones are independent truncated draws. What maximum
    likelihood takes from a kept set's covariance, a share 1/n, accumulation returns as the scatter of their means;
    the other fluctuations are summable. Derived here.

    Args:
        dim: d.
        budget: :math:`\alpha = n / N` in (0, 1]; where no candidate is rejected nothing collapses.
        num_kept: n.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.theory.exponents import psi, psi_finite
        >>> round(psi(2, 0.5), 3), round(psi_finite(2, 0.5, num_kept=10), 3)
        (0.693, 0.669)
    """
    check_count("dim", dim, low=1)
    check_budget(budget)
    check_count("num_kept", num_kept, low=1)
    num_candidates = round(num_kept / budget)
    if num_candidates <= num_kept:
        return 0.0
    levels = (np.arange(4096) + 0.5) / 4096
    p = scipy.stats.beta.ppf(levels, num_kept + 1, num_candidates - num_kept)
    shrinkage = scipy.stats.chi2.cdf(scipy.stats.chi2.ppf(p, dim), dim + 2) / p
    return float(1 - shrinkage.mean())
