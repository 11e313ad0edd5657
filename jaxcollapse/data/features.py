"""Features: principal components fitted on real data only, and any function of a user's own."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num
from numpy.typing import DTypeLike

from jaxcollapse.checks import check_finite, check_range
from jaxcollapse.results import digest, load_arrays, save_arrays

HostFunction = Callable[[Num[np.ndarray, "n d"]], Float[np.ndarray, "n k"]]


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
    centred = points - mean
    if num_samples > dim:  # a covariance is far cheaper to decompose than many rows
        variances, components = np.linalg.eigh(centred.T @ centred / num_samples)
        variances, components = np.maximum(variances[::-1], 0), components.T[::-1]
    else:
        _, singular, components = np.linalg.svd(centred, full_matrices=False)
        variances = singular**2 / num_samples
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    components *= np.sign(np.take_along_axis(components, largest, axis=1))
    fitted = PCA(mean, components[:num_components], variances[:num_components], variances.sum())
    return PCA(*(jnp.asarray(leaf, dtype) for leaf in fitted))


def project(pca: PCA, points: Float[Array, "*batch d"]) -> Float[Array, "*batch k"]:
    r"""Compute features :math:`z = V (x - \mu)`."""
    return jnp.matmul(points - pca.mean, pca.components.T, precision="highest")


def reconstruct(pca: PCA, features: Float[Array, "*batch k"]) -> Float[Array, "*batch d"]:
    r"""Map features back to points: :math:`x = \mu + V' z`, the nearest in the span of the components."""
    return pca.mean + jnp.matmul(features, pca.components, precision="highest")


def host_features(function: HostFunction, points: Num[np.ndarray, "n d"], batch_size: int = 256) -> np.ndarray:
    """Compute features with a function of NumPy arrays, a batch at a time: a pretrained network, say.

    Args:
        function: from [b, d] to [b, k], the same k for every batch.
        points: [n, d].
        batch_size: b at most.

    Returns:
        Features of shape [n, k], in the points' dtype, or in single precision if that is of integers.

    Raises:
        ValueError: if a batch's features are not [b, k] or not finite.
    """
    check_range("batch_size", batch_size, low=1)
    batches, width = [], None
    for first in range(0, len(points), batch_size):
        batch = np.asarray(points[first : first + batch_size])
        found = np.asarray(function(batch))
        width = found.shape[-1] if width is None and found.ndim else width
        if found.shape != (len(batch), width):
            raise ValueError(f"features of {len(batch)} points: shape {found.shape} must be {(len(batch), width)}")
        check_finite(f"features of points from {first} on", found)
        batches.append(found.astype(_dtype(points)))
    return np.concatenate(batches)


def _dtype(points: np.ndarray | Array) -> np.dtype:
    """Choose the precision of features."""
    return points.dtype if jnp.issubdtype(points.dtype, jnp.floating) else np.dtype(np.float32)


def cached_features(path: Path, function: HostFunction, points: Num[np.ndarray, "n d"]) -> np.ndarray:
    """Compute `host_features` of these points once, and read them from a file afterwards.

    The file is written whole when all are computed, and belongs to these very points; others overwrite it. Give every
    function a file of its own.

    Args:
        path: of the file, in a directory that exists.
        function: as in `host_features`.
        points: [n, d].
    """
    identity = {"points": digest(points)}
    try:
        stored = load_arrays(path, identity)
    except ValueError:  # of other points
        stored = None
    if stored is None:
        stored = [host_features(function, points)]
        save_arrays(path, stored, identity)
    return stored[0]


def on_host(function: HostFunction, num_features: int) -> Callable[[Num[Array, "n d"]], Float[Array, "n k"]]:
    """Call a function of NumPy arrays from compiled programs, as the `embed` of `jaxcollapse.sample_and_select`.

    Args:
        function: as in `host_features`.
        num_features: k.
    """

    def embed(points: Num[Array, "n d"]) -> Float[Array, "n k"]:
        shape = jax.ShapeDtypeStruct((points.shape[0], num_features), _dtype(points))
        return jax.pure_callback(
            lambda x: host_features(function, np.asarray(x)), shape, points, vmap_method="sequential"
        )

    return embed


def user_function(name: str, *known: str) -> Callable[[Any], Any]:
    """Import MODULE:FUNCTION.

    Args:
        name: of it.
        known: what else could have been meant, for the message.

    Raises:
        ValueError: if there is no such module or function, and by the function, if it fails.
    """
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")  # a module beside the data, as an interpreter finds it
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # a module may raise anything
        allowed = " or ".join(filter(None, (", ".join(known), "MODULE:FUNCTION")))
        raise ValueError(f"features = {name!r}: must be {allowed} ({type(error).__name__}: {error})") from error

    def compute(values: Any) -> Any:
        try:
            return found(values)
        except Exception as error:  # and so may a function
            raise ValueError(f"features = {name!r}: {type(error).__name__}: {error}") from error

    return compute
