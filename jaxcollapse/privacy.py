r"""What messages reveal: their sizes, attacks on them, and noise with its loss of privacy accounted.

Noise protects what can be bounded. With the data in a ball of diameter D, replacing one of m samples moves a mean by at
most D / m, whose noise a large silo can afford. An interpolant has no such bound: one point may be a whole image, and
the sensitivity of S images that move a share s of the way is :math:`s \sqrt S D`, whatever m.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Key

from jaxcollapse.checks import check_range


def gaussian_mechanism(key: Key[Array, ""], message, deviation: Float[Array | float, ""]):
    r"""Add independent noise :math:`N(0, \sigma^2)` to every number of a message [dwork2014]_.

    Args:
        key: of this message alone; noise that is used twice can be subtracted.
        message: a pytree of arrays.
        deviation: :math:`\sigma`, the noise multiplier times the message's sensitivity: the greatest L2 distance
            between two messages from neighbouring data, such as differ in one sample replaced.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.privacy import gaussian_mechanism
        >>> told = gaussian_mechanism(jax.random.key(0), jnp.zeros(10_000), deviation=2.0)
        >>> round(float(told.std()), 1)
        2.0
    """
    leaves, structure = jax.tree.flatten(message)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + deviation * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def privacy_loss(noise_multiplier: float, num_messages: int, delta: float) -> float:
    r"""Account for a sequence of noisy messages: the least epsilon for which all of them are (epsilon, delta)-private.

    T adaptive Gaussian mechanisms of noise z are as private as telling :math:`N(0, 1)` from :math:`N(\mu, 1)` is hard,
    with :math:`\mu = \sqrt T / z` [dong2022]_, and exactly so [balle2018]_:

    .. math:: \delta = \Phi\Big(\frac\mu2 - \frac\epsilon\mu\Big)
              - e^\epsilon \, \Phi\Big(-\frac\mu2 - \frac\epsilon\mu\Big).

    Args:
        noise_multiplier: z, standard deviation of the noise over the sensitivity, positive.
        num_messages: T, at least 1.
        delta: in (0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.privacy import privacy_loss
        >>> loss = privacy_loss(2.0, num_messages=1, delta=1e-5)
        >>> more = privacy_loss(4.0, num_messages=4, delta=1e-5)  # mu is again 1/2
        >>> round(loss, 2), round(more, 2)
        (1.99, 1.99)
    """
    check_range("noise_multiplier", noise_multiplier, low=_TINY)
    check_range("num_messages", num_messages, low=1)
    check_range("delta", delta, low=_TINY, high=1 - 1e-9)
    mu = math.sqrt(num_messages) / noise_multiplier
    if _delta(0.0, mu) <= delta:
        return 0.0
    return float(
        scipy.optimize.brentq(
            lambda epsilon: _delta(epsilon, mu) - delta, 0.0, mu**2 / 2 + mu * float(scipy.stats.norm.isf(delta))
        )
    )


def noise_needed(epsilon: float, num_messages: int, delta: float) -> float:
    """Find the noise multiplier with which a sequence of messages is (epsilon, delta)-private, as in `privacy_loss`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.privacy import noise_needed, privacy_loss
        >>> noise = noise_needed(1.0, num_messages=10, delta=1e-5)
        >>> round(privacy_loss(noise, num_messages=10, delta=1e-5), 4)
        1.0
    """
    check_range("epsilon", epsilon, low=_TINY)
    check_range("num_messages", num_messages, low=1)
    check_range("delta", delta, low=_TINY, high=1 - 1e-9)
    log_mu = scipy.optimize.brentq(
        lambda log_mu: _delta(epsilon, math.exp(log_mu)) - delta, -50.0, math.log(40 + 2 * epsilon)
    )
    return math.sqrt(num_messages) / math.exp(float(log_mu))


_TINY = float(np.finfo(float).tiny)


def _delta(epsilon: float, mu: float) -> float:
    return float(
        scipy.stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + scipy.stats.norm.logcdf(-mu / 2 - epsilon / mu))
    )


def invert_interpolant(
    support: Float[Array, "s d"], reply: Float[Array, "s d"], step: Float[Array | float, ""]
) -> Float[Array, "s d"]:
    r"""Attack a silo's reply z with its step s known: the image of a support point is :math:`x_i + (z_i - x_i) / s`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.privacy import invert_interpolant
        >>> support, image = jnp.array([[0.0]]), jnp.array([[4.0]])
        >>> print(invert_interpolant(support, 0.75 * support + 0.25 * image, step=0.25))
        [[4.]]
    """
    return support + (reply - support) / step


def cross_lines(supports: Float[Array, "2 s d"], replies: Float[Array, "2 s d"]) -> Float[Array, "s d"]:
    r"""Attack two replies with their step unknown: find where the lines from support through reply pass each other.

    The images of a point in two rounds are nearly one, and lie on both lines: with directions :math:`u_r`, unit
    vectors along :math:`z_r - x_r`, it is estimated by

    .. math:: \arg\min_y \sum_r \lVert (I - u_r u_r') (y - x_r) \rVert^2.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.privacy import cross_lines
        >>> supports, image = jnp.array([[[0.0, 0.0]], [[4.0, 0.0]]]), jnp.array([2.0, 2.0])
        >>> cross_lines(supports, 0.75 * supports + 0.25 * image).round(2).tolist()
        [[2.0, 2.0]]
    """
    direction = replies - supports
    unit = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    across = jnp.eye(supports.shape[-1], dtype=supports.dtype) - unit[..., :, None] * unit[..., None, :]
    total = jnp.einsum("rsij,rsj->si", across, supports)
    return jnp.einsum("sij,sj->si", jnp.linalg.pinv(across.sum(axis=0), hermitian=True), total)


def differentiate_partition(
    log_partitions: Float[Array, "s d 2"],
    points: Float[Array, "s d"],
    width: Float[Array | float, ""],
    epsilon: Float[Array | float, ""],
) -> Float[Array, "s d"]:
    r"""Attack federated Sinkhorn with candidates in chosen places: its message at neighbours gives the image away.

    The image of x, the mean of the silo's points under the plan, is exactly

    .. math:: T(x) = x + \tfrac\epsilon2 \nabla \ell(x), \qquad
              \ell(x) = \log \sum_j w_j \exp((g_j - \lVert x - y_j \rVert^2) / \epsilon),

    here by central differences.

    Args:
        log_partitions: of the silo at :math:`x \mp h e_i / 2` for every axis i, the message that a server gets.
        points: x.
        width: h.
        epsilon: of the exchange.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.privacy import differentiate_partition
        >>> at = jnp.array([[[0.5, 1.5]]])  # half a unit on either side of 1; a silo of the one point 4
        >>> print(differentiate_partition(-((at - 4) ** 2) / 2.0, jnp.array([[1.0]]), width=1.0, epsilon=2.0))
        [[4.]]
    """
    return points + epsilon / 2 * (log_partitions[..., 1] - log_partitions[..., 0]) / width
