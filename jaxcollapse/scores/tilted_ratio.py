"""A log-linear density ratio from mean features."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure
from jaxcollapse.exchanges.logistic import linear_in
from jaxcollapse.linalg import newton
from jaxcollapse.measures import as_moments, share
from jaxcollapse.tree import closure


@closure
class tilted_ratio:
    r"""Score by the log ratio, linear in features, that gives the kept candidates their mean over the silos' mixture.

    `feature_means` tells it, once, for every generation. With quadratic features it is right whatever the densities as
    far as first and second moments go, unlike `moment_ratio`, and blind to everything else.

    Attributes:
        features: :math:`\phi`, from points [n, d] to [n, f].
        goal: :math:`E_Q \phi`, shape [f].
        regularisation: as in `fit_tilt`, shape [].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(jnp.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> score = jc.scores.tilted_ratio(lambda points: points, goal=jnp.array([3.0]))
        >>> int(score(jax.random.key(0), pool).value.argmax())  # the mean is to rise from 2.5 to 3
        3
    """

    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    goal: Float[Array, " f"]
    regularisation: Float[Array | float, ""] = 1e-3

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        ratio, trouble = fit_tilt(self.features, self.goal, pool, self.regularisation)
        return Counted(ratio(pool.points), trouble)


def fit_tilt(
    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]],
    goal: Float[Array, " f"],
    pool: Measure,
    regularisation: Float[Array | float, ""] = 1e-3,
) -> Counted:
    r"""Tilt the pool until its features have a given mean: the log-linear density ratio of [tsuboi2009]_.

    .. math:: \min_\theta \; \log E_P e^{\theta'\phi} - \theta' E_Q \phi + \tfrac{\lambda}{2} \lVert \theta \rVert^2,

    convex, and at its minimum :math:`E_P[\phi e^{\theta'\phi}] / E_P[e^{\theta'\phi}] = E_Q \phi - \lambda \theta`.

    Args:
        features: :math:`\phi`.
        goal: :math:`E_Q \phi`.
        pool: P.
        regularisation: :math:`\lambda`, which keeps :math:`\theta` finite where no tilt of the pool reaches the goal.

    Returns:
        The log ratio, `linear_in` features, and whether the fit has not converged.
    """
    phi, log_p = features(pool.points), jnp.log(share(pool.weights))
    damping = regularisation * jnp.eye(len(goal), dtype=phi.dtype)

    def objective(u, theta):
        return jax.nn.logsumexp(u) - theta @ goal + regularisation / 2 * theta @ theta

    def derivatives(u, theta, _):
        tilted = as_moments(Measure(phi, jax.nn.softmax(u)))
        return tilted.mean - goal + regularisation * theta, tilted.covariance + damping

    theta, trouble = newton(phi, log_p, jnp.zeros_like(goal), objective, derivatives)
    return Counted(linear_in(theta, features), trouble)
