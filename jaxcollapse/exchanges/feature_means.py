r"""Mean features of the silos' union, :math:`E_Q \phi`, by one message."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.measures import share
from jaxcollapse.privacy import gaussian_mechanism
from jaxcollapse.tree import closure

Scalar = Float[Array | float, ""]


class FeatureMean(NamedTuple):
    """All that a silo tells the server, once.

    Attributes:
        mean: of the silo's features, shape [f].
        mass: of the silo, shape [].
    """

    mean: Float[Array, "*stack f"]
    mass: Float[Array, "*stack"]


@closure
class feature_means(Exchange):
    r"""Tell the server the mean features of each silo; the result is that of their union, shape [f].

    .. math:: E_Q \phi = \sum_k \frac{m_k}{\sum_j m_j} \Big( \sum_i \frac{w_{ki}}{m_k} \phi(x_{ki})
              + \frac{\sigma}{m_k} \zeta_k \Big), \qquad \zeta_k \sim N(0, I).

    Of quadratic features without a bound these are the silo's mean and covariance in other words. With features
    bounded by C, replacing one of m samples of equal mass moves the mean by at most 2 C / m: noise of
    :math:`\sigma = 2 C z`, z from `jaxcollapse.privacy.noise_needed`, makes the message private.

    Attributes:
        features: :math:`\phi`, from points [n, d] to [n, f].
        noise: :math:`\sigma`, in units of the features times the silo's mass, shape []; none by default.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
        >>> squares = jc.exchanges.feature_means(lambda points: points**2)
        >>> print(jc.carry_out(squares, jax.random.key(0), None, silos))  # the mean of 0, 4, 16 and 36
        [14.]
    """

    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    noise: Scalar | None = None

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: None) -> Key[Array, ""]:
        return key

    def reply(self, state: Key[Array, ""], silo: Measure, request: None) -> tuple[Key[Array, ""], FeatureMean]:
        mass = silo.weights.sum()
        mean = share(silo.weights) @ self.features(silo.points)
        if self.noise is not None:
            mean = gaussian_mechanism(state, mean, self.noise / jnp.where(mass > 0, mass, 1))
        return state, FeatureMean(mean, mass)

    def update(self, server: None, replies: FeatureMean) -> Float[Array, " f"]:
        return share(replies.mass) @ replies.mean
