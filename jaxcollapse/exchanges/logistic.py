r"""The log density ratio of the silos' mixture Q to the pool P, fitted by exchanged gradients [sugiyama2012]_."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_range
from jaxcollapse.tree import closure, static

Scalar = Float[Array | float, ""]


class Gradient(NamedTuple):
    """All that a silo tells the server in one round.

    Attributes:
        gradient: of the silo's summed loss, shape [f].
        curvature: bound on that of the loss, shape [].
        mass: of the silo, shape [].
    """

    gradient: Float[Array, "*stack f"]
    curvature: Float[Array, "*stack"]
    mass: Float[Array, "*stack"]


class Lifted(NamedTuple):
    """A measure in its features, lifted once, before the rounds.

    Attributes:
        features: of its points, shape [n, f].
        weights: shape [n].
        curvature: of its loss, shape [].
    """

    features: Float[Array, "n f"]
    weights: Float[Array, " n"]
    curvature: Float[Array, ""]


class Server(NamedTuple):
    """What the server keeps between rounds.

    Attributes:
        pool: lifted.
        theta: the coefficients that the silos are asked about, shape [f].
        previous: the last point that a gradient step reached, shape [f].
        age: rounds since the momentum was last reset, shape [].
    """

    pool: Lifted
    theta: Float[Array, " f"]
    previous: Float[Array, " f"]
    age: Int[Array, ""]


@closure
class linear_in:
    r"""A function of points that is linear in their features, :math:`\theta' \phi(x)`.

    Attributes:
        theta: coefficients, shape [f].
        features: :math:`\phi`.
    """

    theta: Float[Array, " f"]
    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]

    def __call__(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return self.features(points) @ self.theta


@closure
class logistic(Exchange):
    r"""Fit the log ratio that tells the silos' mixture from the pool best; the result evaluates it, `linear_in`.

    .. math:: J(\theta) = \tfrac12 E_Q \log(1 + e^{-\theta'\phi}) + \tfrac12 E_P \log(1 + e^{\theta'\phi})
              + \tfrac{\lambda}{2} \sum_{j > 0} \theta_j^2.

    Both classes weigh one half, so that :math:`\theta'\phi` estimates log dQ/dP itself, without an offset for sizes.
    Each round is one step of Nesterov's method [nesterov1983]_, momentum reset where it points uphill
    [odonoghue2015]_. At theta = 0 a silo's gradient is its mean features; later ones are further moments, weighted by
    the logistic curve: a silo of few points is exposed by enough rounds.

    Attributes:
        features: :math:`\phi`, from points [n, d] to [n, f], the first of them one; which the server tells the silos.
        regularisation: :math:`\lambda`, shape [].
        num_rounds: gradients asked of each silo; the most skewed silos need the most.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(jnp.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(jnp.array([[[4.0]], [[5.0]]]))
        >>> exchange = jc.exchanges.logistic(lambda points: jnp.append(points**0, points, axis=1))
        >>> ratio = jc.carry_out(exchange, jax.random.key(0), pool, silos)
        >>> int(ratio(pool.points).argmax())  # 4, the nearest
        3
    """

    features: Callable[[Float[Array, "n d"]], Float[Array, "n f"]]
    regularisation: Scalar = 1e-3
    num_rounds: int = static(default=500)

    def __post_init__(self):
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Server:
        lifted = lift(self.features, pool)
        theta = jnp.zeros(lifted.features.shape[1], lifted.features.dtype)
        return Server(lifted, theta, theta, jnp.int32(0))

    def opening(self, server: Server) -> Callable:
        return self.features

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: Callable) -> Lifted:
        return lift(opening, silo)

    def request(self, server: Server) -> Float[Array, " f"]:
        return server.theta

    def reply(self, state: Lifted, silo: Measure, request: Float[Array, " f"]) -> tuple[Lifted, Gradient]:
        return state, Gradient(gradient(request, state), state.curvature, state.weights.sum())

    def update(self, server: Server, replies: Gradient) -> Server:
        pool, theta, previous, age = server
        mass, of_pool = replies.mass.sum(), pool.weights.sum()
        data = replies.gradient.sum(axis=0) / mass - gradient(-theta, pool) / of_pool
        slope = data / 2 + self.regularisation * theta.at[0].set(0)
        curvature = (replies.curvature.sum() / mass + pool.curvature / of_pool) / 2 + self.regularisation
        reached = theta - slope / curvature
        age = jnp.where(slope @ (reached - previous) <= 0, age + 1, 0)
        momentum = (age / (age + 3)).astype(reached.dtype)
        return Server(pool, reached + momentum * (reached - previous), reached, age)

    def result(self, server: Server) -> linear_in:
        return linear_in(server.previous, self.features)


def lift(features: Callable, measure: Measure) -> Lifted:
    r"""Compute the features of a measure, and the bound on the curvature of its loss.

    .. math:: L = \tfrac14 \lambda_{\max} \Big( \sum_i w_i \phi_i \phi_i' \Big).
    """
    phi, weights = features(measure.points), measure.weights
    second = jnp.einsum("n,nf,ng->fg", weights, phi, phi)
    return Lifted(phi, weights, jnp.linalg.eigvalsh(second)[-1] / 4)


def gradient(theta: Float[Array, " f"], lifted: Lifted) -> Float[Array, " f"]:
    r"""Differentiate :math:`\sum_i w_i \log(1 + e^{-\theta' \phi_i})`: all are labelled one."""
    residual = lifted.weights * jax.nn.sigmoid(-lifted.features @ theta)
    return -residual @ lifted.features
