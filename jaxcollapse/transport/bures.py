"""Wasserstein geometry of Gaussians."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Moments
from jaxcollapse.linalg import psd_cholesky


def bures_distance(first: Moments, second: Moments) -> Float[Array, ""]:
    r"""Compute the 2-Wasserstein distance between two Gaussians [gelbrich1990]_.

    .. math:: W_2^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr} \Sigma_1 + \operatorname{tr} \Sigma_2
              - 2 \sum_i \sqrt{\lambda_i(L' \Sigma_2 L)}, \qquad \Sigma_1 = L L'.

    Covariances may be singular. In the data's units.
    """
    factor = psd_cholesky(first.covariance)
    inner = factor.T @ second.covariance @ factor
    cross = jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh((inner + inner.T) / 2), 0)))
    squared = (
        jnp.sum((first.mean - second.mean) ** 2)
        + jnp.trace(first.covariance)
        + jnp.trace(second.covariance)
        - 2 * cross
    )
    return jnp.sqrt(jnp.maximum(squared, 0))
