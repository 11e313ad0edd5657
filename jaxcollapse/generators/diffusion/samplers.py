"""Samplers: ways from noise to data along falling angles."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxcollapse.generators.diffusion.architecture import normals

Velocity = Callable[[Float[Array, "n d"], Float[Array, ""]], Float[Array, "n d"]]


class Sampler(Protocol):
    """Turn noise x into data along falling angles, from `velocity(x, angle)`."""

    def __call__(
        self, key: Key[Array, ""], velocity: Velocity, angles: Float[Array, " t"], x: Float[Array, "n d"]
    ) -> Float[Array, "n d"]: ...


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
        fresh = normals(key, x.size, x.dtype).reshape(x.shape)
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


SAMPLERS = {"midpoint": midpoint, "ddim": ddim, "ancestral": ancestral}
