"""The mean of several scores."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Measure
from jaxcollapse.tree import closure


@closure
class mean:
    r"""Average the scores of r references, :math:`U(x) = \tfrac1r \sum_k U_k(x)`: any can outvote another.

    Attributes:
        scores: a score whose leaves lead with an axis [r], as `jax.vmap(mahalanobis)(silos)` makes it.
    """

    scores: Any

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        return score_each(self.scores, key, pool).mean(axis=0)


def score_each(scores: Any, key: Key[Array, ""], pool: Measure) -> Float[Array, "r n"]:
    """Score a pool by each of a stack of scores."""
    return jax.vmap(lambda score: score(key, pool))(scores)
