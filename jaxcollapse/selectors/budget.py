"""Selection by one number for each candidate, of which the n highest are kept."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure, Score, Sizes
from jaxcollapse.scores import SCORES
from jaxcollapse.tree import closure


def keep_highest(priority: Float[Array, " n"], pool: Measure, sizes: Sizes) -> Counted:
    """Weigh the `num_kept` highest priorities one and the rest zero; padding is never kept.

    A priority that is not a number ranks last. Those of candidates that are not finite are counted.

    The weights are scattered from ranks, not compared with a threshold: ties keep the exact number,
    and the compiler does not draw the candidates a second time to compare them.
    """
    there = pool.weights > 0
    least = jnp.finfo(priority.dtype).min
    ranked = jnp.where(there, jnp.where(jnp.isnan(priority), least, jnp.maximum(priority, least)), -jnp.inf)
    _, index = jax.lax.top_k(ranked, min(sizes.max_kept, priority.shape[-1]))
    kept = (jnp.arange(index.shape[-1]) < sizes.num_kept) & there[index]
    weights = jnp.zeros_like(pool.weights).at[index].set(kept.astype(pool.weights.dtype))
    return Counted(weights, not_finite(priority, pool))


def not_finite(score: Float[Array, " n"], pool: Measure) -> dict[str, Array]:
    """Count the candidates whose score is not finite."""
    return {"scores that are not finite": jnp.sum((pool.weights > 0) & ~jnp.isfinite(score))}


def check_score(score: Any) -> None:
    """Require a score that is made.

    Raises:
        ValueError: if it is a factory of scores, or no function.
    """
    factory = isinstance(score, type) or any(score is member for member in SCORES.values())
    if factory or isinstance(score, str | int | float):
        raise ValueError(f"score = {score!r}: must be a score, as mahalanobis(target) makes it")


@closure
class keep_all:
    """Select nothing away: the whole pool is kept."""

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Float[Array, " n"]:
        return pool.weights


@closure
class random:
    """Keep n candidates uniformly without replacement."""

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        _, draw_key = jax.random.split(key)
        return keep_highest(jax.random.uniform(draw_key, pool.weights.shape, pool.weights.dtype), pool, sizes)


@closure
class top:
    """Keep the n candidates with the highest score.

    Attributes:
        score: of candidates.
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, _ = jax.random.split(key)
        return keep_highest(self.score(score_key, pool), pool, sizes)


@closure
class bottom:
    """Keep the n candidates with the lowest score: the negative control.

    Attributes:
        score: of candidates.
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, _ = jax.random.split(key)
        return keep_highest(-self.score(score_key, pool), pool, sizes)


@closure
class soft:
    r"""Keep n candidates without replacement, with probability :math:`\propto \exp(U / T)` at each draw.

    The top n of :math:`U + T g` with standard Gumbel g are such a sample [kool2019]_; the temperature T is
    `sizes.temperature`, and zero gives `top`. A log density ratio, log dQ/dP, at temperature one draws candidates in
    proportion to dQ/dP, so that the kept set follows Q where P covers it, exactly so as n / N -> 0: at larger budgets a
    candidate, which can be kept only once, is kept with probability :math:`1 - \exp(-\tau\, dQ/dP)` [rosen1972]_,
    between Q and P. Another temperature resamples with :math:`(dQ/dP)^{1/T}`.

    Attributes:
        score: U, of candidates.
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, draw_key = jax.random.split(key)
        score = self.score(score_key, pool)
        noise = jax.random.gumbel(draw_key, score.shape, score.dtype)
        return keep_highest(score + sizes.temperature.astype(score.dtype) * noise, pool, sizes)
