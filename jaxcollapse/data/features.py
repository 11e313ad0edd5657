"""Linear features: principal components, fitted on real data only."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from jaxcollapse.validation import check_finite, check_range


class PCA(NamedTuple):
    """Principal components; the share of variance kept is `variances.sum() / total_variance`.

    Attributes:
        mean: shape [d], in units of the points.
        components: orthonormal rows V, by decreasing variance, shape [k, d].
        variances: of the features, maximum likelihood, shape [k], in squared units of the points.
        total_variance: trace of the covariance of the points, shape [].
    """

    mean: Float[Array, " d"]
    components: Float[Array, "k d"]
    variances: Float[Array, " k"]
    total_variance: Float[Array, ""]


def fit_pca(points: Float[np.ndarray, "n d"], num_components: int, dtype: DTypeLike = np.float32) -> PCA:
    r"""Fit principal components: :math:`X - 1 \mu' = U S V` and variances :math:`S^2 / n` [jolliffe2002]_.

    The decomposition is made on the host in double precision. Signs are fixed: the entry of largest
    magnitude of each component is positive.

    Args:
        points: X, real samples, shape [n, d].
        num_components: k, at most min(n - 1, d).
        dtype: of the result.

    Raises:
        ValueError: if the points are no matrix or not finite, or k is out of range.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2:
        raise ValueError(f"points: shape {points.shape} must be [n, d]")
    check_finite("points", points)
    num_samples, dim = points.shape
    check_range("num_components", num_components, low=1, high=min(num_samples - 1, dim))
    mean = points.mean(axis=0)
    _, singular, components = np.linalg.svd(points - mean, full_matrices=False)
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    components *= np.sign(np.take_along_axis(components, largest, axis=1))
    variances = singular**2 / num_samples
    fitted = PCA(mean, components[:num_components], variances[:num_components], variances.sum())
    return PCA(*(jnp.asarray(leaf, dtype) for leaf in fitted))


def project(pca: PCA, points: Float[Array, "*batch d"]) -> Float[Array, "*batch k"]:
    r"""Compute features :math:`z = V (x - \mu)`."""
    return jnp.matmul(points - pca.mean, pca.components.T, precision="highest")


def reconstruct(pca: PCA, features: Float[Array, "*batch k"]) -> Float[Array, "*batch d"]:
    r"""Map features back to points: :math:`x = \mu + V' z`, the nearest in the span of the components."""
    return pca.mean + jnp.matmul(features, pca.components, precision="highest")
