"""A density ratio of Gaussian models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Measure, Moments
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments, merge, share, union
from jaxcollapse.tree import closure


@closure
class moment_ratio:
    r"""Score by the ratio of Gaussian models, known from the silos' moments alone.

    .. math:: U(x) = \log \sum_k \frac{m_k}{m} N(x; \mu_k, \Sigma_k) - \log N(x; \mu_P, \Sigma_P).

    Wrong models are exponentiated, too: where the silos are not Gaussian, prefer `logistic_ratio`. A model without
    spread in a direction, as that of a silo of few points, is given a thousandth of the spread of all data.

    Attributes:
        silos: moments of K silos, or their data, with a leading axis K; a silo without mass is not there.
        ridge: regularisation of each covariance, relative to its mean variance, shape [].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(jnp.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.Moments(jnp.ones(1), jnp.array([[3.0]]), jnp.array([[[0.25]]]))
        >>> int(jc.scores.moment_ratio(silos)(jax.random.key(0), pool).argmax())  # the candidate 3
        2
    """

    silos: Data
    ridge: Float[Array | float, ""] = 0.0

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        silos, of_pool = as_moments(self.silos), as_moments(pool)
        dim, dtype = pool.points.shape[-1], pool.points.dtype
        variance = jnp.trace(merge(union(silos), of_pool).covariance) / dim
        least = 1e-3 * jnp.sqrt(jnp.where(variance > 0, variance, 1))

        def log_gaussian(model: Moments) -> Float[Array, " n"]:
            """Evaluate the log density, up to the constant that cancels in a ratio."""
            ridge = self.ridge * jnp.trace(model.covariance) / dim
            factor = psd_cholesky(model.covariance + ridge * jnp.eye(dim, dtype=dtype))
            factor += jnp.diag(jnp.where(jnp.diagonal(factor) > 0, 0, least))
            white = jax.scipy.linalg.solve_triangular(factor, (pool.points - model.mean).T, lower=True)
            return -jnp.log(jnp.diagonal(factor)).sum() - jnp.sum(white**2, axis=0) / 2

        mixture = jax.nn.logsumexp(jax.vmap(log_gaussian)(silos), axis=0, b=share(silos.mass)[:, None])
        return mixture - log_gaussian(of_pool)
