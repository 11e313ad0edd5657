"""An exact sampler of the best candidates of a Gaussian model."""

import bisect

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy import special

from jaxcollapse.base import Keep, Measure, Moments, Sizes, Target
from jaxcollapse.gaussian.quadratic_form import Contour, Energy, energy_quantile, tilt, tilted_normal
from jaxcollapse.gaussian.truncation import separate
from jaxcollapse.prng import normal_pairs


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

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> keep = jax.jit(jc.top_of_gaussian(jc.isotropic_target(jnp.zeros(2))))
        >>> kept = keep(jax.random.key(0), model, jc.sizes(4, 1e-6))  # of four millions
        >>> float(kept.weights.sum()), bool(abs(kept.points).max() < 0.01)
        (4.0, True)
    """

    def keep(key, params: Moments, sizes: Sizes) -> Measure:
        dim, dtype = params.mean.shape[-1], params.mean.dtype
        quarter = 16 * -(-proposals_needed(sizes.max_kept, sizes.max_kept / sizes.max_candidates, dim) // 64)
        pairs = normal_pairs(key, quarter * (dim + 2) + 3 * _ATTEMPTS // 2)
        pairs = jnp.stack([pairs.real, pairs.imag]).astype(dtype)
        normal, spare, order = jnp.split(pairs, [quarter * dim, quarter * (dim + 2)], axis=-1)
        normal, spare = normal.reshape(4, dim, quarter), _exponential(spare).ravel()

        frame = separate(params, target)
        threshold, contour = _threshold(order.reshape(2, 3, -1), frame.energy, sizes)
        everything = (sizes.num_kept == sizes.num_candidates) | (frame.unit == 0)
        z = jnp.where(everything, 0, best_tilt(threshold, contour))
        threshold = jnp.where(everything, jnp.finfo(dtype).max, threshold)

        c, b = contour.energy
        mean, variance = tilted_normal(contour.energy, z - contour.vertex)
        scale = jnp.sqrt(variance)
        square, slope = c * variance, 2 * scale * (c * mean + b)
        energy = jnp.sum(normal * (square[:, None] * normal + slope[:, None]), axis=1).ravel()
        energy += (c * mean + 2 * b) @ mean
        accepted = (energy <= threshold) & (spare >= z * (threshold - energy))
        index, num_accepted = some_true(accepted, sizes.max_kept)
        kept = jnp.arange(sizes.max_kept) < jnp.minimum(sizes.num_kept, num_accepted)

        origin, variance = tilted_normal(frame.energy, contour.vertex)
        root = frame.basis * jnp.sqrt(variance)
        normal = normal.swapaxes(0, 1)[:, index // quarter, index % quarter]
        points = (frame.mean + frame.basis @ origin + root @ mean)[:, None] + (root * scale) @ normal
        return Measure(points.T, kept.astype(dtype))

    return keep


def best_tilt(threshold: Float[Array, ""], contour: Contour) -> Float[Array, ""]:
    """Find the tilt under which the mean energy is the threshold: it is zero, or lies between zero and the vertex.

    It is interpolated between sixteen tilts: any is right, and the best accepts the most.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.gaussian.quadratic_form import Energy, energy_quantile
        >>> from jaxcollapse.gaussian.top import best_tilt
        >>> energy = Energy(square=jnp.full(2, 0.5), slope=jnp.zeros(2))  # an exponential variate of mean one
        >>> threshold, contour = jax.jit(energy_quantile)(energy, odds=1.0)  # log 2
        >>> round(float(best_tilt(threshold, contour)), 1)  # about 1 / log 2 - 1
        0.4
    """
    tilts = jnp.maximum(contour.vertex, 0) * jnp.linspace(0, 1, 16, dtype=threshold.dtype)
    energy, displacement, _ = tilt(contour.energy, tilts - contour.vertex)
    return jnp.interp(-threshold, -displacement - energy.square.sum(axis=-1), tilts)


def some_true(mask: Bool[Array, " n"], size: int) -> tuple[Int[Array, " size"], Int[Array, ""]]:
    """List `size` true entries in a fixed order, and count all; indices beyond the count are padding within range.

    Args:
        mask: of which n is a multiple of 32: columns of 32 entries are the bits of words, which are counted at once.
        size: of the list.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.gaussian.top import some_true
        >>> index, count = some_true(jnp.arange(64) % 16 == 0, size=4)
        >>> int(count), sorted(index.tolist())
        (4, [0, 16, 32, 48])
    """
    words = mask.reshape(32, -1).astype(jnp.uint32)
    for width in (16, 8, 4, 2, 1):
        words = words[:width] | words[width:] << width
    (words,) = words
    ends = jnp.cumsum(jax.lax.population_count(words).astype(jnp.int32))
    starts = jnp.pad(ends[:-1], (1, 0))
    column = jnp.cumsum(jnp.zeros(size, jnp.int32).at[starts].add(1, mode="drop")) - 1  # the last that starts up to k
    word, rank = words[column], jnp.arange(size) - starts[column]
    low = (2 ** np.arange(1, 32) - 1).astype(np.uint32)[:, None]
    place = jnp.sum(jax.lax.population_count(word & low).astype(jnp.int32) <= rank, axis=0)
    return place * len(words) + column, ends[-1]


def proposals_needed(num_kept: int, budget: float, dim: int) -> int:
    r"""Count the proposals after which `top_of_gaussian` falls short at most once in 10^9 draws.

    The least m with :math:`E[P(\mathrm{Bin}(m, a(p)) < n)] \le 10^{-9}` for :math:`p \sim \mathrm{Beta}(n+1, N-n)`.
    The acceptance, :math:`a(p) = p \exp(-\min_z K(z) + zq)`, is lowest either for an isotropic centred
    score, with :math:`e \sim \chi^2_d`, or for a linear one, with a normal e.

    Example:
        >>> from jaxcollapse.gaussian.top import proposals_needed
        >>> [proposals_needed(num_kept=100, budget=budget, dim=2) for budget in (0.5, 0.01)]
        [362, 1119]
    """
    rest = round(num_kept / budget) - num_kept
    if rest == 0:
        return num_kept
    levels = np.linspace(-9, 9, 181)  # standard scores of p
    mass = np.exp(-(levels**2) / 2)
    share = special.betaincinv(num_kept + 1, rest, special.ndtr(levels))
    chi2, normal = 2 * special.gammaincinv(dim / 2, share), np.minimum(special.ndtri(share), 0)
    tilt = np.maximum(dim / chi2 - 1, 0) / 2
    isotropic = dim / 2 * np.log1p(2 * tilt) - tilt * np.where(tilt > 0, chi2, 0)
    acceptance = share * np.exp(np.minimum(isotropic, normal**2 / 2))

    def safety(num_proposals):
        shortage = special.betainc(num_proposals - num_kept + 1, num_kept, 1 - acceptance)
        return -mass @ shortage / mass.sum()

    counts = range(num_kept, 2**40)
    return counts[bisect.bisect_left(counts, -1e-9, key=safety)]


_ATTEMPTS = 16


def _threshold(normal: Float[Array, "2 3 m"], energy: Energy, sizes: Sizes) -> tuple[Float[Array, ""], Contour]:
    """Draw the energy of the best candidate that is not kept."""
    rest = sizes.num_candidates - sizes.num_kept
    shape = jnp.stack([sizes.num_kept + 1, jnp.maximum(rest, 1)]).astype(energy.square.dtype)
    better, worse = jax.vmap(_gamma)(normal, shape)
    return energy_quantile(energy, better / worse)


def _gamma(normal: Float[Array, "3 m"], shape: Float[Array, ""]) -> Float[Array, ""]:
    """Draw from Gamma(shape), shape >= 1, by the method of [marsaglia2000]_.

    At least 95% of attempts are accepted, so sixteen side by side leave nothing to a loop.
    """
    x, spare = normal[0], normal[1:]
    d = shape - 1 / 3
    v = (1 + x / jnp.sqrt(9 * d)) ** 3
    bound = x**2 / 2 + d - d * v + d * jnp.log(jnp.where(v > 0, v, 1))
    return d * v[jnp.argmax((v > 0) & (_exponential(spare) > -bound))]


def _exponential(normal: Float[Array, "2 *m"]) -> Float[Array, "*m"]:
    """Turn pairs of normals into exponential variates."""
    return jnp.sum(normal**2, axis=0) / 2
