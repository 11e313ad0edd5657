"""The mean of several scores."""

from typing import Any

import jax
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Measure, counted, summed
from jaxcollapse.tree import closure, stack


@closure
class mean:
    r"""Average the scores of r references, :math:`U(x) = \tfrac1r \sum_k U_k(x)`: any can outvote another.

    Attributes:
        scores: a score whose leaves lead with an axis [r], as `jax.vmap(mahalanobis)(silos)` makes it.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[2.0], [4.0]]]))  # means 1 and 3, variances 1
        >>> score = jc.scores.mean(jax.vmap(jc.scores.mahalanobis)(silos))
        >>> print(score(jax.random.key(0), pool).value)
        [-2. -1. -2. -5.]
    """

    scores: Any

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        each, trouble = score_each(self.scores, key, pool)
        return Counted(each.mean(axis=0), trouble)


def score_each(scores: Any, key: Key[Array, ""], pool: Measure) -> Counted:
    """Score a pool by each of a stack or a tuple of scores, [r, n]."""
    if isinstance(scores, tuple):
        each, trouble = stack([counted(score(key, pool)) for score in scores])
    else:
        each, trouble = jax.vmap(lambda score: counted(score(key, pool)))(scores)
    return Counted(each, summed(trouble))
