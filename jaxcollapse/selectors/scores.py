"""Scores of candidates against one reference; high is good."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Measure, ScoreFn, Target
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.sinkhorn import Potentials, Scalar, sinkhorn
from jaxcollapse.validation import check_range


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


def calibrated_gradient(epsilon: Scalar, tau: float = 1.0) -> ScoreFn:
    r"""Score the benefit of a candidate's mass to the transport cost towards a reference [just2023]_.

    .. math:: U(x_i) = -\frac{1}{\tau} \Big( f_i - \sum_{j \ne i} a_j f_j \Big/ \sum_{j \ne i} a_j \Big),

    with f the entropic potential of the pool: minus the derivative of the cost as mass moves to candidate i from all
    others. High brings the pool nearer to the reference.

    Args:
        epsilon: in squared units of the data, the same for all references that are compared. `Potentials` that a
            reference brings along are used as they are.
        tau: where on the geodesic from the pool the reference lies; potentials towards it are :math:`\tau` times
            those towards the far end.
    """
    check_range("tau", tau, low=1e-6, high=1)

    def score(key, pool: Measure, reference) -> Float[Array, " n"]:
        potentials = reference if isinstance(reference, Potentials) else sinkhorn(pool, reference, epsilon)
        total = pool.weights.sum()
        others = pool.weights @ potentials.f - pool.weights * potentials.f
        return -(potentials.f - others / (total - pool.weights)) / tau

    return score


SCORES = {"mahalanobis": mahalanobis, "calibrated_gradient": calibrated_gradient}
