"""Fréchet distance."""

from jaxtyping import Array, Float

from jaxcollapse.base import Data
from jaxcollapse.metrics.moments import bures_w2


def frechet(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute the Fréchet distance of Gaussians with the data's moments [dowson1982]_, in squared data units.

    .. math:: \lVert \mu_t - \mu_0 \rVert^2 + \operatorname{tr}(\Sigma_t + \Sigma_0 - 2 (\Sigma_t \Sigma_0)^{1/2}).

    It is the square of `bures_w2`. On Inception features it is the FID [heusel2017]_, for which others divide
    covariances by n - 1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> wide = truth._replace(covariance=4 * jnp.eye(2))
        >>> round(float(jc.metrics.frechet(None, wide, truth)), 2)  # 2 (2 - 1)^2
        2.0
    """
    return bures_w2(key, generated, truth) ** 2
