"""A kept set that represents the pool."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Measure, Sizes
from jaxcollapse.selectors.budget import keep_highest
from jaxcollapse.tree import closure, static


@closure
class k_means:
    r"""Keep the n representatives of the pool by n-means clustering [lloyd1982]_.

    From n candidates drawn at random as centres, Lloyd's iteration alternates

    .. math:: a_i = \arg\min_j \lVert x_i - c_j \rVert, \qquad
              c_j = \sum_{i : a_i = j} w_i x_i \Big/ \sum_{i : a_i = j} w_i;

    the member of each cluster that is nearest to its centre is kept. For a cluster that has lost its members the
    remaining candidate nearest to its own centre is. The clusters are as many as are kept, so that the budget is met
    and the whole pool is kept at budget one; which of its points the published k-means baseline keeps is not said.

    Attributes:
        num_iterations: of Lloyd's method, O(N n d) each.
        block: candidates whose distances to all centres are held at a time.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]))
        >>> print(jc.selectors.k_means()(jax.random.key(0), pool, jc.sizes(2, 1 / 3)).value)
        [0. 1. 0. 0. 1. 0.]
    """

    num_iterations: int = static(default=10)
    block: int = static(default=256)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        known = jnp.isfinite(pool.points).all(axis=1)
        x, mass = jnp.where(known[:, None], pool.points, 0), jnp.where(known, pool.weights, 0)
        size = min(sizes.max_kept, len(x))
        order = jax.random.uniform(key, mass.shape, x.dtype)
        _, first = jax.lax.top_k(jnp.where(mass > 0, order, -1), size)
        used = (jnp.arange(size) < sizes.num_kept) & (mass[first] > 0)

        def nearest(centers: Array) -> tuple[Array, Array]:
            def find(point):
                distance = jnp.where(used, jnp.sum((centers - point) ** 2, axis=1), jnp.inf)
                return jnp.argmin(distance), jnp.min(distance)

            return jax.lax.map(find, x, batch_size=min(self.block, len(x)))

        def iterate(_, centers):
            cluster, _ = nearest(centers)
            total = jnp.zeros(size, x.dtype).at[cluster].add(mass)
            summed = jnp.zeros_like(centers).at[cluster].add(mass[:, None] * x)
            return jnp.where(total[:, None] > 0, summed / jnp.where(total > 0, total, 1)[:, None], centers)

        cluster, distance = nearest(jax.lax.fori_loop(0, self.num_iterations, iterate, x[first]))
        # Padding last, by cluster, by distance: the first of each cluster represents it.
        index = jnp.lexsort((distance, cluster, mass <= 0))
        leads = jnp.diff(cluster[index], prepend=-1) != 0
        represents = jnp.zeros_like(leads).at[index].set(leads)
        return keep_highest(jnp.where(known, jnp.where(represents, 1, -distance), jnp.nan), pool, sizes)
