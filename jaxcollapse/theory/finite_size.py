r"""What a finite number of kept candidates changes: the first correction to the mean field.

The state of a Gaussian model is the second moment :math:`\eta = E[h]`, :math:`h = \hat x \hat x'`, of
:math:`\hat x = (1, x)`: mean and raw second moment in one symmetric matrix. In this state every workflow
that gives the kept set the weight w in its training set is linear, and selection alone turns noise into bias:

.. math:: \eta \leftarrow (1 - w) \eta + w \bar h, \qquad \bar h = \tfrac1n \textstyle\sum_{i \le n} h(x_i).

Given the model and the share :math:`p = P(e \le q)` of candidates better than the best one that is not kept,
the kept points are independent draws from the model truncated to :math:`\{e \le q\}`, with mean
:math:`T(\eta, p)` and covariance V of h; and :math:`p \sim \mathrm{Beta}(n + 1, N - n)`, whatever the model:

.. math:: E[p] = \alpha + \alpha (1 - \alpha) / n + O(n^{-2}), \qquad
          \operatorname{Var}[p] = \alpha^2 (1 - \alpha) / n + O(n^{-2}).

The system-size expansion [vankampen2007]_ of this Markov chain, in which the state has bias :math:`b / n` and
covariance :math:`P / n` about the mean field, closes at first order. With :math:`J = (1 - w) I + w T_\eta`,

.. math:: P &\leftarrow J P J' + w^2 \left( V + \alpha^2 (1 - \alpha) T_p T_p' \right), \\
          b &\leftarrow J b + w \left( \tfrac12 T_{\eta \eta} : P + \alpha (1 - \alpha) T_p
                        + \tfrac12 \alpha^2 (1 - \alpha) T_{pp} \right).

The derivation is this project's own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxcollapse.base import Moments, Target
from jaxcollapse.gaussian.quadratic_form import Energy, energy_quantile, node_weights, tilted_normal
from jaxcollapse.gaussian.truncation import Frame, separate


class Correction(NamedTuple):
    r"""How a recursion that keeps n candidates departs from the mean field, in units of 1 / n.

    Attributes:
        mean: bias of :math:`\mu`, shape [T + 1, d].
        covariance: bias of :math:`\Sigma`, shape [T + 1, d, d].
        spread: covariance between replicates of :math:`\mu` and the upper triangle of :math:`\Sigma`, row by
            row, shape [T + 1, m, m] with m = d + d (d + 1) / 2.
    """

    mean: Float[Array, "t d"]
    covariance: Float[Array, "t d d"]
    spread: Float[Array, "t m m"]


class Response(NamedTuple):
    r"""The law of :math:`\bar h` given a model at :math:`\eta_0 + \delta`, listed by `pack`.

    Attributes:
        mean: :math:`T(\eta_0, \alpha)`, shape [m].
        slope: :math:`T_\eta`, shape [m, m].
        bias: of the mean, over the spread of models and thresholds, in units of 1 / n, shape [m].
        noise: covariance, in units of 1 / n, shape [m, m].
    """

    mean: Float[Array, " m"]
    slope: Float[Array, "m m"]
    bias: Float[Array, " m"]
    noise: Float[Array, "m m"]


def linear_noise(models: Moments, weights: Float[Array, " steps"], target: Target, budget: Array) -> Correction:
    r"""Expand the Gaussian recursion about its mean field, to first order in 1 / n.

    A recursion that keeps the best n of :math:`n / \alpha` candidates has, on average over replicates,

    .. math:: E[\mu_t] = \bar\mu_t + b_t^\mu / n + O(n^{-2}), \qquad
              E[\Sigma_t] = \bar\Sigma_t + b_t^\Sigma / n + O(n^{-2}).

    It serves while the correction is small; under replace it grows like t / n. Run it in float64, under
    `jax.enable_x64(True)`.

    Args:
        models: :math:`N(\bar\mu_t, \bar\Sigma_t)` of generations 0..T, as recorded from `mean_field`; the
            first is given without error. Leading axis [T + 1].
        weights: w of each kept set in its training set, 1 for replace and 1 / (t + 1) for accumulate.
        target: of the verifier.
        budget: :math:`\alpha` in (0, .9], shape [].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.finite_size import linear_noise
        >>> target = jc.isotropic_target(jnp.zeros(1))
        >>> models = jc.Moments(jnp.ones(2), jnp.zeros((2, 1)), jnp.ones((2, 1, 1)))
        >>> correction = jax.jit(linear_noise)(models, jnp.ones(1), target, jnp.asarray(0.5))
        >>> round(float(correction.covariance[1, 0, 0]), 2)  # of generation 1, over n
        0.12
    """
    frames = jax.vmap(separate, (0, None))(models, target)
    here = jax.tree.map(lambda leaf: leaf[:-1], frames)
    there = jax.tree.map(lambda leaf: leaf[1:], frames)

    def step(carry, inputs):
        bias, variance = carry
        here, there, w = inputs
        kept = respond(here.energy, budget, variance)
        jacobian = (1 - w) * jnp.eye(*variance.shape, dtype=variance.dtype) + w * kept.slope
        change = congruence(
            jnp.linalg.solve(there.basis, here.basis),
            jnp.linalg.solve(there.basis, here.mean - there.mean),
        )
        bias = change @ (jacobian @ bias + w * kept.bias)
        variance = change @ (jacobian @ variance @ jacobian.T + w**2 * kept.noise) @ change.T
        return (bias, variance), (bias, variance)

    dim, dtype = models.mean.shape[-1], models.mean.dtype
    size = dim + dim * (dim + 1) // 2
    exact = jnp.zeros(size, dtype), jnp.zeros((size, size), dtype)
    _, later = jax.lax.scan(step, exact, (here, there, weights))
    bias, variance = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), exact, later)
    return jax.vmap(_leave)(frames, bias, variance)


def respond(energy: Energy, budget: Array, variance: Float[Array, "m m"]) -> Response:
    r"""Expand the law of the kept set for models scattered about the standard normal.

    Relative to the standard normal, whose state is :math:`\eta_0 = I`, a model at :math:`\eta_0 + \delta` has
    the density

    .. math:: 1 + \theta \cdot (h - \eta_0) + \tfrac12 R + O(\delta^3), \qquad \theta = I^{-1} \delta,

    where I is the Fisher information :math:`\operatorname{Cov}[h]`. Averaged over :math:`\delta`, R is the
    quartic :math:`g = h' \operatorname{Var}[\theta] \, h` less its regression on 1 and h. Let E be the mean
    over the kept region, :math:`\partial f = \alpha^{-1} \partial_q E[f; e \le q]`, :math:`\rho = \partial 1`
    and :math:`k = h - T`. The threshold follows model and share by :math:`\epsilon + \epsilon_2`,

    .. math:: \rho \, \epsilon &= (p - \alpha) / \alpha - \theta \cdot (T - \eta_0), \\
              -2 \rho \, \epsilon_2 &= E[R] + 2 \, \partial(h - \eta_0) \cdot \theta \epsilon
                                       + \partial^2 1 \, \epsilon^2,

    and the mean of k over the region that it bounds, under that density and divided by :math:`p / \alpha`, is
    :math:`T_\eta \delta + T_p (p - \alpha)` with

    .. math:: T_\eta = \left( V - \rho^{-1} \partial k \, (T - \eta_0)' \right) I^{-1}, \qquad
              T_p = \partial k / (\rho \alpha),

    followed by half of

    .. math:: E[k R] + 2 \, \partial[k (h - \eta_0)'] \, \theta \epsilon + \partial^2 k \, \epsilon^2
              + 2 \, \partial k \left( \epsilon_2 - \epsilon (p - \alpha) / \alpha \right).

    Args:
        energy: of a `Frame`.
        budget: :math:`\alpha`, shape [].
        variance: P, of which :math:`\delta` has the n-th part as its covariance, shape [m, m].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.gaussian.truncation import separate
        >>> from jaxcollapse.theory.finite_size import respond
        >>> frame = separate(jc.Moments(1.0, jnp.zeros(1), jnp.eye(1)), jc.isotropic_target(jnp.zeros(1)))
        >>> response = jax.jit(respond)(frame.energy, jnp.asarray(0.5), jnp.zeros((2, 2)))
        >>> round(float(response.slope[0, 0]), 2)  # a mean off by one leads to a kept mean off by kappa
        0.14
    """
    eye = jnp.eye(energy.square.shape[-1] + 1, dtype=energy.square.dtype)
    model, fisher = pack(eye), pack(1 + eye)
    share_bias, share_variance = budget * (1 - budget), budget**2 * (1 - budget)
    theta_variance = variance / fisher / fisher[:, None]

    quantile, contour = energy_quantile(energy, budget / (1 - budget))
    z = contour.nodes
    unit = jnp.ones_like(z)
    weights = node_weights(contour, quantile) / budget

    def kept(values, edge=0):
        return jnp.tensordot(weights * z**edge, values, axes=1).real

    states = _tilted(energy, z)
    h, h_h = pack(states), _fourth(states)
    g, h_g = _quartic(states, variance)
    g_model, h_g_model = (values[0].real for values in _quartic(eye[None].astype(z.dtype), variance))

    mean, rho = kept(h), kept(unit, edge=1)
    excess = mean - model
    inside = kept(h_h) - jnp.outer(mean, mean)
    k_edge, k_edge2 = (kept(h, edge) - kept(unit, edge) * mean for edge in (1, 2))
    k_h_edge = kept(h_h, edge=1) - jnp.outer(mean, kept(h, edge=1)) - jnp.outer(k_edge, model)

    regression = (h_g_model - g_model * model) / fisher
    r = kept(g) - g_model - regression @ excess
    k_r = kept(h_g) - kept(g) * mean - inside @ regression

    theta_eps = -theta_variance @ excess / rho
    share_eps = share_variance / (budget * rho)
    eps_eps = (share_variance / budget**2 + excess @ theta_variance @ excess) / rho**2
    h_edge = k_edge + rho * excess
    twice_eps2 = -(r + 2 * h_edge @ theta_eps + kept(unit, edge=2) * eps_eps) / rho
    curve = k_r + 2 * k_h_edge @ theta_eps + k_edge2 * eps_eps + k_edge * (twice_eps2 - 2 * share_eps / budget)
    by_share = k_edge / (rho * budget)
    return Response(
        mean=mean,
        slope=(inside - jnp.outer(k_edge, excess) / rho) / fisher,
        bias=share_bias * by_share + curve / 2,
        noise=inside + share_variance * jnp.outer(by_share, by_share),
    )


def _tilted(energy: Energy, z: Complex[Array, " k"]) -> Complex[Array, "k s s"]:
    r"""Stack :math:`E[\hat w \hat w']` under the laws tilted by each node."""
    mean, variance = tilted_normal(energy, z)
    mean = jnp.pad(mean, ((0, 0), (1, 0)), constant_values=1)
    variance = jnp.pad(variance, ((0, 0), (1, 0)))
    return mean[:, :, None] * mean[:, None, :] + jax.vmap(jnp.diag)(variance)


def _fourth(states: Complex[Array, "k s s"]) -> Complex[Array, "k m m"]:
    r"""Evaluate :math:`E[h h']` of Gaussians from their states S, with :math:`m = S_{0 \cdot}`.

    By the theorem of [isserlis1918]_,

    .. math:: E[\hat x_i \hat x_j \hat x_k \hat x_l] = S_{ij} S_{kl} + S_{ik} S_{jl} + S_{il} S_{jk}
              - 2 m_i m_j m_k m_l.
    """
    i, j = _triangle(states.shape[-1])
    rows, columns = states[:, i], states[:, j]
    h, m_m = pack(states), states[:, 0, i] * states[:, 0, j]
    return (
        h[:, :, None] * h[:, None, :]
        + rows[:, :, i] * columns[:, :, j]
        + rows[:, :, j] * columns[:, :, i]
        - 2 * m_m[:, :, None] * m_m[:, None, :]
    )


def _quartic(
    states: Complex[Array, "k s s"], variance: Float[Array, "m m"]
) -> tuple[Complex[Array, " k"], Complex[Array, "k m"]]:
    r"""Evaluate :math:`E[g]` and :math:`E[h g]` of Gaussians from their states S.

    As symmetric matrices :math:`I^{-1} \delta = \delta / 2`, so :math:`g = h' I^{-1} P I^{-1} h` is the form
    :math:`P_{ijkl} / 4` of :math:`\hat x`. With Y the gradient of E[g] by S, exponential families answer by

    .. math:: E[h g] - E[h] E[g] = \operatorname{Cov}[h] \cdot Y = 2 S Y S - 2 (m' Y m) \, m m'.
    """
    size = states.shape[-1]
    form = unpack(unpack(variance).T.reshape(size * size, -1)) / 4
    form = form.reshape(size, size, size, size)
    form = (form + 2 * form.transpose(0, 2, 1, 3)).reshape(size * size, size * size)

    def mean(state):
        m_m = jnp.outer(state[0], state[0]).ravel()
        return state.ravel() @ form @ state.ravel() - 2 / 3 * (m_m @ form @ m_m)

    g, gradient = jax.vmap(jax.value_and_grad(mean, holomorphic=True))(states)
    gradient = (gradient + gradient.transpose(0, 2, 1)) / 2
    m = states[:, 0]
    along = jnp.einsum("ki,kij,kj->k", m, gradient, m)[:, None, None]
    covariance = 2 * states @ gradient @ states - 2 * along * m[:, :, None] * m[:, None, :]
    return g, pack(states) * g[:, None] + pack(covariance)


def _triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.triu_indices(size)
    return i[1:], j[1:]


def pack(state: Array) -> Array:
    r"""List :math:`\mu` and the upper triangle of :math:`E[x x']`, row by row, from the state of the model.

    Shape [..., d + 1, d + 1] becomes [..., m].

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.theory.finite_size import pack
        >>> state = jnp.array([[1, 2, 3], [2, 5, 6], [3, 6, 10]])  # one and the mean, above E[x x']
        >>> pack(state).tolist()
        [2, 3, 5, 6, 10]
    """
    i, j = _triangle(state.shape[-1])
    return state[..., i, j]


def unpack(listed: Array) -> Array:
    """Undo `pack` for a difference of states, whose first entry is zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.theory.finite_size import unpack
        >>> print(unpack(jnp.array([2, 3, 5, 6, 10])))
        [[ 0  2  3]
         [ 2  5  6]
         [ 3  6 10]]
    """
    size = int((8 * listed.shape[-1] + 9) ** 0.5 - 1) // 2
    i, j = _triangle(size)
    zero = jnp.zeros((*listed.shape[:-1], size, size), listed.dtype)
    return zero.at[..., i, j].set(listed).at[..., j, i].set(listed)


def congruence(matrix: Float[Array, "d d"], shift: Float[Array, " d"]) -> Float[Array, "m m"]:
    r"""Represent, on what `pack` lists, what :math:`x \mapsto A x + c` does to a difference.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.theory.finite_size import congruence
        >>> print(congruence(jnp.array([[3.0]]), jnp.zeros(1)))  # of x, and of its square
        [[3. 0.]
         [0. 9.]]
    """
    affine = jnp.pad(jnp.column_stack([shift, matrix]), ((1, 0), (0, 0))).at[0, 0].set(1)
    size = shift.shape[-1] * (shift.shape[-1] + 3) // 2
    return pack(affine @ unpack(jnp.eye(size, dtype=shift.dtype)) @ affine.T).T


def _leave(frame: Frame, bias: Float[Array, " m"], variance: Float[Array, "m m"]) -> Correction:
    r"""Return to the data's coordinates, and from :math:`E[x x']` to :math:`\Sigma = E[x x'] - \mu \mu'`."""
    dim = frame.mean.shape[-1]
    change = congruence(frame.basis, jnp.zeros_like(frame.mean))
    state = unpack(bias)
    covariance = state[1:, 1:] - variance[:dim, :dim]
    return Correction(
        frame.basis @ state[0, 1:],
        frame.basis @ covariance @ frame.basis.T,
        change @ variance @ change.T,
    )
