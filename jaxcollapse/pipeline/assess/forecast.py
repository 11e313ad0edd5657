"""What a verifier that knows a reference by its moments does to diversity: the mean field at measured moments."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcollapse.analysis import Interval
from jaxcollapse.base import Moments
from jaxcollapse.checks import MOST
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.recursion import build_collapse, run
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import fit_target
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.exponents import kappa
from jaxcollapse.theory.mean_field import kept_moments, limit
from jaxcollapse.workflows import WORKFLOWS

NUM_KEPT = 10**6  # of whole numbers of candidates: budgets are as fine


class Future(NamedTuple):
    r"""What is forecast, with intervals of 95%.

    Attributes:
        log_trace: :math:`\log (\operatorname{Tr} \Sigma_t / \operatorname{Tr} \Sigma_0)`, each [T + 1].
        multiplier: :math:`\lambda = f \kappa_d(\alpha)`, what a generation multiplies the covariance by in the end.
        half_life: generation at which half of the trace is left, infinite where it never comes to that.
    """

    log_trace: Interval
    multiplier: Interval
    half_life: Interval


def forecast(
    start: Moments,
    reference: Moments,
    factors: np.ndarray,
    *,
    workflow: str,
    num_kept: int,
    budget: float,
    num_generations: int,
) -> Future:
    r"""Forecast the trace of a Gaussian generator's model under selection by distance to a reference.

    It is the mean field of the Gaussian family, exact as n grows, times the loss of n samples without selection. The
    score is the Mahalanobis distance of the reference, which counts every direction as much as any other, whatever its
    spread: in its coordinates any covariance becomes isotropic, so that d in the multiplier counts all directions that
    vary. Intervals are two standard deviations of resamples about the sample's forecast.

    Args:
        start: what the first model is fitted to: the sample's, and those of resamples, a stack [B + 1].
        reference: whose mean and covariance the verifier knows; likewise.
        factors: what a generation without selection multiplies a covariance by, [B + 1].
        workflow: replace, accumulate or accumulate_subsample.
        num_kept: n.
        budget: :math:`\alpha / (1 - \rho)`, the share that is kept of the candidates that are no junk.
        num_generations: T.
    """
    with jax.enable_x64(True):  # noqa: FBT003
        leaves = jax.tree.map(partial(jnp.asarray, dtype=float), (start, reference, factors))
        traces = np.asarray(_log_traces(limit(workflow), num_generations, budget, *leaves))
    traces = traces + np.log(CLOSED_FORMS[workflow](num_kept, num_generations))
    half = 1.96 * traces[1:].std(axis=0)
    curve = Interval(traces[0], traces[0] - half, traces[0] + half)
    spread = 1.96 * np.log(factors[1:]).std()
    rate = kappa(start.mean.shape[-1], budget) * factors[0] * np.exp([0, -spread, spread])
    lives = [half_life(each, factor, workflow) for each, factor in zip(curve, rate, strict=True)]
    return Future(curve, Interval(*rate), Interval(*map(np.float64, lives)))


@partial(jax.jit, static_argnums=(0, 1))
def _log_traces(workflow, num_generations, budget, start: Moments, reference: Moments, factors: Array) -> Array:
    def trajectory(leaves):
        start, reference, factor = leaves

        def law(params: Moments) -> Moments:
            return Moments(jnp.ones(1), params.mean[None], factor * params.covariance[None])

        at = sizes(NUM_KEPT, budget, num_generations, max_candidates=MOST)
        keep = kept_moments(fit_target(reference), gaussian()._replace(law=law))
        collapse = build_collapse(gaussian(), keep, WORKFLOWS[workflow](moments_memory()))
        return run(jax.random.key(0), collapse, start, at, record)[1]

    def record(key, state, info):
        return jnp.log(jnp.trace(state.params.covariance))

    traces = jax.lax.map(trajectory, (start, reference, factors), batch_size=20)
    return traces - traces[:, :1]


def half_life(log_traces: Float[np.ndarray, " t"], factor: float, workflow: str) -> float:
    r"""Find the generation at which half of the trace is left, among those computed or by the law that follows.

    That is :math:`\lambda^t` under replace and :math:`t^{-(1 - \lambda)}` otherwise.

    Args:
        log_traces: over generation 0.
        factor: :math:`\lambda`.
        workflow: replace, or one that accumulates.

    Returns:
        Infinity where it never comes to that.
    """
    below = np.flatnonzero(log_traces <= np.log(0.5))
    if below.size:
        t = below[0]
        return float(t - 1 + (log_traces[t - 1] + np.log(2)) / (log_traces[t - 1] - log_traces[t]))
    left, last = log_traces[-1] + np.log(2), len(log_traces) - 1
    if factor >= 1:
        return np.inf
    if workflow == "replace":
        return float(last + left / -np.log(factor))
    return float(last * np.exp(np.minimum(left / (1 - factor), 700)))
