"""A score on a scale of its own."""

import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Measure, Score, counted
from jaxcollapse.measures import as_moments
from jaxcollapse.tree import closure


@closure
class standardised:
    """Shift and scale a score to mean zero and variance one over the candidates with mass and a finite score.

    Attributes:
        score: of candidates.
    """

    score: Score

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        score, trouble = counted(self.score(key, pool))
        points = jnp.asarray(score)[:, None]
        finite = jnp.isfinite(points)
        about = as_moments(Measure(jnp.where(finite, points, 0), jnp.where(finite[:, 0], pool.weights, 0)))
        spread = jnp.sqrt(jnp.trace(about.covariance))
        return Counted((score - about.mean) / jnp.where(spread > 0, spread, 1), trouble)
