r"""Entropic optimal transport between weighted samples, under the squared distance.

The potentials f, g of the measures a (source, N points) and b (target, M points), both scaled to mass
one, make the plan [cuturi2013]_

.. math:: P_{ij} = a_i b_j \exp((f_i + g_j - \lVert x_i - y_j \rVert^2) / \epsilon),

whose marginals are a and b. Weights stay outside the potentials, so that a point of mass zero has a
potential too and changes nothing. The free constant is fixed on the target's side, by
:math:`\sum_j b_j g_j = 0`: potentials of several sources against one target can be compared, where
epsilon is the same.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Measure
from jaxcollapse.checks import check_range, check_transport
from jaxcollapse.measures import as_moments

Scalar = Float[Array, ""] | float
_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Potentials(NamedTuple):
    """Dual potentials of an entropic transport problem.

    Attributes:
        f: of the source's points, shape [N].
        g: of the target's points, shape [M]; its mean under the target is zero.
        error: L1 distance of the plan's second marginal from b, shape []; its first marginal is a.
    """

    f: Float[Array, "*stack n"]
    g: Float[Array, "*stack m"]
    error: Float[Array, "*stack"]


def mean_cost(source: Data, target: Data) -> Float[Array, ""]:
    r"""Average the squared distance over independent pairs, the scale by which to choose epsilon.

    .. math:: E \lVert x - y \rVert^2 = \operatorname{tr} \Sigma_x + \operatorname{tr} \Sigma_y
              + \lVert \mu_x - \mu_y \rVert^2.
    """
    x, y = as_moments(source), as_moments(target)
    return jnp.trace(x.covariance) + jnp.trace(y.covariance) + jnp.sum((x.mean - y.mean) ** 2)


def sinkhorn(
    source: Measure,
    target: Measure,
    epsilon: Scalar,
    *,
    num_outer: int = 4,
    num_inner: int = 12,
    relaxation: float = 1.5,
    init: Potentials | None = None,
) -> Potentials:
    r"""Solve for the potentials by Sinkhorn's algorithm, re-centred [schmitzer2019]_ and over-relaxed [thibault2021]_.

    With :math:`u_i = (f_i - \lVert x_i \rVert^2) / \epsilon`, :math:`v_j = (g_j - \lVert y_j \rVert^2) / \epsilon` and
    :math:`S_{ji} = 2 y_j \cdot x_i / \epsilon`, an exact sweep is

    .. math:: u_i = -\log \sum_j b_j e^{S_{ji} + v_j}, \qquad v_j = -\log \sum_i a_i e^{S_{ji} + u_i}.

    Between the first sweep and the last, each outer step makes the plan P of u and v once and corrects it by factors,
    :math:`\alpha` on the source's side and :math:`\beta` on the target's, at two matrix-vector products a sweep:

    .. math:: \alpha \leftarrow \alpha \Big(\frac{a}{\alpha \, P' \beta}\Big)^\omega, \qquad
              \beta \leftarrow \beta \Big(\frac{b}{\beta \, P \alpha}\Big)^\omega.

    A factor that would leave the floating-point range keeps its last value, and the next plan, or the last and exact
    sweep, goes on from there. Trip counts are fixed: map, scan and compile at will, and read `error`.

    Args:
        source: N points and their masses, of which some may be zero.
        target: M points and their masses; S and P are held as [M, N], which is fastest where M is the smaller.
        epsilon: regularisation, positive, in units of the squared distance; see `mean_cost`.
        num_outer: plans made; more of them follow smaller epsilons.
        num_inner: sweeps on each plan; num_outer * num_inner + 2 sweeps in all.
        relaxation: omega, from 1, which is Sinkhorn's own, to 1.9; at 1.8 some problems already fail to converge.
        init: a warm start, of which g alone is used: the source may have new points.

    Raises:
        ValueError: if dimensions differ, or a number known before compilation is out of range.
    """
    check_transport(source, target, epsilon)
    check_range("num_outer", num_outer, low=0)
    check_range("num_inner", num_inner, low=0)
    check_range("relaxation", relaxation, low=1, high=1.9)
    a, b, centre = _share(source), _share(target), _mean(target)
    x, y = source.points - centre, target.points - centre
    scores = 2 * _dot(y, x.T) / epsilon
    log_a, log_b, x_squared, y_squared = jnp.log(a), jnp.log(b), jnp.sum(x**2, -1), jnp.sum(y**2, -1)

    def sweep_u(v):
        return -logsumexp(scores + (v + log_b)[:, None], axis=0)

    def sweep_v(u):
        return -logsumexp(scores + (u + log_a), axis=1)

    def plan(u, v):
        return jnp.exp(scores + (v + log_b)[:, None] + (u + log_a))

    def relax(factor, marginal, mass):
        relaxed = factor * (mass / (factor * marginal)) ** relaxation
        return jnp.where(jnp.isfinite(relaxed) & (relaxed > 0), relaxed, factor)

    def outer(potentials, _):
        u, v = potentials
        p = plan(u, v)

        def inner(factors, _):
            alpha, beta = factors
            alpha = relax(alpha, _dot(beta, p), a)
            beta = relax(beta, _dot(p, alpha), b)
            return (alpha, beta), None

        (alpha, beta), _ = jax.lax.scan(inner, (jnp.ones_like(u), jnp.ones_like(v)), length=num_inner)
        return (u + jnp.log(alpha), v + jnp.log(beta)), None

    g = jnp.zeros_like(b) if init is None else init.g
    u = sweep_u((g - y_squared) / epsilon)
    (u, v), _ = jax.lax.scan(outer, (u, sweep_v(u)), length=num_outer)
    v = sweep_v(u)
    u = sweep_u(v)
    f, g = epsilon * u + x_squared, epsilon * v + y_squared
    constant = _dot(b, g)
    return Potentials(f + constant, g - constant, jnp.abs(_dot(plan(u, v), jnp.ones_like(a)) - b).sum())


def transport_cost(source: Measure, target: Measure, potentials: Potentials) -> Float[Array, ""]:
    r"""Evaluate the dual, :math:`\sum_i a_i f_i + \sum_j b_j g_j`.

    At convergence this is :math:`\min_P \langle C, P \rangle + \epsilon \mathrm{KL}(P \Vert a \otimes b)`, before it
    a lower bound: the dual's third term, :math:`-\epsilon (\sum_{ij} P_{ij} - 1)`, vanishes after an exact sweep.
    """
    return _dot(_share(source), potentials.f) + _dot(_share(target), potentials.g)


def log_partition(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int = 4096
) -> Float[Array, " n"]:
    r"""Compute :math:`\log \sum_j w_j \exp((g_j - \lVert x_i - y_j \rVert^2) / \epsilon)` at each point x_i.

    The masses w of the target are taken as they are: log-partitions of the parts of a target add up under
    `logaddexp` to that of the whole. A target without mass has -inf. Memory beyond arguments and result is
    [tile, M], whatever the number of points.
    """
    log_w = jnp.log(target.weights)

    def row(x, scores):
        return logsumexp(scores / epsilon + log_w) - _dot(x, x) / epsilon

    return _over_rows(row, points, target, g, tile)


def soft_c_transform(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int = 4096
) -> Float[Array, " n"]:
    r"""Extend f to any points.

    .. math:: f(x_i) = -\epsilon \log \sum_j b_j \exp((g_j - \lVert x_i - y_j \rVert^2) / \epsilon).

    Memory is that of `log_partition`.
    """
    return epsilon * (jnp.log(target.weights.sum()) - log_partition(points, target, g, epsilon, tile=tile))


def barycentric_map(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int = 4096
) -> Float[Array, "n d"]:
    r"""Map each point to the mean of its conditional plan, :math:`T(x_i) = \sum_j P_{ij} y_j / \sum_j P_{ij}`.

    Given g, this needs neither f nor the source. Memory is that of `log_partition`.
    """
    log_w, centre = jnp.log(target.weights), _mean(target)
    y = target.points - centre

    def row(_, scores):
        return _dot(jax.nn.softmax(scores / epsilon + log_w), y)

    return centre + _over_rows(row, points, target, g, tile)


def debiased(
    key: Key[Array, ""],
    source: Measure,
    target: Measure,
    epsilon: Scalar,
    *,
    num_self: int,
    num_outer: int = 4,
    num_inner: int = 12,
    relaxation: float = 1.5,
    tile: int = 4096,
) -> Float[Array, " n"]:
    r"""Compute the first variation in the source of the Sinkhorn divergence [feydy2019]_, :math:`f_{xy} - f_{xx}`.

    With this influence h, :math:`S(a + t \delta, b) = S(a, b) + t \sum_i \delta_i h_i + O(t^2)` for changes of mass
    :math:`\sum_i \delta_i = 0`. The constant is the one of :math:`f_{xy}` and of equal potentials of the source
    with itself.

    In a problem of the source with itself each point meets itself at cost zero, which no other point can stand for.
    With :math:`t_i = e^{f_{xx,i} / \epsilon}` and the sum over the other points estimated from a sample of them,

    .. math:: 1 / t_i = a_i t_i + Z_i, \qquad
              Z_i = \frac{1 - a_i}{\sum_{j \ne i} a_j} \sum_{j \ne i} a_j t_j e^{-\lVert x_i - x_j \rVert^2 / \epsilon}.

    Args:
        key: draws the points of the source that stand for it in Z, uniformly among those with mass.
        source: N points and their masses.
        target: M points and their masses.
        epsilon: regularisation, as in `sinkhorn`.
        num_self: how many points are drawn, at a cost of their number squared; with N of them the result is exact.
        num_outer: as in `sinkhorn`; the problem of the source with itself takes as many sweeps.
        num_inner: likewise.
        relaxation: as in `sinkhorn`.
        tile: rows at a time, as in `log_partition`.
    """
    check_range("num_self", num_self, low=1, high=source.weights.shape[0])
    cross = sinkhorn(source, target, epsilon, num_outer=num_outer, num_inner=num_inner, relaxation=relaxation)
    a, x = _share(source), source.points - _mean(source)
    priority = jnp.where(a > 0, jax.random.uniform(key, a.shape), -1)
    _, drawn = jax.lax.top_k(priority, num_self)
    part = jnp.arange(len(a)), a, x
    sample = jax.tree.map(lambda leaf: leaf[drawn], part)

    def log_t(row, t):
        (i, a_i, x_i), (j, a_j, x_j) = row, sample
        mass = jnp.asarray(jnp.where(i == j, 0, a_j))
        cost = _dot(x_i, x_i) + jnp.sum(x_j**2, -1) - 2 * _dot(x_j, x_i)
        total = jnp.maximum(mass.sum(), jnp.finfo(mass.dtype).tiny)
        log_z = logsumexp(t - cost / epsilon + jnp.log(mass)) + jnp.log1p(-a_i) - jnp.log(total)
        return jnp.log(2) - jnp.logaddexp(log_z, jnp.logaddexp(2 * log_z, jnp.log(4 * a_i)) / 2)

    def sweep(t, _):
        return (t + jax.vmap(log_t, (0, None))(sample, t)) / 2, None

    t, _ = jax.lax.scan(sweep, jnp.zeros_like(a[drawn]), length=num_outer * num_inner + 2)
    return cross.f - epsilon * jax.lax.map(lambda row: log_t(row, t), part, batch_size=tile)


def _share(measure: Measure) -> Float[Array, " n"]:
    mass = measure.weights.sum()
    return measure.weights / jnp.where(mass > 0, mass, 1)


def _mean(measure: Measure) -> Float[Array, " d"]:
    return _dot(_share(measure), measure.points)


def _over_rows(
    row: Callable, points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], tile: int
) -> Float[Array, "n *out"]:
    """Apply `row` to each centred point x and its scores 2 x . y_j - |y_j|^2 + g_j, a tile of points at a time."""
    centre = _mean(target)
    y = target.points - centre
    offset = g - jnp.sum(y**2, -1)
    return jax.lax.map(lambda x: row(x, 2 * _dot(y, x) + offset), points - centre, batch_size=tile)
