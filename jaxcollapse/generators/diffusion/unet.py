"""A convolutional network for the velocity of images."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxcollapse.checks import check_range
from jaxcollapse.generators.diffusion.architecture import Architecture, angle_features, common_spread

_SMALL = 1e-6  # mean square below which a pixel's channels are not brought to size one


class Block(NamedTuple):
    """Weights of a residual block.

    Attributes:
        first: of a convolution, shape [9 c, c].
        time: from the features of the angle, shape [f, c].
        second: of a convolution, shape [9 c, c].
    """

    first: Float[Array, "*stack 9*c c"]
    time: Float[Array, "*stack f c"]
    second: Float[Array, "*stack 9*c c"]


class Level(NamedTuple):
    """Weights of a resolution of k channels that follows a finer one of c.

    Attributes:
        enter: from the channels of the finer one, shape [c, k].
        block: on the way down.
        leave: to the channels of the finer one, shape [k, c].
        finer: on the way up, of the finer one.
    """

    enter: Float[Array, "*stack c k"]
    block: Block
    leave: Float[Array, "*stack k c"]
    finer: Block


class UNet(NamedTuple):
    """Weights of a U-Net, with a block for each resolution on the way down and on the way up.

    Attributes:
        enter: of a convolution from the image, shape [9 c, k].
        block: of the finest resolution, on the way down.
        levels: the others, from fine to coarse.
        leave: of a convolution to the velocity, shape [9 k, c].
    """

    enter: Float[Array, "*stack 9*c k"]
    block: Block
    levels: tuple[Level, ...]
    leave: Float[Array, "*stack 9*k c"]


def _patches(x: Float[Array, "n h w c"]) -> Float[Array, "n h w 9*c"]:
    """Join each pixel with its eight neighbours, zeros around the image."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=-1)


@jax.custom_vjp
def convolve(x: Float[Array, "n h w c"], weights: Float[Array, "9*c k"]) -> Float[Array, "n h w k"]:
    r"""Correlate with 3 x 3 kernels, zeros around the image: :math:`y_p = \sum_{q \in \{-1, 0, 1\}^2} x_{p + q} W_q`.

    The adjoint in x correlates with :math:`W'_{-q}`. Forward derivatives are not defined.

    Args:
        x: images.
        weights: W, by rows, then columns, then channels.
    """
    # A product over patches: in a scan on CPU, `lax.conv_general_dilated` takes 20 to 50 times longer to differentiate.
    return _patches(x) @ weights


def _adjoint(
    primals: tuple[Float[Array, "n h w c"], Float[Array, "9*c k"]], y: Float[Array, "n h w k"]
) -> tuple[Float[Array, "n h w c"], Float[Array, "9*c k"]]:
    x, weights = primals
    turned = weights.reshape(9, x.shape[-1], -1)[::-1].swapaxes(1, 2).reshape(-1, x.shape[-1])
    return convolve(y, turned), _patches(x).reshape(-1, len(weights)).T @ y.reshape(-1, y.shape[-1])


convolve.defvjp(lambda x, weights: (convolve(x, weights), (x, weights)), _adjoint)


def halve(x: Float[Array, "n h w c"]) -> Float[Array, "n h//2 w//2 c"]:
    """Average squares of 2 x 2 pixels."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def double(x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w c"]:
    """Repeat every pixel in a square of 2 x 2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _activate(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    return jax.nn.silu(x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + _SMALL))


def _pass(block: Block, x: Float[Array, "n h w c"], features: Float[Array, "*n 1 1 f"]) -> Float[Array, "n h w c"]:
    inner = convolve(_activate(x), block.first) + features @ block.time
    return x + convolve(_activate(inner), block.second)


def unet(shape: tuple[int, int, int], widths: tuple[int, ...] = (32, 64)) -> Architecture:
    r"""Learn by a U-Net [ronneberger2015]_ of residual blocks that are told the angle [ho2020]_.

    .. math:: B(x) = x + K_2 * a(K_1 * a(x) + f(\theta) T), \qquad
              a(x) = \operatorname{silu}\!\left(x / \sqrt{\overline{x^2}}\right),

    with the mean over the channels of a pixel [zhang2019]_. On the way down, pixels are averaged in squares of 2 x 2;
    on the way up they are repeated, and added to what left their resolution on the way down. The velocity begins at
    zero.

    All pixels are standardised by their `common_spread`.

    Args:
        shape: height, width and channels of an image; points hold rows first, then columns, then channels.
        widths: channels at each resolution, the finest first.

    Returns:
        An architecture with a `UNet` as weights.

    Raises:
        ValueError: if a number is out of range, or height or width cannot be halved as often as there are widths
            after the first.
    """
    height, width, channels = shape
    check_range("channels", channels, low=1)
    check_range("len(widths)", len(widths), low=1)
    check_range("min(widths)", min(widths), low=1)
    factor = 2 ** (len(widths) - 1)
    for name, size in (("height", height), ("width", width)):
        if size < 1 or size % factor:
            raise ValueError(f"{name} = {size}: must be a positive multiple of {factor} for {len(widths)} widths")

    def init(key: Key[Array, ""], dim: int, dtype: Any) -> UNet:
        if dim != np.prod(shape):
            raise ValueError(f"shape = {shape}: has {np.prod(shape)} pixels, and points have dimension {dim}")
        num_features = angle_features(jnp.zeros(())).size
        keys = iter(jax.random.split(key, 8 * len(widths)))

        def draw(rows: int, columns: int) -> Array:
            return jax.random.normal(next(keys), (rows, columns), dtype) / rows**0.5

        def block(c: int) -> Block:
            return Block(draw(9 * c, c), draw(num_features, c), draw(9 * c, c))

        return UNet(
            enter=draw(9 * channels, widths[0]),
            block=block(widths[0]),
            levels=tuple(Level(draw(c, k), block(k), draw(k, c), block(c)) for c, k in pairwise(widths)),
            leave=jnp.zeros((9 * widths[0], channels), dtype),
        )

    def apply(weights: UNet, x: Float[Array, "n d"], angle: Float[Array, "*n"]) -> Float[Array, "n d"]:
        features = angle_features(angle)[..., None, None, :]
        h, left = _pass(weights.block, convolve(x.reshape(-1, *shape), weights.enter), features), []
        for level in weights.levels:
            left.append(h)
            h = _pass(level.block, halve(h) @ level.enter, features)
        for level in reversed(weights.levels):
            h = _pass(level.finer, left.pop() + double(h @ level.leave), features)
        return convolve(_activate(h), weights.leave).reshape(x.shape)

    return Architecture(init, apply, common_spread)
