"""Gaussian mixtures, fitted by expectation maximisation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Generator, Measure, Moments
from jaxcollapse.checks import check_count, check_range
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import (
    as_moments,
    blockwise,
    exact,
    inverse_cdf,
    merge_exactly,
    require_points,
    squared_distances,
    union,
)
from jaxcollapse.tree import zeros_like_shape


class Mixture(NamedTuple):
    r"""A mixture :math:`\sum_j \pi_j N(\mu_j, \Sigma_j)` of k Gaussians.

    Attributes:
        weights: :math:`\pi`, shape [k], of sum one. An empty component has weight zero.
        means: shape [k, d].
        covariances: shape [k, d, d].
    """

    weights: Float[Array, "*stack k"]
    means: Float[Array, "*stack k d"]
    covariances: Float[Array, "*stack k d d"]


def gaussian_mixture(num_components: int = 2, num_iterations: int = 20, ridge: float = 1e-6) -> Generator:
    r"""Fit a mixture of Gaussians by weighted maximum likelihood with expectation maximisation [dempster1977]_.

    Each iteration takes the responsibilities

    .. math:: r_{ij} = \pi_j N(x_i; \mu_j, \Sigma_j) \Big/ \sum_l \pi_l N(x_i; \mu_l, \Sigma_l)

    and then, with :math:`m_j = \sum_i w_i r_{ij}`, the mass, the mean and the covariance of each component's share:

    .. math:: \pi_j = \frac{m_j}{\sum_l m_l}, \qquad \mu_j = \sum_i \frac{w_i r_{ij}}{m_j} x_i, \qquad
              \Sigma_j = \sum_i \frac{w_i r_{ij}}{m_j} (x_i - \mu_j)(x_i - \mu_j)' + \rho I.

    The likelihood rises with every iteration, but for the ridge. A component whose responsibilities underflow is empty
    from then on: its weight is zero, its mean and covariance are kept.

    `init` starts from means drawn by `k_means_plus_plus`, equal weights, and for all components the covariance about
    the nearest of these means. With fewer distinct points than components some of these means are equal, and so stay
    their components. `fit` starts from the parameters given and ignores the key. Data without mass leave the parameters
    as they are.

    Args:
        num_components: k, of `init`; `fit` takes as many as it is given.
        num_iterations: O(k n d^2) each.
        ridge: :math:`\rho > 0`, in squared units of the data as in `gaussian`; without it the likelihood has no bound.

    Returns:
        A generator with a `Mixture` as parameters. `init` and `fit` raise TypeError where they are given moments.

    Raises:
        ValueError: if there is no component or no iteration, or the ridge is not positive.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> data = jc.uniform_measure(np.array([[0.0], [0.5], [5.0], [5.5]]))
        >>> model = jc.generators.gaussian_mixture(2).init(jax.random.key(0), data)
        >>> np.sort(model.means[:, 0]).round(2).tolist()
        [0.25, 5.25]
    """
    num_components = check_count("num_components", num_components, low=1)
    num_iterations = check_count("num_iterations", num_iterations, low=1)
    check_range("ridge", ridge, low=float(np.finfo(np.float32).tiny))

    @jax.jit  # called eagerly, too, it is compiled once for its shapes
    def fit(key, params: Mixture, data: Data) -> Mixture:
        (data,) = require_points("gaussian_mixture", data=data)
        fold = blockwise(data)
        regulariser = ridge * jnp.eye(params.means.shape[-1], dtype=params.means.dtype)

        def iterate(_, params):
            frames = _frames(params)

            def add(parts, block):
                responsibility = jax.nn.softmax(_log_joint(frames, block.points), axis=0)
                of_block = jax.vmap(_plain_moments, (None, 0))(block.points, responsibility * block.weights)
                return jax.vmap(merge_exactly)(parts, exact(of_block))

            mass, means, covariances = fold(add, exact(zeros_like_shape(Moments(*params)))).moments
            total, empty = mass.sum(), mass == 0  # NaN, of data with NaN, is neither
            return Mixture(
                jnp.where(total == 0, params.weights, mass / jnp.where(total == 0, 1, total)),
                jnp.where(empty[:, None], params.means, means),
                jnp.where(empty[:, None, None], params.covariances, covariances + regulariser),
            )

        return jax.lax.fori_loop(0, num_iterations, iterate, params)

    @jax.jit
    def init(key: Key[Array, ""], data: Data) -> Mixture:
        (data,) = require_points("gaussian_mixture", data=data)
        x, w = data
        means = k_means_plus_plus(key, data, num_components)
        nearest = jnp.argmin(squared_distances(x, means), axis=1)
        within = as_moments(Measure(x - means[nearest], w)).covariance + ridge * jnp.eye(x.shape[-1], dtype=x.dtype)
        weights = jnp.full(num_components, 1 / num_components, x.dtype)
        return fit(key, Mixture(weights, means, jnp.broadcast_to(within, (num_components, *within.shape))), data)

    def sample(key: Key[Array, ""], params: Mixture, num_samples: int) -> Float[Array, "n d"]:
        (num, dim), dtype = params.means.shape, params.means.dtype
        of_component, of_noise = jax.random.split(key)
        component = inverse_cdf(params.weights)(jax.random.uniform(of_component, (num_samples,), dtype))
        normal = jax.random.normal(of_noise, (dim * num_samples,), dtype).reshape(dim, num_samples)
        # All components at every draw: k small products cost less than a gather of n factors.
        draws = params.means[:, :, None] + jax.vmap(psd_cholesky)(params.covariances) @ normal
        return jnp.sum(jnp.where(component == jnp.arange(num)[:, None, None], draws, 0), axis=0).T

    return Generator(init, fit, sample, law=lambda params: Moments(*params))


def log_density(params: Mixture, points: Float[Array, "n d"]) -> Float[Array, " n"]:
    r"""Evaluate :math:`\log \sum_j \pi_j N(x; \mu_j, \Sigma_j)` at n points.

    Variances must be positive. A direction in which a component has no spread but rounding, `psd_cholesky`'s zero
    column, is given the spread of that rounding: singular covariances have a density, if a high one.
    """
    return jax.nn.logsumexp(_log_joint(_frames(params), points), axis=0)


def mixture_moments(params: Mixture) -> Moments:
    r"""Compute the moments of a mixture, of mass one.

    .. math:: \mu = \sum_j \pi_j \mu_j, \qquad
              \Sigma = \sum_j \pi_j \left( \Sigma_j + (\mu_j - \mu)(\mu_j - \mu)' \right).
    """
    return union(Moments(*params))


def k_means_plus_plus(key: Key[Array, ""], data: Measure, num_seeds: int) -> Float[Array, "k d"]:
    r"""Draw points that are far from each other, as centres to start from [arthur2007]_.

    The first is drawn by mass, and each of the others in proportion to mass times squared distance,

    .. math:: P(i) \propto w_i \min_{s \text{ drawn}} \lVert x_i - s \rVert^2,

    or by mass again where all of the mass lies on those drawn. One uniform number decides each draw.
    """
    x, w = data
    unit = jax.random.uniform(key, (num_seeds,), x.dtype)

    def squared_distance(seed):
        return squared_distances(seed[None], x)[0]

    def draw(nearest, unit):
        mass = w * nearest
        seed = x[inverse_cdf(jnp.where(mass.sum() > 0, mass, w))(unit)]
        return jnp.minimum(nearest, squared_distance(seed)), seed

    start = x[inverse_cdf(w)(unit[0])]
    _, seeds = jax.lax.scan(draw, squared_distance(start), unit[1:])
    return jnp.concatenate([start[None], seeds])


class _Frame(NamedTuple):
    r"""What the density of a component takes: :math:`\log \pi - \tfrac12 \log |2 \pi \Sigma|`, the mean, and
    :math:`L^{-1}` with :math:`L L' = \Sigma`.
    """

    log_scale: Float[Array, "*k"]
    mean: Float[Array, "*k d"]
    whiten: Float[Array, "*k d d"]


def _frames(params: Mixture) -> _Frame:
    def frame(weight, mean, covariance):
        dim, dtype = covariance.shape[-1], covariance.dtype
        root = psd_cholesky(covariance)
        rounding = jnp.sqrt(dim * jnp.finfo(dtype).eps * jnp.diagonal(covariance))
        scale = jnp.where(jnp.diagonal(root) > 0, jnp.diagonal(root), rounding)
        # The inverse of a small factor and one product are much faster than solving for n right-hand sides.
        definite = root + jnp.diag(scale - jnp.diagonal(root))
        whiten = solve_triangular(definite, jnp.eye(dim, dtype=dtype), lower=True)
        return _Frame(jnp.log(weight) - jnp.log(scale).sum() - dim / 2 * jnp.log(2 * jnp.pi), mean, whiten)

    return jax.vmap(frame)(*params)


def _plain_moments(points: Float[Array, "n d"], masses: Float[Array, " n"]) -> Moments:
    """Reduce a block to moments by plain sums: responsibilities are no equal terms, which all round the same way."""
    mass = masses.sum()
    share = masses / jnp.where(mass > 0, mass, 1)
    mean = share @ points
    centred = points - mean
    return Moments(mass, mean, (share[:, None] * centred).T @ centred)


def _log_joint(frames: _Frame, points: Float[Array, "n d"]) -> Float[Array, "k n"]:
    r"""Evaluate :math:`\log \pi_j + \log N(x; \mu_j, \Sigma_j)`."""
    whitened = frames.whiten @ (points.T - frames.mean[:, :, None])
    return frames.log_scale[:, None] - jnp.sum(whitened**2, axis=1) / 2
