"""Operations on measures and moments.

Sums over points are made by halves or by blocks. A plain sum in single precision rounds equal terms all the same way,
and is off by as much as a hundredth at a million of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from jaxcollapse.base import Data, Measure, Moments
from jaxcollapse.checks import check_array

_BLOCK = 2048  # points of a block, which a processor's cache holds
_RUN = 64  # equal terms that a plain sum adds up to a relative error below 1e-6 in single precision
_TILE = 2**20  # numbers per array in flight


def uniform_measure(points: Num[Array | np.ndarray, "*stack n d"]) -> Measure:
    """Give every point mass one; points that are integers become floating.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.zeros((10, 50, 2)))  # a stack of ten
        >>> silos.points.shape, silos.weights.shape
        ((10, 50, 2), (10, 50))
    """
    points = _floating(points)
    return Measure(points, jnp.ones(points.shape[:-1], points.dtype))


def as_measure(data: Any) -> Measure:
    """Take points as a measure, of mass one each; a measure stays one. Integers become floating.

    Raises:
        ValueError: if points are no numbers, none, or not [n, d] or a stack of such.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> print(jc.as_measure(np.array([[1, 2], [3, 4]])).weights)
        [1. 1.]
    """
    if not isinstance(data, Measure):
        check_array("data", data)
        if np.ndim(data) < 2 or 0 in np.shape(data):
            raise ValueError(f"data: shape {np.shape(data)} must be [n, d], with n and d at least 1")
        return uniform_measure(data)
    points = _floating(data.points)
    return Measure(points, _floating(data.weights, points.dtype))


def _floating(numbers: Any, dtype: Any = float) -> Array:
    numbers = jnp.asarray(numbers)
    return numbers if jnp.issubdtype(numbers.dtype, jnp.floating) else numbers.astype(dtype)


def require_points(who: str, **data: Any) -> list[Measure]:
    """Require measures of one dimension, and hand them over, floating and with points of mass zero at the origin.

    Raises:
        TypeError: if moments are given, which have no points.
        ValueError: if there are no points, or dimensions differ.
    """
    for name, given in data.items():
        if isinstance(given, Moments):
            raise TypeError(f"{name} = Moments: {who} needs points, a Measure, as buffer_memory keeps them")
        if isinstance(given, Measure) and 0 in given.points.shape:
            raise ValueError(f"{name}: points of shape {given.points.shape} must be [n, d], with n and d at least 1")
    require_one_dim(**data)
    return [_without_padding(as_measure(given)) for given in data.values()]


def dim_of(data: Any) -> int | None:
    """Count the dimensions of data; of other parameters they are not known."""
    if isinstance(data, Measure):
        return data.points.shape[-1]
    return data.mean.shape[-1] if isinstance(data, Moments) else None


def require_one_dim(**data: Any) -> None:
    """Require data of one dimension, where it is known.

    Raises:
        ValueError: if dimensions differ.
    """
    (first, dim), *others = ((name, dim_of(given)) for name, given in data.items())
    for name, other in others:
        if None not in (dim, other) and other != dim:
            raise ValueError(f"{first}: has {dim} dimensions, and {name} has {other}")


def _without_padding(measure: Measure) -> Measure:
    """Move points of mass zero to the origin, whatever they were: zero times NaN is NaN."""
    return measure._replace(points=jnp.where(measure.weights[..., None] > 0, measure.points, 0))


@partial(jax.jit, static_argnames="axis")  # one program where it is called alone, and traced once a shape
def total(terms: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*rest"]:
    """Sum along an axis, each half added to the other: the error grows with the logarithm of the number of terms."""
    terms = jnp.moveaxis(terms, axis, 0)
    while (size := len(terms)) > 1:
        half = (size + 1) // 2
        terms = terms[:half] + _fill(terms[half:], half)
    return terms[0] if size else terms.sum(axis=0)


def _fill(rows: Array, size: int) -> Array:
    """Fill up with zeros."""
    return jnp.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _cut(rows: Array, size: int) -> Array:
    """Cut into blocks, [n / size, size, ...], the last filled up with zeros."""
    num_blocks = -(-len(rows) // size)
    return _fill(rows, num_blocks * size).reshape(num_blocks, size, *rows.shape[1:])


def _block_size(num_rows: int, most: int) -> int:
    """Choose blocks between half of the most rows and the most that need the least filling up: copies cost time."""
    return max(num_rows, 1) if num_rows <= most else min(range(most, most // 2, -1), key=lambda size: -num_rows % size)


def total_product(x: Float[Array, "n d"], y: Float[Array, "n e"]) -> Float[Array, "d e"]:
    r"""Sum :math:`\sum_i x_i y_i'`, runs of points first and then by halves."""
    size = _block_size(len(x), _RUN)
    return total(jnp.einsum("bni,bnj->bij", _cut(x, size), _cut(y, size), precision="highest"), axis=0)


def totals_by(index: Int[Array, " n"], terms: Float[Array, " n"], num: int) -> Float[Array, " m"]:
    """Sum the terms of each index below `num`."""
    num_blocks = -(-len(terms) // max(_RUN, num))
    block = jnp.arange(len(terms)) % num_blocks
    sums = jax.ops.segment_sum(terms, index * num_blocks + block, num_segments=num * num_blocks)
    return total(sums.reshape(num, num_blocks))


def share(masses: Float[Array, "*stack n"]) -> Float[Array, "*stack n"]:
    """Divide masses by their sum, along the last axis; without any mass all shares are zero."""
    mass: Array = total(masses)[..., None]
    return masses / jnp.where(mass > 0, mass, 1)


def inverse_cdf(masses: Float[Array, " m"]) -> Callable[[Float[Array, "*n"]], Int[Array, "*n"]]:
    r"""Make the function of levels u in [0, 1] to the first index i with :math:`\sum_{j \le i} w_j > u \sum_j w_j`.

    Uniform levels draw indices in proportion to mass, cumulated to 1e-6 in single precision. Where the mass is zero
    nothing is drawn; without any mass every index is the last.
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

    With shares :math:`s_i = w_i / m` and a centre c, a first estimate of the mean that has its rounding error,

    .. math:: r = \sum_i s_i (x_i - c), \qquad \mu = c + r, \qquad \Sigma = \sum_i s_i (x_i - c)(x_i - c)' - r r'.

    In single precision, up to 1e7 points and at means up to 1e4 standard deviations from the origin, the error of the
    mean is below 1e-6 of its size or of the standard deviation, and that of covariances below 1e-6 of
    :math:`(\Sigma_{ii} \Sigma_{jj})^{1/2}`. Equal points have covariance zero. An empty measure has mean and covariance
    zero. What is written at points of mass zero does not matter. Points alone have mass one each.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> mass, mean, covariance = jc.as_moments(np.array([[0.0], [2.0]]))
        >>> float(mass), float(mean[0]), float(covariance[0, 0])
        (2.0, 1.0, 1.0)
    """
    return data if isinstance(data, Moments) else Moments(*_moments(*_without_padding(as_measure(data))))


@jax.jit
@partial(jnp.vectorize, signature="(n,d),(n)->(),(d),(d,d)")
def _moments(x: Array, w: Array) -> tuple[Array, Array, Array]:
    s = share(w)
    blocks = [_cut(rows, _block_size(len(s), _BLOCK)) for rows in (x, s)]
    point = x[jnp.argmax(w)] if len(w) else jnp.zeros(x.shape[1:], x.dtype)
    centre = point + total(jnp.einsum("bnd,bn->bd", blocks[0] - point, blocks[1]), axis=0)

    def about_centre(x, s):
        y, s = x - centre, s[:, None]
        return total_product(jnp.concatenate([s, s * y], axis=1), y)

    def add(sums, block):
        return _two_sum(sums[0], sums[1] + about_centre(*block)), None

    zeros = jnp.zeros((1 + x.shape[1], x.shape[1]), x.dtype)
    (sums, _), _ = jax.lax.scan(add, (zeros, zeros), blocks)
    rest = sums[0]
    return total(w), centre + rest, sums[1:] - jnp.outer(rest, rest)


def _two_sum(large: Array, small: Array) -> tuple[Array, Array]:
    """Add, and give what rounding leaves out."""
    added = large + small
    return added, small - (added - large)


class Merged(NamedTuple):
    """Moments in twice the precision.

    Attributes:
        moments: rounded.
        rest: what rounding left out of them.
    """

    moments: Moments
    rest: Moments


def exact(moments: Moments) -> Merged:
    """Take moments as they are."""
    return Merged(moments, jax.tree.map(jnp.zeros_like, moments))


def merge_exactly(first: Merged, second: Merged) -> Merged:
    """Merge like `merge`, and keep what rounding leaves out: the errors of many merges do not add up."""
    swap = second.moments.mass > first.moments.mass
    heavy, light = (jax.tree.map(partial(jnp.where, c), second, first) for c in (swap, ~swap))
    difference = jax.tree.map(
        lambda a, a_rest, b, b_rest: (a - b) + (a_rest - b_rest), light.moments, light.rest, heavy.moments, heavy.rest
    )
    mass = heavy.moments.mass + light.moments.mass
    w = light.moments.mass / jnp.where(mass > 0, mass, 1)
    delta = difference.mean
    change = Moments(
        light.moments.mass + light.rest.mass,
        w * delta,
        w * (difference.covariance + (1 - w) * jnp.outer(delta, delta)),
    )
    added = [_two_sum(*pair) for pair in zip(heavy.moments, jax.tree.map(jnp.add, change, heavy.rest), strict=True)]
    moments, rest = zip(*added, strict=True)
    return Merged(Moments(*moments), Moments(*rest))


def merge(first: Moments, second: Moments) -> Moments:
    r"""Merge the moments of two disjoint data sets [chan1983]_.

    With :math:`w = m_2 / (m_1 + m_2) \le 1/2`, for the first is the heavier, and :math:`\delta = \mu_2 - \mu_1`,

    .. math:: \mu = \mu_1 + w \delta, \qquad
              \Sigma = \Sigma_1 + w \left( \Sigma_2 - \Sigma_1 + (1 - w) \delta \delta' \right).
    """
    return merge_exactly(exact(first), exact(second)).moments


def union(parts: Moments) -> Moments:
    r"""Merge the moments of K disjoint data sets, stacked along axis 0.

    .. math:: \mu = \sum_k w_k \mu_k, \qquad
              \Sigma = \sum_k w_k \left( \Sigma_k + (\mu_k - \mu)(\mu_k - \mu)' \right), \qquad w_k = m_k / \sum_j m_j.
    """
    means = as_moments(Measure(parts.mean, parts.mass))
    within = total(share(parts.mass)[:, None, None] * parts.covariance, axis=0)
    return means._replace(covariance=means.covariance + within)


def compact(measure: Measure, size: int) -> Measure:
    """Keep the first `size` points whose mass is not zero, in their order, filled up with mass zero at the origin."""
    index = jnp.searchsorted(jnp.cumsum(measure.weights != 0), 1 + jnp.arange(size))
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="fill", fill_value=0), measure)


def blockwise(data: Measure) -> Callable[[Callable[[Any, Measure], Any], Any], Any]:
    """Make the fold over a measure's blocks: `fold(add, total)` applies `total = add(total, block)` to each.

    Blocks stay in a processor's cache, the last is filled up with mass zero, and those after the last mass are left
    out: what a memory has not filled yet costs nothing. Not differentiable in reverse.
    """
    size = min(len(data.weights), _BLOCK)

    blocks = jax.tree.map(lambda leaf: _cut(leaf, size), data)
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
