"""Scheme I: a measure on the geodesic from the pool to each silo, by exchanging interpolants [rakotomamonjy2024]_."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Controls, Measure, ReferenceFn
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.references.barycenter import Exchange, interpolate, server_average
from jaxcollapse.validation import check_range


def server_interpolate(
    support: Float[Array, "s d"],
    pool: Measure,
    reply: Float[Array, "s d"],
    tau: Float[Array | float, ""],
    exchange: Exchange,
) -> Float[Array, "s d"]:
    r"""Move the support towards the point at :math:`\tau` of the geodesic from the pool to a silo.

    The server moves the support towards the pool as the silo moved it towards its data, and interpolates the two
    images of each point: the geodesic is the barycenter of its ends with weights :math:`1 - \tau` and :math:`\tau`.
    """
    images = jnp.stack([interpolate(pool, support, exchange), reply])
    return server_average(support, images, jnp.stack([1 - tau, tau]), exchange)


def interpolating_measure(
    pool: Measure,
    silo: Measure,
    support: Float[Array, "s d"],
    tau: Float[Array | float, ""],
    exchange: Exchange,
    num_rounds: int,
) -> tuple[Float[Array, "s d"], Float[Array, "r s d"]]:
    r"""Run the exchange of one silo in one program.

    Args:
        pool: P, which the server holds.
        silo: Q.
        support: initial points, of neither.
        tau: where on the geodesic, 0 at the pool and 1 at the silo.
        exchange: epsilon and step.
        num_rounds: R.

    Returns:
        The last support, and those of all rounds.
    """
    tau = jnp.asarray(tau, support.dtype)

    def one_round(support, _):
        support = server_interpolate(support, pool, interpolate(silo, support, exchange), tau, exchange)
        return support, support

    return jax.lax.scan(one_round, support, length=num_rounds)


def geodesic(exchange: Exchange, tau: float = 0.5, num_support: int = 200, num_rounds: int = 10) -> ReferenceFn:
    r"""Show, for every silo, a measure on the geodesic to it from the pool, r = K.

    Potentials towards it are :math:`\tau` times those towards the silo: give :math:`\tau` to the score as well. The
    supports start as a draw from the pool's moments.
    """
    check_range("tau", tau, low=0, high=1)
    check_range("num_support", num_support, low=1)
    check_range("num_rounds", num_rounds, low=1)

    def reference(key, silos: Measure, pool: Measure, controls: Controls) -> Measure:
        support = gaussian().sample(key, as_moments(pool), num_support)
        run = jax.vmap(interpolating_measure, in_axes=(None, 0, None, None, None, None))
        supports, _ = run(pool, silos, support, tau, exchange, num_rounds)
        return uniform_measure(supports)

    return reference
