"""Random bits: Threefry [salmon2011]_ with its rounds written out; normals of them.

jax keeps the rounds in a loop where it compiles for a processor, which costs seven times as much as they do. Keys of
either kind draw the same bits.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl, threefry_prng_impl
from jaxtyping import Array, Complex, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_WIDTHS = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}


def threefry(key: UInt32[Array, "2"], high: UInt32[Array, "*n"], low: UInt32[Array, "*n"]) -> tuple[Array, Array]:
    """Encrypt counters of two words each by Threefry-2x32 of twenty rounds."""
    words = [key[0], key[1], key[0] ^ key[1] ^ _PARITY]
    x, y = high + words[0], low + words[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
        x, y = x + words[(group + 1) % 3], y + words[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _count(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> tuple[Array, Array]:
    low = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return threefry(key, jnp.zeros_like(low), low)


def _random_bits(key: UInt32[Array, "2"], width: int, shape: tuple[int, ...]) -> Array:
    if math.prod(shape) > 2**32:  # more than one word counts
        return threefry_prng_impl.random_bits(key, width, shape)
    high, low = _count(key, shape)
    if width == 64:
        return (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)
    return (high ^ low).astype(_WIDTHS[width])


def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> Array:
    return jnp.stack(_count(key, shape), axis=-1)


def _fold_in(key: UInt32[Array, "2"], data: Array) -> Array:
    return jnp.stack(threefry(key, *_seed(data)))


_seed = threefry_prng_impl.seed
_UNROLLED = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="unrolled", tag="unr"
)


def unrolled(key: Key[Array, "*shape"]) -> Key[Array, "*shape"]:
    """Make keys of jax's default kind draw faster, and the same; others stay as they are."""
    partitionable = jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    if jax.random.key_impl(key) != "threefry2x32" or not partitionable:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)


def normal_pairs(key: Key[Array, ""], num: int) -> Complex[Array, "2 num"]:
    r"""Draw two rows of complex numbers whose two parts are independent standard normals [box1958]_.

    .. math:: z = \sqrt{-2 \log u} \, (\cos h + i \sin h)^2, \qquad u \sim U(0, 1), \quad h \sim U(-\pi/2, \pi/2),

    of 32 bits each, in single precision and half the time of the inverse error function. :math:`|z|^2 / 2` is
    exponential.

    Args:
        key: random key, of any kind.
        num: of a row.
    """

    def draw(words):
        first, second = _count(words, (num,))
        radius = jnp.sqrt(-2 * jnp.log((first.astype(jnp.float32) + 0.5) * 2.0**-32))
        h = second.astype(jnp.int32).astype(jnp.float32) * (math.pi * 2.0**-32)
        root = jax.lax.complex(_series(_COSINE, h**2), h * _series(_SINE, h**2))
        return radius * (root * root)

    # In a loop, a turn a row, since the compiler would draw anew wherever the numbers are used.
    return jax.lax.map(draw, jax.random.bits(key, (2, 2), jnp.uint32))


_COSINE, _SINE = ([(-1) ** k / math.factorial(2 * k + odd) for k in range(7 - odd)] for odd in (0, 1))


def _series(coefficients: list[float], x: Array) -> Array:
    return functools.reduce(lambda total, c: total * x + c, reversed(coefficients), jnp.zeros_like(x))
