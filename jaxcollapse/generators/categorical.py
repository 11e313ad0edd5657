"""The law of a symbol: a weighted histogram, whose tail a refit can lose and never find again."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Generator, Measure
from jaxcollapse.checks import check_count
from jaxcollapse.measures import inverse_cdf, share, totals_by


def categorical(num_symbols: int) -> Generator:
    r"""Fit the probabilities of S symbols by weighted maximum likelihood.

    .. math:: p_k = \textstyle\sum_i w_i 1\{x_i = k\} / \sum_i w_i 1\{0 \le x_i < S\}.

    A symbol that the data lack is not sampled again: under refits symbols are lost, and never won [suresh2024]_.

    Args:
        num_symbols: S. Data are numbers of symbols 0..S-1 as floats, shape [n, 1], rounded to the nearest; a number
            that rounds to no symbol is ignored.

    Returns:
        A generator with p, shape [S], as parameters. Without any data p is zero, and samples are the last symbol.

    Raises:
        ValueError: if there is no symbol.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> data = jc.uniform_measure(np.array([[0.0], [0.0], [0.0], [2.0]]))
        >>> print(jc.generators.categorical(3).init(jax.random.key(0), data))  # the symbol 1 is lost
        [0.75 0.   0.25]
    """
    num_symbols = check_count("num_symbols", num_symbols, low=1)

    def fit(key, params, data: Measure) -> Float[Array, " s"]:
        symbol = jnp.round(data.points[:, 0])
        known = (symbol >= 0) & (symbol < num_symbols)
        index = jnp.where(known, symbol, 0).astype(jnp.int32)
        return share(totals_by(index, jnp.where(known, data.weights, 0), num_symbols))

    def init(key, data: Measure) -> Float[Array, " s"]:
        return fit(key, None, data)

    def sample(key: Key[Array, ""], params: Float[Array, " s"], num_samples: int) -> Float[Array, "n 1"]:
        unit = jax.random.uniform(key, (num_samples, 1), params.dtype)
        return inverse_cdf(params)(unit).astype(params.dtype)

    return Generator(init, fit, sample)
