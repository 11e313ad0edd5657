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


def standardise(energy: Energy) -> tuple[Energy, Float[Array, ""]]:
    """Rescale an energy to unit standard deviation, which changes no kept set; a constant energy becomes zero.

    Returns:
        The rescaled energy, and the factor that it was multiplied by.
    """
    _, variance, _ = tilted_cumulants(energy, jnp.zeros((), energy.scale.dtype))
    unit = jnp.where(variance > 0, jax.lax.rsqrt(jnp.where(variance > 0, variance, 1)), 0)
    return Energy(energy.scale * jnp.sqrt(unit), energy.offset * jnp.sqrt(unit)), unit


def tilts(dtype) -> Float[Array, " m"]:
    """List candidate saddle points, for energies of unit standard deviation; all stay off the pole at zero."""
    return jnp.geomspace(0.7, 1e7, 80, dtype=dtype)


def place_contour(energy: Energy, vertex: Array) -> Contour:
    r"""Lay the contour through a vertex on the real axis.

    It leaves with the bend :math:`x = \psi^{(3)} y^2 / (8 \psi^{(2)})` of :math:`\psi(z) = K(z) + zq - \log z` and
    tends to lines of slope `SLOPE`, steeper than the diagonals beyond which normal parts of the energy diverge.
    """
    _, variance, third = tilted_cumulants(energy, vertex)
    second_derivative = variance + vertex**-2
    width = 2 * STEP * jax.lax.rsqrt(second_derivative)
    bend = (third + 2 * vertex**-3) / (8 * second_derivative)
    y = width * (jnp.arange(NUM_NODES, dtype=vertex.dtype) + 0.5)
    slope = 2 * bend * y / SLOPE
    root = jnp.sqrt(1 + slope**2)
    nodes = vertex + 1j * y - SLOPE * slope * y / (1 + root)
    weights = (1 + 1j * SLOPE * slope / root) * width / jnp.pi / nodes
    return Contour(nodes, log_laplace(energy, nodes) + jnp.log(weights))


def node_weights(contour: Contour, quantile: Array) -> Complex[Array, " m"]:
    r"""Weigh the nodes so that :math:`E[g; e \le q] = \operatorname{Re} \sum_k W_k \, g(z_k)`.

    Here :math:`g(z)` is the mean of g under the law tilted by z; g = 1 gives the probability of the region, and
    g = z the density of e at q.
    """
    return jnp.exp(contour.log_weights + contour.nodes * quantile)


def tail_probability(energy: Energy, threshold: Array) -> Float[Array, ""]:
    r"""Evaluate :math:`P(e > q)` of an energy of unit standard deviation."""
    z = tilts(energy.scale.dtype)
    mean, _, _ = tilted_cumulants(energy, z)
    vertex = z[jnp.argmin(jnp.abs(mean + 1 / z - threshold))]
    return 1 - node_weights(place_contour(energy, vertex), threshold).sum().real


def energy_quantile(energy: Energy, budget: Array) -> tuple[Float[Array, ""], Contour]:
    r"""Solve :math:`P(e \le q) = \alpha` for an energy of unit standard deviation.

    At the saddle point z of :math:`q = E_z[e] + 1/z` the saddle-point approximation of the probability is
    explicit; it places the contour. Newton's method on the logarithm of the exact probability, which is concave
    in q, does the rest; the contour stays, so that a step costs one exponential a node.

    Args:
        energy: from `standardise`.
        budget: :math:`\alpha` in (0, 1), shape [].
    """
    z = tilts(energy.scale.dtype)
    mean, variance, _ = tilted_cumulants(energy, z)
    exponent = log_laplace(energy, z) + z * mean + 1
    log_probability = exponent - 0.5 * jnp.log(2 * jnp.pi * (1 + z**2 * variance))
    index = jnp.argmin(jnp.abs(log_probability - jnp.log(budget)))
    contour = place_contour(energy, z[index])

    def newton(_, q):
        weights = node_weights(contour, q)
        probability, density = weights.sum().real, (weights @ contour.nodes).real
        return q - jnp.log(probability / budget) * probability / density

    return jax.lax.fori_loop(0, NUM_NEWTON, newton, mean[index] + 1 / z[index]), contour
