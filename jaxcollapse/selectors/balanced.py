r"""Balanced selection [deville2004]_: the kept set has given mean features and, for that, has high scores.

Candidate i has a standardised score :math:`s_i`, and is kept with the probability :math:`p_i` of

.. math:: \max_p \; \sum_i H(p_i) + \beta \sum_i p_i s_i
          \quad \text{so that} \quad \sum_i p_i = n, \quad \tfrac1n \sum_i p_i \phi(x_i) = g,

with H the entropy of a coin. Lagrange's multipliers make them :math:`p_i = \sigma(\beta s_i + \theta' \phi(x_i))`. At
:math:`\beta = 0` nothing but the moments is asked for; as :math:`\beta \to \infty` it becomes the linear program that
finds, of all sets with these moments, that of highest score. A density ratio gives draws with replacement these
moments; n of 4 n candidates without replacement miss them, since none is kept twice. Derived here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure, Score, Sizes
from jaxcollapse.linalg import newton
from jaxcollapse.measures import as_moments, share
from jaxcollapse.selectors.budget import check_score, is_finite, keep_highest, scored
from jaxcollapse.tree import closure

Scalar = Float[Array | float, ""]


def inclusion_logits(
    phi: Float[Array, "n f"],
    goal: Float[Array, " f"],
    offset: Float[Array, " n"],
    mass: Float[Array, " n"],
    num_kept: Scalar,
    regularisation: Scalar = 1e-3,
    num_iterations: int = 20,
) -> Float[Array, " n"]:
    r"""Find the log odds :math:`u = o + \phi \theta` at which the candidates that are kept have given mean features.

    .. math:: \min_\theta \; \tfrac1n \sum_i w_i \log(1 + e^{u_i}) - \theta' g
              + \tfrac{\lambda}{2} \sum_{j > 0} \theta_j^2,

    convex, and at its minimum :math:`\tfrac1n \sum_i w_i \sigma(u_i) \phi_i = g - \lambda (0, \theta_1, \dots)`.

    Args:
        phi: features of the candidates, the first of them one.
        goal: g, the first of it one.
        offset: o.
        mass: w, zero for padding.
        num_kept: n, less than the mass.
        regularisation: :math:`\lambda`; equivalently, instead of a constraint, a penalty of :math:`n / 2 \lambda` times
            the squared distance from the goal.
        num_iterations: steps of Newton's method.
    """
    damping = regularisation * jnp.eye(len(goal), dtype=phi.dtype)

    def objective(u, theta):
        return mass @ jax.nn.softplus(u) / num_kept - theta @ goal + regularisation / 2 * theta[1:] @ theta[1:]

    def derivatives(u, theta):
        p = jax.nn.sigmoid(u)
        gradient = (mass * p) @ phi / num_kept - goal + regularisation * theta.at[0].set(0)
        return gradient, ((mass * p * (1 - p) / num_kept)[:, None] * phi).T @ phi + damping

    start = jnp.zeros_like(goal).at[0].set(jnp.log(num_kept / jnp.maximum(mass.sum() - num_kept, 1)))
    return offset + phi @ newton(phi, offset, start, objective, derivatives, num_iterations)


@closure
class balanced:
    r"""Keep n candidates of high score, with mean features between those of the pool and a goal.

    .. math:: g = (1 - \gamma) E_P \phi + \gamma E_Q \phi.

    Candidates are kept with the probabilities above, n at a time, by Pareto sampling [rosen1997]_: the n highest of log
    odds plus logistic noise. Nearness :math:`s_i` is the standardised score, such as `exchanged_gradient` towards the
    silos' mixture. The score alone trims the outskirts of the data, and the variance with them; here the variance stays
    between the pool's and the silos', and what the pool lacks comes back generation by generation, by :math:`\gamma` of
    the rest.

    Attributes:
        score: of candidates.
        features: :math:`\phi`, the first of them one.
        goal: :math:`E_Q \phi`, as `feature_means` tells it, shape [f].
        strength: :math:`\beta`, shape [].
        pull: :math:`\gamma`, shape []. Precision wants little of it where the generator's samples are too narrow.
        regularisation: as in `inclusion_logits`, shape [].
    """

    score: Score
    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    goal: Float[Array, " f"]
    strength: Scalar = 2.0
    pull: Scalar = 0.25
    regularisation: Scalar = 1e-3

    def __post_init__(self):
        check_score(self.score)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        score, trouble = scored(self.score, key, pool)
        known = jnp.isfinite(score) & is_finite(pool)
        mass = jnp.where(known, pool.weights, 0)
        near = standardised(jnp.where(known, score, 0), mass)
        phi = jnp.where(known[:, None], self.features(pool.points), 0)
        goal = self.pull * self.goal + (1 - self.pull) * (share(mass) @ phi)
        num_kept = sizes.num_kept.astype(phi.dtype)
        logits = inclusion_logits(phi, goal, self.strength * near, mass, num_kept, self.regularisation)
        noise = jax.random.logistic(key, logits.shape, logits.dtype)
        return keep_highest(jnp.where(known, logits + noise, jnp.nan), pool, sizes, trouble)


def standardised(score: Float[Array, " n"], mass: Float[Array, " n"]) -> Float[Array, " n"]:
    """Shift and scale a score to mean zero and variance one over the candidates with mass."""
    about = as_moments(Measure(score[:, None], mass))
    spread = jnp.sqrt(about.covariance[0, 0])
    return (score - about.mean) / jnp.where(spread > 0, spread, 1)
