"""Targets: what a biased verifier considers ideal."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Moments, Target
from jaxcollapse.checks import check_covariance, check_finite, check_range, is_known
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments

PUBLISHED_SEEDS = (42, 123, 456, 789, 2023, 2024, 2025, 3141, 1618, 9999)


def isotropic_target(location: Float[Array | np.ndarray, " d"], scale: Float[Array | float, ""] = 1.0) -> Target:
    r"""Score by Euclidean distance, :math:`G = I / s`.

    Raises:
        ValueError: if the location is no finite vector or the scale not positive.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> print(jc.isotropic_target(np.zeros(2), scale=2.0).factor)
        [[0.5 0. ]
         [0.  0.5]]
    """
    check_location(location)
    if is_known(scale):
        check_range("scale", scale, low=float(np.finfo(np.float32).tiny))
    location = jnp.asarray(location)
    return Target(location, jnp.eye(location.shape[-1], dtype=location.dtype) / scale)


def gaussian_target(location: Float[Array | np.ndarray, " d"], covariance: Float[Array | np.ndarray, "d d"]) -> Target:
    r"""Score by Mahalanobis distance, :math:`Q = G'G = S^{-1}` with :math:`G = L^{-1}`, :math:`S = L L'`.

    Raises:
        ValueError: if the location is not finite, the covariance not positive definite, or their dimensions differ.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> score = jc.scores.mahalanobis(jc.gaussian_target(np.zeros(1), np.array([[4.0]])))
        >>> pool = jc.uniform_measure(np.array([[2.0], [4.0]]))
        >>> print(score(jax.random.key(0), pool))  # one and two standard deviations away
        [-1. -4.]
    """
    check_location(location)
    if is_known(covariance):
        check_covariance("covariance", covariance)
    if len(location) != len(covariance):
        shapes = np.shape(location), np.shape(covariance)
        raise ValueError(f"location and covariance: shapes {shapes[0]} and {shapes[1]} must be [d] and [d, d]")
    return _whiten("covariance", jnp.asarray(location), jnp.asarray(covariance))


def check_location(location: Any) -> None:
    """Require a vector, finite where it is known.

    Raises:
        ValueError: if it is none.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.targets import check_location
        >>> check_location(np.zeros((2, 2)))
        Traceback (most recent call last):
            ...
        ValueError: location: shape (2, 2) must be [d], with d at least 1
    """
    if is_known(location):
        check_finite("location", location)
    if np.ndim(location) != 1 or np.size(location) == 0:
        raise ValueError(f"location: shape {np.shape(location)} must be [d], with d at least 1")


def fit_target(
    data: Data | Float[Array | np.ndarray, "n d"], ridge: Float[Array | float, ""] = 0.0, name: str = "data"
) -> Target:
    r"""Score by the data's own mean and covariance :math:`S = \Sigma + \rho \operatorname{tr}(\Sigma) / d \; I`.

    Raises:
        ValueError: if S is known and singular to rounding.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.targets import fit_target
        >>> target = fit_target(np.array([[0.0], [4.0]]))  # mean 2, variance 4
        >>> float(target.location[0]), float(target.factor[0, 0])
        (2.0, 0.5)
    """
    moments = as_moments(data)
    dim = moments.mean.shape[-1]
    shrinkage = ridge * jnp.trace(moments.covariance) / dim
    identity = jnp.eye(dim, dtype=moments.mean.dtype)
    return _whiten(name, moments.mean, moments.covariance + shrinkage * identity)


def _whiten(name: str, location: Array, covariance: Array) -> Target:
    factor, dim = jnp.linalg.cholesky(covariance), location.shape[-1]
    if is_known(covariance):
        regular = np.diagonal(psd_cholesky(covariance)) > 0
        if not regular.all():
            raise ValueError(
                f"{name}: to rounding, coordinate {np.argmin(regular)} of {dim} is constant or follows from those "
                "before it, and the covariance is singular; more data or a ridge make it regular"
            )
    return Target(location, jax.scipy.linalg.solve_triangular(factor, jnp.eye(dim, dtype=factor.dtype), lower=True))


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

    Example:
        >>> import jaxcollapse as jc
        >>> truth, target = jc.published_instance(42)
        >>> truth.covariance.shape, int((target.location != truth.mean).sum())
        ((10, 10), 5)
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
