"""Metrics of mean and spread. Each takes data, or the moments of a model."""

import jax.numpy as jnp
import scipy.stats
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure, MetricFn, Moments, Target
from jaxcollapse.measures import as_moments
from jaxcollapse.targets import fit_target
from jaxcollapse.theory.quadratic_form import tail_probability
from jaxcollapse.theory.truncation import separate
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


def target_distance(target: Target) -> MetricFn:
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
    eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(matrix), 0)
    total = eigenvalues.sum()
    share = eigenvalues / jnp.where(total > 0, total, 1)
    return jnp.exp(-jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1))))


def variance_split(batches: Data) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    r"""Split the covariance of all batches into that within batches and that between their means.

    .. math:: \Sigma = \sum_b p_b \Sigma_b + \sum_b p_b (\mu_b - \mu)(\mu_b - \mu)', \qquad p_b = m_b / \sum_c m_c,
              \qquad \mu = \sum_b p_b \mu_b.

    Args:
        batches: stacked, points [b, n, d] and masses [b, n], or moments.

    Returns:
        The first sum and the second, in squared data units.
    """
    parts = as_moments(batches)
    means = as_moments(Measure(parts.mean, parts.mass))
    share = parts.mass / jnp.where(means.mass > 0, means.mass, 1)
    return jnp.tensordot(share, parts.covariance, axes=1), means.covariance


def tail_mass(level: float = 0.95) -> MetricFn:
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
