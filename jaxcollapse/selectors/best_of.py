"""Curation by preferences: of every few candidates the one that somebody prefers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Measure, Score, Sizes
from jaxcollapse.selectors.budget import check_score, is_finite, keep_highest, scored
from jaxcollapse.tree import closure


@closure
class best_of:
    r"""Keep one of each group of candidates, as a noisy preference chooses it [ferbach2024]_.

    The pool is dealt into n groups of K = N / n at random. Of each, the candidate i is kept with the probability
    of Bradley and Terry [bradley1952]_ for two, and of Luce for more,

    .. math:: \frac{e^{U_i / T}}{\sum_{j \in \text{group}} e^{U_j / T}},

    the highest of :math:`U + T g` with standard Gumbel g; the temperature T is `sizes.temperature`, and zero keeps the
    best. As n grows the law p of the kept is that of `jaxcollapse.theory.curation`. Where N is no multiple of n
    groups differ by one.

    Attributes:
        score: U, the reward.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.best_of(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1))))
        >>> kept = select(jax.random.key(0), pool, jc.sizes(1, 0.25, temperature=0.01))  # one group of four
        >>> print(kept.value)
        [1. 0. 0. 0.]
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, deal_key, draw_key = jax.random.split(key, 3)
        score, trouble = scored(self.score, score_key, pool)
        there = (pool.weights > 0) & is_finite(pool) & jnp.isfinite(score)
        noise = jax.random.gumbel(draw_key, score.shape, score.dtype)
        rejected = jnp.where(there, -score - sizes.temperature.astype(score.dtype) * noise, jnp.inf)
        dealt = jnp.where(there, jax.random.uniform(deal_key, score.shape, score.dtype), jnp.inf)
        group = jnp.argsort(jnp.argsort(dealt)) % sizes.num_kept
        order = jnp.lexsort((rejected, group))  # by groups, and in each the preferred first: ties keep one of each
        preferred = jnp.zeros_like(score).at[order].set(jnp.diff(group[order], prepend=-1) > 0)
        return keep_highest(jnp.where(jnp.isfinite(score), preferred, jnp.nan), pool, sizes, trouble)
