"""Operations on measures and moments."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Measure, Moments

_BLOCK = 2048


def uniform_measure(points: Float[Array | np.ndarray, "*stack n d"]) -> Measure:
    """Give every point mass one."""
    points = jnp.asarray(points)
    return Measure(points, jnp.ones(points.shape[:-1], points.dtype))


def as_moments(data: Data) -> Moments:
    r"""Reduce data to moments: :math:`m = \sum_i w_i`, :math:`\mu = \sum_i w_i x_i / m` and
    :math:`\Sigma = \sum_i w_i (x_i - \mu)(x_i - \mu)' / m`.

    The covariance is centred before it is squared, so that it stays accurate when the data are far
    from the origin. An empty measure has mean and covariance zero.
    """
    if isinstance(data, Moments):
        return data
    mass = data.weights.sum(-1)
    share = data.weights / jnp.where(mass > 0, mass, 1)[..., None]
    mean = jnp.einsum("...n,...nd->...d", share, data.points)
    centred = data.points - mean[..., None, :]
    covariance = jnp.einsum("...ni,...nj->...ij", share[..., None] * centred, centred)
    return Moments(mass, mean, covariance)


def merge(first: Moments, second: Moments) -> Moments:
    r"""Merge the moments of two disjoint data sets [chan1983]_.

    With :math:`w = m_2 / (m_1 + m_2)` and :math:`\delta = \mu_2 - \mu_1`,

    .. math:: \mu = \mu_1 + w \delta, \qquad
              \Sigma = (1 - w) \Sigma_1 + w \Sigma_2 + w (1 - w) \delta \delta'.
    """
    mass = first.mass + second.mass
    w = second.mass / jnp.where(mass > 0, mass, 1)
    delta = second.mean - first.mean
    return Moments(
        mass,
        first.mean + w * delta,
        (1 - w) * first.covariance + w * second.covariance + w * (1 - w) * jnp.outer(delta, delta),
    )


def union(parts: Moments) -> Moments:
    r"""Merge the moments of K disjoint data sets, stacked along axis 0.

    .. math:: \mu = \sum_k w_k \mu_k, \qquad
              \Sigma = \sum_k w_k \left( \Sigma_k + (\mu_k - \mu)(\mu_k - \mu)' \right), \qquad w_k = m_k / \sum_j m_j.
    """
    mass = parts.mass.sum()
    means = as_moments(Measure(parts.mean, parts.mass))
    within = jnp.tensordot(parts.mass / jnp.where(mass > 0, mass, 1), parts.covariance, axes=1)
    return means._replace(covariance=means.covariance + within)


def compact(measure: Measure, size: int) -> Measure:
    """Keep at most the `size` heaviest points, heavier ones first and in their order where masses tie."""
    weights, index = jax.lax.top_k(measure.weights, min(size, measure.weights.shape[-1]))
    return Measure(measure.points[index], weights)


def blockwise(data: Measure) -> Callable[[Callable[[Any, Measure], Any], Any], Any]:
    """Make the fold over a measure's blocks: `fold(add, total)` applies `total = add(total, block)` to each.

    Blocks stay in a processor's cache, the last is filled up with mass zero, and those after the last mass are left
    out: what a memory has not filled yet costs nothing. Not differentiable in reverse.
    """
    size = min(len(data.weights), _BLOCK)

    def cut(leaf):
        filled = jnp.pad(leaf, [(0, -len(leaf) % size)] + [(0, 0)] * (leaf.ndim - 1))
        return filled.reshape(-1, size, *leaf.shape[1:])

    blocks = jax.tree.map(cut, data)
    num_blocks = jnp.max(jnp.where((blocks.weights > 0).any(axis=1), 1 + jnp.arange(len(blocks.weights)), 0))

    def fold(add, total):
        return jax.lax.fori_loop(0, num_blocks, lambda i, t: add(t, jax.tree.map(lambda leaf: leaf[i], blocks)), total)

    return fold


def concatenate(measures: Sequence[Measure]) -> Measure:
    """Add measures up."""
    return Measure(
        jnp.concatenate([m.points for m in measures], axis=-2),
        jnp.concatenate([m.weights for m in measures], axis=-1),
    )


def stack_padded(measures: Sequence[Measure]) -> Measure:
    """Stack measures of different sizes, [K, m, d], filled up with mass zero at each one's own first point."""
    size = max(m.weights.shape[0] for m in measures)

    def pad(m: Measure) -> Measure:
        missing = size - m.weights.shape[0]
        filler = jnp.broadcast_to(m.points[:1], (missing, m.points.shape[1]))
        return concatenate([m, Measure(filler, jnp.zeros(missing, m.weights.dtype))])

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad, measures))
