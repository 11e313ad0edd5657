"""The baseline of whoever knows the silos' moments and nothing else."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Measure, Moments, Sizes
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments
from jaxcollapse.selectors.budget import random
from jaxcollapse.tree import closure


@closure
class recoloured:
    r"""Keep n candidates at random, and move them until their mean and covariance are the goal's.

    .. math:: y = \mu_Q + L_Q L^{-1} (x - \mu), \qquad \Sigma = L L', \quad \Sigma_Q = L_Q L_Q',

    with the moments of those kept. Along directions in which they have no spread they stay without. It selects nothing:
    what another way to select gains over it in Fréchet distance is gained beyond the moments.

    Attributes:
        goal: moments of the silos' union.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(jnp.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.recoloured(jc.Moments(1.0, jnp.array([9.0]), jnp.array([[4.0]])))
        >>> kept = jc.as_moments(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        >>> round(float(kept.mean[0]), 2), round(float(kept.covariance[0, 0]), 2)
        (9.0, 4.0)
    """

    goal: Moments

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        weights, trouble = random()(key, pool, sizes)
        kept = as_moments(pool._replace(weights=weights))
        factor = psd_cholesky(kept.covariance)
        pivots = jnp.diagonal(factor)
        invertible = factor + jnp.diag(jnp.where(pivots > 0, 0, 1).astype(factor.dtype))
        white = jax.scipy.linalg.solve_triangular(invertible, (pool.points - kept.mean).T, lower=True)
        white = jnp.where((pivots > 0)[:, None], white, 0)
        moved = self.goal.mean + (psd_cholesky(self.goal.covariance) @ white).T
        return Counted(Measure(jnp.where(weights[:, None] > 0, moved, pool.points), weights), trouble)
