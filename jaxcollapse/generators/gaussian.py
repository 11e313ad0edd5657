"""The Gaussian family, whose parameters are moments."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator, Moments
from jaxcollapse.checks import check_range
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments
from jaxcollapse.tree import expand


def gaussian(ridge: float = 0.0) -> Generator:
    r"""Fit :math:`N(\mu, \Sigma)` by weighted maximum likelihood.

    .. math:: \mu = \textstyle\sum_i w_i x_i / m, \qquad
              \Sigma = \textstyle\sum_i w_i (x_i - \mu)(x_i - \mu)' / m + \rho I, \qquad m = \sum_i w_i.

    Args:
        ridge: :math:`\rho \ge 0`, in squared units of the data; the published experiment uses 1e-6 [qiao2026]_.

    Returns:
        A generator with `Moments` as parameters. Training data may be points or moments.

    Raises:
        ValueError: if the ridge is negative.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> model = jc.generators.gaussian().init(jax.random.key(0), jc.uniform_measure(np.array([[0.0], [2.0]])))
        >>> float(model.mean[0]), float(model.covariance[0, 0])
        (1.0, 1.0)
    """
    check_range("ridge", ridge, low=0)

    def fit(key, params, data: Data) -> Moments:
        moments = as_moments(data)
        regulariser = ridge * jnp.eye(moments.mean.shape[-1], dtype=moments.mean.dtype)
        return moments._replace(covariance=moments.covariance + regulariser)

    def init(key, data: Data) -> Moments:
        return fit(key, None, data)

    def sample(key: Key[Array, ""], params: Moments, num_samples: int) -> Float[Array, "n d"]:
        dim, dtype = params.mean.shape[-1], params.mean.dtype
        # One flat stream fills vector registers; a trailing axis of d would not.
        normal = jax.random.normal(key, (dim * num_samples,), dtype).reshape(dim, num_samples)
        return (params.mean[:, None] + psd_cholesky(params.covariance) @ normal).T

    return Generator(init, fit, sample, takes_moments=True, law=one_component)


def one_component(params: Moments) -> Moments:
    """Write a Gaussian as a mixture of one, of mass one."""
    return expand(params._replace(mass=jnp.ones_like(params.mass)))
