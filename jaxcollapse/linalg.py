"""Linear algebra that survives collapse."""

from collections.abc import Callable

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


def newton(
    phi: Float[Array, "n f"],
    offset: Float[Array, " n"],
    start: Float[Array, " f"],
    objective: Callable[[Float[Array, " n"], Float[Array, " f"]], Float[Array, ""]],
    derivatives: Callable[[Float[Array, " n"], Float[Array, " f"]], tuple[Float[Array, " f"], Float[Array, "f f"]]],
    num_iterations: int = 20,
) -> Float[Array, " f"]:
    r"""Minimise a convex :math:`J(u, \theta)` of a linear model, :math:`u = o + \phi \theta`, by Newton's method.

    Each step is cut by halves, and at last to nothing, until the objective falls.

    Args:
        phi: :math:`\phi`.
        offset: o.
        start: of :math:`\theta`.
        objective: J.
        derivatives: the gradient and the Hessian of :math:`J(o + \phi \theta, \theta)` in :math:`\theta`.
        num_iterations: steps.
    """
    lengths = jnp.append(2.0 ** -jnp.arange(12.0), 0).astype(phi.dtype)

    def iterate(_, theta):
        u = offset + phi @ theta
        gradient, hessian = derivatives(u, theta)
        step = -jnp.linalg.solve(hessian, gradient)
        trials = jax.vmap(objective)(u + lengths[:, None] * (phi @ step), theta + lengths[:, None] * step)
        return theta + lengths[jnp.argmin(trials)] * step

    return jax.lax.fori_loop(0, num_iterations, iterate, start)


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
