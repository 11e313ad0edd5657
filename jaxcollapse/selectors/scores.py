"""Scores of candidates against one reference; high is good."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Measure, ScoreFn, Target
from jaxcollapse.targets import fit_target


def mahalanobis(ridge: float = 0.0) -> ScoreFn:
    r"""Score :math:`U(x) = -(x - u)' Q (x - u) = -\lVert G (x - u) \rVert^2` [qiao2026]_.

    The reference is a `Target` (u, G), or data, whose mean and regularised inverse covariance then
    stand for u and Q.

    Args:
        ridge: regularisation of a covariance estimated from data, relative to its mean variance.
    """

    def score(key, pool: Measure, reference) -> Float[Array, " n"]:
        target = reference if isinstance(reference, Target) else fit_target(reference, ridge)
        return -jnp.sum(((pool.points - target.location) @ target.factor.T) ** 2, axis=-1)

    return score


SCORES = {"mahalanobis": mahalanobis}
