"""The spectrum of one generation: how fast a Gaussian recursion forgets where it started. Derived here."""

from typing import NamedTuple

import jax.numpy as jnp
import scipy
from jaxtyping import Array, Complex, Float

from jaxcollapse.base import Moments, Target
from jaxcollapse.gaussian.truncation import separate
from jaxcollapse.theory.exponents import kappa
from jaxcollapse.theory.finite_size import respond
from jaxcollapse.theory.regimes import multiplier


class Spectrum(NamedTuple):
    """Eigenvalues of one generation, linearised where mean and target agree and the covariance is isotropic.

    Attributes:
        mean: of the gap, d of them.
        scale: of the trace of the covariance, one.
        shape: of the covariance without its trace, d (d + 1) / 2 - 1 of them.
    """

    mean: float
    scale: float
    shape: float


def spectrum(dim: int, budget: float, noise: float = 0.0) -> Spectrum:
    r"""Compute the three eigenvalues, which are all by symmetry.

    .. math:: \kappa, \qquad (1 + h^2) \kappa, \qquad (1 + h^2) \kappa', \qquad
              \kappa' = F_{\chi^2_{d+4}}\bigl(F^{-1}_{\chi^2_d}(\alpha)\bigr) / \alpha < \kappa.

    For the last: a perturbation :math:`\delta \, w_i w_j` of the density leaves the threshold q, and changes
    :math:`E[w_i w_j; |w|^2 \le q]` by :math:`\delta \, E[w_i^2 w_j^2; |w|^2 \le q]`.

    The two phases of [qiao2026]_ follow. In coordinates in which the score is isotropic any covariance homogenises: its
    shape decays, beside its scale, as :math:`(\kappa' / \kappa)^t` under replace and as
    :math:`t^{-(1 + h^2)(\kappa - \kappa')}` under accumulate. The spectral gap of what follows is that of the isotropic
    problem, :math:`1 - (1 + h^2) \kappa`, wherever it started.

    Args:
        dim: d.
        budget: :math:`\alpha`.
        noise: h.

    Example:
        >>> from jaxcollapse.theory.spectrum import spectrum
        >>> tuple(round(value, 3) for value in spectrum(2, 0.5))
        (0.307, 0.307, 0.067)
    """
    scale = multiplier(dim, budget, noise)
    fourth = scipy.stats.chi2.cdf(scipy.stats.chi2.ppf(budget, dim), dim + 4) / budget
    return Spectrum(kappa(dim, budget), scale, float((1 + noise**2) * fourth))


def eigenvalues(
    model: Moments, target: Target, budget: Float[Array | float, ""], noise: Float[Array | float, ""] = 0.0
) -> Complex[Array, " m"]:
    r"""Compute the eigenvalues of expansion and selection, linearised at any model and target.

    They are those of :math:`T_\eta` of `jaxcollapse.theory.finite_size.respond`, whose columns of second moments are
    multiplied by :math:`1 + h^2`. Where a recursion stands still, or keeps all but its scale, deviations die off by
    them: times :math:`1 - \varphi` with a share :math:`\varphi` of fresh data, and with the exponents
    :math:`1 - \lambda_i` under accumulate. Run it in float64, under `jax.enable_x64(True)`.

    Args:
        model: the fitted one, before it expands.
        target: of the verifier.
        budget: :math:`\alpha`.
        noise: h.

    Returns:
        m = d + d (d + 1) / 2 of them, in no order.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.spectrum import eigenvalues
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> found = jax.jit(eigenvalues)(model, jc.isotropic_target(jnp.zeros(2)), 0.5)
        >>> sorted(round(value, 2) for value in found.real.tolist())  # two of the shape, then the gap's and the scale's
        [0.07, 0.07, 0.31, 0.31, 0.31]
    """
    expansion = 1 + jnp.asarray(noise, model.mean.dtype) ** 2
    energy = separate(model._replace(covariance=expansion * model.covariance), target).energy
    dim, size = model.mean.shape[-1], model.mean.shape[-1] * (model.mean.shape[-1] + 3) // 2
    slope = respond(energy, jnp.asarray(budget), jnp.zeros((size, size), model.mean.dtype)).slope
    return jnp.linalg.eigvals(slope * jnp.where(jnp.arange(size) < dim, 1, expansion))
