r"""The law of a quadratic score under a Gaussian model, by one contour integral.

In the singular basis of the whitened score the energy of a candidate, less that
of the mean, is

.. math:: e(w) = \sum_i c_i w_i^2 + 2 b_i w_i, \qquad w \sim N(0, I_d),

and top-:math:`\alpha` selection keeps :math:`\{e \le q\}` with
:math:`P(e \le q) = \alpha`. Tilting by :math:`\exp(-z e)` leaves every
:math:`w_i` Gaussian, with variance :math:`1 / D_i` and mean
:math:`-2 z b_i / D_i`, where :math:`D_i = 1 + 2 z c_i`; its normaliser is

.. math:: K(z) = \log E[\exp(-z e)]
              = \sum_i -\tfrac12 \log D_i + 2 z^2 b_i^2 / D_i.

Everything wanted of the kept candidates is then a Bromwich integral
:math:`(2 \pi i)^{-1} \int g(z) e^{K(z) + zq} \, dz / z` of a rational g. The
contour is a parabola through the saddle point of the integrand
[daniels1954]_, bent as the path of steepest descent is bent there (compare
[weideman2007]_). The integrand hardly oscillates along it, so nothing
cancels, and the trapezoidal rule is accurate to rounding in *relative* terms:
small budgets are as safe as large ones. Energies near the threshold are
measured from that of the mean tilted to the saddle point, which lies within
the kept region: a target far beyond the model or deep inside it costs no digits,
and float32 is enough to simulate.
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
    r"""The random variable :math:`\sum_i c_i w_i^2 + 2 b_i w_i` of a standard normal w.

    Attributes:
        square: c, non-negative, shape [d].
        slope: b, shape [d].
    """

    square: Float[Array, " d"]
    slope: Float[Array, " d"]


class Contour(NamedTuple):
    r"""Nodes on the contour, with all of the integrand that depends on neither q nor g.

    Attributes:
        vertex: where the contour crosses the real axis, shape [].
        energy: under the law tilted by the vertex, less that of its mean.
        nodes: :math:`z_k`, shape [m].
        log_weights: of the nodes, without the part that depends on the threshold, shape [m].
    """

    vertex: Float[Array, ""]
    energy: Energy
    nodes: Complex[Array, " m"]
    log_weights: Complex[Array, " m"]


def log_laplace(energy: Energy, z: Array) -> Array:
    r"""Evaluate :math:`K(z) = \log E[\exp(-z e)]` at real or complex z of any shape."""
    z = z[..., None]
    denominator = 1 + 2 * z * energy.square
    return jnp.sum(-0.5 * jnp.log(denominator) + 2 * (z * energy.slope) ** 2 / denominator, axis=-1)


def cumulants(energy: Energy) -> tuple[Array, Array, Array]:
    """Evaluate the mean, variance and third cumulant of an energy."""
    c, b = energy
    return jnp.sum(c, -1), jnp.sum(2 * c**2 + 4 * b**2, -1), jnp.sum(8 * c**3 + 24 * c * b**2, -1)


def tilted_normal(energy: Energy, z: Array) -> tuple[Array, Array]:
    """Evaluate the mean and variance of w under the law tilted by real or complex z of any shape."""
    denominator = 1 + 2 * z[..., None] * energy.square
    return -2 * z[..., None] * energy.slope / denominator, 1 / denominator


def tilt(energy: Energy, z: Array) -> tuple[Energy, Array, Array]:
    r"""Tilt the law of w by :math:`\exp(-z e)`, for real z of any shape, and make it standard normal again.

    Returns:
        The energy in the new coordinates less that of the new mean; by how much the new mean's energy
        exceeds the old one's, :math:`\Delta`; and :math:`K(z) + z \Delta`, free of cancellation.
    """
    z = z[..., None]
    denominator = 1 + 2 * z * energy.square
    shift = z * (energy.slope / denominator) ** 2
    return (
        Energy(energy.square / denominator, energy.slope * denominator**-1.5),
        jnp.sum(-4 * shift * (1 + z * energy.square), axis=-1),
        jnp.sum(-0.5 * jnp.log(denominator) - 2 * z * shift, axis=-1),
    )


def standardise(energy: Energy) -> tuple[Energy, Float[Array, ""]]:
    """Rescale an energy to unit standard deviation, which changes no kept set; a constant energy becomes zero.

    Returns:
        The rescaled energy, and the factor that it was multiplied by.
    """
    largest = jnp.maximum(energy.square.max(), jnp.abs(energy.slope).max())
    varies = largest > 0
    largest = jnp.where(varies, largest, 1)
    energy = Energy(energy.square / largest, energy.slope / largest)  # whose squares do not underflow
    _, variance, _ = cumulants(energy)
    unit = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)
    return Energy(energy.square * unit, energy.slope * unit), unit / largest


def tilts(dtype) -> Float[Array, " m"]:
    """List candidate saddle points, for energies of unit standard deviation; all stay off the pole at zero."""
    return jnp.geomspace(0.7, 1e7, 80, dtype=dtype)


def place_contour(energy: Energy, vertex: Array) -> Contour:
    r"""Lay the contour through a vertex on the real axis.

    It leaves with the bend :math:`x = \psi^{(3)} y^2 / (8 \psi^{(2)})` of :math:`\psi(z) = K(z) + zq - \log z` and
    tends to lines of slope `SLOPE`, steeper than the diagonals beyond which normal parts of the energy diverge.
    """
    tilted, _, log_normaliser = tilt(energy, vertex)
    _, variance, third = cumulants(tilted)
    second_derivative = variance + vertex**-2
    width = 2 * STEP * jax.lax.rsqrt(second_derivative)
    bend = (third + 2 * vertex**-3) / (8 * second_derivative)
    y = width * (jnp.arange(NUM_NODES, dtype=vertex.dtype) + 0.5)
    slope = 2 * bend * y / SLOPE
    root = jnp.sqrt(1 + slope**2)
    steps = 1j * y - SLOPE * slope * y / (1 + root)
    weights = (1 + 1j * SLOPE * slope / root) * width / jnp.pi / (vertex + steps)
    log_weights = log_normaliser + log_laplace(tilted, steps) + jnp.log(weights)
    return Contour(vertex, tilted, vertex + steps, log_weights)


def node_weights(contour: Contour, threshold: Array) -> Complex[Array, " m"]:
    r"""Weigh the nodes so that :math:`E[g; e \le q] = \operatorname{Re} \sum_k W_k \, g(z_k)`.

    Here :math:`g(z)` is the mean of g under the law tilted by z; g = 1 gives the probability of the region, and
    g = z the density of e at q. The threshold q counts from the mean tilted by the vertex.
    """
    return jnp.exp(contour.log_weights + contour.nodes * threshold)


def contour_at(energy: Energy, threshold: Array, z: Float[Array, " m"]) -> tuple[Float[Array, ""], Contour]:
    r"""Lay the contour for a known threshold q, through that of the candidates z nearest to its saddle point.

    Returns:
        The threshold, counted from the mean tilted by the contour's vertex, and the contour.
    """
    tilted, displacement, _ = tilt(energy, z)
    mean, _, _ = cumulants(tilted)
    index = jnp.argmin(jnp.abs(displacement + mean + 1 / z - threshold))
    return threshold - displacement[index], place_contour(energy, z[index])


def tail_probability(energy: Energy, threshold: Array) -> Float[Array, ""]:
    r"""Evaluate :math:`P(e > q)` of an energy of unit standard deviation."""
    threshold, contour = contour_at(energy, threshold, tilts(energy.square.dtype))
    return 1 - node_weights(contour, threshold).sum().real


def energy_quantile(energy: Energy, budget: Array) -> tuple[Float[Array, ""], Contour]:
    r"""Solve :math:`P(e \le q) = \alpha` for an energy of unit standard deviation.

    At the saddle point z of :math:`q = E_z[e] + 1/z` the saddle-point approximation of the probability is
    explicit; it places the contour. Newton's method on the logarithm of the exact probability, which is concave
    in q, does the rest; the contour stays, so that a step costs one exponential a node.

    Args:
        energy: from `standardise`.
        budget: :math:`\alpha` in (0, 1), shape [].

    Returns:
        The threshold, counted from the mean tilted by the contour's vertex, and the contour.
    """
    z = tilts(energy.square.dtype)
    tilted, _, log_normaliser = tilt(energy, z)
    mean, variance, _ = cumulants(tilted)
    start = mean + 1 / z
    log_probability = log_normaliser + z * start - 0.5 * jnp.log(2 * jnp.pi * (1 + z**2 * variance))
    index = jnp.argmin(jnp.abs(log_probability - jnp.log(budget)))
    contour = place_contour(energy, z[index])

    def newton(_, q):
        weights = node_weights(contour, q)
        probability, density = weights.sum().real, (weights @ contour.nodes).real
        return q - jnp.log(probability / budget) * probability / density

    return jax.lax.fori_loop(0, NUM_NEWTON, newton, start[index]), contour
