"""A density ratio fitted by exchanged gradients."""

from jaxtyping import Array, Float, Key

from jaxcollapse.base import Measure, Moments, Parties
from jaxcollapse.exchanges import carry_out, logistic
from jaxcollapse.features import half_way, quadratic_features
from jaxcollapse.tree import closure, static


@closure
class logistic_ratio:
    r"""Score by the quadratic log ratio that tells the silos' mixture from the pool best [sugiyama2012]_.

    Features are whitened by the moments of both, anew for each pool; of the silos only gradients and moments travel.

    Attributes:
        silos: data, stacked [K, m, d].
        moments: of their union, which the server knows.
        ridge: of the covariance that whitens the features, relative to its mean variance, shape [].
        num_rounds: as in `jaxcollapse.exchanges.logistic`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[3.0], [4.0]], [[4.0], [5.0]]]))
        >>> score = jc.scores.logistic_ratio(silos, jc.as_moments(np.array([[3.0], [4.0], [4.0], [5.0]])))
        >>> int(score(jax.random.key(0), pool).argmin())
        0
    """

    silos: Measure | Parties
    moments: Moments
    ridge: Float[Array | float, ""] = 1e-6
    num_rounds: int = static(default=500)

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        return carry_out(self.exchange(pool), key, pool, self.silos)(pool.points)

    def exchange(self, pool: Measure) -> logistic:
        """Make the exchange for a pool."""
        features = quadratic_features(half_way(self.moments, pool, self.ridge))
        return logistic(features, num_rounds=self.num_rounds)
