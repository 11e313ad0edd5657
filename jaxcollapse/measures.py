"""Operations on measures and moments."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxcollapse.base import Data, Measure, Moments

_BLOCK = 2048  # points of a block
_TILE = 2**20  # numbers per array in flight


def uniform_measure(points: Float[Array | np.ndarray, "*stack n d"]) -> Measure:
    """Give every point mass one."""
    points = jnp.asarray(points)
    return Measure(points, jnp.ones(points.shape[:-1], points.dtype))


def as_measure(data: Any) -> Measure:
    """Take points as a measure, of mass one each and floating, and a measure as it is."""
    if isinstance(data, Measure):
        return data
    points = jnp.asarray(data)
    return uniform_measure(points if jnp.issubdtype(points.dtype, jnp.floating) else points.astype(float))


def require_points(who: str, **data: Any) -> list[Measure]:
    """Require measures, and hand them over.

    Raises:
        TypeError: if moments are given, which have no points.
    """
    for name, given in data.items():
        if isinstance(given, Moments):
            raise TypeError(f"{name} = Moments: {who} needs points, a Measure, as buffer_memory keeps them")
    return list(data.values())


def share(masses: Float[Array, "*stack n"]) -> Float[Array, "*stack n"]:
    """Divide masses by their sum, along the last axis; without any mass all shares are zero."""
    total = masses.sum(-1, keepdims=True)
    return masses / jnp.where(total > 0, total, 1)


def inverse_cdf(masses: Float[Array, " m"]) -> Callable[[Float[Array, "*n"]], Int[Array, "*n"]]:
    r"""Make the function of levels u in [0, 1] to the first index i with :math:`\sum_{j \le i} w_j > u \sum_j w_j`.

    Uniform levels draw indices in proportion to mass. Where the mass is zero nothing is drawn; without any mass every
    index is the last.
    """
    # A sum by blocks rounds differently at neighbours: without the mask and the running maximum it would step up, by
    # rounding alone, at an index of mass zero.
    reached = jax.lax.cummax(jnp.where(masses > 0, jnp.cumsum(masses), 0))
    last = jnp.where(reached[-1] > 0, jnp.max(jnp.where(masses > 0, jnp.arange(len(masses)), 0)), len(masses) - 1)
    return lambda unit: jnp.minimum(jnp.searchsorted(reached, unit * reached[-1], side="right"), last)


def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    r"""List :math:`\lVert x_i - y_j \rVert^2`.

    Differences are squared, not expanded: equal points are at distance zero, and near ones keep theirs.
    """
    return jnp.sum((x[:, None] - y) ** 2, axis=-1)


def over_rows(row: Callable, x: Float[Array, "n d"], y: Float[Array, "m d"], *of_rows: Array) -> Array:
    r"""Apply `row` to the `squared_distances` of each x_i to all y_j, shape [m], and what else x_i has.

    A tile of points is held at a time.
    """

    def apply(at):
        point, *others = at
        return row(jnp.sum((y.T - point[:, None]) ** 2, axis=0), *others)

    return jax.lax.map(apply, (x, *of_rows), batch_size=max(1, _TILE // y.size))


def as_moments(data: Data | Float[Array | np.ndarray, "*stack n d"]) -> Moments:
    r"""Reduce data to moments: :math:`m = \sum_i w_i`, :math:`\mu = \sum_i w_i x_i / m` and
    :math:`\Sigma = \sum_i w_i (x_i - \mu)(x_i - \mu)' / m`.

    The covariance is centred before it is squared, so that it stays accurate when the data are far
    from the origin. An empty measure has mean and covariance zero. Points alone have mass one each.
    """
    if isinstance(data, Moments):
        return data
    data = as_measure(data)
    w = share(data.weights)
    mean = jnp.einsum("...n,...nd->...d", w, data.points)
    centred = data.points - mean[..., None, :]
    covariance = jnp.einsum("...ni,...nj->...ij", w[..., None] * centred, centred)
    return Moments(data.weights.sum(-1), mean, covariance)


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
    means = as_moments(Measure(parts.mean, parts.mass))
    within = jnp.tensordot(share(parts.mass), parts.covariance, axes=1)
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


def pooled(silos: Measure) -> Measure:
    """Pour a stack of measures, [K, m, d], into one, [K m, d]."""
    return Measure(silos.points.reshape(-1, silos.points.shape[-1]), silos.weights.reshape(-1))
