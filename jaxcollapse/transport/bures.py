r"""Wasserstein geometry of Gaussians.

All of it follows from one coupling, in which two Gaussians are driven by the same noise z,

.. math:: x = \mu_1 + L_1 z, \qquad y = \mu_2 + L_2 Q z, \qquad \Sigma_i = L_i L_i',

and which is optimal for the orthogonal Q that brings :math:`L_2 Q` nearest to :math:`L_1` [bhatia2019]_. No
covariance is inverted and no small number is the difference of large ones; covariances may be singular.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Moments
from jaxcollapse.checks import check_range
from jaxcollapse.linalg import polar_factor, psd_cholesky


def bures_distance(first: Moments, second: Moments) -> Float[Array, ""]:
    r"""Compute the 2-Wasserstein distance between two Gaussians [gelbrich1990]_.

    .. math:: W_2^2 = \lVert \mu_1 - \mu_2 \rVert^2
              + \operatorname{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2})
              = \lVert \mu_1 - \mu_2 \rVert^2 + \min_{Q'Q = I} \lVert L_1 - L_2 Q \rVert_F^2.

    Covariances may be singular. In the data's units. Differentiable once, with gradient zero where the
    distance is zero.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> narrow = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> wide = narrow._replace(mean=jnp.array([1.0, 0.0]), covariance=4 * jnp.eye(2))
        >>> round(float(jc.transport.bures_distance(narrow, wide)), 2)  # the root of 1 + 2
        1.73
    """
    factor, other = psd_cholesky(first.covariance), psd_cholesky(second.covariance)
    # At a minimum over Q the derivative through Q vanishes, and where Q is not unique it does not exist.
    rotation = jax.lax.stop_gradient(polar_factor(other.T @ factor))
    squared = jnp.sum((first.mean - second.mean) ** 2) + jnp.sum((factor - other @ rotation) ** 2)
    same = squared == 0
    return jnp.where(same, 0, jnp.sqrt(jnp.where(same, 1, squared)))


def bures_map(source: Moments, target: Moments) -> Float[Array, "d d"]:
    r"""Compute the optimal map :math:`T(x) = \mu_2 + A (x - \mu_1)` between Gaussians [knott1984]_.

    .. math:: A = L_2 Q L_1^+ = \Sigma_1^{-1/2} (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2} \Sigma_1^{-1/2},
              \qquad A \Sigma_1 A' = \Sigma_2.

    The second form is that of a regular source. A singular one is inverted on its range, and A is zero across:
    there it is the conditional mean of the target in the optimal coupling. Directions whose spread is below
    :math:`\sqrt{d \epsilon}` of the widest, with the precision :math:`\epsilon`, count as none.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> narrow = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> wide = narrow._replace(covariance=4 * jnp.eye(2))
        >>> jc.transport.bures_map(narrow, wide).diagonal().round(2).tolist()
        [2.0, 2.0]
    """
    factor = psd_cholesky(source.covariance)
    dim, eps = factor.shape[-1], jnp.finfo(factor.dtype).eps
    return _align(psd_cholesky(target.covariance), factor) @ jnp.linalg.pinv(factor, rtol=(dim * eps) ** 0.5)


def bures_geodesic(source: Moments, target: Moments, t: Float[Array, ""] | float) -> Moments:
    r"""Interpolate between Gaussians at constant speed, :math:`W_2(0, t) = t W_2(0, 1)` [mccann1997]_.

    .. math:: \mu_t = (1 - t) \mu_1 + t \mu_2, \qquad \Sigma_t = L_t L_t', \qquad L_t = (1 - t) L_1 + t L_2 Q.

    The mass is interpolated as well. Between two singular covariances there can be several geodesics; this is one.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> narrow = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> wide = narrow._replace(covariance=9 * jnp.eye(2))
        >>> half = jc.transport.bures_geodesic(narrow, wide, 0.5)
        >>> half.covariance.diagonal().round(2).tolist()  # deviations 1 and 3 lead through 2
        [4.0, 4.0]
    """
    factor = psd_cholesky(source.covariance)
    aligned = _align(psd_cholesky(target.covariance), factor)
    between = (1 - t) * factor + t * aligned
    return Moments(
        (1 - t) * source.mass + t * target.mass,
        (1 - t) * source.mean + t * target.mean,
        between @ between.T,
    )


def bures_barycenter(
    gaussians: Moments, weights: Float[Array, " k"], num_iterations: int = 50
) -> tuple[Moments, Float[Array, ""]]:
    r"""Average Gaussians in the 2-Wasserstein sense by a fixed-point iteration [alvarezesteban2016]_.

    The average minimises :math:`\sum_k w_k W_2^2(\cdot, \mathcal{N}(\mu_k, \Sigma_k))`. Its mean is
    :math:`\sum_k w_k \mu_k`, and a factor of its covariance is iterated from that of :math:`\sum_k w_k \Sigma_k`,

    .. math:: F \leftarrow \sum_k w_k L_k Q_k, \qquad Q_k = \arg\min_{Q'Q = I} \lVert F - L_k Q \rVert_F.

    For a regular :math:`S = F F'` this is :math:`S \leftarrow T S T` with the averaged optimal map T. The
    objective never rises.

    Args:
        gaussians: stacked, [K]. Masses are averaged, and are no weights.
        weights: w, non-negative, shape [K]; they are divided by their sum.
        num_iterations: static trip count, at least 1.

    Returns:
        The average, and the distance between its last two iterates in data units, zero at a fixed point.

    Raises:
        ValueError: if there are no iterations.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> both = jc.Moments(jnp.ones(2), jnp.zeros((2, 1)), jnp.array([[[1.0]], [[9.0]]]))
        >>> average, change = jc.transport.bures_barycenter(both, jnp.ones(2))
        >>> round(float(average.covariance[0, 0]), 2)  # deviations 1 and 3
        4.0
    """
    check_range("num_iterations", num_iterations, low=1)
    share = weights / weights.sum()
    factors = jax.vmap(psd_cholesky)(gaussians.covariance)

    def average(leaves):
        return jnp.tensordot(share, leaves, 1)

    def iterate(factor, _):
        following = average(jax.vmap(_align, (0, None))(factors, factor))
        # F' sum_k w_k L_k Q_k is positive semi-definite: the two are optimally coupled as they are.
        return following, jnp.linalg.norm(following - factor)

    factor, distance = jax.lax.scan(iterate, psd_cholesky(average(gaussians.covariance)), length=num_iterations)
    return Moments(average(gaussians.mass), average(gaussians.mean), factor @ factor.T), distance[-1]


def _align(factor: Float[Array, "d d"], to: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Turn a factor of one covariance, L Q, as near as possible to that of another."""
    return factor @ polar_factor(factor.T @ to)
