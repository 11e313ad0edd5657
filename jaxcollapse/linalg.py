"""Linear algebra that survives collapse."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def psd_cholesky(covariance: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""Factor a positive semi-definite matrix as :math:`\Sigma = L L'`, L lower triangular.

    A pivot that rounding leaves at or below its own error, as collapsed covariances do, gives a zero
    column, where LAPACK's factorisation gives NaN. The sampled model then has no spread in that
    direction, which is what such a covariance says. No entry exceeds what the diagonal leaves for it,
    :math:`L_{ij}^2 \le \Sigma_{ii} - \sum_{k < j} L_{ik}^2` up to a thousandth: rounding adds no variance.
    """
    dim = covariance.shape[-1]
    rows = jnp.arange(dim)
    tolerance = dim * jnp.finfo(covariance.dtype).eps

    def column(j, factor):
        residual = covariance[:, j] - factor @ factor[j]
        pivot = residual[j]
        positive = pivot > tolerance * covariance[j, j]
        scale = jax.lax.rsqrt(jnp.where(positive, pivot, 1))
        left = jnp.diagonal(covariance) - jnp.sum(factor**2, axis=1)
        room = 1.001 * jax.lax.stop_gradient(jnp.sqrt(jnp.maximum(left, 0)))  # some slack, or derivatives would be cut
        return factor.at[:, j].set(jnp.where(positive & (rows >= j), jnp.clip(residual * scale, -room, room), 0))

    return jax.lax.fori_loop(0, dim, column, jnp.zeros_like(covariance))


@jax.custom_batching.sequential_vmap
def _svd(matrix: Float[Array, "d d"]) -> tuple[Array, Array, Array]:
    # Mapped decompositions wait for threads of the pool that runs them (jaxlib 0.9 on CPU), and as many of them at
    # once as there are threads, two on two cores, wait for ever.
    u, s, v = jnp.linalg.svd(matrix)
    return u, s, v


@jax.custom_jvp
def polar_factor(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""Find the orthogonal matrix nearest to :math:`M = U S V'`, which is :math:`Q = U V'` and maximises
    :math:`\operatorname{tr} Q'M`.

    Where M is singular Q is one of several, and those of its derivatives that do not exist are zero.
    """
    u, _, v = _svd(matrix)
    return u @ v


@polar_factor.defjvp
def _polar_factor_jvp(primals: tuple[Array], tangents: tuple[Array]):
    (matrix,), (tangent,) = primals, tangents
    u, s, v = _svd(matrix)
    change = u.T @ tangent @ v.T
    total = s[:, None] + s
    exists = total > matrix.shape[-1] * jnp.finfo(s.dtype).eps * s[0]
    return u @ v, u @ jnp.where(exists, (change - change.T) / jnp.where(exists, total, 1), 0) @ v
