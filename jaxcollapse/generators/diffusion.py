r"""Denoising diffusion on the quarter circle.

Data x and noise z, a standard normal, are mixed by an angle between 0 (data) and :math:`\pi/2` (noise),

.. math:: x_\theta = \cos\theta \, x + \sin\theta \, z, \qquad
          v_\theta = dx_\theta / d\theta = \cos\theta \, z - \sin\theta \, x,

a variance preserving process [ho2020]_ whose cosine schedule is a uniform angle. A network learns the velocity
:math:`v(y, \theta) = E[v_\theta \mid x_\theta = y]` [salimans2022]_, from which both expectations follow by a rotation:
:math:`E[x \mid y] = \cos\theta \, y - \sin\theta \, v` and :math:`E[z \mid y] = \sin\theta \, y + \cos\theta \, v`. Of
standard normal data the velocity is zero, where a new network begins.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator, Moments
from jaxcollapse.measures import as_moments
from jaxcollapse.validation import check_range

_HARMONICS = 4  # of the angle, as features
_PROFILE = 8  # half of the average's weight lies on the last twelfth of the steps

Velocity = Callable[[Float[Array, "n d"], Float[Array, ""]], Float[Array, "n d"]]
Spread = Callable[[Float[Array, " d"]], Float[Array, " d"]]


class Sampler(Protocol):
    """Turn noise x into data along falling angles, from `velocity(x, angle)`."""

    def __call__(
        self, key: Key[Array, ""], velocity: Velocity, angles: Float[Array, " t"], x: Float[Array, "n d"]
    ) -> Float[Array, "n d"]: ...


class Architecture(NamedTuple):
    """What learns the velocity of standardised data.

    Attributes:
        init: `init(key, dim, dtype) -> weights`, a pytree of arrays; best where the velocity begins at zero.
        apply: `apply(weights, x, angle) -> velocity`, shape [n, d], of points x, shape [n, d], and their angles,
            shape [n], or one for all.
        spread: `spread(variances) -> scale`, that the data are standardised by, both of shape [d]; zero keeps a
            coordinate at its mean.
    """

    init: Callable[[Key[Array, ""], int, Any], Any]
    apply: Callable[[Any, Float[Array, "n d"], Float[Array, "*n"]], Float[Array, "n d"]]
    spread: Spread = jnp.sqrt


class Network(NamedTuple):
    """Weights of a residual network.

    Attributes:
        enter: from the point, shape [d, width].
        time: from the features of the angle, shape [f, width].
        hidden: of the residual layers, shape [depth, width, width].
        leave: to the velocity, shape [width, d].
    """

    enter: Float[Array, "*stack d width"]
    time: Float[Array, "*stack f width"]
    hidden: Float[Array, "*stack depth width width"]
    leave: Float[Array, "*stack width d"]


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


def rotate(x: Array, y: Array, angle: Float[Array, "*n"]) -> Array:
    r"""Turn x towards y: :math:`\cos\theta \, x + \sin\theta \, y`."""
    return jnp.cos(angle) * x + jnp.sin(angle) * y


def ancestral(
    key: Key[Array, ""], velocity: Velocity, angles: Float[Array, " t"], x: Float[Array, "n d"]
) -> Float[Array, "n d"]:
    r"""Draw each :math:`x_{\theta'}` given :math:`x_\theta` as if the data were what is expected of them [ho2020]_.

    .. math:: x_{\theta'} = \cos\theta' E[x] + \sin\theta' \left( r E[z] + \sqrt{1 - r^2} \, \zeta \right), \qquad
              r = \tan\theta' / \tan\theta, \quad \zeta \sim N(0, I).

    An error of first order in the steps: 50 lose a tenth of a Gaussian's variance.
    """

    def step(x, inputs):
        key, now, then = inputs
        v = velocity(x, now)
        r = jnp.tan(then) / jnp.tan(now)
        fresh = _normals(key, x.size, x.dtype).reshape(x.shape)
        z = r * rotate(v, x, now) + jnp.sqrt(1 - r**2) * fresh
        return rotate(rotate(x, -v, now), z, then), None

    return jax.lax.scan(step, x, (jax.random.split(key, len(angles) - 1), angles[:-1], angles[1:]))[0]


def ddim(
    key: Key[Array, ""], velocity: Velocity, angles: Float[Array, " t"], x: Float[Array, "n d"]
) -> Float[Array, "n d"]:
    r"""Follow the flow with data and noise held at what is expected of them for a step [song2021]_.

    .. math:: x_{\theta'} = \cos\theta' E[x] + \sin\theta' E[z] = \cos\delta \, x + \sin\delta \, v, \qquad
              \delta = \theta' - \theta.

    An error of first order in the steps: 50 lose 6% of a Gaussian's variance. The key is not used.
    """

    def step(x, inputs):
        now, then = inputs
        return rotate(x, velocity(x, now), then - now), None

    return jax.lax.scan(step, x, (angles[:-1], angles[1:]))[0]


def midpoint(
    key: Key[Array, ""], velocity: Velocity, angles: Float[Array, " t"], x: Float[Array, "n d"]
) -> Float[Array, "n d"]:
    r"""Follow the flow as `ddim` does, with what is expected half way along the step [lu2022]_.

    .. math:: x_{\theta'} = x + 2 \sin(\delta/2) \, v(y, \theta + \delta/2), \qquad
              y = \cos(\delta/2) \, x + \sin(\delta/2) \, v(x, \theta).

    An error of second order: 25 steps, of two evaluations each, keep a Gaussian's variance within 0.1%. A recursion
    needs that: what a sampler loses is lost again in every generation, and looks like collapse. The key is not used.
    """

    def step(x, inputs):
        now, then = inputs
        half = (then - now) / 2
        y = rotate(x, velocity(x, now), half)
        return x + 2 * jnp.sin(half) * velocity(y, now + half), None

    return jax.lax.scan(step, x, (angles[:-1], angles[1:]))[0]


def angle_features(angle: Float[Array, "*n"]) -> Float[Array, "*n f"]:
    r"""Compute cosines and sines of multiples of the angle; the first is one, and makes offsets needless."""
    multiples = angle[..., None] * jnp.arange(_HARMONICS + 1, dtype=angle.dtype)
    return jnp.concatenate([jnp.cos(multiples), jnp.sin(multiples[..., 1:])], axis=-1)


def common_spread(variances: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""Give every axis the same spread, :math:`(\operatorname{tr} \Sigma / d)^{1/2}`.

    What hardly varies is then not blown up to the size of the rest, as margins of images or late components would be.
    An axis whose own spread is below 1e-4 of that, a rounding error, has none.
    """
    mean = jnp.mean(variances)
    return jnp.where(variances > 1e-8 * mean, jnp.sqrt(mean), 0)


def residual(width: int = 64, depth: int = 3, spread: Spread = jnp.sqrt) -> Architecture:
    r"""Learn by :math:`v = h_L A`, with :math:`h_0 = x E + f(\theta) T` and :math:`h_{l+1} = h_l + \tanh(h_l W_l)`.

    Weights are drawn such that they keep the size of what passes; those of A are zero.

    Args:
        width: of h.
        depth: L, residual layers.
        spread: of the data: `jax.numpy.sqrt` of the variance of each axis, or `common_spread`.

    Returns:
        An architecture with a `Network` as weights; f are the `angle_features`.

    Raises:
        ValueError: if a number is out of range.
    """
    check_range("width", width, low=1)
    check_range("depth", depth, low=0)

    def init(key: Key[Array, ""], dim: int, dtype: Any) -> Network:
        size = 2 * _HARMONICS + 1
        normal = _normals(key, (dim + size + depth * width) * width, dtype).reshape(-1, width)
        enter, time, hidden = jnp.split(normal, (dim, dim + size))
        hidden = hidden.reshape(depth, width, width)
        return Network(enter / dim**0.5, time / size**0.5, hidden / width**0.5, jnp.zeros((width, dim), dtype))

    def apply(network: Network, x: Float[Array, "n d"], angle: Float[Array, "*n"]) -> Float[Array, "n d"]:
        h = x @ network.enter + angle_features(angle) @ network.time
        for weights in network.hidden:
            h = h + jnp.tanh(h @ weights)
        return h @ network.leave

    return Architecture(init, apply, spread)


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
        if isinstance(data, Moments):
            raise TypeError("data = Moments: diffusion learns from points, a Measure, as buffer_memory keeps them")
        _, mean, covariance = as_moments(data)
        scale = architecture.spread(jnp.diagonal(covariance))
        points = jnp.where(scale > 0, (data.points - mean) / jnp.where(scale > 0, scale, 1), 0)
        reached = jnp.cumsum(data.weights)
        dim, dtype = points.shape[-1], points.dtype
        new_key, key = jax.random.split(key)
        if network is None:
            network = architecture.init(new_key, dim, dtype)

        def step(state, inputs):
            network, adam, average = state
            key, share = inputs
            normal = _normals(key, (dim + 2) * batch_size, dtype)
            # Of a pair of normals at radius r, the angle and exp(-r^2 / 2) are uniform, and independent.
            pair, noise = normal[: 2 * batch_size].reshape(2, -1), normal[2 * batch_size :].reshape(-1, dim)
            level, angle = jnp.exp(-jnp.sum(pair**2, axis=0) / 2), jnp.arctan2(*jnp.abs(pair))[:, None]
            x = points.at[jnp.searchsorted(reached, level * reached[-1])].get(mode="clip")
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
        noise = _normals(start_key, num_samples * dim, dtype).reshape(num_samples, dim)
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


def _normals(key: Key[Array, ""], size: int, dtype) -> Float[Array, " n"]:
    """Draw one flat stream, behind a barrier: each use of it would compile and run the generator again."""
    return jax.lax.optimization_barrier(jax.random.normal(key, (size,), dtype))
