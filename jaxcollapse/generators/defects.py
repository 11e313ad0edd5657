"""Generators whose samples are worse than what was fitted: by noise, junk, or blends of two."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Generator, Moments
from jaxcollapse.checks import check_numbers
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments, union

GAUSSIAN = gaussian()


def expand(generator: Generator, noise: Float[Array | float, ""]) -> Generator:
    r"""Add noise to samples, so that their covariance is :math:`(1 + h^2) \Sigma`.

    .. math:: x + h L z, \qquad L L' = \Sigma, \qquad z \sim N(0, I),

    with :math:`\Sigma` the covariance of the generator's law where it has one, and of the samples drawn elsewhere.

    Args:
        generator: of x.
        noise: :math:`h \ge 0`, in units of the spread of x; may be traced.

    Raises:
        ValueError: if the noise is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> generator = jc.generators.expand(jc.generators.gaussian(), noise=1.0)
        >>> print(generator.law(model).covariance)
        [[[2. 0.]
          [0. 2.]]]
    """
    check_numbers(0, float("inf"), noise=noise)
    law = generator.law

    def sample(key, params, num_samples):
        sample_key, noise_key = jax.random.split(key)
        points = generator.sample(sample_key, params, num_samples)
        spread = as_moments(points) if law is None else union(law(params))
        normal = jax.random.normal(noise_key, points.shape, points.dtype)
        return points + noise * normal @ psd_cholesky(spread.covariance).T

    if law is None:
        return generator._replace(sample=sample)

    def expanded(params) -> Moments:
        parts = law(params)
        return parts._replace(covariance=parts.covariance + noise**2 * union(parts).covariance)

    return generator._replace(sample=sample, law=expanded)


def contaminate(
    generator: Generator, share: Float[Array | float, ""], junk: Any, source: Generator = GAUSSIAN
) -> Generator:
    r"""Put junk J in the place of some samples, each by a coin of its own: :math:`(1 - \rho) P + \rho J`.

    Args:
        generator: of P.
        share: :math:`\rho` in [0, 1]; may be traced.
        junk: parameters of J, such as `Moments`.
        source: the generator whose parameters they are.

    Raises:
        ValueError: if the share is not in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> junk = model._replace(mean=jnp.array([9.0, 9.0]))
        >>> generator = jc.generators.contaminate(jc.generators.gaussian(), 0.25, junk)
        >>> print(generator.law(model).mass)  # of the model and of the junk
        [0.75 0.25]
    """
    check_numbers(0, 1, share=share)
    law, junk_law = generator.law, source.law

    def sample(key, params, num_samples):
        sample_key, junk_key, coin_key = jax.random.split(key, 3)
        points = generator.sample(sample_key, params, num_samples)
        coin = jax.random.uniform(coin_key, (num_samples, 1), points.dtype)
        return jnp.where(coin < share, source.sample(junk_key, jax.tree.map(jnp.asarray, junk), num_samples), points)

    if law is None or junk_law is None:
        return generator._replace(sample=sample, law=None)

    def mixed(params) -> Moments:
        both = law(params), junk_law(jax.tree.map(jnp.asarray, junk))
        weighted = [p._replace(mass=w * p.mass) for w, p in zip((1 - share, share), both, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *weighted)

    return generator._replace(sample=sample, law=mixed)


def jitter(generator: Generator, scale: Float[Array | float, ""]) -> Generator:
    r"""Add noise of one size to samples, :math:`x + s z` with :math:`z \sim N(0, I)`: :math:`\Sigma + s^2 I`.

    Unlike that of `expand` it does not grow with the model.

    Args:
        generator: of x.
        scale: :math:`s \ge 0`, in units of the data; may be traced.

    Raises:
        ValueError: if the scale is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> generator = jc.generators.jitter(jc.generators.gaussian(), scale=2.0)
        >>> print(generator.law(model).covariance)
        [[[5. 0.]
          [0. 5.]]]
    """
    check_numbers(0, float("inf"), scale=scale)
    law = generator.law

    def sample(key, params, num_samples):
        sample_key, noise_key = jax.random.split(key)
        points = generator.sample(sample_key, params, num_samples)
        return points + scale * jax.random.normal(noise_key, points.shape, points.dtype)

    if law is None:
        return generator._replace(sample=sample)

    def jittered(params) -> Moments:
        parts = law(params)
        eye = jnp.eye(parts.mean.shape[-1], dtype=parts.mean.dtype)
        return parts._replace(covariance=parts.covariance + scale**2 * eye)

    return generator._replace(sample=sample, law=jittered)


def blend(generator: Generator, share: Float[Array | float, ""]) -> Generator:
    r"""Put the mean of two samples in the place of some, each by a coin of its own: :math:`(1 - \beta / 2) \Sigma`.

    It contracts, and fills the gaps between modes: what interpolation between latent codes does.

    Args:
        generator: of the samples.
        share: :math:`\beta` in [0, 1], of blends; may be traced.

    Raises:
        ValueError: if the share is not in [0, 1].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> samples = jc.generators.blend(jc.generators.gaussian(), share=1.0).sample(jax.random.key(0), model, 10_000)
        >>> round(float(samples.var()), 1)  # half of the model's
        0.5
    """
    check_numbers(0, 1, share=share)

    def sample(key, params, num_samples):
        sample_key, coin_key = jax.random.split(key)
        points = generator.sample(sample_key, params, 2 * num_samples)
        first, second = points[:num_samples], points[num_samples:]
        coin = jax.random.uniform(coin_key, (num_samples, 1), points.dtype)
        return jnp.where(coin < share, (first + second) / 2, first)

    return generator._replace(sample=sample, law=None)
