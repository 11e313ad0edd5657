r"""Aggregation that serves every reference: a concave function of what each gains from the kept set.

The mean score lets one reference outvote another. Here each reference k draws a utility from the kept set A,
and a second unit of it is worth less than the first:

.. math:: F(A) = \sum_k \log\bigl(1 + z_k(A)\bigr), \qquad z_k(A) = \sum_{i \in A} v_{ik}.

F is monotone and submodular, so greedy choice attains at least (1 - 1/e) of the best [nemhauser1978]_.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Counted, Measure, Sizes
from jaxcollapse.scores.mean import score_each
from jaxcollapse.selectors.budget import is_finite, keep_highest, scored
from jaxcollapse.tree import closure, static

Normalise = Callable[[Float[Array, "r n"], Float[Array, " n"]], Float[Array, "r n"]]


def min_max(scores: Float[Array, "r n"], mass: Float[Array, " n"]) -> Float[Array, "r n"]:
    r"""Map the scores of each reference affinely onto [0, 1], as published [qiao2026]_.

    .. math:: v_{ik} = (U_{ik} - \min_j U_{jk}) / (\max_j U_{jk} - \min_j U_{jk}),

    over candidates j with mass. Padding gets zero, and so do all where a reference cannot tell them apart.
    """
    low = jnp.min(scores, axis=1, keepdims=True, where=mass > 0, initial=jnp.inf)
    high = jnp.max(scores, axis=1, keepdims=True, where=mass > 0, initial=-jnp.inf)
    return jnp.where(mass > 0, scores - low, 0) / jnp.where(high > low, high - low, 1)


def ranks(scores: Float[Array, "r n"], mass: Float[Array, " n"]) -> Float[Array, "r n"]:
    r"""Map the scores of each reference to their quantiles: blind to their scale and to outliers.

    .. math:: v_{ik} = \frac{\#\{j : U_{jk} < U_{ik}\} + \#\{j : U_{jk} \le U_{ik}\}}{2 m}

    over the m candidates j with mass; padding gets zero.
    """

    def quantile(score):
        order = jnp.sort(jnp.where(mass > 0, score, jnp.inf))
        below, upto = (jnp.searchsorted(order, score, side=side, method="sort") for side in ("left", "right"))
        return (below + upto) / (2 * jnp.sum(mass > 0))

    return jnp.where(mass > 0, jax.vmap(quantile)(scores), 0).astype(scores.dtype)


def softmax(scores: Float[Array, "r n"], mass: Float[Array, " n"]) -> Float[Array, "r n"]:
    r"""Map the standardised scores of each reference to utilities of mean one: the best stand out.

    .. math:: v_{ik} = m \frac{\exp Z_{ik}}{\sum_j \exp Z_{jk}}, \qquad Z_{ik} = \frac{U_{ik} - \bar U_k}{s_k},

    with mean and standard deviation over the m candidates with mass; padding gets zero.
    """
    seen = mass > 0
    mean = jnp.mean(scores, axis=1, keepdims=True, where=seen)
    deviation = jnp.std(scores, axis=1, keepdims=True, where=seen)
    standard = (scores - mean) / jnp.where(deviation > 0, deviation, 1)
    return jnp.sum(seen) * jax.nn.softmax(jnp.where(seen, standard, -jnp.inf), axis=1)


def objective(utilities: Float[Array, "r n"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    r"""Evaluate :math:`F(A) = \sum_k \log(1 + \sum_{i \in A} v_{ik})`.

    Args:
        utilities: v, non-negative.
        weights: one on A and zero elsewhere.
    """
    return jnp.log1p(utilities @ weights).sum()


@closure
class submodular_greedy:
    r"""Keep n candidates, each in its turn the one that raises F most [nemhauser1978]_; F as in [qiao2026]_.

    As many turns as `sizes.max_kept`, O(n r) each.

    Attributes:
        scores: a score whose leaves lead with an axis [r], as `jax.vmap(mahalanobis)(silos)` makes it.
        normalise: `(scores, mass) -> utilities`; `min_max`, `ranks`, `softmax`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[3.0], [5.0]]]))  # means 1 and 4
        >>> select = jc.selectors.submodular_greedy(jax.vmap(jc.scores.mahalanobis)(silos))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 1. 1. 0.]
    """

    scores: Any
    normalise: Normalise = static(default=min_max)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        v, known, trouble = _utilities(self.scores, self.normalise, key, pool)
        weights = _extend(v, jnp.zeros_like(pool.weights), known, sizes.num_kept, sizes.max_kept)
        return keep_highest(jnp.where(known.weights > 0, weights, jnp.nan), pool, sizes, trouble)


@closure
class submodular:
    r"""Keep n candidates of nearly greatest F by a few sorts: the set of greedy choice in nearly all cases tried.

    The gradient of F in the weights is :math:`\sum_k v_{ik} / (1 + z_k)`, so the best n under it, A(z), is the
    vertex that Frank and Wolfe's method [frank1956]_ steps to on the relaxation to fractional weights,

    .. math:: z \leftarrow z + \gamma\, (z(A(z)) - z), \qquad \gamma = \arg\max_\gamma \sum_k \log(1 + z_k),

    which never lowers F; plain iteration, :math:`\gamma = 1`, may cycle. At the optimum at most r weights are
    fractional: the last r candidates are chosen greedily. Derived here, from the fixed point in [qiao2026]_'s F.

    Attributes:
        scores: as in `submodular_greedy`.
        normalise: likewise.
        num_iterations: steps of the iteration.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[3.0], [5.0]]]))  # means 1 and 4
        >>> select = jc.selectors.submodular(jax.vmap(jc.scores.mahalanobis)(silos))
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 1. 1. 0.]
    """

    scores: Any
    normalise: Normalise = static(default=min_max)
    num_iterations: int = static(default=30)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        v, known, trouble = _utilities(self.scores, self.normalise, key, pool)
        gamma = jnp.append(0, 2.0 ** -jnp.arange(12.0)).astype(v.dtype)
        num_last = v.shape[0]
        but_last = dataclasses.replace(sizes, num_kept=sizes.num_kept - num_last)

        def best(total, sizes):
            return keep_highest(jnp.sum(v / (1 + total)[:, None], axis=0), known, sizes).value

        def step(_, total):
            reached = v @ best(total, sizes)
            trial = total + gamma[:, None] * (reached - total)
            return trial[jnp.argmax(jnp.log1p(trial).sum(axis=1))]

        total = jax.lax.fori_loop(0, self.num_iterations, step, v @ best(jnp.zeros_like(v[:, 0]), sizes))
        weights = _extend(v, best(total, but_last), known, sizes.num_kept, min(num_last, sizes.max_kept))
        return keep_highest(jnp.where(known.weights > 0, weights, jnp.nan), pool, sizes, trouble)


def _utilities(
    scores: Any, normalise: Normalise, key: Key[Array, ""], pool: Measure
) -> tuple[Array, Measure, Mapping[str, Array]]:
    """Compute the utilities v, the pool without the candidates of which a score is not finite, and what went wrong."""
    score_key, _ = jax.random.split(key)
    each, trouble = scored(lambda key, pool: score_each(scores, key, pool), score_key, pool)
    known = jnp.isfinite(each).all(axis=0) & is_finite(pool)
    known = pool._replace(weights=jnp.where(known, pool.weights, 0))
    return normalise(each, known.weights), known, trouble


def _extend(
    v: Float[Array, "r n"], weights: Float[Array, " n"], pool: Measure, num_kept: Int[Array, ""], num_steps: int
) -> Float[Array, " n"]:
    """Add candidates one by one, each the one that raises F most, until `num_kept` are kept."""
    missing = num_kept - weights.sum().astype(num_kept.dtype)

    def add(step, state):
        total, weights = state
        gain = jnp.log1p(v / (1 + total)[:, None]).sum(axis=0)
        free = (pool.weights > 0) & (weights == 0)
        best = jnp.argmax(jnp.where(free, gain, -jnp.inf))
        taken = ((step < missing) & free[best]).astype(v.dtype)
        return total + taken * v[:, best], weights.at[best].max(taken)

    return jax.lax.fori_loop(0, min(num_steps, v.shape[1]), add, (v @ weights, weights))[1]
