r"""What a finite number of kept candidates changes: the first correction to the mean field.

The state of a Gaussian model is the second moment :math:`\eta = E[h]`, :math:`h = \hat x \hat x'`, of
:math:`\hat x = (1, x)`: its mean and its raw second moment in one symmetric matrix. In this state every workflow
that gives the batch the weight w in its training set is linear, so that selection alone makes noise into bias:

.. math:: \eta \leftarrow (1 - w) \eta + w \bar h, \qquad \bar h = \tfrac1n \textstyle\sum_{i \le n} h(x_i).

Given the model and the share :math:`p = P(e \le q)` of candidates better than the best one that is not kept, the
kept points are independent draws from the model truncated to :math:`\{e \le q\}`, with mean :math:`T(\eta, p)` and
covariance V of h; and :math:`p \sim \mathrm{Beta}(n + 1, N - n)`, whatever the model, so that

.. math:: E[p] = \alpha + \alpha (1 - \alpha) / n + O(n^{-2}), \qquad
          \operatorname{Var}[p] = \alpha^2 (1 - \alpha) / n + O(n^{-2}).

The system-size expansion [vankampen2007]_ of this Markov chain, in which the state has the bias :math:`b / n` and
the covariance :math:`P / n` about the mean field, closes at first order: with :math:`J = (1 - w) I + w T_\eta`,

.. math:: P &\leftarrow J P J' + w^2 \left( V + \alpha^2 (1 - \alpha) T_p T_p' \right), \\
          b &\leftarrow J b + w \left( \tfrac12 T_{\eta \eta} : P + \alpha (1 - \alpha) T_p
                        + \tfrac12 \alpha^2 (1 - \alpha) T_{pp} \right).

The derivation is this project's own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Moments, Target
from jaxcollapse.theory.quadratic_form import Energy, energy_quantile
from jaxcollapse.theory.truncation import Frame, separate


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
    r"""The law of :math:`\bar h` given the model, to first order in 1 / n.

    Attributes:
        mean: :math:`T`, shape [m].
        slope: :math:`T_\eta`, shape [m, m].
        bias: of the mean, from the spread of models and of the threshold, shape [m].
        noise: covariance, shape [m, m].
    """

    mean: Float[Array, " m"]
    slope: Float[Array, "m m"]
    bias: Float[Array, " m"]
    noise: Float[Array, "m m"]


def linear_noise(
    models: Moments, weights: Float[Array, " t"], target: Target, budget: Array
) -> Correction:
    r"""Expand the Gaussian recursion about its mean field, to first order in 1 / n.

    A recursion that keeps the best n of :math:`n / \alpha` candidates has, on average over replicates,

    .. math:: E[\mu_t] = \bar\mu_t + b_t^\mu / n + O(n^{-2}), \qquad
              E[\Sigma_t] = \bar\Sigma_t + b_t^\Sigma / n + O(n^{-2}).

    It serves while the correction is small; under replace it grows like t / n. Run it in float64, under
    `jax.enable_x64(True)`.

    Args:
        models: :math:`N(\bar\mu_t, \bar\Sigma_t)` of generations 0..T as recorded from `mean_field`, the first
            of which is given without error. Leading axis [T + 1].
        weights: w of each batch in its training set: 1 for replace, 1 / (t + 1) for accumulate.
        target: of the verifier.
        budget: :math:`\alpha` in (0, 1), shape [].
    """
    frames = jax.vmap(separate, (0, None))(models, target)
    here = jax.tree.map(lambda leaf: leaf[:-1], frames)
    there = jax.tree.map(lambda leaf: leaf[1:], frames)

    def step(carry, inputs):
        bias, variance = carry
        here, there, w = inputs
        batch = respond(here.energy, budget, variance)
        jacobian = (1 - w) * jnp.eye(*variance.shape, dtype=variance.dtype) + w * batch.slope
        change = congruence(
            jnp.linalg.solve(there.basis, here.basis),
            jnp.linalg.solve(there.basis, here.mean - there.mean),
        )
        bias = change @ (jacobian @ bias + w * batch.bias)
        variance = change @ (jacobian @ variance @ jacobian.T + w**2 * batch.noise) @ change.T
        return (bias, variance), (bias, variance)

    dim, dtype = models.mean.shape[-1], models.mean.dtype
    size = dim + dim * (dim + 1) // 2
    exact = jnp.zeros(size, dtype), jnp.zeros((size, size), dtype)
    _, later = jax.lax.scan(step, exact, (here, there, weights))
    bias, variance = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), exact, later)
    return jax.vmap(_leave)(frames, bias, variance)


def respond(energy: Energy, budget: Array, variance: Float[Array, "m m"]) -> Response:
    r"""Expand the law of the batch for models scattered about the standard normal, :math:`\eta_0 = I`.

    The density of a model at :math:`\eta_0 + \delta`, relative to that at :math:`\eta_0`, is

    .. math:: 1 + \theta \cdot (h - \eta_0) + \tfrac12 R + O(\delta^3), \qquad \theta = I^{-1} \delta,

    with the Fisher information :math:`I = \operatorname{Cov}_0[h]`. Averaged over :math:`\delta`, of covariance P, R is
    the quartic :math:`g = h' I^{-1} P I^{-1} h` less its regression on 1 and h under the standard normal. Let E be
    the mean over the kept region, :math:`\partial` its derivative by q at a fixed model and without normalisation,
    :math:`k = h - T` and :math:`\rho = \partial 1`. From :math:`P(e \le q) = p` the threshold moves by

    .. math:: \epsilon = \rho^{-1} \left( (p - \alpha) / \alpha - \theta \cdot (T - \eta_0) \right) + O(\delta^2),

    and T to second order by the mean of
    :math:`k (1 + \theta \cdot (h - \eta_0) + \tfrac12 R)` over the region so enlarged, divided by :math:`p / \alpha`.

    Args:
        energy: of a `Frame`.
        budget: :math:`\alpha`, shape [].
        variance: P, shape [m, m].
    """
    dim, dtype = energy.scale.shape[-1], energy.scale.dtype
    quantile, contour = energy_quantile(energy, budget)
    share_bias, share_variance = budget * (1 - budget), budget**2 * (1 - budget)
    z = contour.nodes
    weight = jnp.exp(contour.log_weights + z * quantile) / budget

    def mean(values, order=0):
        return jnp.tensordot(weight * z**order, values, axes=1).real

    tilted = _tilted(energy, z)
    h = pack(tilted)
    model = jnp.eye(dim + 1, dtype=dtype)
    fisher = pack(1 + model)
    unit = jnp.ones_like(z)

    kept, edge = mean(h), mean(h, 1)
    rho = mean(unit, 1)
    excess = kept - pack(model)
    second, second_edge = mean(_fourth(tilted)), mean(_fourth(tilted), 1)
    inside = second - jnp.outer(kept, kept)
    k_edge = edge - rho * kept
    k_edge2 = mean(h, 2) - mean(unit, 2) * kept
    k_h_edge = second_edge - jnp.outer(kept, edge) - jnp.outer(k_edge, pack(model))

    natural = variance / fisher / fisher[:, None]
    g, h_g = _quartic(tilted, variance)
    g_model, h_g_model = _quartic(model[None].astype(z.dtype), variance)
    regression = (h_g_model[0] - g_model[0] * pack(model)).real / fisher
    r = mean(g) - g_model[0].real - regression @ excess
    k_r = mean(h_g) - mean(g) * kept - inside @ regression

    theta_eps = -natural @ excess / rho
    share_eps = share_variance / (budget * rho)
    eps_variance = (share_variance / budget**2 + excess @ natural @ excess) / rho**2
    eps_bias = -(r + 2 * (edge - rho * pack(model)) @ theta_eps + mean(unit, 2) * eps_variance) / rho
    curve = (
        k_r
        + 2 * k_h_edge @ theta_eps
        + k_edge2 * eps_variance
        + k_edge * (eps_bias - 2 * share_eps / budget)
    )
    by_share = k_edge / (rho * budget)
    return Response(
        mean=kept,
        slope=(inside - jnp.outer(k_edge, excess) / rho) / fisher,
        bias=share_bias * by_share + curve / 2,
        noise=inside + share_variance * jnp.outer(by_share, by_share),
    )


def _tilted(energy: Energy, z: Array) -> Array:
    r"""Stack :math:`E[\hat w \hat w']` under the laws tilted by each node, shape [k, d + 1, d + 1]."""
    denominator = 1 + 2 * z[:, None] * energy.scale**2
    mean = -2 * z[:, None] * energy.scale * energy.offset / denominator
    both = jnp.concatenate([jnp.ones_like(mean[:, :1]), mean], axis=1)
    variance = jnp.concatenate([jnp.zeros_like(mean[:, :1]), 1 / denominator], axis=1)
    return both[:, :, None] * both[:, None, :] + jax.vmap(jnp.diag)(variance)


def _fourth(s: Array) -> Array:
    r"""Evaluate :math:`E[h h']` of Gaussians by Isserlis' theorem, from :math:`S = E[\hat x \hat x']`.

    .. math:: E[\hat x_i \hat x_j \hat x_k \hat x_l] = S_{ij} S_{kl} + S_{ik} S_{jl} + S_{il} S_{jk}
              - 2 m_i m_j m_k m_l, \qquad m = S_{0 \cdot}.
    """
    i, j = _triangle(s.shape[-1])
    rows, columns = s[:, i], s[:, j]
    h, mm = pack(s), s[:, 0, i] * s[:, 0, j]
    return (
        h[:, :, None] * h[:, None, :]
        + rows[:, :, i] * columns[:, :, j]
        + rows[:, :, j] * columns[:, :, i]
        - 2 * mm[:, :, None] * mm[:, None, :]
    )


def _quartic(s: Array, variance: Float[Array, "m m"]) -> tuple[Array, Array]:
    r"""Evaluate :math:`E[g]` and :math:`E[h g]` of Gaussians, :math:`g = h' I^{-1} P I^{-1} h`.

    As symmetric matrices :math:`I^{-1} \delta = \delta / 2`, so g is the form :math:`\tfrac14 P_{ijkl}` of
    :math:`\hat x`. With Y the gradient of :math:`G(S) = E[g]`, the response of an exponential family is

    .. math:: E[h g] - E[h] E[g] = \operatorname{Cov}[h] \cdot Y = 2 S Y S - 2 (m' Y m) m m'.
    """
    size = s.shape[-1]
    form = unpack(unpack(variance).T.reshape(size * size, -1)) / 4
    form = form.reshape(size, size, size, size)
    form = (form + 2 * form.transpose(0, 2, 1, 3)).reshape(size * size, size * size)

    def value(s):
        mm = jnp.outer(s[0], s[0]).ravel()
        return s.ravel() @ form @ s.ravel() - 2 / 3 * (mm @ form @ mm)

    g, y = jax.vmap(jax.value_and_grad(value, holomorphic=True))(s)
    y = (y + y.transpose(0, 2, 1)) / 2
    m = s[:, 0]
    along = jnp.einsum("ki,kij,kj->k", m, y, m)[:, None]
    return g, pack(s) * g[:, None] + 2 * pack(s @ y @ s) - 2 * along * pack(m[:, :, None] * m[:, None, :])


def _triangle(size: int) -> tuple[Array, Array]:
    i, j = jnp.triu_indices(size)
    return i[1:], j[1:]


def pack(state: Float[Array, "*stack s s"]) -> Float[Array, "*stack m"]:
    r"""List :math:`\mu` and the upper triangle of :math:`E[x x']`, row by row, from :math:`E[\hat x \hat x']`."""
    i, j = _triangle(state.shape[-1])
    return state[..., i, j]


def unpack(listed: Float[Array, "*stack m"]) -> Float[Array, "*stack s s"]:
    r"""Undo `pack` for a deviation, which has zero where :math:`E[\hat x \hat x']` has one."""
    size = round((8 * listed.shape[-1] + 9) ** 0.5 - 1) // 2
    i, j = _triangle(size)
    zero = jnp.zeros((*listed.shape[:-1], size, size), listed.dtype)
    return zero.at[..., i, j].set(listed).at[..., j, i].set(listed)


def congruence(matrix: Float[Array, "d d"], shift: Float[Array, " d"]) -> Float[Array, "m m"]:
    r"""Represent, on what `pack` lists, how :math:`x \mapsto A x + c` changes deviations of :math:`E[\hat x \hat x']`."""
    dim = shift.shape[-1]
    first = jnp.eye(1, dim + 1, dtype=shift.dtype)
    affine = jnp.concatenate([first, jnp.concatenate([shift[:, None], matrix], axis=1)])
    unit = jnp.eye(dim + dim * (dim + 1) // 2, dtype=shift.dtype)
    return pack(affine @ unpack(unit) @ affine.T).T


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
