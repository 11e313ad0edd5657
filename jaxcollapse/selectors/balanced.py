r"""Balanced selection [deville2004]_: the kept set has given mean features and, for that, lies near the silos' data.

Candidate i has a standardised nearness :math:`s_i`, and is kept with the probability :math:`p_i` of

.. math:: \max_p \; \sum_i H(p_i) + \beta \sum_i p_i s_i
          \quad \text{so that} \quad \sum_i p_i = n, \quad \tfrac1n \sum_i p_i \phi(x_i) = g,

with H the entropy of a coin. Lagrange's multipliers make them :math:`p_i = \sigma(\beta s_i + \theta' \phi(x_i))`. At
:math:`\beta = 0` nothing but the moments is asked for; as :math:`\beta \to \infty` it becomes the linear program that
finds, of all sets with these moments, the nearest. A density ratio gives draws with replacement these moments; n
of 4 n candidates without replacement miss them, since none is kept twice. Derived here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Controls, Measure, SelectFn
from jaxcollapse.measures import as_moments
from jaxcollapse.selectors.aggregate import keep_highest
from jaxcollapse.selectors.density_ratio import FeatureMean, Features, quadratic_features, server_mean
from jaxcollapse.transport.sinkhorn import Potentials


class Nearness(NamedTuple):
    """The reference of `balanced`.

    Attributes:
        messages: of the silos, stacked [K]: their mean features.
        potentials: of the pool towards their mixture, as the reference `mixture` shows them, f of shape [1, n].
    """

    messages: FeatureMean
    potentials: Potentials


def inclusion_logits(
    phi: Float[Array, "n f"],
    goal: Float[Array, " f"],
    offset: Float[Array, " n"],
    mass: Float[Array, " n"],
    num_kept: Float[Array | float, ""],
    regularisation: Float[Array | float, ""] = 1e-3,
    num_iterations: int = 20,
) -> Float[Array, " n"]:
    r"""Find the log odds :math:`u = o + \phi \theta` at which the candidates that are kept have given mean features.

    .. math:: \min_\theta \; \tfrac1n \sum_i w_i \log(1 + e^{u_i}) - \theta' g
              + \tfrac{\lambda}{2} \sum_{j > 0} \theta_j^2,

    convex, and at its minimum :math:`\tfrac1n \sum_i w_i \sigma(u_i) \phi_i = g - \lambda (0, \theta_1, \dots)`.
    Newton's method, each step cut by halves until the objective falls.

    Args:
        phi: features of the candidates, the first of them one.
        goal: g, the first of it one.
        offset: o.
        mass: w, zero for padding.
        num_kept: n, less than the mass.
        regularisation: :math:`\lambda`; equivalently, instead of a constraint, a penalty of :math:`n / 2 \lambda` times
            the squared distance from the goal.
        num_iterations: Newton steps.
    """
    lengths = jnp.append(2.0 ** -jnp.arange(12.0), 0).astype(phi.dtype)
    damping = regularisation * jnp.eye(len(goal), dtype=phi.dtype)

    def objective(u, theta):
        return mass @ jax.nn.softplus(u) / num_kept - theta @ goal + regularisation / 2 * theta[1:] @ theta[1:]

    def newton(_, theta):
        u = offset + phi @ theta
        p = jax.nn.sigmoid(u)
        gradient = (mass * p) @ phi / num_kept - goal + regularisation * theta.at[0].set(0)
        hessian = ((mass * p * (1 - p) / num_kept)[:, None] * phi).T @ phi + damping
        step = -jnp.linalg.solve(hessian, gradient)
        trials = jax.vmap(objective)(u + lengths[:, None] * (phi @ step), theta + lengths[:, None] * step)
        return theta + lengths[jnp.argmin(trials)] * step

    odds = num_kept / jnp.maximum(mass.sum() - num_kept, 1)
    theta = jax.lax.fori_loop(0, num_iterations, newton, jnp.zeros_like(goal).at[0].set(jnp.log(odds)))
    return offset + phi @ theta


def balanced(
    features: Features, max_kept: int, strength: float = 2.0, pull: float = 0.25, regularisation: float = 1e-3
) -> SelectFn:
    r"""Keep n candidates near the silos' data, with mean features between those of the pool and of the silos.

    .. math:: g = (1 - \gamma) E_P \phi + \gamma E_Q \phi.

    Candidates are kept with the probabilities above, n at a time, by Pareto sampling [rosen1997]_: the n highest of log
    odds plus logistic noise. Nearness is :math:`s_i = (\bar f - f_i) / \operatorname{sd} f`, with f the transport
    potentials towards the silos' mixture. The potential alone trims the outskirts of the data, and the variance with
    them; here the variance stays between the pool's and the silos', and what the pool lacks comes back generation by
    generation, by :math:`\gamma` of the rest. The reference is a `Nearness`.

    Args:
        features: the same as in the messages, without a bound, so that the first is one.
        max_kept: static bound on `controls.num_kept`.
        strength: :math:`\beta`.
        pull: :math:`\gamma`. Precision wants little of it where the generator's samples are too narrow.
        regularisation: as in `inclusion_logits`.
    """

    def select(key, pool: Measure, references: Nearness, controls: Controls) -> Float[Array, " n"]:
        f = references.potentials.f[0]
        about = as_moments(Measure(f[:, None], pool.weights))
        spread = jnp.sqrt(about.covariance[0, 0])
        near = (about.mean - f) / jnp.where(spread > 0, spread, 1)
        phi, num_kept = quadratic_features(features, pool.points), controls.num_kept.astype(pool.points.dtype)
        goal = pull * server_mean(references.messages) + (1 - pull) * (pool.weights @ phi) / pool.weights.sum()
        logits = inclusion_logits(phi, goal, strength * near, pool.weights, num_kept, regularisation)
        noise = jax.random.logistic(key, logits.shape, logits.dtype)
        return keep_highest(logits + noise, pool, controls.num_kept, max_kept)

    return select
