r"""The law of a quadratic score under a Gaussian model, by one contour integral.

In the singular basis of the whitened score the energy of a candidate is a
non-central generalised chi-square,

.. math:: e(w) = \sum_i (s_i w_i + a_i)^2, \qquad w \sim N(0, I_d),

and top-:math:`\alpha` selection keeps :math:`\{e \le q\}` with
:math:`P(e \le q) = \alpha`. Tilting by :math:`\exp(-z e)` leaves every
:math:`w_i` Gaussian, with variance :math:`1 / D_i` and mean
:math:`-2 z s_i a_i / D_i`, where :math:`D_i = 1 + 2 z s_i^2`; its normaliser is

.. math:: K(z) = \log E[\exp(-z e)] = \sum_i -\tfrac12 \log D_i - z a_i^2 / D_i.

Everything wanted of the kept candidates is then a Bromwich integral
:math:`(2 \pi i)^{-1} \int g(z) e^{K(z) + zq} \, dz / z` of a rational g. The
contour is a parabola through the saddle point of the integrand
[daniels1954]_, bent as the path of steepest descent is bent there (compare
[weideman2007]_). The integrand hardly oscillates along it, so nothing
cancels, and the trapezoidal rule is accurate to rounding in *relative* terms:
small budgets are as safe as large ones, and float32 is enough to simulate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

NUM_NODES = 36
STEP = 0.22
SLOPE = 0.95
NUM_NEWTON = 12


class Energy(NamedTuple):
    r"""The random variable :math:`\sum_i (s_i w_i + a_i)^2` of a standard normal w.

    Attributes:
        scale: s, non-negative, shape [d].
        offset: a, shape [d].
    """

    scale: Float[Array, " d"]
    offset: Float[Array, " d"]


class Contour(NamedTuple):
    r"""Nodes on the contour, with all of the integrand that depends on neither q nor g.

    Attributes:
        nodes: :math:`z_k`, shape [m].
        log_weights: :math:`K(z_k)` plus the logarithm of the quadrature weight, shape [m].
    """

    nodes: Complex[Array, " m"]
    log_weights: Complex[Array, " m"]


def log_laplace(energy: Energy, z: Array) -> Array:
    r"""Evaluate :math:`K(z) = \log E[\exp(-z e)]` at real or complex z of any shape."""
    z = z[..., None]
    denominator = 1 + 2 * z * energy.scale**2
    return jnp.sum(-0.5 * jnp.log(denominator) - z * energy.offset**2 / denominator, axis=-1)


def tilted_cumulants(energy: Energy, z: Array) -> tuple[Array, Array, Array]:
    r"""Evaluate the mean, variance and third cumulant of the energy under the law tilted by real z."""
    denominator = 1 + 2 * z[..., None] * energy.scale**2
    central = energy.scale**2 / denominator
    displaced = (energy.offset / denominator) ** 2
    return (
        jnp.sum(central + displaced, axis=-1),
        jnp.sum(2 * central * (central + 2 * displaced), axis=-1),
        jnp.sum(8 * central**2 * (central + 3 * displaced), axis=-1),
    )


def standardise(energy: Energy) -> Energy:
    """Rescale an energy to unit standard deviation, which changes no kept set; a constant energy becomes zero."""
    _, variance, _ = tilted_cumulants(energy, jnp.zeros((), energy.scale.dtype))
    unit = jnp.where(variance > 0, jnp.where(variance > 0, variance, 1) ** -0.25, 0)
    return Energy(energy.scale * unit, energy.offset * unit)


def saddle_contour(energy: Energy, budget: Array) -> tuple[Contour, Array]:
    r"""Place the contour for :math:`P(e \le q) = \alpha` and return it with a first guess of q.

    The saddle point of :math:`\psi(z) = K(z) + zq - \log z` belongs to
    :math:`q = E_z[e] + 1/z`, where the saddle-point approximation of the
    probability is explicit; the vertex is the grid point where it crosses
    :math:`\alpha`, kept off the pole at zero.

    Args:
        energy: the law of the energy, in units of its standard deviation.
        budget: :math:`\alpha` in (0, 1), shape [].
    """
    z = jnp.geomspace(0.7, 1e7, 80, dtype=energy.scale.dtype)
    mean, variance, third = tilted_cumulants(energy, z)
    quantile = mean + 1 / z
    second_derivative = variance + z**-2
    log_probability = (
        log_laplace(energy, z)
        + z * quantile
        - jnp.log(z)
        - 0.5 * jnp.log(2 * jnp.pi * second_derivative)
    )
    index = jnp.argmin(jnp.abs(log_probability - jnp.log(budget)))
    width = 2 * jax.lax.rsqrt(second_derivative[index])
    bend = (third[index] + 2 * z[index] ** -3) / (8 * second_derivative[index])

    height = width * STEP * (jnp.arange(NUM_NODES, dtype=z.dtype) + 0.5)
    slope = 2 * bend * height / SLOPE
    root = jnp.sqrt(1 + slope**2)
    nodes = z[index] + 1j * height - SLOPE * slope * height / (1 + root)
    tangent = (1 + 1j * SLOPE * slope / root) * width * STEP / jnp.pi
    return Contour(nodes, log_laplace(energy, nodes) + jnp.log(tangent / nodes)), quantile[index]


def integrate(contour: Contour, quantile: Array, integrand: Array) -> Array:
    r"""Integrate :math:`E[g; e \le q]`, given g as a function of the tilt.

    Args:
        contour: from `saddle_contour`.
        quantile: q, shape [].
        integrand: the mean of g under the law tilted by each node, shape [m, ...].

    Returns:
        An array of shape [...].
    """
    weights = jnp.exp(contour.log_weights + contour.nodes * quantile)
    return jnp.tensordot(weights, integrand.astype(weights.dtype), axes=1).real


def energy_cdf(contour: Contour, quantile: Array) -> Array:
    r"""Evaluate :math:`P(e \le q)`."""
    return integrate(contour, quantile, jnp.ones_like(contour.nodes))


def energy_quantile(energy: Energy, budget: Array) -> tuple[Array, Contour]:
    r"""Solve :math:`P(e \le q) = \alpha` by Newton's method on the logarithm, which is concave in q.

    The contour stays where it is, so that a step costs one exponential a node.
    """
    contour, quantile = saddle_contour(energy, budget)

    def newton(_, q):
        probability = energy_cdf(contour, q)
        density = integrate(contour, q, contour.nodes)
        return q - jnp.log(probability / budget) * probability / density

    return jax.lax.fori_loop(0, NUM_NEWTON, newton, quantile), contour
