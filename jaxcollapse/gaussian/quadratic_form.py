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
:math:`(2 \pi i)^{-1} \int g(z) e^{K(z) + zq} \, dz / z` of a rational g: to the right
of the pole at zero it runs over the region, to the left over the rest, which leaves
:math:`g(0) = E[g]` without it. The rest is integrated where it is less than a twentieth,
so that a budget near one is as safe as a small one.

The contour is a hyperbola through the saddle point of the integrand [daniels1954]_, bent as
the path of steepest descent is bent there, with nodes that spread like a hyperbolic sine
(compare [weideman2007]_). The integrand hardly oscillates along it, so nothing
cancels, and the trapezoidal rule is accurate to rounding in *relative* terms.
Energies near the threshold are measured from that of the mean tilted to the saddle point,
which lies within the integrated region: a target far beyond the model or deep inside it costs
no digits, and float32 is enough to simulate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

REACH = 5.0  # of the nodes, on the scale of the hyperbolic sine
LEAST_SLOPE, GREATEST_SLOPE = 0.1, 0.6
REST = 0.05  # largest integrated in place of the region
NUM_NEWTON = 5


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
        vertex: where the contour crosses the real axis, negative where the rest is integrated, shape [].
        energy: under the law tilted by the vertex, less that of its mean.
        nodes: :math:`z_k`, of which the last is the pole at zero, shape [m].
        log_weights: of the nodes but for the pole, without the part that depends on the threshold, shape [m - 1].
    """

    vertex: Float[Array, ""]
    energy: Energy
    nodes: Complex[Array, " m"]
    log_weights: Complex[Array, " n"]


def log_laplace(energy: Energy, z: Array) -> Array:
    r"""Evaluate :math:`K(z) = \log E[\exp(-z e)]` at real or complex z of any shape."""
    denominator = 1 + 2 * z[..., None] * energy.square
    squared = (denominator * denominator.conj()).real
    log = -0.25 * jnp.log(squared).sum(axis=-1)
    if jnp.iscomplexobj(z):  # modulus and phase apart, since complex logarithms and divisions are slow
        log = jax.lax.complex(log, -0.5 * jnp.arctan2(denominator.imag, denominator.real).sum(axis=-1))
    return log + 2 * z**2 * jnp.sum(energy.slope**2 / squared * denominator.conj(), axis=-1)


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


def saddle_points(energy: Energy, rest: Bool[Array, ""]) -> tuple[Float[Array, " m"], Energy, Array, Array]:
    """List saddle points, from near the pole outwards, and tilt an energy of unit standard deviation by each.

    Args:
        energy: from `standardise`.
        rest: whether the rest is integrated: its saddle points lie between the pole and where the law diverges.

    Returns:
        The saddle points, and what `tilt` returns.
    """
    dtype = energy.square.dtype
    outwards = jnp.where(rest, jnp.geomspace(0.3, 1e4, 80, dtype=dtype), jnp.geomspace(0.3, 1e14, 80, dtype=dtype))
    z = jnp.where(rest, -1 / (1 / outwards + 2 * energy.square.max()), outwards)
    return z, *tilt(energy, z)


def place_contour(energy: Energy, vertex: Array) -> Contour:
    r"""Lay the contour through a vertex on the real axis.

    With :math:`z = \zeta (1 + s)` at the vertex :math:`\zeta`, the integrand is that of the energy
    :math:`\zeta e`, tilted, plus an exponential variate. Half of the skewness of their sum is the slope to which

    .. math:: s = \lambda (i \sinh t - \sigma (\cosh t - 1))

    matches the path of steepest descent; it is at least `LEAST_SLOPE` away from the pole, and at most `GREATEST_SLOPE`:
    beyond the diagonals normal parts of the energy diverge.
    """
    tilted, _, log_normaliser = tilt(energy, vertex)
    scaled = Energy(vertex * tilted.square, vertex * tilted.slope)  # of any vertex, without underflow
    _, variance, third = cumulants(scaled)
    width = 2 * jax.lax.rsqrt(1 + variance)
    side = jnp.sign(vertex)
    skewness = (2 + third) * (width / 2) ** 3
    slope = side * jnp.clip(side * skewness / 2, LEAST_SLOPE, GREATEST_SLOPE)
    num_nodes = jnp.finfo(vertex.dtype).bits  # one each
    step = REACH / num_nodes
    t = step * (jnp.arange(num_nodes, dtype=vertex.dtype) + 0.5)
    steps = width * (1j * jnp.sinh(t) - slope * (jnp.cosh(t) - 1))
    weights = width * (jnp.cosh(t) + 1j * slope * jnp.sinh(t)) * step / jnp.pi / (1 + steps)
    log_weights = log_normaliser + log_laplace(scaled, steps) + jnp.log(weights)
    return Contour(vertex, tilted, jnp.append(vertex * (1 + steps), 0), log_weights)


def integrand(contour: Contour, threshold: Array) -> Complex[Array, " n"]:
    r"""Weigh the nodes but for the pole, so that :math:`\operatorname{Re} \sum_k W_k \, g(z_k)` is
    :math:`E[g; e \le q]`, or :math:`E[g; e > q]` where the rest is integrated.
    """
    return jnp.exp(contour.log_weights + contour.nodes[:-1] * threshold)


def node_weights(contour: Contour, threshold: Array) -> Complex[Array, " m"]:
    r"""Weigh the nodes so that :math:`E[g; e \le q] = \operatorname{Re} \sum_k W_k \, g(z_k)`.

    Here :math:`g(z)` is the mean of g under the law tilted by z; g = 1 gives the probability of the region, and
    g = z the density of e at q. The threshold q counts from the mean tilted by the vertex.
    """
    return jnp.append(jnp.sign(contour.vertex) * integrand(contour, threshold), contour.vertex < 0)


def contour_at(energy: Energy, threshold: Array) -> tuple[Float[Array, ""], Contour]:
    r"""Lay the contour for a known threshold q, through its saddle point :math:`q = E_z[e] + 1/z`.

    Returns:
        The threshold, counted from the mean tilted by the contour's vertex, and the contour.
    """
    mean, _, _ = cumulants(energy)
    rest = threshold > mean + 2  # standard deviations: a region that leaves about a twentieth
    z, tilted, displacement, _ = saddle_points(energy, rest)
    mean, _, _ = cumulants(tilted)
    side = jnp.sign(z[0])
    vertex = _between(z, side * (displacement + mean + 1 / z), side * threshold)
    _, displacement, _ = tilt(energy, vertex)
    return threshold - displacement, place_contour(energy, vertex)


def tail_probability(energy: Energy, threshold: Array) -> Float[Array, ""]:
    r"""Evaluate :math:`P(e > q)` of an energy of unit standard deviation."""
    threshold, contour = contour_at(energy, threshold)
    mass = integrand(contour, threshold).sum().real
    return jnp.where(contour.vertex > 0, 1 - mass, mass)


def energy_quantile(energy: Energy, odds: Array) -> tuple[Float[Array, ""], Contour]:
    r"""Solve :math:`P(e \le q) = \alpha` for an energy of unit standard deviation.

    At the saddle point z of :math:`q = E_z[e] + 1/z` the saddle-point approximation of the probability is
    explicit; it places the contour. Newton's method on the logarithm of the exact odds, nearly straight in q,
    does the rest; the contour stays, so that a step costs one exponential a node.

    Args:
        energy: from `standardise`.
        odds: :math:`\alpha / (1 - \alpha)`, positive, which say both probabilities to all digits, shape [].

    Returns:
        The threshold, counted from the mean tilted by the contour's vertex, and the contour.
    """
    rest = odds * REST > 1 - REST
    goal = jnp.where(rest, 1 / odds, odds)
    z, tilted, _, log_normaliser = saddle_points(energy, rest)
    mean, variance, _ = cumulants(tilted)
    log_probability = log_normaliser + z * mean + 1 - 0.5 * jnp.log(2 * jnp.pi * (1 + z**2 * variance))
    contour = place_contour(energy, _between(z, log_probability, -jnp.log1p(1 / goal)))

    def newton(_, q):
        weights = integrand(contour, q)
        probability, slope = weights.sum().real, (weights @ contour.nodes[:-1]).real
        return q - jnp.log(probability / (1 - probability) / goal) * probability * (1 - probability) / slope

    mean, _, _ = cumulants(contour.energy)
    return jax.lax.fori_loop(0, NUM_NEWTON, newton, mean + 1 / contour.vertex), contour


def _between(z: Float[Array, " m"], values: Float[Array, " m"], value: Array) -> Float[Array, ""]:
    """Interpolate, in log z, the saddle point at which falling values are the one that is given."""
    return jnp.sign(z[0]) * jnp.exp(jnp.interp(-value, -values, jnp.log(jnp.abs(z))))
