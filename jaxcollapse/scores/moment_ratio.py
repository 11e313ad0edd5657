"""A density ratio of Gaussian models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Measure, Moments
from jaxcollapse.measures import as_moments, share
from jaxcollapse.targets import fit_target
from jaxcollapse.tree import closure


@closure
class moment_ratio:
    r"""Score by the ratio of Gaussian models, known from the silos' moments alone.

    .. math:: U(x) = \log \sum_k \frac{m_k}{m} N(x; \mu_k, \Sigma_k) - \log N(x; \mu_P, \Sigma_P).

    Wrong models are exponentiated, too: where the silos are not Gaussian, prefer `logistic_ratio`.

    Attributes:
        silos: moments of K silos, or their data, with a leading axis K; a silo without mass is not there.
        ridge: regularisation of each covariance, relative to its mean variance, shape [].
    """

    silos: Data
    ridge: Float[Array | float, ""] = 0.0

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        silos = as_moments(self.silos)
        identity = jnp.eye(pool.points.shape[-1], dtype=pool.points.dtype)
        there = silos.mass > 0
        silos = silos._replace(covariance=jnp.where(there[:, None, None], silos.covariance, identity))
        mixture = jax.vmap(lambda silo: _log_gaussian(silo, pool.points, self.ridge))(silos)
        log_mixture = jax.nn.logsumexp(mixture, axis=0, b=share(silos.mass)[:, None])
        return log_mixture - _log_gaussian(as_moments(pool), pool.points, self.ridge)


def _log_gaussian(moments: Moments, points: Float[Array, "n d"], ridge: Float[Array | float, ""]) -> Float[Array, " n"]:
    """Evaluate the log density of a Gaussian, up to the constant that cancels in a ratio."""
    location, factor = fit_target(moments, ridge)
    energy = jnp.sum(((points - location) @ factor.T) ** 2, axis=1)
    return jnp.log(jnp.diagonal(factor)).sum() - energy / 2
