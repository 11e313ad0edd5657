"""Independent Laplace coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Data, Generator, Measure, Moments
from jaxcollapse.measures import blockwise, require_points, share


class Laplace(NamedTuple):
    """A product of Laplace distributions.

    Attributes:
        location: the median m of each coordinate, shape [d].
        scale: the mean absolute deviation b from it, in data units, shape [d]; the variance is 2 b^2.
    """

    location: Float[Array, "*stack d"]
    scale: Float[Array, "*stack d"]


def laplace() -> Generator:
    r"""Fit :math:`\prod_j e^{-|x_j - m_j| / b_j} / (2 b_j)` by weighted maximum likelihood [norton1984]_.

    .. math:: m_j = \operatorname{med}_w(x_j), \qquad
              b_j = \textstyle\sum_i w_i |x_{ij} - m_j| \Big/ \sum_i w_i.

    Where half of the mass lies on either side of a gap every point of the gap is a weighted median, and the middle is
    taken, as for an even number of equal masses; sums of masses are equal up to their rounding. Points of mass zero do
    not count. A coordinate that is all one value has scale zero, and is sampled as that value.

    Returns:
        A generator with a `Laplace` as parameters. `init` and `fit` raise TypeError where they are given moments.
    """

    def fit(key, params, data: Data) -> Laplace:
        (data,) = require_points("laplace", data=data)
        location = _median(data)
        return Laplace(location, share(data.weights) @ jnp.abs(data.points - location))

    def init(key, data: Data) -> Laplace:
        return fit(key, None, data)

    def sample(key: Key[Array, ""], params: Laplace, num_samples: int) -> Float[Array, "n d"]:
        (dim,), dtype = params.location.shape, params.location.dtype
        unit = jax.random.laplace(key, (dim * num_samples,), dtype).reshape(dim, num_samples)
        return (params.location[:, None] + params.scale[:, None] * unit).T

    return Generator(init, fit, sample)


def laplace_moments(params: Laplace) -> Moments:
    r"""Compute the moments, of mass one: :math:`\mu = m`, :math:`\Sigma = \operatorname{diag}(2 b^2)`."""
    dtype = params.location.dtype
    return Moments(jnp.ones((), dtype), params.location, jnp.diag(2 * params.scale**2))


def _median(data: Measure) -> Float[Array, " d"]:
    r"""Find the middle of the weighted medians of each coordinate.

    The lower one is the smallest float with half of the mass up to it, found by bisection of the integers that number
    floats in their order, a step for each bit. The upper one is the same, or the next point where that mass is half.
    """
    x, w = data
    fold, mass = blockwise(data), w.sum()
    rounding = w.size.bit_length() * jnp.finfo(w.dtype).eps * mass

    def up_to(bound):
        return fold(lambda total, block: total + block.weights @ (block.points <= bound), jnp.zeros_like(bound))

    def halve(_, ends):
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)
        enough = up_to(_float(middle)) >= mass / 2 - rounding
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    least, most = jnp.nextafter(x.min(axis=0), -jnp.inf), x.max(axis=0)
    bits = 8 * x.dtype.itemsize
    lower = _float(jax.lax.fori_loop(0, bits, halve, (_ordinal(least), _ordinal(most)))[1])
    above = jnp.min(jnp.where((w > 0)[:, None] & (x > lower), x, most), axis=0)
    return jnp.where(up_to(lower) < mass / 2 + rounding, (lower + above) / 2, lower)


def _ordinal(x: Float[Array, "*n"]) -> Int[Array, "*n"]:
    """Number floats in their order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{8 * x.dtype.itemsize}"))
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _float(ordinal: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Find the float of a number of `_ordinal`, which is its own inverse on integers."""
    bits = jnp.where(ordinal < 0, ordinal ^ jnp.iinfo(ordinal.dtype).max, ordinal)
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(f"float{8 * ordinal.dtype.itemsize}"))
