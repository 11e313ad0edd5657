r"""A Gaussian model truncated to the kept region :math:`\{x : \lVert G (x - u) \rVert^2 \le q\}`."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Moments, Target
from jaxcollapse.gaussian.quadratic_form import (
    Contour,
    Energy,
    energy_quantile,
    node_weights,
    standardise,
    tilted_normal,
)
from jaxcollapse.linalg import psd_cholesky, svd


class Frame(NamedTuple):
    r"""Coordinates :math:`x = \mu + B w` in which the model is standard normal and the energy separates.

    Attributes:
        mean: :math:`\mu`, shape [d].
        basis: B with :math:`B B' = \Sigma`, shape [d, d].
        energy: of w less that of the mean, in units of its standard deviation.
        unit: one over that standard deviation, shape [].
        centre: energy of the mean, in the units of the score, shape [].
    """

    mean: Float[Array, " d"]
    basis: Float[Array, "d d"]
    energy: Energy
    unit: Float[Array, ""]
    centre: Float[Array, ""]


def separate(model: Moments, target: Target) -> Frame:
    r"""Whiten the model and rotate: with :math:`\Sigma = L L'` and :math:`G L = U S V'`, :math:`B = L V`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.gaussian.truncation import separate
        >>> model = jc.Moments(1.0, jnp.array([2.0]), jnp.array([[9.0]]))
        >>> frame = separate(model, jc.isotropic_target(jnp.zeros(1)))
        >>> float(abs(frame.basis[0, 0])), float(frame.centre)  # a deviation of 3; 2 squared
        (3.0, 4.0)
    """
    factor = psd_cholesky(model.covariance)
    left, scale, right = svd(target.factor @ factor)
    offset = target.factor @ (model.mean - target.location)
    energy, unit = standardise(Energy(scale**2, scale * (left.T @ offset)))
    return Frame(model.mean, factor @ right, energy, unit, offset @ offset)


def truncated_moments(model: Moments, target: Target, budget: Array) -> Moments:
    r"""Compute mean and covariance of the best :math:`\alpha` of a Gaussian, in the limit of many candidates.

    In the coordinates of `separate`, with :math:`D_i = 1 + 2 z c_i` and :math:`m_i = -2 z b_i / D_i`,

    .. math:: E[w; e \le q] = \mathcal{I}[m], \qquad
              E[w w'; e \le q] = \mathcal{I}[m m' + \operatorname{diag}(1 / D)],

    where :math:`\mathcal{I}` is the contour integral of `jaxcollapse.gaussian.quadratic_form` and
    :math:`P(e \le q) = \alpha`. In float64, where the model is standard normal, the error is below 1e-8 of what is
    kept for budgets in [1e-6, 1 - 1e-6], as far as the rounding of the arguments allows.

    Args:
        model: the generator's Gaussian.
        target: the verifier's.
        budget: :math:`\alpha` in (0, 1); at 1 the model is returned as it is. Shape [].

    Returns:
        Moments of mass one.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.gaussian.truncation import truncated_moments
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> kept = jax.jit(truncated_moments)(model, jc.isotropic_target(jnp.zeros(2)), jnp.asarray(0.5))
        >>> round(float(kept.covariance[0, 0]), 3)  # 1 - log 2
        0.307
    """
    frame = separate(model, target)
    inside = budget < 1
    odds = jnp.where(inside, budget, 0.5) / jnp.where(inside, 1 - budget, 0.5)
    kept = moments_below(frame, *energy_quantile(frame.energy, odds))
    return Moments(
        jnp.ones_like(kept.mass),
        jnp.where(inside, kept.mean, model.mean),
        jnp.where(inside, kept.covariance, model.covariance),
    )


def moments_below(frame: Frame, threshold: Array, contour: Contour) -> Moments:
    r"""Integrate the moments of a Gaussian truncated to :math:`e \le q`, with the mass :math:`P(e \le q)`.

    Args:
        frame: of the Gaussian, from `separate`.
        threshold: q, counted from the mean tilted by the contour's vertex.
        contour: laid for that threshold.

    Returns:
        As `truncated_moments`, but for the mass. Where the mass is zero they mean nothing.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.gaussian.quadratic_form import energy_quantile
        >>> from jaxcollapse.gaussian.truncation import moments_below, separate
        >>> frame = separate(jc.Moments(1.0, jnp.zeros(2), jnp.eye(2)), jc.isotropic_target(jnp.zeros(2)))
        >>> threshold, contour = jax.jit(energy_quantile)(frame.energy, odds=jnp.ones(()))
        >>> round(float(moments_below(frame, threshold, contour).mass), 3)
        0.5
    """
    centre, variance = tilted_normal(frame.energy, contour.vertex)
    scale = jnp.sqrt(variance)
    # In units of the law tilted by the vertex a small region is no small difference.
    tilted_mean, tilted_variance = tilted_normal(contour.energy, contour.nodes - contour.vertex)
    weights = node_weights(contour, threshold)
    probability = weights.sum().real
    first = (weights @ tilted_mean).real / probability
    cross = ((weights[:, None] * tilted_mean).T @ tilted_mean).real
    second = (cross + jnp.diag((weights @ tilted_variance).real)) / probability
    root = frame.basis * scale
    covariance = root @ (second - jnp.outer(first, first)) @ root.T
    return Moments(probability, frame.mean + frame.basis @ (centre + scale * first), (covariance + covariance.T) / 2)
