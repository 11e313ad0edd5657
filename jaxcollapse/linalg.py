"""Linear algebra that survives collapse."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def psd_cholesky(covariance: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""Factor a positive semi-definite matrix as :math:`\Sigma = L L'`, L lower triangular.

    A pivot that rounding leaves at or below its own error, as collapsed covariances do, gives a zero
    column, where LAPACK's factorisation gives NaN. The sampled model then has no spread in that
    direction, which is what such a covariance says.
    """
    dim = covariance.shape[-1]
    rows = jnp.arange(dim)
    tolerance = dim * jnp.finfo(covariance.dtype).eps

    def column(j, factor):
        residual = covariance[:, j] - factor @ factor[j]
        pivot = residual[j]
        positive = pivot > tolerance * covariance[j, j]
        scale = jax.lax.rsqrt(jnp.where(positive, pivot, 1))
        return factor.at[:, j].set(jnp.where(positive & (rows >= j), residual * scale, 0))

    return jax.lax.fori_loop(0, dim, column, jnp.zeros_like(covariance))
