"""Selection by one number for each candidate, of which the n highest are kept."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxcollapse.base import Counted, Measure, Score, Sizes, counted
from jaxcollapse.scores import SCORES
from jaxcollapse.tree import closure


def keep_highest(
    priority: Float[Array, " n"], pool: Measure, sizes: Sizes, trouble: Mapping[str, Array] | None = None
) -> Counted:
    """Weigh the `num_kept` highest priorities one and the rest zero; padding is never kept.

    Candidates that are not finite, or whose priority is not, rank last and are counted, beside other trouble.

    The weights are scattered from ranks, not compared with a threshold: ties keep the exact number,
    and the compiler does not draw the candidates a second time to compare them.
    """
    there = pool.weights > 0
    priority = jnp.where(is_finite(pool), priority, jnp.nan)
    least = jnp.finfo(priority.dtype).min
    ranked = jnp.where(there, jnp.where(jnp.isnan(priority), least, jnp.maximum(priority, least)), -jnp.inf)
    _, index = jax.lax.top_k(ranked, min(sizes.max_kept, priority.shape[-1]))
    kept = (jnp.arange(index.shape[-1]) < sizes.num_kept) & there[index]
    weights = jnp.zeros_like(pool.weights).at[index].set(kept.astype(pool.weights.dtype))
    return Counted(weights, {**(trouble or {}), **not_finite(priority, pool)})


def pareto(
    key: Key[Array, ""],
    log_odds: Float[Array, " n"],
    pool: Measure,
    sizes: Sizes,
    trouble: Mapping[str, Array] | None = None,
) -> Counted:
    r"""Keep n candidates with given log odds :math:`u_i`, by Pareto sampling [rosen1997]_: the n highest of u plus
    logistic noise. Their probabilities are :math:`\sigma(u_i)` where these sum to n, up to terms that vanish with
    :math:`\sum_i \sigma(u_i)(1 - \sigma(u_i))`.
    """
    noise = jax.random.logistic(key, log_odds.shape, log_odds.dtype)
    return keep_highest(log_odds + noise, pool, sizes, trouble)


def below_all(sizes: Sizes, pool: Measure) -> Float[Array, ""]:
    """Bound n by half a candidate less than there are: where all are kept, they are at any finite odds."""
    return jnp.clip(
        sizes.num_kept.astype(pool.weights.dtype), 0.5, jnp.maximum(is_finite(pool) @ pool.weights - 0.5, 0.5)
    )


def is_finite(pool: Measure) -> Bool[Array, " n"]:
    """Tell which candidates are finite."""
    return jnp.isfinite(pool.points).all(axis=-1)


def scored(score: Score, key: Key[Array, ""], pool: Measure) -> Counted:
    """Score a pool, in which candidates that are not finite have no mass."""
    finite = is_finite(pool)
    return counted(score(key, Measure(jnp.where(finite[:, None], pool.points, 0), jnp.where(finite, pool.weights, 0))))


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
    """Select nothing away: the whole pool is kept.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> print(jc.selectors.keep_all()(jax.random.key(0), pool, jc.sizes(4)).value)
        [1. 1. 1. 1.]
    """

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        return Counted(pool.weights, not_finite(pool.points.sum(axis=-1), pool))


@closure
class random:
    """Keep n candidates uniformly without replacement.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> kept = jc.selectors.random()(jax.random.key(0), pool, jc.sizes(2, 0.5))
        >>> float(kept.value.sum())
        2.0
    """

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        _, draw_key = jax.random.split(key)
        return keep_highest(jax.random.uniform(draw_key, pool.weights.shape, pool.weights.dtype), pool, sizes)


@closure
class top:
    """Keep the n candidates with the highest score.

    Attributes:
        score: of candidates.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.top(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1))))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [1. 1. 0. 0.]
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, _ = jax.random.split(key)
        score, trouble = scored(self.score, score_key, pool)
        return keep_highest(score, pool, sizes, trouble)


@closure
class bottom:
    """Keep the n candidates with the lowest score: the negative control.

    Attributes:
        score: of candidates.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.bottom(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1))))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 0. 1. 1.]
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, _ = jax.random.split(key)
        score, trouble = scored(self.score, score_key, pool)
        return keep_highest(-score, pool, sizes, trouble)


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

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> select = jc.selectors.soft(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1))))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5, temperature=0.01)).value)  # nearly `top`
        [1. 1. 0. 0.]
    """

    score: Score

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score_key, draw_key = jax.random.split(key)
        score, trouble = scored(self.score, score_key, pool)
        noise = jax.random.gumbel(draw_key, score.shape, score.dtype)
        return keep_highest(score + sizes.temperature.astype(score.dtype) * noise, pool, sizes, trouble)
