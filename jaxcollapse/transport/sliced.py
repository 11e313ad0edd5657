"""Wasserstein distance along lines."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Measure
from jaxcollapse.checks import check_range

_TILE = 2**20  # numbers per array in flight


def sliced_wasserstein(
    key: Key[Array, ""], first: Measure, second: Measure, num_projections: int, p: float = 2
) -> Float[Array, ""]:
    r"""Estimate the sliced p-Wasserstein distance of two measures from random projections [bonneel2015]_.

    .. math:: \operatorname{SW}_p^p = \frac{1}{J} \sum_{j=1}^J W_p^p(\theta_j' X, \theta_j' Y),
              \qquad \theta_j \text{ uniform on the sphere.}

    Each projection is solved exactly, for any masses and sizes. Masses are divided by their sum; the distance
    to a measure without mass is NaN. Memory stays bounded as projections are added.

    Args:
        key: of the directions: the same key, the same directions.
        first: shapes [n, d] and [n].
        second: shapes [m, d] and [m].
        num_projections: J, static, at least 1.
        p: order, static, at least 1.

    Returns:
        In data units.

    Raises:
        ValueError: if J or p is below 1.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> first, second = jc.uniform_measure(np.zeros((2, 1))), jc.uniform_measure(np.ones((2, 1)))
        >>> round(float(jc.transport.sliced_wasserstein(jax.random.key(0), first, second, 100)), 2)
        1.0
    """
    check_range("num_projections", num_projections, low=1)
    check_range("p", p, low=1)
    size, dim = first.weights.size + second.weights.size, first.points.shape[-1]

    def cost(theta):
        x, y = (jnp.matmul(measure.points, theta, precision="highest") for measure in (first, second))
        return line_cost(x, first.weights, y, second.weights, p)

    directions = random_directions(key, num_projections, dim, first.points.dtype)
    mean: Array = jax.lax.map(cost, directions, batch_size=max(1, min(num_projections, _TILE // size))).mean()
    same = mean == 0  # where the root has no derivative
    return jnp.where(same, 0, jnp.where(same, 1, mean) ** (1 / p))


def random_directions(key: Key[Array, ""], num: int, dim: int, dtype=float) -> Float[Array, "num d"]:
    """Draw points uniformly on the unit sphere."""
    normal = jax.random.normal(key, (num, dim), dtype)
    return normal / jnp.linalg.norm(normal, axis=1, keepdims=True)


def line_cost(
    x: Float[Array, " n"], a: Float[Array, " n"], y: Float[Array, " m"], b: Float[Array, " m"], p: float
) -> Float[Array, ""]:
    r"""Compute :math:`W_p^p = \int_0^1 \lvert F^{-1}(q) - G^{-1}(q) \rvert^p dq` of measures on the line.

    The quantile functions of x with masses a and of y with masses b are steps; the integral is a sum over the
    n + m levels q at which one of them rises.
    """
    (x, a), (y, b) = _steps(x, a), _steps(y, b)
    level = jnp.sort(jnp.concatenate([a, b]))
    x, y = (v.at[jnp.searchsorted(reached, level)].get(mode="clip") for v, reached in ((x, a), (y, b)))
    return jnp.sum(jnp.diff(level, prepend=0) * jnp.abs(x - y) ** p)


def _steps(x: Array, mass: Array) -> tuple[Array, Array]:
    """Sort points, and give the level that their distribution function reaches at each."""
    # Padding goes to the largest point, so that a rounding error of its level is an error of a point that counts.
    x = jnp.where(mass > 0, x, jnp.max(x, where=mass > 0, initial=-jnp.inf))
    x, mass = jax.lax.sort((x, mass), num_keys=1)
    level = jnp.cumsum(mass)
    return x, level / level[-1]
