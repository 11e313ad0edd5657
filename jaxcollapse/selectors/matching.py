"""Set-valued baselines: a kept set whose moments match the reference, or that represents the pool.

They weigh candidates against each other, so each is a whole `SelectFn`, not a score and an aggregation. Of several
references they match the union.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxcollapse.base import Controls, Data, Measure, Moments, SelectFn
from jaxcollapse.measures import as_moments, union
from jaxcollapse.selectors.aggregate import keep_highest


def center_matching(max_kept: int) -> SelectFn:
    r"""Keep n candidates, each in its turn the one that brings the mean of the kept set nearest to the reference's.

    With :math:`y_i = x_i - \mu` and the sum s of those already kept, as in herding [welling2009]_,

    .. math:: i = \arg\min_i \lVert s + y_i \rVert^2 = \arg\min_i \lVert y_i \rVert^2 + 2 s'y_i.

    Args:
        max_kept: static bound on `controls.num_kept`, and the number of turns, O(n d) each.
    """

    def select(key, pool: Measure, references: Data, controls: Controls) -> Float[Array, " n"]:
        y = pool.points - union(as_moments(references)).mean
        square = jnp.sum(y**2, axis=1)

        def turn(step, state):
            s, weights = state
            best, taken = _nearest(square + 2 * y @ s, weights, pool, step, controls.num_kept)
            return s + taken * y[best], weights.at[best].max(taken)

        start = jnp.zeros_like(y[0]), jnp.zeros_like(pool.weights)
        return jax.lax.fori_loop(0, min(max_kept, len(y)), turn, start)[1]

    return select


def covariance_matching(max_kept: int) -> SelectFn:
    r"""Keep n candidates, each in its turn the one that brings the kept set's covariance nearest to the reference's.

    Adding x to t points of mean m and covariance :math:`\Sigma` [chan1983]_ changes the distance to C to

    .. math:: \lVert A + b\, \delta \delta' \rVert_F^2
              = \lVert A \rVert_F^2 + 2 b\, \delta' A \delta + b^2 \lVert \delta \rVert^4,
              \qquad A = (1 - w) \Sigma - C, \quad b = w (1 - w), \quad w = \frac{1}{t + 1}, \quad \delta = x - m.

    The forms :math:`y_i' \Sigma y_i` are carried along, which makes a turn O(n d), not O(n d^2). The first point, with
    which every covariance is zero, is the nearest to the reference's mean; the mean is not matched otherwise.

    Args:
        max_kept: static bound on `controls.num_kept`, and the number of turns.
    """

    def select(key, pool: Measure, references: Data, controls: Controls) -> Float[Array, " n"]:
        _, location, goal = union(as_moments(references))
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
            best, taken = _nearest(cost, weights, pool, step, controls.num_kept)
            delta = y[best] - m
            wider = (1 - w) * covariance + b * jnp.outer(delta, delta)
            following = Moments(kept.mass + 1, m + w * delta, wider)
            return following, (1 - w) * form + b * (y @ delta) ** 2, weights.at[best].max(taken)

        kept = Moments(jnp.zeros((), y.dtype), jnp.zeros_like(location), jnp.zeros_like(goal))
        start = kept, jnp.zeros_like(square), jnp.zeros_like(pool.weights)
        return jax.lax.fori_loop(0, min(max_kept, len(y)), turn, start)[2]

    return select


def k_means(max_kept: int, num_iterations: int = 10, block: int = 256) -> SelectFn:
    r"""Keep the n representatives of the pool by n-means clustering [lloyd1982]_, whatever the references.

    From n candidates drawn at random as centres, Lloyd's iteration alternates

    .. math:: a_i = \arg\min_j \lVert x_i - c_j \rVert, \qquad
              c_j = \sum_{i : a_i = j} w_i x_i \Big/ \sum_{i : a_i = j} w_i;

    the member of each cluster that is nearest to its centre is kept. For a cluster that has lost its members the
    remaining candidate nearest to its own centre is. The clusters are as many as are kept, so that the budget is met
    and the whole pool is kept at budget one; which of its points the published k-means baseline keeps is not said.

    Args:
        max_kept: static bound on `controls.num_kept`, the number of clusters.
        num_iterations: of Lloyd's method, O(N n d) each.
        block: candidates whose distances to all centres are held at a time.
    """

    def select(key, pool: Measure, references, controls: Controls) -> Float[Array, " n"]:
        x, mass = pool
        size = min(max_kept, len(x))
        order = jax.random.uniform(key, mass.shape, x.dtype)
        _, first = jax.lax.top_k(jnp.where(mass > 0, order, -1), size)
        used = (jnp.arange(size) < controls.num_kept) & (mass[first] > 0)

        def nearest(centers):
            def find(point):
                distance = jnp.where(used, jnp.sum((centers - point) ** 2, axis=1), jnp.inf)
                return jnp.argmin(distance), jnp.min(distance)

            return jax.lax.map(find, x, batch_size=min(block, len(x)))

        def iterate(_, centers):
            cluster, _ = nearest(centers)
            total = jnp.zeros(size, x.dtype).at[cluster].add(mass)
            summed = jnp.zeros_like(centers).at[cluster].add(mass[:, None] * x)
            return jnp.where(total[:, None] > 0, summed / jnp.where(total > 0, total, 1)[:, None], centers)

        cluster, distance = nearest(jax.lax.fori_loop(0, num_iterations, iterate, x[first]))
        # Padding last, by cluster, by distance: the first of each cluster represents it.
        index = jnp.lexsort((distance, cluster, mass <= 0))
        leads = jnp.diff(cluster[index], prepend=-1) != 0
        represents = jnp.zeros_like(leads).at[index].set(leads)
        return keep_highest(jnp.where(represents, jnp.inf, -distance), pool, controls.num_kept, max_kept)

    return select


MATCHING = {"center_matching": center_matching, "covariance_matching": covariance_matching, "k_means": k_means}


def _nearest(
    cost: Float[Array, " n"], weights: Float[Array, " n"], pool: Measure, step: Int[Array, ""], num_kept: Int[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Find the candidate of least cost that is not yet kept, and whether there is one and it is wanted."""
    free = (pool.weights > 0) & (weights == 0)
    best = jnp.argmin(jnp.where(free, cost, jnp.inf))
    return best, (free[best] & (step < num_kept)).astype(weights.dtype)
