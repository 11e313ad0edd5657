r"""Silos that lie: their replies are judged by those of the others, before the server takes them in.

A screen is a pure function from stacked replies to replies: the mass of silo k is multiplied by a factor in [0, 1], and
a silo of factor zero is missing. It is compared by a vector :math:`z_k` in which the replies of silos of one law agree
up to sampling, `COMPARED`. Honest silos that hold different data differ as well: what keeps a liar out may keep out the
only silo that has a class.

Replies can be screened where those of honest silos are alike: of `moments`, `feature_means`, `kernel_densities`,
`geodesic` and `barycenter`. Others are refused: those of `federated_sinkhorn` and `capped_transport` are sums without
a bound, at potentials that set silos apart, and the gradients of `logistic` cancel in sum alone.

A silo whose vector is not finite is missing under every screen. Fewer than half of the silos may lie: a majority of
liars that agree is the truth to every rule here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxcollapse.base import Counted, Exchange, Measure, Moments, Parties
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges.barycenter import Interpolant
from jaxcollapse.exchanges.drive import carry_out_counted
from jaxcollapse.exchanges.feature_means import FeatureMean
from jaxcollapse.exchanges.kernel_densities import Density
from jaxcollapse.measures import share
from jaxcollapse.tree import closure, static

Scalar = Float[Array | float, ""]
Screen = Callable[[Any], Any]


@closure
class screened(Parties):
    """Silos whose replies pass a screen, in every round of every exchange.

    Attributes:
        silos: stacked, [K, m, d].
        screen: one of `SCREENS`, or several `in_turn`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0]], [[1.0]], [[99.0]]]))
        >>> silos = jc.exchanges.screened(silos, jc.exchanges.SCREENS["near_median"]())
        >>> float(jc.carry_out(jc.exchanges.moments(), jax.random.key(0), None, silos).mean[0])
        0.5
    """

    silos: Measure
    screen: Screen

    @property
    def points(self) -> Float[Array, "k m d"]:
        """Those of the silos."""
        return self.silos.points

    @property
    def weights(self) -> Float[Array, "k m"]:
        """Those of the silos."""
        return self.silos.weights

    def carry_out(self, exchange: Exchange, key: Key[Array, ""], pool: Measure | None) -> Counted:
        return carry_out_counted(exchange, key, pool, self.silos, self.screen)


def as_lengths(replies: Moments) -> Float[Array, "k p"]:
    r"""List the mean and, in units of data as it is, the covariance over the root of the median trace."""
    trace = jnp.trace(replies.covariance, axis1=1, axis2=2)
    unit = jnp.sqrt(median(trace, replies.mass > 0))
    covariance = replies.covariance.reshape(len(trace), -1) / jnp.where(unit > 0, unit, 1)
    return jnp.concatenate([replies.mean, covariance], axis=1)


COMPARED: dict[type, Callable[[Any], Float[Array, "k p"]]] = {
    FeatureMean: lambda replies: replies.mean,
    Density: lambda replies: jnp.exp(replies.log_sum - jnp.log(replies.mass)[:, None]),  # mean kernels are bounded
    Interpolant: lambda replies: replies.points.reshape(len(replies.mass), -1),  # images of the same points
    Moments: as_lengths,
}


def compared(replies: Any) -> tuple[Float[Array, "k p"], Bool[Array, " k"]]:
    """List what the silos are compared by, zeros where they are missing, and which are present.

    Raises:
        TypeError: if replies of this exchange cannot be screened.
    """
    if type(replies) not in COMPARED:
        known = ", ".join(kind.__name__ for kind in COMPARED)
        raise TypeError(f"replies: {type(replies).__name__} cannot be screened; must be one of {known}")
    vectors = COMPARED[type(replies)](replies)
    there = (replies.mass > 0) & jnp.isfinite(replies.mass) & jnp.isfinite(vectors).all(axis=1)
    return jnp.where(there[:, None], vectors, 0), there


def reweighted(replies: Any, factor: Float[Array, " k"]) -> Any:
    """Multiply the masses of silos; one of factor zero is missing."""
    changed = {"mass": replies.mass * factor}
    if isinstance(replies, Density):
        changed["log_sum"] = replies.log_sum + jnp.log(factor)[:, None]

    def there(leaf):
        return (factor > 0).reshape(-1, *[1] * (leaf.ndim - 1))

    return jax.tree.map(lambda leaf: jnp.where(there(leaf), leaf, 0), replies._replace(**changed))


def median(values: Float[Array, "k *shape"], there: Bool[Array, " k"]) -> Float[Array, "*shape"]:
    """Find the median over the silos that are present, of each coordinate; NaN if none is."""
    return jnp.nanmedian(jnp.where(there.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan), axis=0)


@closure
class bounded_mass:
    r"""Let no silo have more than c times the median mass, :math:`m_k \le c \operatorname{med}_j m_j`.

    A mass is what a silo says of itself. Where honest silos are of one mass, and f of K silos lie, fewer than half, the
    share of all liars is at most :math:`f c / (f c + K - f)`. What they tell beside it is believed.

    Attributes:
        limit: c, at least one, shape [].
    """

    limit: Scalar = 2.0

    def __post_init__(self):
        check_numbers(1, math.inf, limit=self.limit)

    def __call__(self, replies: Any) -> Any:
        _, there = compared(replies)
        most = self.limit * median(replies.mass, there)
        return reweighted(replies, jnp.where(there, jnp.minimum(1, most / replies.mass), 0))


@closure
class near_median:
    r"""Leave out silos farther than c median distances from the median of each coordinate [yin2018]_.

    .. math:: \lVert z_k - \bar z \rVert > c \operatorname{med}_j \lVert z_j - \bar z \rVert, \qquad
              \bar z_i = \operatorname{med}_j z_{ji}.

    The median alone would be a sound mean of features but no reply: it is the mean of no mixture of silos, and no
    interpolant. So it is the centre of a cut, and what is kept are whole silos. Silos count alike, whatever their mass:
    a weighted median is that of the silo that claims the most. While fewer than half lie each coordinate of the median
    is in the range of the honest, whose diagonal R bounds the median distance: a liar that stays is within c R of it.

    Attributes:
        limit: c, at least one, shape [].
    """

    limit: Scalar = 3.0

    def __post_init__(self):
        check_numbers(1, math.inf, limit=self.limit)

    def __call__(self, replies: Any) -> Any:
        vectors, there = compared(replies)
        distance = jnp.linalg.norm(vectors - median(vectors, there), axis=1)
        near = distance <= self.limit * median(distance, there)
        return reweighted(replies, (there & near).astype(distance.dtype))


@closure
class geometric_median:
    r"""Weigh silos so that their mean is their geometric median [pillutla2022]_.

    .. math:: \min_z \sum_k m_k \lVert z_k - z \rVert \quad \text{at} \quad z = \sum_k w_k z_k, \qquad
              w_k \propto \frac{m_k}{\lVert z_k - z \rVert},

    by Weiszfeld's iteration [weiszfeld1937]_ from the mean. The median is a mixture of the silos: exchanges that
    average in proportion to mass find it from masses w, and no reply is changed. No silo is left out. The pull of each
    on the result is its mass, however far away it is: liars with less than half of all mass cannot move the result
    without bound [lopuhaa1991]_. Masses are best bounded before.

    Attributes:
        num_steps: of the iteration.
        floor: least distance, in units of the median distance: at a silo weights have no limit. Shape [].
    """

    num_steps: int = static(default=50)
    floor: Scalar = 1e-3

    def __post_init__(self):
        check_range("num_steps", self.num_steps, low=1)
        check_numbers(0, 1, floor=self.floor)

    def __call__(self, replies: Any) -> Any:
        vectors, there = compared(replies)
        told: Array = replies.mass
        mass = jnp.where(there, told, 0)

        def closeness(weights):
            distance = jnp.linalg.norm(vectors - share(weights) @ vectors, axis=1)
            least = jnp.maximum(self.floor * median(distance, there), jnp.sqrt(jnp.finfo(mass.dtype).tiny))
            return jnp.where(there, 1 / jnp.maximum(distance, least), 0)

        weights = jax.lax.fori_loop(0, self.num_steps, lambda _, weights: mass * closeness(weights), mass)
        near = weights / jnp.where(mass > 0, mass, 1)
        largest = near.max()
        return reweighted(replies, near / jnp.where(largest > 0, largest, 1))


@closure
class in_turn:
    """Apply screens one after the other.

    Attributes:
        screens: of `SCREENS`, the first of which sees what silos reply.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> near, bounded = (jc.exchanges.SCREENS[name]() for name in ("near_median", "bounded_mass"))
        >>> points, masses = jnp.array([0.0, 1.0, 1.0, 99.0]), jnp.array([1.0, 1.0, 98.0, 1.0])
        >>> silos = jc.Measure(points[:, None, None], masses[:, None])
        >>> silos = jc.exchanges.screened(silos, jc.exchanges.in_turn([near, bounded]))  # masses 1, 1, 2 and 0
        >>> round(float(jc.carry_out(jc.exchanges.moments(), jax.random.key(0), None, silos).mean[0]), 2)
        0.75
    """

    screens: Sequence[Screen]

    def __call__(self, replies: Any) -> Any:
        for screen in self.screens:
            replies = screen(replies)
        return replies


SCREENS = {"bounded_mass": bounded_mass, "near_median": near_median, "geometric_median": geometric_median}
