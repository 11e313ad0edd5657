"""Aggregation: from the scores of r references to the weights of the kept set.

Each factory takes `max_kept`, the static bound on `controls.num_kept`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxcollapse.base import AggregateFn, Controls, Measure


def keep_highest(
    score: Float[Array, " n"], pool: Measure, num_kept: Int[Array, ""], max_kept: int
) -> Float[Array, " n"]:
    """Weigh the `num_kept` highest scores one and the rest zero; padding is never kept.

    The weights are scattered from ranks, not compared with a threshold: ties keep the exact number,
    and the compiler does not draw the candidates a second time to compare them.
    """
    score = jnp.where(pool.weights > 0, score, -jnp.inf)
    _, index = jax.lax.top_k(score, min(max_kept, score.shape[-1]))
    kept = (jnp.arange(index.shape[-1]) < num_kept) & (pool.weights[index] > 0)
    return jnp.zeros_like(pool.weights).at[index].set(kept.astype(pool.weights.dtype))


def top_budget(max_kept: int) -> AggregateFn:
    """Keep the n candidates with the highest mean score over references."""

    def aggregate(key, scores: Float[Array, "r n"], pool: Measure, controls: Controls):
        return keep_highest(scores.mean(axis=0), pool, controls.num_kept, max_kept)

    return aggregate


def bottom_budget(max_kept: int) -> AggregateFn:
    """Keep the n candidates with the lowest mean score: the negative control."""

    def aggregate(key, scores: Float[Array, "r n"], pool: Measure, controls: Controls):
        return keep_highest(-scores.mean(axis=0), pool, controls.num_kept, max_kept)

    return aggregate


def soft_budget(max_kept: int) -> AggregateFn:
    r"""Keep n candidates without replacement, with probability :math:`\propto \exp(U / T)` at each draw.

    The top n of :math:`U + T g` with standard Gumbel g are such a sample [kool2019]_; the temperature T
    is `controls.temperature`, and zero gives `top_budget`.
    """

    def aggregate(key, scores: Float[Array, "r n"], pool: Measure, controls: Controls):
        score = scores.mean(axis=0)
        noise = jax.random.gumbel(key, score.shape, score.dtype)
        temperature = controls.temperature.astype(score.dtype)
        return keep_highest(score + temperature * noise, pool, controls.num_kept, max_kept)

    return aggregate


def random_budget(max_kept: int) -> AggregateFn:
    """Keep n candidates uniformly without replacement, whatever their scores."""

    def aggregate(key, scores: Float[Array, "r n"], pool: Measure, controls: Controls):
        priority = jax.random.uniform(key, scores.shape[-1:], scores.dtype)
        return keep_highest(priority, pool, controls.num_kept, max_kept)

    return aggregate
