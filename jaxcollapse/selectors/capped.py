"""Selection by the solution of partial transport."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure, Parties, Sizes
from jaxcollapse.exchanges import capped_transport, carry_out_counted
from jaxcollapse.selectors.budget import below_all, pareto, scored
from jaxcollapse.tree import closure, static


@closure
class capped:
    r"""Keep n candidates with the probabilities of `capped_transport`, by Pareto sampling [rosen1997]_.

    Junk far away is never kept, and classes get the silos' shares. Of a pool drawn from the silos' mixture no candidate
    is preferred as n grows and epsilon falls; at finite ones the kept set is narrower, and over generations that adds
    up.

    Attributes:
        silos: stacked, [K, m, d].
        epsilon: in squared units of the data, shape [].
        num_rounds: of the exchange at most.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> select = jc.selectors.capped(silos, epsilon=0.1)
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)
        [0. 0. 1. 1.]
    """

    silos: Measure | Parties
    epsilon: Float[Array | float, ""]
    num_rounds: int = static(default=1000)

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        return self.draw(key, self.log_odds(key, pool, sizes), pool, sizes)

    def draw(self, key: Key[Array, ""], log_odds: Counted, pool: Measure, sizes: Sizes) -> Counted:
        """Keep n candidates with these log odds."""
        return pareto(jax.random.fold_in(key, 1), log_odds.value, pool, sizes, log_odds.trouble)

    def log_odds(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Counted:
        """Compute those with which candidates are kept."""
        exchange = capped_transport(self.epsilon, below_all(sizes, pool), self.num_rounds)
        log_p, trouble = scored(lambda key, pool: carry_out_counted(exchange, key, pool, self.silos), key, pool)
        certain = -jnp.finfo(log_p.dtype).eps
        log_odds = jnp.where(
            log_p < certain, log_p - jnp.log(-jnp.expm1(jnp.minimum(log_p, certain))), -jnp.log(-certain)
        )
        return Counted(log_odds, trouble)
