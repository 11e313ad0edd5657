"""Kernel densities: the training points themselves, and Gaussian noise around them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator, Measure
from jaxcollapse.checks import check_count, check_range, is_known
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments, compact, inverse_cdf, require_points, share


class KernelDensity(NamedTuple):
    r"""A mixture of Gaussians of one covariance :math:`F F'`, centred at points.

    Attributes:
        centres: c, with their masses, shape [max_points, d].
        factor: F, shape [d, d], in units of the data.
    """

    centres: Measure
    factor: Float[Array, "d d"]


def scott(size: Any, dim: int) -> Any:
    """Compute the bandwidth :math:`m^{-1 / (d + 4)}` of m points, in units of the data's spread [scott1992]_."""
    return size ** (-1 / (dim + 4))


def silverman(size: Any, dim: int) -> Any:
    """Compute the bandwidth :math:`(m (d + 2) / 4)^{-1 / (d + 4)}` of m points, likewise [silverman1986]_."""
    return (size * (dim + 2) / 4) ** (-1 / (dim + 4))


def kernel_density(
    max_points: int,
    bandwidth: float | Callable[[Any, int], Any] = scott,
    *,
    growth_correction: bool = False,
) -> Generator:
    r"""Fit a Gaussian kernel density: x = c + F z with c one of the points and z standard normal.

    A number h is the bandwidth in units of the data, a rule :math:`b(m, d)` one in units of their spread:

    .. math:: F F' = h^2 I \quad \text{or} \quad F F' = b(m, d)^2 \, \Sigma, \qquad
              m = \textstyle (\sum_i w_i)^2 / \sum_i w_i^2,

    with :math:`\mu` and :math:`\Sigma` the weighted (maximum likelihood) moments of the points and m their effective
    number. Samples then have the covariance :math:`\Sigma + F F'`. The growth correction [silverman1987]_ shrinks
    samples towards the mean, so that they have the covariance :math:`\Sigma`:

    .. math:: x = \mu + A (c - \mu + F z), \qquad A = \Sigma^{1/2} (\Sigma + F F')^{-1/2}.

    Args:
        max_points: bound on the points with mass in the training set, static. Training data with more are refused
            where they are known; where they are traced the model is NaN.
        bandwidth: h >= 0, or a rule such as `scott` or `silverman`. At zero a model resamples its data.
        growth_correction: whether to shrink.

    Returns:
        A generator with `KernelDensity` as parameters, whose layout does not depend on the size of the data.
        Training data are points; moments raise TypeError.

    Raises:
        ValueError: if `max_points` is below 1 or h is negative; from fits, if there are more points than `max_points`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generator = jc.generators.kernel_density(max_points=2, bandwidth=0.0)  # the bootstrap
        >>> model = generator.init(jax.random.key(0), jc.uniform_measure(np.array([[0.0], [2.0]])))
        >>> samples = generator.sample(jax.random.key(1), model, 50)
        >>> sorted(set(samples.ravel().tolist()))
        [0.0, 2.0]
    """
    max_points = check_count("max_points", max_points, low=1)
    if not callable(bandwidth):
        check_range("bandwidth", bandwidth, low=0)

    def fit(key, params, data: Data) -> KernelDensity:
        (data,) = require_points("kernel_density", data=data)
        if is_known(data.weights):
            num_known = np.count_nonzero(data.weights)
            if num_known > max_points:
                raise ValueError(
                    f"max_points = {max_points}: must be at least {num_known}, the points with mass in data"
                )
        fit_in = jnp.sum(data.weights > 0) <= max_points
        points, weights = compact(data, max_points)
        _, mean, covariance = as_moments(Measure(points, weights))
        eye = jnp.eye(mean.shape[0], dtype=mean.dtype)
        if callable(bandwidth):
            w = share(weights)
            b = bandwidth(1 / jnp.where(w.any(), w @ w, 1), mean.shape[0])
            factor, shrink = b * psd_cholesky(covariance), eye / jnp.sqrt(1 + b**2)
        else:
            spread, axes = jnp.linalg.eigh(covariance)
            spread = jnp.maximum(spread, 0)
            total = spread + bandwidth**2
            factor = bandwidth * eye
            shrink = axes * jnp.sqrt(spread / jnp.where(total > 0, total, 1)) @ axes.T
        if growth_correction:
            points, factor = mean + (points - mean) @ shrink.T, shrink @ factor
        return KernelDensity(Measure(points, weights), jnp.where(fit_in, factor, jnp.nan))

    def init(key, data: Data) -> KernelDensity:
        return fit(key, None, data)

    def sample(key: Key[Array, ""], params: KernelDensity, num_samples: int) -> Float[Array, "n d"]:
        index_key, noise_key = jax.random.split(key)
        points, weights = params.centres
        normal = jax.random.normal(noise_key, (num_samples, points.shape[1]), points.dtype)
        index = inverse_cdf(weights)(jax.random.uniform(index_key, (num_samples,), weights.dtype))
        return points[index] + normal @ params.factor.T

    return Generator(init, fit, sample)
