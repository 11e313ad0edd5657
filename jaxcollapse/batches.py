"""What one generation keeps: candidates drawn and selected, or the kept set drawn directly."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import scipy.stats
from jaxtyping import Array, Float

from jaxcollapse.base import (
    BatchFn,
    Controls,
    Generator,
    Measure,
    Moments,
    ReferenceFn,
    SelectFn,
    Target,
)
from jaxcollapse.theory.quadratic_form import Energy, energy_quantile, log_laplace, tilts
from jaxcollapse.theory.truncation import separate


def sampled(
    generator: Generator,
    select: SelectFn,
    reference_fn: ReferenceFn,
    silos: Any,
    max_candidates: int,
) -> BatchFn:
    """Draw a pool of candidates from the model and select from it.

    Args:
        generator: to draw from.
        select: re-weights the pool.
        reference_fn: what the verifiers are shown.
        silos: of the references, a stacked measure [K, m, d] or stacked targets.
        max_candidates: static bound on `controls.num_candidates`; the excess is drawn and masked.
    """

    def batch(key, params, controls: Controls) -> Measure:
        sample_key, reference_key, select_key = jax.random.split(key, 3)
        points = generator.sample(sample_key, params, max_candidates)
        drawn = jnp.arange(max_candidates) < controls.num_candidates
        pool = Measure(points, drawn.astype(points.dtype))
        references = reference_fn(reference_key, silos, pool, controls)
        return Measure(points, select(select_key, pool, references, controls))

    return batch


def top_of_gaussian(target: Target, num_proposals: int) -> BatchFn:
    r"""Draw the best n of N candidates of a Gaussian model without drawing the other N - n.

    Equal in law to `sampled` with the `top` selector, at a cost that hardly depends on N:

    1. given the energy q of the (n+1)-th best candidate, the n better ones are independent draws from
       the model truncated to :math:`\{e \le q\}`, and :math:`P(e \le q) \sim \mathrm{Beta}(n+1, N-n)`;
    2. a truncated draw is a draw from the Gaussian tilted by :math:`\exp(-z e)`, accepted inside the
       region with probability :math:`\exp(z (e - q))`. The best z minimises :math:`K(z) + zq`.

    In float32 the model's spread must stay above 1e-6 of its distance to the target: below, energy and
    threshold cancel and fewer points are kept. `sampled` has no such limit.

    Args:
        target: of the verifier.
        num_proposals: static number of tilted draws; `proposals_needed` tells how many make a shortage
            of accepted ones improbable. After a shortage the batch has less mass than n.
    """

    def batch(key, params: Moments, controls: Controls) -> Measure:
        dim, dtype = params.mean.shape[-1], params.mean.dtype
        normal_key, uniform_key = jax.random.split(key)
        normal = jax.random.normal(normal_key, (2 * _ATTEMPTS + dim * num_proposals,), dtype)
        uniform = jax.random.uniform(uniform_key, (2 * _ATTEMPTS + num_proposals,), dtype)
        # Two draws serve all purposes, and the barrier keeps them two: each place where the compiler puts the
        # generator costs a quarter of a second to compile, and each use of w would draw it again.
        normal, uniform = jax.lax.optimization_barrier((normal, uniform))
        order_normal, normal = jnp.split(normal, [2 * _ATTEMPTS])
        order_uniform, uniform = jnp.split(uniform, [2 * _ATTEMPTS])

        frame = separate(params, target)
        scale, offset = frame.energy.scale[:, None], frame.energy.offset[:, None]
        quantile, tilt = _threshold(order_normal, order_uniform, frame.energy, controls)
        variance = 1 / (1 + 2 * tilt * scale**2)
        w = jnp.sqrt(variance) * normal.reshape(dim, -1) - 2 * tilt * scale * offset * variance
        energy = jnp.sum((scale * w + offset) ** 2, axis=0)
        accepted = (energy <= quantile) & (uniform <= jnp.exp(tilt * (energy - quantile)))
        kept = accepted & (jnp.cumsum(accepted) <= controls.num_kept)
        return Measure((frame.mean[:, None] + frame.basis @ w).T, kept.astype(dtype))

    return batch


def proposals_needed(num_kept: int, budget: float, dim: int) -> int:
    r"""Count the proposals after which `top_of_gaussian` falls short about once in 10^9 draws.

    The acceptance, :math:`\alpha \exp(-\min_z K(z) + zq)`, is lowest either for an isotropic centred
    score, with :math:`e \sim \chi^2_d`, or for a linear one, with a normal e.
    """
    chi2, normal = scipy.stats.chi2.ppf(budget, dim), min(scipy.stats.norm.ppf(budget), 0)
    tilt = max(dim / chi2 - 1, 0) / 2
    isotropic = math.exp(dim / 2 * math.log1p(2 * tilt) - tilt * chi2)
    linear = math.exp(normal**2 / 2)
    acceptance = budget * min(isotropic, linear)
    # m * acceptance - 6 * sqrt(m * acceptance) >= n
    return math.ceil((3 + math.sqrt(9 + num_kept)) ** 2 / acceptance)


_ATTEMPTS = 16


def _threshold(
    normal: Float[Array, " m"], uniform: Float[Array, " m"], energy: Energy, controls: Controls
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Draw the energy of the best candidate that is not kept, and find the tilt that suits it."""
    dtype = energy.scale.dtype
    rest = controls.num_candidates - controls.num_kept
    shape = jnp.stack([controls.num_kept + 1, jnp.maximum(rest, 1)]).astype(dtype)
    better, worse = jax.vmap(_gamma)(normal.reshape(2, -1), uniform.reshape(2, -1), shape)
    quantile, _ = energy_quantile(energy, better / (better + worse))
    grid = jnp.append(0, tilts(dtype))
    tilt = grid[jnp.argmin(log_laplace(energy, grid) + grid * quantile)]
    everything = (rest == 0) | (energy.scale.max() == 0)
    return jnp.where(everything, jnp.finfo(dtype).max, quantile), jnp.where(everything, 0, tilt)


def _gamma(normal: Float[Array, " m"], uniform: Float[Array, " m"], shape: Float[Array, ""]) -> Float[Array, ""]:
    """Draw from Gamma(shape), shape >= 1, by the method of [marsaglia2000]_.

    At least 95% of attempts are accepted, so sixteen side by side leave nothing to a loop.
    """
    d = shape - 1 / 3
    v = (1 + normal / jnp.sqrt(9 * d)) ** 3
    bound = normal**2 / 2 + d - d * v + d * jnp.log(jnp.where(v > 0, v, 1))
    return d * v[jnp.argmax((v > 0) & (jnp.log(uniform) < bound))]
