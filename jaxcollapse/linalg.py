"""Linear algebra that survives collapse."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
        positive = ~(pivot <= tolerance * covariance[j, j])  # NaN stays NaN
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
    derivatives: Callable[
        [Float[Array, " n"], Float[Array, " f"], Bool[Array, ""]], tuple[Float[Array, " f"], Float[Array, "f f"]]
    ],
    num_iterations: int = 60,
) -> tuple[Float[Array, " f"], dict[str, Int[Array, ""]]]:
    r"""Minimise a convex :math:`J(u, \theta)` of a linear model, :math:`u = o + \phi \theta`, by Newton's method.

    Each step is whole, or multiplied by the power of two, or by nothing, that brings the objective lower. Where a model
    saturates, as the logistic does, its curvature vanishes and steps are far too long; then the next one is by a bound
    on the curvature. A step by which the objective falls no more than by rounding is the last. If it was to gain more
    than a thousandth, by :math:`\tfrac12 g' H^{-1} g`, in a quadratic what J lies above its minimum, the fit has not
    converged.

    Args:
        phi: :math:`\phi`.
        offset: o.
        start: of :math:`\theta`.
        objective: J.
        derivatives: the gradient and the Hessian of :math:`J(o + \phi \theta, \theta)` in :math:`\theta`, or a bound on
            the Hessian, where it is told so and there is one.
        num_iterations: steps at most.

    Returns:
        :math:`\theta`, and the count of fits, one or none, that have not converged.
    """
    lengths = jnp.concatenate([jnp.ones(1), 2.0 ** jnp.arange(6.0, -24, -1), jnp.zeros(1)]).astype(phi.dtype)
    rounding = 20 * jnp.finfo(phi.dtype).eps

    def iterate(state):
        theta, length, *_, count = state
        u = offset + phi @ theta
        gradient, hessian = derivatives(u, theta, length < 0.2)
        ridge = jnp.finfo(phi.dtype).eps * jnp.trace(hessian)  # or a model without curvature would have no step
        step = -jnp.linalg.solve(hessian + ridge * jnp.eye(len(theta), dtype=phi.dtype), gradient)
        trials = jax.vmap(objective)(u + lengths[:, None] * (phi @ step), theta + lengths[:, None] * step)
        fall = jnp.nan_to_num((trials[-1] - trials) / (1 + jnp.abs(trials[-1])), nan=-jnp.inf)
        chosen = lengths[jnp.argmax(fall >= fall.max() - rounding)]
        last = (fall.max() <= rounding) & ((chosen == 1) | (length < 0.2))
        return theta + chosen * step, chosen, last, -gradient @ step / 2, count + 1

    def unfinished(state):
        *_, last, _, count = state
        return ~last & (count < num_iterations)

    begin = (start, lengths[0], jnp.zeros((), bool), jnp.full((), jnp.inf, phi.dtype), 0)
    theta, _, _, gain, _ = jax.lax.while_loop(unfinished, iterate, begin)
    return theta, {"fits that have not converged": (~(gain <= 1e-3)).astype(jnp.int32)}


class History(NamedTuple):
    """Earlier points of a fixed-point iteration and their images, for `mixed`.

    Attributes:
        points: shape [m, n].
        images: shape [m, n].
        count: how many there have been; those before the last m are gone, shape [].
    """

    points: Float[Array, "*stack m n"]
    images: Float[Array, "*stack m n"]
    count: Int[Array, "*stack"]


def no_history(point: Float[Array, " n"], size: int = 10) -> History:
    """Begin a history of so many points."""
    nothing = jnp.zeros((size, *point.shape), point.dtype)
    return History(nothing, nothing, jnp.zeros((), jnp.int32))


def mixed(
    history: History, point: Float[Array, " n"], image: Float[Array, " n"], mass: Float[Array, " n"]
) -> tuple[Float[Array, " n"], History]:
    r"""Choose the next point of a fixed-point iteration :math:`x \leftarrow F(x)` by Anderson's method [walker2011]_.

    With the residual :math:`r = F(x) - x` and those of earlier points,

    .. math:: F(x) - \sum_j \gamma_j (F(x) - F(x_j)), \qquad
              \gamma = \arg\min_\gamma \Big\lVert r - \sum_j \gamma_j (r - r_j) \Big\rVert_w^2.

    Args:
        history: of earlier points.
        point: x.
        image: F(x).
        mass: w, weights of the coordinates.

    Returns:
        The next point, and the history with this one.
    """
    _, images, count = history
    size = len(images)
    seen = (jnp.arange(size) < count)[:, None]
    residual = image - point
    change = jnp.where(seen & (mass > 0), residual - (images - history.points), 0)
    length = jnp.sqrt(change**2 @ mass)[:, None]
    length = jnp.where(length > 0, length, 1)
    change, of_images = change / length, jnp.where(seen, image - images, 0) / length
    gram = (change * mass) @ change.T + 10 * jnp.finfo(image.dtype).eps * jnp.eye(size, dtype=image.dtype)
    gamma = jnp.linalg.solve(gram, (change * mass) @ jnp.where(mass > 0, residual, 0))
    place = count % size
    following = History(history.points.at[place].set(point), images.at[place].set(image), count + 1)
    return image - gamma @ of_images, following


@jax.custom_jvp
@jax.custom_batching.sequential_vmap
def svd(matrix: Float[Array, "d d"]) -> tuple[Float[Array, "d d"], Float[Array, " d"], Float[Array, "d d"]]:
    r"""Decompose a square matrix as :math:`M = U S V'`; derivatives exist where singular values differ."""
    # Mapped decompositions wait for threads of the pool that runs them (jaxlib 0.9 on CPU), and as many of them at
    # once as there are threads, two on two cores, wait for ever.
    u, s, v = jnp.linalg.svd(matrix)
    return u, s, v.T


@svd.defjvp
def _svd_jvp(primals: tuple[Array], tangents: tuple[Array]):
    (matrix,), (tangent,) = primals, tangents
    u, s, v = svd(matrix)
    change = u.T @ tangent @ v
    same = jnp.eye(len(s), dtype=s.dtype)
    of_u, of_v = (x * s + s[:, None] * x.T for x in (change, change.T))
    gaps = (1 - same) / (s**2 - s[:, None] ** 2 + same)
    return (u, s, v), (u @ (gaps * of_u), jnp.diagonal(change), v @ (gaps * of_v))


@jax.custom_jvp
def polar_factor(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""Find the orthogonal matrix nearest to :math:`M = U S V'`, which is :math:`Q = U V'` and maximises
    :math:`\operatorname{tr} Q'M`.

    Where M is singular Q is one of several, and those of its derivatives that do not exist are zero.
    """
    u, _, v = svd(matrix)
    return u @ v.T


@polar_factor.defjvp
def _polar_factor_jvp(primals: tuple[Array], tangents: tuple[Array]):
    (matrix,), (tangent,) = primals, tangents
    u, s, v = svd(matrix)
    change = u.T @ tangent @ v
    total = s[:, None] + s
    exists = total > matrix.shape[-1] * jnp.finfo(s.dtype).eps * s[0]
    return u @ v.T, u @ jnp.where(exists, (change - change.T) / jnp.where(exists, total, 1), 0) @ v.T
