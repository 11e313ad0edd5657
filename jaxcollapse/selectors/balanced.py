r"""Balanced selection [deville2004]_: the kept set has given mean features and, for that, has high scores.

Candidate i has a score :math:`s_i`, and is kept with the probability :math:`p_i` of

.. math:: \max_p \; \sum_i H(p_i) + \beta \sum_i p_i s_i
          - \frac n2 \sum_j \frac{1}{\lambda_j} \Big( \tfrac1n \sum_i p_i \phi_j(x_i) - g_j \Big)^2
          \quad \text{so that} \quad \sum_i p_i = n,

with H the entropy of a coin. Multipliers of the goals make them :math:`p_i = \sigma(\beta s_i + \theta' \phi(x_i))`. As
:math:`\lambda \to 0` goals are met exactly where they can be; as :math:`\beta \to \infty` the kept set becomes that of
highest score among those that meet them, a linear program. A density ratio gives draws with replacement these means; n
of 4 n candidates without replacement miss them, since none is kept twice. Derived here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure, Parties, Score, Sizes, together
from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import carry_out, kernel_densities
from jaxcollapse.features import kernel_features
from jaxcollapse.linalg import newton
from jaxcollapse.measures import compact, share
from jaxcollapse.selectors.budget import below_all, check_score, is_finite, pareto, random, scored
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import closure, static

Scalar = Float[Array | float, ""]


class Goal(NamedTuple):
    r"""Mean features that the kept set should have.

    Attributes:
        features: :math:`\phi`, from points [n, d] to [n, f].
        mean: g, shape [f].
        slack: :math:`\lambda`, positive: the price of a squared miss is :math:`n / 2 \lambda`, shape [f].
    """

    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    mean: Float[Array, " f"]
    slack: Float[Array, " f"]


@closure
class feature_goal:
    r"""Ask for mean features between the pool's and the silos', :math:`(1 - \gamma) E_P \phi + \gamma E_Q \phi`.

    Attributes:
        features: :math:`\phi`, from points [n, d] to [n, f].
        mean: :math:`E_Q \phi`, as `feature_means` tells it, shape [f].
        slack: :math:`\lambda`, shape [].
        pull: :math:`\gamma`, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> goal = jc.selectors.feature_goal(lambda points: points, mean=np.array([4.5]), pull=0.5)
        >>> float(goal(jax.random.key(0), pool).mean[0])  # half way from the pool's 2.5 to 4.5
        3.5
    """

    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    mean: Float[Array, " f"]
    slack: Scalar = 1e-3
    pull: Scalar = 1.0

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Goal:
        mean = self.pull * self.mean + (1 - self.pull) * (share(pool.weights) @ self.features(pool.points))
        return Goal(self.features, mean, jnp.full_like(mean, self.slack))


@closure
class kernel_goal:
    r"""Ask for a small maximum mean discrepancy from the silos' mixture, over functions spanned by `kernel_features`.

    The landmarks are candidates, drawn anew for each pool, and every silo tells its mean kernel at them.

    Attributes:
        silos: stacked, [K, m, d].
        width: of the kernel, in squared units of the data, shape [].
        slack: :math:`\lambda`, shape [].
        num_landmarks: l, at most as many as there are candidates.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> goal = jc.selectors.kernel_goal(silos, width=1.0, num_landmarks=3)
        >>> goal(jax.random.key(0), pool).mean.shape
        (3,)
    """

    silos: Measure | Parties
    width: Scalar
    slack: Scalar = 3e-4
    num_landmarks: int = static(default=200)

    def __post_init__(self):
        check_range("num_landmarks", self.num_landmarks, low=1)

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Goal:
        size = sizes(min(self.num_landmarks, len(pool.weights)))
        drawn = compact(pool._replace(weights=random()(key, pool, size).value), size.max_kept)
        features = kernel_features(drawn.points, self.width)
        told = carry_out(kernel_densities(self.width), key, drawn, self.silos)
        mean = features.whitened(jnp.exp(told)[None])[0]
        return Goal(features, mean, jnp.full_like(mean, self.slack))


def fit_odds(
    goals: Sequence[Goal],
    pool: Measure,
    offset: Float[Array, " n"],
    num_kept: Scalar,
    num_iterations: int = 60,
) -> Counted:
    r"""Find the multipliers of the log odds :math:`u = o + \theta_0 + \phi \theta` above, by Newton's method.

    .. math:: \min_\theta \; \tfrac1n \sum_i w_i \log(1 + e^{u_i}) - \theta_0 - \theta' g
              + \tfrac12 \sum_j \lambda_j \theta_j^2,

    convex, and at its minimum :math:`\tfrac1n \sum_i w_i \sigma(u_i) \phi_i = g - \lambda \theta`. The bound on its
    curvature is that of [jaakkola2000]_.

    Args:
        goals: features, their goals and slacks.
        pool: candidates, with masses w.
        offset: o, :math:`\beta s`.
        num_kept: n, less than the mass.
        num_iterations: steps.

    Returns:
        :math:`(\theta_0, \theta)`, shape [1 + f], and whether the fit has not converged.
    """
    phi, mass = features_of(goals, pool.points), pool.weights
    mean = jnp.concatenate([jnp.ones(1, phi.dtype), *(goal.mean for goal in goals)])
    slack = jnp.concatenate([jnp.zeros(1, phi.dtype), *(goal.slack for goal in goals)])

    def objective(u, theta):
        return mass @ jax.nn.softplus(u) / num_kept - theta @ mean + slack @ theta**2 / 2

    def derivatives(u, theta, bounded):
        p = jax.nn.sigmoid(u)
        gradient = (mass * p) @ phi / num_kept - mean + slack * theta
        half = jnp.maximum(jnp.abs(u) / 2, 1e-3)
        curvature = jnp.where(bounded, jnp.tanh(half) / (4 * half), p * (1 - p))
        return gradient, ((mass * curvature / num_kept)[:, None] * phi).T @ phi + jnp.diag(slack)

    start = jnp.zeros_like(mean).at[0].set(intercept(offset, mass, num_kept))
    return Counted(*newton(phi, offset, start, objective, derivatives, num_iterations))


def features_of(goals: Sequence[Goal], points: Float[Array, "n d"]) -> Float[Array, "n f"]:
    """List one and the features of all goals."""
    return jnp.concatenate([jnp.ones_like(points[:, :1]), *(goal.features(points) for goal in goals)], axis=1)


def intercept(offset: Float[Array, " n"], mass: Float[Array, " n"], num_kept: Scalar) -> Float[Array, ""]:
    r"""Solve :math:`\sum_i w_i \sigma(o_i + \theta_0) = n` by bisection."""
    alike = jnp.log(num_kept / (mass.sum() - num_kept))
    low = alike - jnp.max(offset, where=mass > 0, initial=-jnp.inf)
    high = alike - jnp.min(offset, where=mass > 0, initial=jnp.inf)

    def halve(_, ends):
        middle = (ends[0] + ends[1]) / 2
        few = mass @ jax.nn.sigmoid(offset + middle) < num_kept
        return jnp.where(few, middle, ends[0]), jnp.where(few, ends[1], middle)

    low, high = jax.lax.fori_loop(0, 40, halve, (low, high))
    return (low + high) / 2


@closure
class balanced:
    r"""Keep n candidates of high score whose mean features meet goals.

    Candidates are kept with the probabilities above, n at a time, by Pareto sampling [rosen1997]_. A score alone trims
    the outskirts of the data, and the variance with them. Moments as goals keep the variance, a kernel's mean keeps the
    shape, and the score, such as `kernel_ratio`, keeps lone junk out, which no goal sees.

    Attributes:
        goals: `feature_goal` and `kernel_goal`, or other functions from key and pool to `Goal`.
        score: s, of candidates; None where goals are all that matters.
        strength: :math:`\beta`, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> goal = jc.selectors.feature_goal(lambda points: points, mean=np.array([3.5]))
        >>> print(jc.selectors.balanced([goal])(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 0. 1. 1.]
    """

    goals: Sequence[Callable[[Key[Array, ""], Measure], Goal]]
    score: Score | None = None
    strength: Scalar = 1.0

    def __post_init__(self):
        if self.score is not None:
            check_score(self.score)

        if not isinstance(self.goals, Sequence) or not self.goals:
            raise ValueError("goals: must be a sequence of one goal or more, as feature_goal(features, mean) makes it")

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        return self.draw(key, self.log_odds(key, pool, sizes), pool, sizes)

    def draw(self, key: Key[Array, ""], log_odds: Counted, pool: Measure, sizes: Sizes) -> Counted:
        """Keep n candidates with these log odds."""
        *_, draw_key = jax.random.split(key, 3)
        return pareto(draw_key, log_odds.value, pool, sizes, log_odds.trouble)

    def log_odds(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        """Compute those with which candidates are kept; NaN where one is not finite, or its score is not."""
        score_key, goal_key, _ = jax.random.split(key, 3)
        nothing = Counted(jnp.zeros_like(pool.weights), {})
        score, trouble = nothing if self.score is None else scored(self.score, score_key, pool)
        known = jnp.isfinite(score) & is_finite(pool)
        there = Measure(jnp.where(known[:, None], pool.points, 0), jnp.where(known, pool.weights, 0))
        goals, offset = self.asked(goal_key, there), jnp.where(known, self.strength * score, 0)
        theta, unconverged = fit_odds(goals, there, offset, below_all(sizes, there))
        log_odds = jnp.where(known, offset + features_of(goals, there.points) @ theta, jnp.nan)
        return Counted(log_odds, together([trouble, unconverged]))

    def asked(self, key: Key[Array, ""], pool: Measure) -> list[Goal]:
        """Ask every goal, of a pool."""
        keys = jax.random.split(key, len(self.goals))
        return [goal(key, pool) for goal, key in zip(self.goals, keys, strict=True)]
