"""Scheme II: silos agree on their Wasserstein barycenter by exchanging interpolants [qiao2026]_."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges.interpolant import Start, average, first_support, interpolate
from jaxcollapse.measures import share, uniform_measure
from jaxcollapse.transport.sinkhorn import unconverged
from jaxcollapse.tree import closure, static


class Interpolant(NamedTuple):
    """A silo's reply.

    Attributes:
        points: z, shape [s, d].
        mass: of the silo, shape [].
        error: marginal error of the plan, shape [].
    """

    points: Float[Array, "*stack s d"]
    mass: Float[Array, "*stack"]
    error: Float[Array, "*stack"]


class Server(NamedTuple):
    """What the server knows.

    Attributes:
        support: x, shape [s, d].
        error: the largest marginal error of any plan so far, shape [].
    """

    support: Float[Array, "*stack s d"]
    error: Float[Array, "*stack"]


@closure
class barycenter(Exchange):
    r"""Move a support towards the silos, by :math:`z_k = (1 - s) x + s T_k(x)`, until it is their barycenter.

    Every round the silos move the support and the server averages, in proportion to mass. The result is a measure.

    Attributes:
        start: moments that the support is drawn from first, those that silos share; or the first support, [s, d].
        epsilon: of every transport problem, in squared units of the data, shape [].
        step: s, share of the way that a support point moves towards its image, in (0, 1], shape [].
        num_support: S, points of a support that is drawn.
        num_rounds: R.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0], [0.0]], [[4.0], [4.0]]]))
        >>> exchange = jc.exchanges.barycenter(start=jc.as_moments(silos.points[0]), epsilon=1.0, num_support=2)
        >>> average = jc.carry_out(exchange, jax.random.key(0), None, silos)
        >>> print(average.points.round(2))  # half way between the silos
        [[2.]
         [2.]]
    """

    start: Start
    epsilon: Float[Array | float, ""]
    step: Float[Array | float, ""] = 1.0
    num_support: int = static(default=200)
    num_rounds: int = static(default=10)

    tau = 1.0  # where the result lies on the way from the pool

    def __post_init__(self):
        check_numbers(0, 1, step=self.step)
        check_range("num_support", self.num_support, low=1)
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure | None) -> Server:
        support = first_support(key, self.start, self.num_support)
        return Server(support, jnp.zeros((), support.dtype))

    def request(self, server: Server) -> Float[Array, "s d"]:
        return server.support

    def reply(self, state: None, silo: Measure, request: Float[Array, "s d"]) -> tuple[None, Interpolant]:
        points, error = interpolate(silo, request, self.epsilon, self.step)
        return None, Interpolant(points, silo.weights.sum(), error)

    def update(self, server: Server, replies: Interpolant) -> Server:
        support, error = average(server.support, replies.points, share(replies.mass), self.epsilon, self.step)
        return Server(support, jnp.stack([server.error, replies.error.max(), error]).max())

    def result(self, server: Server) -> Measure:
        return uniform_measure(server.support)

    def trouble(self, server: Server) -> dict[str, Array]:
        return unconverged(server.error)
