"""Moments of the silos' union, by one message."""

from jaxcollapse.base import Exchange, Measure, Moments
from jaxcollapse.measures import as_moments, union
from jaxcollapse.tree import closure


@closure
class moments(Exchange):
    """Tell the server the mass, mean and covariance of each silo; the result are those of their union."""

    def reply(self, state: None, silo: Measure, request: None) -> tuple[None, Moments]:
        return None, as_moments(silo)

    def update(self, server: None, replies: Moments) -> Moments:
        return union(replies)
