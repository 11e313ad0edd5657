"""Independent Laplace coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator, Moments


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
        if isinstance(data, Moments):
            raise TypeError("data = Moments: laplace is fitted to points, a Measure; gaussian takes moments")
        mass = data.weights.sum()
        share = data.weights / jnp.where(mass > 0, mass, 1)
        location = jax.vmap(_median, in_axes=(1, None))(data.points, share)
        return Laplace(location, share @ jnp.abs(data.points - location))

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


def _median(x: Float[Array, " n"], share: Float[Array, " n"]) -> Float[Array, ""]:
    """Find the middle of the weighted medians, of masses with sum one."""
    x, share = jax.lax.sort((x, share), num_keys=1)
    rounding = share.size.bit_length() * jnp.finfo(share.dtype).eps  # of sums by pairs
    ends = jnp.searchsorted(jnp.cumsum(share), jnp.array([0.5 - rounding, 0.5 + rounding], share.dtype))
    return x.at[ends].get(mode="clip").mean()
