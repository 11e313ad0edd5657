"""Metrics of mean and spread. Each takes data, or the moments of a model."""

import jax.numpy as jnp
import scipy
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Metric, Moments, Target
from jaxcollapse.gaussian.quadratic_form import tail_probability
from jaxcollapse.gaussian.truncation import separate
from jaxcollapse.measures import as_moments, share
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.bures import bures_distance


def trace_ratio(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`\operatorname{Tr} \Sigma_t / \operatorname{Tr} \Sigma_0`, the share of variance left."""
    return jnp.trace(as_moments(generated).covariance) / jnp.trace(as_moments(truth).covariance)


def dispersion(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`E\lVert X - X' \rVert^2 = 2 \operatorname{Tr} \Sigma` of independent draws, in squared units."""
    return 2 * jnp.trace(as_moments(generated).covariance)


def mean_error(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`\lVert \mu_t - \mu_0 \rVert^2`, in squared data units."""
    return jnp.sum((as_moments(generated).mean - as_moments(truth).mean) ** 2)


def target_distance(target: Target) -> Metric:
    r"""Make the metric :math:`\lVert \mu_t - u \rVert^2` of a verifier's target, in squared data units."""
    return lambda key, generated, truth: jnp.sum((as_moments(generated).mean - target.location) ** 2)


def bures_w2(key, generated: Data, truth: Data) -> Float[Array, ""]:
    """Compute the 2-Wasserstein distance between the Gaussians with the data's moments, in data units."""
    return bures_distance(as_moments(truth), as_moments(generated))


def effective_rank(key, generated: Data, truth: Data) -> Float[Array, ""]:
    """Compute the `effective_number` of the covariance [roy2007]_: between 1 and d, 1 for a point mass."""
    return effective_number(as_moments(generated).covariance)


def effective_number(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""Compute :math:`\exp(-\sum_i p_i \log p_i)` of the normalised eigenvalues of a positive semi-definite matrix.

    It is 1 for the zero matrix, which has none.
    """
    p = share(jnp.maximum(jnp.linalg.eigvalsh(matrix), 0))
    return jnp.exp(-jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1))))


def tail_mass(level: float = 0.95) -> Metric:
    r"""Make the metric of mass beyond the truth's Mahalanobis ball of probability `level`.

    It is 1 - level for the truth itself if that is Gaussian. Data are counted; moments stand for a
    Gaussian, whose mass is integrated exactly.
    """

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        target = fit_target(truth)
        dim, dtype = target.location.shape[-1], target.location.dtype
        threshold = jnp.asarray(scipy.stats.chi2.ppf(level, dim), dtype)
        if isinstance(generated, Moments):
            frame = separate(generated, target)
            return tail_probability(frame.energy, frame.unit * (threshold - frame.centre))
        distance = jnp.sum(((generated.points - target.location) @ target.factor.T) ** 2, axis=-1)
        return generated.weights @ (distance > threshold).astype(dtype) / generated.weights.sum()

    return metric
