"""Moments of the silos' union, by one message."""

from jaxcollapse.base import Exchange, Measure, Moments
from jaxcollapse.measures import as_moments, union
from jaxcollapse.tree import closure


@closure
class moments(Exchange):
    """Tell the server the mass, mean and covariance of each silo; the result are those of their union.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
        >>> union = jc.carry_out(jc.exchanges.moments(), jax.random.key(0), None, silos)
        >>> float(union.mean[0]), float(union.covariance[0, 0])
        (3.0, 5.0)
    """

    def reply(self, state: None, silo: Measure, request: None) -> tuple[None, Moments]:
        return None, as_moments(silo)

    def update(self, server: None, replies: Moments) -> Moments:
        return union(replies)
