"""Independent Laplace coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Data, Generator, Measure, Moments
from jaxcollapse.measures import blockwise, require_points, share, total


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
    taken, as for an even number of equal masses; sums of masses are exact. Points of mass zero do not count. A
    coordinate that is all one value has scale zero, and is sampled as that value.

    Returns:
        A generator with a `Laplace` as parameters. `init` and `fit` raise TypeError where they are given moments.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> model = jc.generators.laplace().init(jax.random.key(0), jc.uniform_measure(np.array([[0.0], [1.0], [6.0]])))
        >>> float(model.location[0]), float(model.scale[0])  # the median, and the mean of 1, 0 and 5
        (1.0, 2.0)
    """

    def fit(key, params, data: Data) -> Laplace:
        (data,) = require_points("laplace", data=data)
        location = _median(data)
        return Laplace(location, total(share(data.weights)[:, None] * jnp.abs(data.points - location), axis=0))

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
    Masses are rounded down to whole numbers of :math:`2^{-32}` of the largest, or finer, and added up digit by digit in
    integers: no order of summation breaks a tie.
    """
    x, w = data
    fold, integer = blockwise(data), jnp.dtype(f"int{8 * w.dtype.itemsize}")
    num_bits = jnp.iinfo(integer).bits - 2 - w.size.bit_length()  # of a digit: sums of all points fit
    num_digits = -(-32 // num_bits)
    exponent = jnp.frexp(w.max())[1]

    def digits(masses):
        rest = jnp.ldexp(masses, num_bits - exponent)
        for _ in range(num_digits):
            yield jnp.floor(rest).astype(integer)[:, None]
            rest = jnp.ldexp(rest - jnp.floor(rest), num_bits)

    def side(bound):
        """Give the sign of the mass up to a bound less the mass beyond it."""

        def add(sums, block):
            below = block.points <= bound
            pairs = zip(sums, digits(block.weights), strict=True)
            return [sum_ + jnp.where(below, digit, -digit).sum(axis=0) for sum_, digit in pairs]

        carry = rest = jnp.zeros(bound.shape, integer)
        for digit in reversed(fold(add, [carry] * num_digits)):
            rest |= (digit + carry) & (2**num_bits - 1)
            carry = (digit + carry) >> num_bits
        return jnp.where(carry == 0, jnp.sign(rest), carry)

    def halve(_, ends):
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)
        enough = side(_float(middle)) >= 0
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    least, most = jnp.nextafter(x.min(axis=0), -jnp.inf), x.max(axis=0)
    lower = _float(jax.lax.fori_loop(0, 8 * x.dtype.itemsize, halve, (_ordinal(least), _ordinal(most)))[1])
    above = jnp.min(jnp.where((w > 0)[:, None] & (x > lower), x, most), axis=0)
    return jnp.where(side(lower) == 0, (lower + above) / 2, lower)


def _ordinal(x: Float[Array, "*n"]) -> Int[Array, "*n"]:
    """Number floats in their order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{8 * x.dtype.itemsize}"))
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _float(ordinal: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Find the float of a number of `_ordinal`, which is its own inverse on integers."""
    bits = jnp.where(ordinal < 0, ordinal ^ jnp.iinfo(ordinal.dtype).max, ordinal)
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(f"float{8 * ordinal.dtype.itemsize}"))
