"""Scheme I: a measure on the geodesic from the pool to a silo, by exchanging interpolants [rakotomamonjy2024]_."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges.barycenter import Interpolant
from jaxcollapse.exchanges.interpolant import Start, average, first_support, interpolate
from jaxcollapse.measures import as_moments, share, uniform_measure
from jaxcollapse.transport.sinkhorn import unconverged
from jaxcollapse.tree import closure, static


class Server(NamedTuple):
    """What the server knows.

    Attributes:
        pool: P.
        support: x, shape [s, d].
        error: the largest marginal error of any plan so far, shape [].
    """

    pool: Measure
    support: Float[Array, "s d"]
    error: Float[Array, ""]


@closure
class geodesic(Exchange):
    r"""Move a support to the point at :math:`\tau` of the geodesic from the pool to a silo.

    The server moves the support towards the pool as the silo moves it towards its data, and interpolates the two
    images of each point: the geodesic is the barycenter of its ends with weights :math:`1 - \tau` and :math:`\tau`. The
    result is a measure; potentials of the pool towards it are :math:`\tau` times those towards the silo. Several silos
    count as their barycenter.

    Attributes:
        epsilon: of every transport problem, in squared units of the data, shape [].
        tau: where on the geodesic, 0 at the pool and 1 at the silo, shape [].
        step: s, share of the way that a support point moves towards its image, in (0, 1], shape [].
        num_support: S, points of a support that is drawn.
        num_rounds: R.
        start: moments that the support is drawn from first, by default the pool's; or the first support, [s, d].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool, silos = jc.uniform_measure(np.zeros((2, 1))), jc.uniform_measure(np.full((1, 2, 1), 4.0))
        >>> exchange = jc.exchanges.geodesic(epsilon=1.0, tau=0.25, num_support=2)
        >>> between = jc.carry_out(exchange, jax.random.key(0), pool, silos)
        >>> print(between.points.round(2))  # a quarter of the way
        [[1.]
         [1.]]
    """

    epsilon: Float[Array | float, ""]
    tau: Float[Array | float, ""] = 0.5
    step: Float[Array | float, ""] = 1.0
    num_support: int = static(default=200)
    num_rounds: int = static(default=10)
    start: Start | None = None

    def __post_init__(self):
        check_numbers(0, 1, tau=self.tau, step=self.step)
        check_range("num_support", self.num_support, low=1)
        check_range("num_rounds", self.num_rounds, low=1)

    def server_init(self, key: Key[Array, ""], pool: Measure) -> Server:
        start = as_moments(pool) if self.start is None else self.start
        support = first_support(key, start, self.num_support)
        return Server(pool, support, jnp.zeros((), support.dtype))

    def request(self, server: Server) -> Float[Array, "s d"]:
        return server.support

    def reply(self, state: None, silo: Measure, request: Float[Array, "s d"]) -> tuple[None, Interpolant]:
        points, error = interpolate(silo, request, self.epsilon, self.step)
        return None, Interpolant(points, silo.weights.sum(), error)

    def update(self, server: Server, replies: Interpolant) -> Server:
        pool, support, before = server
        tau = jnp.asarray(self.tau, support.dtype)
        image, of_pool = interpolate(pool, support, self.epsilon, self.step)
        images, weights = jnp.concatenate([image[None], replies.points]), jnp.append(1 - tau, tau * share(replies.mass))
        support, of_support = average(support, images, weights, self.epsilon, self.step)
        errors = jnp.stack([before, replies.error.max(), of_pool, of_support])
        return Server(pool, support, errors.max())

    def result(self, server: Server) -> Measure:
        return uniform_measure(server.support)

    def trouble(self, server: Server) -> dict[str, Array]:
        return unconverged(server.error)
