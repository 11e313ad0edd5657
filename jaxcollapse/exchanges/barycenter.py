"""Scheme II: silos agree on their Wasserstein barycenter by exchanging interpolants [qiao2026]_."""

from typing import NamedTuple

from jaxtyping import Array, Float, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges.interpolant import Start, average, first_support, interpolate
from jaxcollapse.measures import share, uniform_measure
from jaxcollapse.tree import closure, static


class Interpolant(NamedTuple):
    """A silo's reply.

    Attributes:
        points: z, shape [s, d].
        mass: of the silo, shape [].
    """

    points: Float[Array, "*stack s d"]
    mass: Float[Array, "*stack"]


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

    def server_init(self, key: Key[Array, ""], pool: Measure | None) -> Float[Array, "s d"]:
        return first_support(key, self.start, self.num_support)

    def request(self, server: Float[Array, "s d"]) -> Float[Array, "s d"]:
        return server

    def reply(self, state: None, silo: Measure, request: Float[Array, "s d"]) -> tuple[None, Interpolant]:
        return None, Interpolant(interpolate(silo, request, self.epsilon, self.step), silo.weights.sum())

    def update(self, server: Float[Array, "s d"], replies: Interpolant) -> Float[Array, "s d"]:
        return average(server, replies.points, share(replies.mass), self.epsilon, self.step)

    def result(self, server: Float[Array, "s d"]) -> Measure:
        return uniform_measure(server)
