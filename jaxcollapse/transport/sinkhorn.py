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

from jaxcollapse.base import Counted, Data, Measure
from jaxcollapse.checks import check_numbers, check_range, check_transport
from jaxcollapse.linalg import mixed, no_history
from jaxcollapse.measures import as_moments

Scalar = Float[Array, ""] | float
TOLERANCE = 1e-4  # of marginals: kept sets then agree with the exact ones but for one candidate in a hundred
ANNEALING = 0.1  # of the mean cost, the first epsilon
_SWEEPS = 12
_IN_CACHE = 2**17  # scores
_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Potentials(NamedTuple):
    """Dual potentials of an entropic transport problem.

    Attributes:
        f: of the source's points, shape [N].
        g: of the target's points, shape [M]; its mean under the target is zero.
        error: L1 distance of the plan's second marginal from b, shape []; its first marginal is a.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> source, target = jc.uniform_measure(np.array([[1.0], [3.0]])), jc.uniform_measure(np.array([[5.0]]))
        >>> potentials = jc.transport.sinkhorn(source, target, epsilon=1.0)
        >>> potentials.f.shape, potentials.g.shape, bool(potentials.error < 1e-3)
        ((2,), (1,), True)
    """

    f: Float[Array, "*stack n"]
    g: Float[Array, "*stack m"]
    error: Float[Array, "*stack"]


def mean_cost(source: Data, target: Data) -> Float[Array, ""]:
    r"""Average the squared distance over independent pairs, the scale by which to choose epsilon.

    .. math:: E \lVert x - y \rVert^2 = \operatorname{tr} \Sigma_x + \operatorname{tr} \Sigma_y
              + \lVert \mu_x - \mu_y \rVert^2.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> source, target = jc.uniform_measure(np.array([[1.0], [3.0]])), jc.uniform_measure(np.array([[5.0]]))
        >>> float(jc.transport.mean_cost(source, target))  # of 16 and 4
        10.0
    """
    x, y = as_moments(source), as_moments(target)
    return jnp.trace(x.covariance) + jnp.trace(y.covariance) + jnp.sum((x.mean - y.mean) ** 2)


def sinkhorn(
    source: Measure,
    target: Measure,
    epsilon: Scalar,
    *,
    tolerance: Scalar = TOLERANCE,
    max_plans: int = 60,
    init: Potentials | None = None,
) -> Potentials:
    r"""Solve for the potentials by Sinkhorn's algorithm, annealed, re-centred [schmitzer2019]_ and accelerated
    [walker2011]_.

    With :math:`p_i = f_i - \lVert x_i \rVert^2`, :math:`q_j = g_j - \lVert y_j \rVert^2` and
    :math:`S_{ji} = 2 y_j \cdot x_i`, a sweep is

    .. math:: p_i = -\epsilon \log \sum_j b_j e^{(S_{ji} + q_j) / \epsilon}, \qquad
              q_j = -\epsilon \log \sum_i a_i e^{(S_{ji} + p_i) / \epsilon}.

    It is made once at each larger epsilon, halved from a tenth of the mean cost on. At the last one the plan P of p and
    q is made once for a dozen sweeps, each two matrix-vector products that correct it by factors,

    .. math:: \alpha = a / P' \beta, \qquad \beta = b / P \alpha,

    and each begins from q mixed by `jaxcollapse.linalg.mixed`. Plans are made until the error is below the tolerance. A
    factor that would leave the floating-point range keeps its last value, and the next plan goes on from there.

    Args:
        source: N points and their masses, of which some may be zero.
        target: M points and their masses; S and P are held as [M, N], which is fastest where M is the smaller.
        epsilon: regularisation, positive, in units of the squared distance; see `mean_cost`. In single precision the
            tolerance is reached from about a thousandth of the mean cost on.
        tolerance: of `Potentials.error`, shape [].
        max_plans: plans made at most.
        init: a warm start, of which g alone is used: the source may have new points.

    Raises:
        ValueError: if dimensions differ, or a number known before compilation is out of range.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> source, target = jc.uniform_measure(np.array([[1.0], [3.0]])), jc.uniform_measure(np.array([[5.0]]))
        >>> f, g, error = jc.transport.sinkhorn(source, target, epsilon=1.0)
        >>> print(f.round(2))  # all mass goes to one place: f is the cost
        [16.  4.]
    """
    check_transport(source, target, epsilon)
    check_numbers(0, 2, tolerance=tolerance)
    check_range("max_plans", max_plans, low=0)
    a, b, centre = _share(source), _share(target), _mean(target)
    x, y = source.points - centre, target.points - centre
    products, x_squared, y_squared = 2 * _dot(y, x.T), jnp.sum(x**2, -1), jnp.sum(y**2, -1)
    log_a, log_b = jnp.log(a), jnp.log(b)
    epsilon = jnp.asarray(epsilon, products.dtype)

    def sweep_p(q, epsilon):
        return -epsilon * logsumexp(products / epsilon + (q / epsilon + log_b)[:, None], axis=0)

    def sweep_q(p, epsilon):
        return -epsilon * logsumexp(products / epsilon + (p / epsilon + log_a), axis=1)

    def make_plan(p, q):
        return jnp.exp(products / epsilon + (q / epsilon + log_b)[:, None] + (p / epsilon + log_a))

    def corrected(factor, mass, marginal):
        found = mass / marginal
        return jnp.where(jnp.isfinite(found) & (found > 0), found, factor)

    def gap(q, image):
        return _dot(b, jnp.where(b > 0, jnp.abs(jnp.expm1((q - image) / epsilon)), 0))

    def improve(state):
        p, q, image, history, _, num_plans = state
        plan = make_plan(p, image)

        def sweep(_, state):
            alpha, beta, q, image, history = state
            q, history = mixed(history, q, image, b)
            alpha = corrected(alpha, a, _dot(jnp.exp((q - centre_q) / epsilon), plan))
            beta = corrected(beta, b, _dot(plan, alpha))
            return alpha, beta, q, centre_q + epsilon * jnp.log(beta), history

        centre_q = image
        start = jnp.ones_like(p), jnp.ones_like(q), q, image, history
        alpha, _, q, image, history = jax.lax.fori_loop(0, _SWEEPS, sweep, start)
        return p + epsilon * jnp.log(alpha), q, image, history, gap(q, image), num_plans + 1

    def unfinished(state):
        *_, error, num_plans = state
        return (error > tolerance) & (num_plans < max_plans)

    start = ANNEALING * (_dot(a, x_squared) + _dot(b, y_squared)) if init is None else epsilon
    q = -y_squared if init is None else init.g - y_squared
    _, q = jax.lax.while_loop(
        lambda state: state[0] > epsilon,
        lambda state: (state[0] / 2, sweep_q(sweep_p(state[1], state[0]), state[0])),
        (start, q),
    )
    p = sweep_p(q, epsilon)
    image = sweep_q(p, epsilon)
    p, _, image, *_ = jax.lax.while_loop(unfinished, improve, (p, q, image, no_history(q), gap(q, image), 0))
    q = sweep_q(p, epsilon)
    p = sweep_p(q, epsilon)
    f, g = p + x_squared, q + y_squared
    constant = _dot(b, g)
    return Potentials(f + constant, g - constant, jnp.abs(_dot(make_plan(p, q), jnp.ones_like(a)) - b).sum())


def unconverged(error: Float[Array, ""], tolerance: Scalar = TOLERANCE) -> dict[str, Array]:
    """Count a transport problem whose marginal error is above the tolerance, and tell the error."""
    above = ~(error <= tolerance)
    return {"marginal_error": error, "transport problems that have not converged": above.astype(jnp.int32)}


def transport_cost(source: Measure, target: Measure, potentials: Potentials) -> Float[Array, ""]:
    r"""Evaluate the dual, :math:`\sum_i a_i f_i + \sum_j b_j g_j`.

    At convergence this is :math:`\min_P \langle C, P \rangle + \epsilon \mathrm{KL}(P \Vert a \otimes b)`, before it
    a lower bound: the dual's third term, :math:`-\epsilon (\sum_{ij} P_{ij} - 1)`, vanishes after an exact sweep.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> source, target = jc.uniform_measure(np.array([[1.0], [3.0]])), jc.uniform_measure(np.array([[5.0]]))
        >>> potentials = jc.transport.sinkhorn(source, target, epsilon=1.0)
        >>> round(float(jc.transport.transport_cost(source, target, potentials)), 2)  # of 16 and 4
        10.0
    """
    return _dot(_share(source), potentials.f) + _dot(_share(target), potentials.g)


def log_partition(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int | None = None
) -> Float[Array, " n"]:
    r"""Compute :math:`\log \sum_j w_j \exp((g_j - \lVert x_i - y_j \rVert^2) / \epsilon)` at each point x_i.

    The masses w of the target are taken as they are: log-partitions of the parts of a target add up under
    `logaddexp` to that of the whole. A target without mass has -inf. Memory beyond arguments and result is
    [tile, M], whatever the number of points; by default a tile is what is fastest.
    """
    log_w = jnp.log(target.weights)

    def row(x, scores):
        return logsumexp(scores / epsilon + log_w) - _dot(x, x) / epsilon

    return _over_rows(row, points, target, g, tile)


def soft_c_transform(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int | None = None
) -> Float[Array, " n"]:
    r"""Extend f to any points.

    .. math:: f(x_i) = -\epsilon \log \sum_j b_j \exp((g_j - \lVert x_i - y_j \rVert^2) / \epsilon).

    Memory is that of `log_partition`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> target = jc.uniform_measure(jnp.array([[5.0]]))
        >>> f = jc.transport.soft_c_transform(jnp.array([[1.0], [3.0]]), target, jnp.zeros(1), epsilon=1.0)
        >>> print(f.round(2))  # squared distances from one place
        [16.  4.]
    """
    return epsilon * (jnp.log(target.weights.sum()) - log_partition(points, target, g, epsilon, tile=tile))


def barycentric_map(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int | None = None
) -> Float[Array, "n d"]:
    r"""Map each point to the mean of its conditional plan, :math:`T(x_i) = \sum_j P_{ij} y_j / \sum_j P_{ij}`.

    Given g, this needs neither f nor the source. Memory is that of `log_partition`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> target = jc.uniform_measure(jnp.array([[1.0], [3.0]]))
        >>> image = jc.transport.barycentric_map(jnp.array([[2.0]]), target, jnp.zeros(2), epsilon=1.0)
        >>> float(image[0, 0])  # 2 is as near to 1 as to 3
        2.0
    """
    log_w, centre = jnp.log(target.weights), _mean(target)
    y = target.points - centre

    def row(_, scores):
        return _dot(jax.nn.softmax(scores / epsilon + log_w), y)

    return centre + _over_rows(row, points, target, g, tile)


def largest_share(
    points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], epsilon: Scalar, *, tile: int | None = None
) -> Float[Array, " n"]:
    r"""Find what a single point of the target has of each sum that `log_partition` takes, at most; shape [n].

    .. math:: \max_j \; w_j \exp((g_j - \lVert x_i - y_j \rVert^2) / \epsilon)
              \Big/ \sum_k w_k \exp((g_k - \lVert x_i - y_k \rVert^2) / \epsilon).

    Memory is that of `log_partition`.
    """
    log_w = jnp.log(target.weights)
    return _over_rows(lambda _, scores: jax.nn.softmax(scores / epsilon + log_w).max(), points, target, g, tile)


def debiased(
    key: Key[Array, ""],
    source: Measure,
    target: Measure,
    epsilon: Scalar,
    *,
    num_self: int,
    tolerance: Scalar = TOLERANCE,
    max_sweeps: int = 1000,
    tile: int | None = None,
) -> Counted:
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
        tolerance: of both problems, as in `sinkhorn`.
        max_sweeps: of the problem of the source with itself, at most.
        tile: rows at a time, as in `log_partition`.

    Returns:
        h, shape [n], with the larger marginal error told.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> source, target = jc.uniform_measure(np.array([[1.0], [3.0]])), jc.uniform_measure(np.array([[5.0]]))
        >>> influence = jc.transport.debiased(jax.random.key(0), source, target, 1.0, num_self=2).value
        >>> round(float(influence[0] - influence[1]), 2)  # by symmetry that of the costs 16 and 4
        12.0
    """
    check_range("num_self", num_self, low=1, high=source.weights.shape[0])
    check_range("max_sweeps", max_sweeps, low=1)
    cross = sinkhorn(source, target, epsilon, tolerance=tolerance)
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

    def sweep(state):
        t, _, num_sweeps = state
        image = jax.vmap(log_t, (0, None))(sample, t)
        error = _dot(sample[1], jnp.abs(jnp.expm1(t - image))) / sample[1].sum()
        return (t + image) / 2, error, num_sweeps + 1

    def unfinished(state):
        _, error, num_sweeps = state
        return (error > tolerance) & (num_sweeps < max_sweeps)

    t, error, _ = jax.lax.while_loop(unfinished, sweep, (jnp.zeros_like(a[drawn]), jnp.full_like(a[0], jnp.inf), 0))
    influence = cross.f - epsilon * jax.lax.map(lambda row: log_t(row, t), part, batch_size=tile or _rows(num_self))
    return Counted(influence, unconverged(jnp.maximum(error, cross.error), tolerance))


def _rows(num_targets: int) -> int:
    """Choose how many rows of scores are held at a time: on a CPU what the cache of a core holds, measured."""
    return max(16, _IN_CACHE // max(1, num_targets)) if jax.default_backend() == "cpu" else 4096


def _share(measure: Measure) -> Float[Array, " n"]:
    mass = measure.weights.sum()
    return measure.weights / jnp.where(mass > 0, mass, 1)


def _mean(measure: Measure) -> Float[Array, " d"]:
    return _dot(_share(measure), measure.points)


def _over_rows(
    row: Callable, points: Float[Array, "n d"], target: Measure, g: Float[Array, " m"], tile: int | None
) -> Float[Array, "n *out"]:
    """Apply `row` to each centred point x and its scores 2 x . y_j - |y_j|^2 + g_j, a tile of points at a time."""
    centre = _mean(target)
    y = target.points - centre
    offset = g - jnp.sum(y**2, -1)
    return jax.lax.map(lambda x: row(x, 2 * _dot(y, x) + offset), points - centre, batch_size=tile or _rows(len(g)))
