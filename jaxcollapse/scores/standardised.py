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

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [3.0]]))
        >>> score = jc.scores.standardised(lambda key, pool: 10 * pool.points[:, 0])
        >>> print(score(jax.random.key(0), pool).value)
        [-1.  1.]
    """

    score: Score

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        score, trouble = counted(self.score(key, pool))
        points = jnp.asarray(score)[:, None]
        finite = jnp.isfinite(points)
        about = as_moments(Measure(jnp.where(finite, points, 0), jnp.where(finite[:, 0], pool.weights, 0)))
        spread = jnp.sqrt(jnp.trace(about.covariance))
        return Counted((score - about.mean) / jnp.where(spread > 0, spread, 1), trouble)
