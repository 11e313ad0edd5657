r"""What preferences make of a law: the recursion of curated data, as the number of samples grows.

Of K independent draws from p one is kept, by a choice that prefers high rewards r with the temperature T (Bradley and
Terry's for two, Luce's for more). The law of what is kept is [ferbach2024]_

.. math:: p'(x) = p(x) \, H_p(x), \qquad
          H_p(x) = E\Bigl[\frac{K e^{r(x) / T}}{e^{r(x) / T} + \sum_{j < K} e^{r(X_j) / T}}\Bigr], \quad X_j \sim p.

With :math:`a = e^{r / T}` and the Laplace transform :math:`L(u) = E[e^{-u a(X)}]` it is a single integral,

.. math:: H_p(x) = K a(x) \int_0^\infty e^{-u a(x)} L(u)^{K - 1} \, du.

As K grows :math:`p' \propto p \, e^{r / T}`: where the law is a Gaussian and the reward quadratic, so is the next one
(`gaussian`). In any case the mean of the reward grows until only the best are left.
"""

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxcollapse.checks import check_count, check_covariance, check_finite, check_range

MOST_SPREAD = 250  # of rewards, in temperatures: beyond it integrals are lost among the scales


def categorical(
    probabilities: ArrayLike, rewards: ArrayLike, num_options: int, num_generations: int, temperature: float = 1.0
) -> NDArray[np.floating]:
    """Compute the laws of symbols of generations 0..T under replace, shape [T + 1, S].

    Args:
        probabilities: p, shape [S].
        rewards: r, shape [S].
        num_options: K, candidates of which one is kept.
        num_generations: T.
        temperature: T, above zero, in units of the reward.

    Raises:
        ValueError: if an argument is not allowed.

    Example:
        >>> from jaxcollapse.theory.curation import categorical
        >>> categorical([0.5, 0.5], [0.0, 1.0], num_options=2, num_generations=1)[1].round(4)  # 1/4 + 1/2 of 1/(1 + e)
        array([0.3845, 0.6155])
    """
    for name, given in (("probabilities", probabilities), ("rewards", rewards)):
        check_finite(name, given)
    p, r = np.asarray(probabilities, float), np.asarray(rewards, float)
    if p.ndim != 1 or p.shape != r.shape or (p < 0).any() or not np.isclose(p.sum(), 1):
        raise ValueError(f"probabilities and rewards: shapes {p.shape} and {r.shape} must be [S], and the first a law")
    num_options = check_count("num_options", num_options, low=1)
    check_range("temperature", temperature, low=1e-3)
    if not np.ptp(r) <= MOST_SPREAD * temperature:
        raise ValueError(
            f"rewards: spread over {np.ptp(r):.3g}, more than {MOST_SPREAD} temperatures of {temperature:.3g}"
        )
    weight = np.exp((r - r.max()) / temperature)
    laws = [p]
    for _ in range(check_count("num_generations", num_generations)):
        law = laws[-1] * _factor(laws[-1], weight, num_options)
        laws.append(law / law.sum())  # what rounding leaves out of the sum grows by K a generation
    return np.stack(laws)


def _factor(p: NDArray, weight: NDArray, num_options: int) -> NDArray:
    """Integrate over the logarithm of u, between what is below rounding on both sides."""

    def integrand(log_u):
        u = np.exp(log_u)
        return u * weight * np.exp(-u * weight) * (p @ np.exp(-u * weight)) ** (num_options - 1)

    low, high = -40.0, np.log(40 / weight.min())
    return num_options * scipy.integrate.quad_vec(integrand, low, high, epsabs=1e-12, epsrel=1e-10)[0]


def gaussian(
    mean: ArrayLike, covariance: ArrayLike, linear: ArrayLike, quadratic: ArrayLike, num_generations: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    r"""Compute means and covariances of generations 0..T under replace, as K grows.

    With the reward :math:`r(x) / T = b'x - x'Qx / 2` each generation adds to the natural parameters,

    .. math:: \Sigma_t^{-1} = \Sigma_0^{-1} + t Q, \qquad \Sigma_t^{-1} \mu_t = \Sigma_0^{-1} \mu_0 + t b.

    A linear reward moves the mean for ever and leaves the covariance; a quadratic one ends it as 1 / t. Derived here.

    Args:
        mean: of generation 0, shape [d].
        covariance: of generation 0, shape [d, d].
        linear: b, shape [d].
        quadratic: Q, positive semidefinite, shape [d, d].
        num_generations: T.

    Returns:
        Means, shape [T + 1, d], and covariances, shape [T + 1, d, d].

    Raises:
        ValueError: if the covariance is not positive definite, or shapes differ.

    Example:
        >>> from jaxcollapse.theory.curation import gaussian
        >>> means, covariances = gaussian([0.0], [[1.0]], linear=[0.0], quadratic=[[1.0]], num_generations=3)
        >>> covariances.ravel().round(3)  # 1 / (1 + t)
        array([1.   , 0.5  , 0.333, 0.25 ])
    """
    check_covariance("covariance", covariance)
    start, b, q = (np.asarray(x, float) for x in (mean, linear, quadratic))
    precision = np.linalg.inv(np.asarray(covariance, float))
    t = np.arange(check_count("num_generations", num_generations) + 1)
    if not start.shape == b.shape == precision.shape[:1] == q.shape[:1] == q.shape[1:]:
        shapes = f"{start.shape}, {b.shape} and {q.shape}"
        raise ValueError(f"mean, linear and quadratic: shapes {shapes} must be [d], [d] and [d, d]")
    covariances = np.linalg.inv(precision + t[:, None, None] * q)
    return np.einsum("tij,tj->ti", covariances, precision @ start + t[:, None] * b), covariances
