"""The log ratio of kernel densities."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Measure, Parties
from jaxcollapse.exchanges import carry_out, kernel_densities
from jaxcollapse.measures import uniform_measure
from jaxcollapse.transport.sinkhorn import log_partition
from jaxcollapse.tree import closure


@closure
class kernel_ratio:
    r"""Score by the log ratio of the silos' kernel density to the pool's.

    .. math:: r(x) = \log E_Q k(x, Y) - \log E_P k(x, X), \qquad k(x, y) = e^{-\lVert x - y \rVert^2 / w}.

    A candidate counts in the pool's density, so that junk far from everything scores low, however alone. The smaller
    the width, the sharper the score, and the more of it is chance.

    Attributes:
        silos: stacked, [K, m, d].
        width: w, in squared units of the data, shape [].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> int(jc.scores.kernel_ratio(silos, width=1.0)(jax.random.key(0), pool).argmax())
        3
    """

    silos: Measure | Parties
    width: Float[Array | float, ""]

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        return self.at(pool.points, key, pool)

    def at(self, points: Float[Array, "n d"], key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        """Score points against a pool, some or all of whose candidates they are."""
        real = carry_out(kernel_densities(self.width), key, uniform_measure(points), self.silos)
        own = log_partition(points, pool, jnp.zeros_like(pool.weights), self.width)
        return real - (own - jnp.log(pool.weights.sum()))
