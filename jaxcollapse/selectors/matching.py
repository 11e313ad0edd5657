"""Set-valued baselines: a kept set whose moments match those of a reference."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Counted, Measure, Moments, Sizes
from jaxcollapse.selectors.budget import not_finite
from jaxcollapse.tree import closure


@closure
class center_matching:
    r"""Keep n candidates, each in its turn the one that brings the mean of the kept set nearest to the reference's.

    With :math:`y_i = x_i - \mu` and the sum s of those already kept, as in herding [welling2009]_,

    .. math:: i = \arg\min_i \lVert s + y_i \rVert^2 = \arg\min_i \lVert y_i \rVert^2 + 2 s'y_i.

    As many turns as `sizes.max_kept`, O(n d) each.

    Attributes:
        reference: moments to match.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.center_matching(jc.Moments(1.0, np.array([2.4]), np.eye(1)))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 1. 1. 0.]
    """

    reference: Moments

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        y = pool.points - self.reference.mean
        square = jnp.sum(y**2, axis=1)

        def turn(step, state):
            s, weights = state
            best, taken = _nearest(square + 2 * y @ s, weights, pool, step, sizes.num_kept)
            return s + taken * y[best], weights.at[best].max(taken)

        start = jnp.zeros_like(y[0]), jnp.zeros_like(pool.weights)
        weights = jax.lax.fori_loop(0, min(sizes.max_kept, len(y)), turn, start)[1]
        return Counted(weights, not_finite(square, pool))


@closure
class covariance_matching:
    r"""Keep n candidates, each in its turn the one that brings the kept set's covariance nearest to the reference's.

    Adding x to t points of mean m and covariance :math:`\Sigma` [chan1983]_ changes the distance to C to

    .. math:: \lVert A + b\, \delta \delta' \rVert_F^2
              = \lVert A \rVert_F^2 + 2 b\, \delta' A \delta + b^2 \lVert \delta \rVert^4,
              \qquad A = (1 - w) \Sigma - C, \quad b = w (1 - w), \quad w = \frac{1}{t + 1}, \quad \delta = x - m.

    The forms :math:`y_i' \Sigma y_i` are carried along, which makes a turn O(n d), not O(n d^2). The first point, with
    which every covariance is zero, is the nearest to the reference's mean; the mean is not matched otherwise.

    Attributes:
        reference: moments to match.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.covariance_matching(jc.Moments(1.0, np.array([1.0]), np.array([[2.25]])))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)  # 1 and 4 have the variance 2.25
        [1. 0. 0. 1.]
    """

    reference: Moments

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        _, location, goal = self.reference
        y = pool.points - location
        square = jnp.sum(y**2, axis=1)
        goal_form = jnp.sum((y @ goal) * y, axis=1)

        def about(form, matrix, m):
            return form - 2 * y @ (matrix @ m) + m @ matrix @ m  # (y - m)' matrix (y - m), given y' matrix y

        def turn(step, state):
            kept, form, weights = state
            _, m, covariance = kept
            w = 1 / (step + 1).astype(y.dtype)
            b = w * (1 - w)
            distance = square - 2 * y @ m + m @ m
            change = (1 - w) * about(form, covariance, m) - about(goal_form, goal, m)
            cost = jnp.where(step == 0, square, 2 * change + b * distance**2)
            best, taken = _nearest(cost, weights, pool, step, sizes.num_kept)
            delta = y[best] - m
            wider = (1 - w) * covariance + b * jnp.outer(delta, delta)
            following = Moments(kept.mass + 1, m + w * delta, wider)
            return following, (1 - w) * form + b * (y @ delta) ** 2, weights.at[best].max(taken)

        kept = Moments(jnp.zeros((), y.dtype), jnp.zeros_like(location), jnp.zeros_like(goal))
        start = kept, jnp.zeros_like(square), jnp.zeros_like(pool.weights)
        weights = jax.lax.fori_loop(0, min(sizes.max_kept, len(y)), turn, start)[2]
        return Counted(weights, not_finite(square, pool))


def _nearest(
    cost: Float[Array, " n"], weights: Float[Array, " n"], pool: Measure, step: Int[Array, ""], num_kept: Int[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Find the candidate of least cost that is not yet kept, and whether there is one and it is wanted."""
    free = (pool.weights > 0) & (weights == 0)
    most = jnp.finfo(cost.dtype).max
    best = jnp.argmin(jnp.where(free, jnp.where(jnp.isnan(cost), most, jnp.minimum(cost, most)), jnp.inf))
    return best, (free[best] & (step < num_kept)).astype(weights.dtype)
