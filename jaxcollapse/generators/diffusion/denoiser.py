r"""Denoising diffusion on the quarter circle.

Data x and noise z, a standard normal, are mixed by an angle between 0 (data) and :math:`\pi/2` (noise),

.. math:: x_\theta = \cos\theta \, x + \sin\theta \, z, \qquad
          v_\theta = dx_\theta / d\theta = \cos\theta \, z - \sin\theta \, x,

a variance preserving process [ho2020]_ whose cosine schedule is a uniform angle. A network learns the velocity
:math:`v(y, \theta) = E[v_\theta \mid x_\theta = y]` [salimans2022]_, from which both expectations follow by a rotation:
:math:`E[x \mid y] = \cos\theta \, y - \sin\theta \, v` and :math:`E[z \mid y] = \sin\theta \, y + \cos\theta \, v`. Of
standard normal data the velocity is zero, where a new network begins.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator
from jaxcollapse.checks import check_range
from jaxcollapse.generators.diffusion.architecture import Architecture, normals
from jaxcollapse.generators.diffusion.residual import residual
from jaxcollapse.generators.diffusion.samplers import Sampler, midpoint, rotate
from jaxcollapse.measures import as_moments, inverse_cdf, require_points

_PROFILE = 8  # half of the average's weight lies on the last twelfth of the steps


class Denoiser(NamedTuple):
    """A fitted model.

    Attributes:
        network: weights of the architecture, which sees standardised data.
        mean: of the data, shape [d].
        scale: their spread along each axis, shape [d].
    """

    network: Any
    mean: Float[Array, "*stack d"]
    scale: Float[Array, "*stack d"]


_RESIDUAL = residual()


def diffusion(
    architecture: Architecture = _RESIDUAL,
    num_steps: int = 1000,
    batch_size: int = 256,
    num_sample_steps: int = 25,
    learning_rate: float = 5e-3,
    sampler: Sampler = midpoint,
    *,
    warm_start: bool = True,
    sample_chunk: int | None = None,
) -> Generator:
    r"""Fit a denoising diffusion model [ho2020]_ of weighted points.

    .. math:: \min_v \; E \lVert v(x_\theta, \theta) - v_\theta \rVert^2, \qquad
              x \sim w, \; z \sim N(0, I), \; \theta \sim U(0, \pi/2),

    by Adam on minibatches, at a rate that falls to zero along a cosine. The model is the moving average of the
    weights, with a power of the steps as its profile [karras2024]_.

    The network sees data standardised along each axis, or by the spread that the architecture asks for, so it learns as
    well from data of spread 1e-6 as of spread 1, and a warm start begins from the old shape at the new place and size.
    An axis without spread keeps none.

    Args:
        architecture: of the network, `residual` by default.
        num_steps: of Adam in each fit, whose moments begin anew.
        batch_size: points drawn for a step, in proportion to their weights.
        num_sample_steps: S, of the sampler, along :math:`\theta_i = \tfrac{\pi}{2} (1 - i/S)^2`.
        learning_rate: at the start of each fit.
        sampler: `midpoint`, `ddim` or `ancestral`.
        warm_start: whether `fit` goes on from the last network, or draws a new one.
        sample_chunk: points whose velocities are computed at a time in sampling, which bounds the memory; all by
            default. The draws are the same.

    Returns:
        A generator with a `Denoiser` as parameters. Its training data must be points: moments raise TypeError.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generator = jc.generators.diffusion(num_steps=2, num_sample_steps=2)  # far too few, to be quick
        >>> model = generator.init(jax.random.key(0), jc.uniform_measure(np.array([[0.0], [2.0]])))
        >>> generator.sample(jax.random.key(1), model, 4).shape
        (4, 1)
    """
    check_range("num_steps", num_steps, low=0)
    check_range("batch_size", batch_size, low=1)
    check_range("num_sample_steps", num_sample_steps, low=1)
    check_range("learning_rate", learning_rate, low=0)
    if sample_chunk is not None:
        check_range("sample_chunk", sample_chunk, low=1)
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, max(num_steps, 1)))
    angles = np.pi / 2 * np.linspace(1, 0, num_sample_steps + 1) ** 2

    @jax.jit
    def train(key: Key[Array, ""], network: Any, data: Data) -> Denoiser:
        (data,) = require_points("diffusion", data=data)
        _, mean, covariance = as_moments(data)
        scale = architecture.spread(jnp.diagonal(covariance))
        points = jnp.where(scale > 0, (data.points - mean) / jnp.where(scale > 0, scale, 1), 0)
        index_at = inverse_cdf(data.weights)
        dim, dtype = points.shape[-1], points.dtype
        new_key, key = jax.random.split(key)
        if network is None:
            network = architecture.init(new_key, dim, dtype)

        def step(state, inputs):
            network, adam, average = state
            key, share = inputs
            normal = normals(key, (dim + 2) * batch_size, dtype)
            # Of a pair of normals at radius r, the angle and exp(-r^2 / 2) are uniform, and independent.
            pair, noise = normal[: 2 * batch_size].reshape(2, -1), normal[2 * batch_size :].reshape(-1, dim)
            level, angle = jnp.exp(-jnp.sum(pair**2, axis=0) / 2), jnp.arctan2(*jnp.abs(pair))[:, None]
            x = points[index_at(level)]
            noisy, goal = rotate(x, noise, angle), rotate(noise, -x, angle)

            def loss(network):
                return jnp.mean((architecture.apply(network, noisy, angle[:, 0]) - goal) ** 2)

            update, adam = optimiser.update(jax.grad(loss)(network), adam)
            network = optax.apply_updates(network, update)
            average = jax.tree.map(lambda old, new: old + share * (new - old), average, network)
            return (network, adam, average), None

        shares = 1 - (1 - 1 / np.arange(1, num_steps + 1)) ** _PROFILE
        inputs = jax.random.split(key, num_steps), jnp.asarray(shares, dtype)
        (_, _, average), _ = jax.lax.scan(step, (network, optimiser.init(network), network), inputs)
        return Denoiser(average, mean, scale)

    def init(key: Key[Array, ""], data: Data) -> Denoiser:
        return train(key, None, data)

    def fit(key: Key[Array, ""], params: Denoiser, data: Data) -> Denoiser:
        return train(key, params.network if warm_start else None, data)

    @partial(jax.jit, static_argnums=2)
    def sample(key: Key[Array, ""], params: Denoiser, num_samples: int) -> Float[Array, "n d"]:
        start_key, key = jax.random.split(key)
        dim, dtype = params.mean.shape[-1], params.mean.dtype
        noise = normals(start_key, num_samples * dim, dtype).reshape(num_samples, dim)
        size = sample_chunk or num_samples

        def velocity(x: Float[Array, "n d"], angle: Float[Array, ""]) -> Float[Array, "n d"]:
            if num_samples <= size:
                return architecture.apply(params.network, x, angle)
            chunks = jnp.pad(x, ((0, -num_samples % size), (0, 0))).reshape(-1, size, dim)
            moved = jax.lax.map(lambda chunk: architecture.apply(params.network, chunk, angle), chunks)
            return moved.reshape(-1, dim)[:num_samples]

        x = sampler(key, velocity, jnp.asarray(angles, dtype), noise)
        return params.mean + params.scale * x

    return Generator(init, fit, sample)
