"""Targets: what a biased verifier considers ideal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Moments, Target
from jaxcollapse.checks import check_covariance, check_finite, check_range
from jaxcollapse.measures import as_moments

PUBLISHED_SEEDS = (42, 123, 456, 789, 2023, 2024, 2025, 3141, 1618, 9999)


def isotropic_target(location: Float[Array | np.ndarray, " d"], scale: float = 1.0) -> Target:
    r"""Score by Euclidean distance, :math:`G = I / s`.

    Raises:
        ValueError: if the location is not finite or the scale not positive.
    """
    check_finite("location", location)
    check_range("scale", scale, low=float(np.finfo(np.float32).tiny))
    location = jnp.asarray(location)
    return Target(location, jnp.eye(location.shape[-1], dtype=location.dtype) / scale)


def gaussian_target(location: Float[Array | np.ndarray, " d"], covariance: Float[Array | np.ndarray, "d d"]) -> Target:
    r"""Score by Mahalanobis distance, :math:`Q = G'G = S^{-1}` with :math:`G = L^{-1}`, :math:`S = L L'`.

    Raises:
        ValueError: if the location is not finite or the covariance not positive definite.
    """
    check_finite("location", location)
    check_covariance("covariance", covariance)
    return _whiten(jnp.asarray(location), jnp.asarray(covariance))


def fit_target(data: Data | Float[Array | np.ndarray, "n d"], ridge: Float[Array | float, ""] = 0.0) -> Target:
    r"""Score by the data's own mean and covariance :math:`S = \Sigma + \rho \operatorname{tr}(\Sigma) / d \; I`."""
    moments = as_moments(data)
    dim = moments.mean.shape[-1]
    shrinkage = ridge * jnp.trace(moments.covariance) / dim
    identity = jnp.eye(dim, dtype=moments.mean.dtype)
    return _whiten(moments.mean, moments.covariance + shrinkage * identity)


def _whiten(location: Array, covariance: Array) -> Target:
    factor = jnp.linalg.cholesky(covariance)
    identity = jnp.eye(location.shape[-1], dtype=covariance.dtype)
    return Target(location, jax.scipy.linalg.solve_triangular(factor, identity, lower=True))


class Instance(NamedTuple):
    """A problem: the true distribution and the biased verifier's target."""

    truth: Moments
    target: Target


def published_instance(seed: int, dim: int = 10) -> Instance:
    r"""Draw a problem instance by the published recipe, bit for bit [qiao2026]_.

    With NumPy's legacy generator: :math:`\mu^* \sim N(0, I)`; :math:`\Sigma^* = A A' + 0.1 I` for a
    standard normal A; :math:`u = \mu^*` with :math:`3 N(0, I)` added on half of the coordinates. The
    score metric is :math:`(0.3 \Sigma^*)^{-1}`.

    Args:
        seed: `PUBLISHED_SEEDS` lists those of the paper.
        dim: d, at least 2.

    Returns:
        Arrays in double precision, on the host.

    Raises:
        ValueError: if the seed is negative or the dimension below 2.
    """
    check_range("seed", seed, low=0, high=2**32 - 1)
    check_range("dim", dim, low=2)
    rng = np.random.RandomState(seed)
    mean = rng.randn(dim)
    root = rng.randn(dim, dim)
    covariance = root @ root.T + 0.1 * np.eye(dim)
    location = mean.copy()
    shifted = rng.choice(dim, dim // 2, replace=False)
    location[shifted] += 3 * rng.randn(dim // 2)
    factor = np.linalg.inv(np.linalg.cholesky(0.3 * covariance))
    return Instance(Moments(np.float64(1.0), mean, covariance), Target(location, factor))
