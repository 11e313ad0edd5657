"""An exact sampler of the best candidates of a Gaussian model."""

import math

import jax
import jax.numpy as jnp
import scipy
from jaxtyping import Array, Bool, Float, Int

from jaxcollapse.base import Keep, Measure, Moments, Sizes, Target
from jaxcollapse.gaussian.quadratic_form import Contour, Energy, energy_quantile, log_laplace, tilted_normal, tilts
from jaxcollapse.gaussian.truncation import separate


def top_of_gaussian(target: Target) -> Keep:
    r"""Draw the best n of N candidates of a Gaussian model without drawing the other N - n.

    Equal in law to `sample_and_select` with `top(mahalanobis(target))`, at a cost that hardly depends on N:

    1. given the energy q of the (n+1)-th best candidate, the n better ones are independent draws from
       the model truncated to :math:`\{e \le q\}`, and :math:`P(e \le q) \sim \mathrm{Beta}(n+1, N-n)`;
    2. a truncated draw is a draw from the Gaussian tilted by :math:`\exp(-z e)`, accepted inside the
       region with probability :math:`\exp(z (e - q))`. The best z minimises :math:`K(z) + zq`.

    There are as many tilted draws as `proposals_needed` tells at the bounds of the sizes. After a shortage of accepted
    ones the kept set has less mass than n.

    Args:
        target: of the verifier.
    """

    def keep(key, params: Moments, sizes: Sizes) -> Measure:
        num_proposals = proposals_needed(sizes.max_kept, sizes.max_kept / sizes.max_candidates, params.mean.shape[-1])
        dim, dtype = params.mean.shape[-1], params.mean.dtype
        size = 2 * 3 * _ATTEMPTS
        normal = jax.random.normal(key, (size + (dim + 2) * num_proposals,), dtype)
        # One draw serves all purposes, and the barrier keeps it one: each place where the compiler puts the
        # generator costs a quarter of a second to compile, and each use of v would draw it again.
        order, normal = jnp.split(jax.lax.optimization_barrier(normal), [size])
        normal, spare = jnp.split(normal.reshape(dim + 2, -1), [dim])

        frame = separate(params, target)
        threshold, contour = _threshold(order.reshape(2, 3, -1), frame.energy, sizes)
        candidates = jnp.append(0, tilts(dtype))
        exponent = log_laplace(contour.energy, candidates - contour.vertex) + candidates * threshold
        everything = (sizes.num_kept == sizes.num_candidates) | (frame.unit == 0)
        z = jnp.where(everything, 0, candidates[jnp.argmin(exponent)])
        threshold = jnp.where(everything, jnp.finfo(dtype).max, threshold)

        mean, variance = tilted_normal(contour.energy, z - contour.vertex)
        v = mean[:, None] + jnp.sqrt(variance)[:, None] * normal
        energy = contour.energy.square @ v**2 + 2 * contour.energy.slope @ v
        accepted = (energy <= threshold) & (_exponential(spare) >= z * (threshold - energy))
        index, num_accepted = first_true(accepted, sizes.max_kept)
        kept = jnp.arange(sizes.max_kept) < jnp.minimum(sizes.num_kept, num_accepted)

        mean, variance = tilted_normal(frame.energy, contour.vertex)
        w = mean + jnp.sqrt(variance) * v[:, index].T
        return Measure(frame.mean + w @ frame.basis.T, kept.astype(dtype))

    return keep


def first_true(mask: Bool[Array, " n"], size: int) -> tuple[Int[Array, " size"], Int[Array, ""]]:
    """Find the first `size` true entries, and count them all; indices beyond the count are padding within range."""
    count = jnp.cumsum(mask)
    index = jnp.searchsorted(count, jnp.arange(1, size + 1), method="scan")
    return jnp.minimum(index, mask.shape[0] - 1), count[-1]


def proposals_needed(num_kept: int, budget: float, dim: int) -> int:
    r"""Count the proposals after which `top_of_gaussian` falls short about once in 10^9 draws.

    The acceptance, :math:`\alpha \exp(-\min_z K(z) + zq)`, is lowest either for an isotropic centred
    score, with :math:`e \sim \chi^2_d`, or for a linear one, with a normal e.
    """
    if budget >= 1:
        return num_kept
    chi2, normal = scipy.stats.chi2.ppf(budget, dim), min(scipy.stats.norm.ppf(budget), 0)
    tilt = max(dim / chi2 - 1, 0) / 2
    isotropic = math.exp(dim / 2 * math.log1p(2 * tilt) - tilt * chi2)
    linear = math.exp(normal**2 / 2)
    acceptance = budget * min(isotropic, linear)
    # m * acceptance - 6 * sqrt(m * acceptance) >= n
    return math.ceil((3 + math.sqrt(9 + num_kept)) ** 2 / acceptance)


_ATTEMPTS = 16


def _threshold(normal: Float[Array, "2 3 m"], energy: Energy, sizes: Sizes) -> tuple[Float[Array, ""], Contour]:
    """Draw the energy of the best candidate that is not kept."""
    rest = sizes.num_candidates - sizes.num_kept
    shape = jnp.stack([sizes.num_kept + 1, jnp.maximum(rest, 1)]).astype(energy.square.dtype)
    better, worse = jax.vmap(_gamma)(normal, shape)
    return energy_quantile(energy, better / (better + worse))


def _gamma(normal: Float[Array, "3 m"], shape: Float[Array, ""]) -> Float[Array, ""]:
    """Draw from Gamma(shape), shape >= 1, by the method of [marsaglia2000]_.

    At least 95% of attempts are accepted, so sixteen side by side leave nothing to a loop.
    """
    x, spare = normal[0], normal[1:]
    d = shape - 1 / 3
    v = (1 + x / jnp.sqrt(9 * d)) ** 3
    bound = x**2 / 2 + d - d * v + d * jnp.log(jnp.where(v > 0, v, 1))
    return d * v[jnp.argmax((v > 0) & (_exponential(spare) > -bound))]


def _exponential(normal: Float[Array, "2 m"]) -> Float[Array, " m"]:
    """Turn pairs of normals into exponential variates."""
    return jnp.sum(normal**2, axis=0) / 2
