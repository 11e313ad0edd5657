"""Mean field: the recursion at infinitely many candidates, as a `Collapse` like any other."""

import jax.numpy as jnp

from jaxcollapse.base import Collapse, Fresh, Keep, Moments, Sizes, Target, Workflow
from jaxcollapse.gaussian.truncation import truncated_moments
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.recursion import build_collapse


def kept_moments(target: Target) -> Keep:
    """Hand over the exact moments of the kept region, with the mass of the kept candidates."""

    def keep(key, params: Moments, sizes: Sizes) -> Moments:
        num_kept = sizes.num_kept.astype(params.mean.dtype)
        budget = num_kept / sizes.num_candidates.astype(params.mean.dtype)
        return truncated_moments(params, target, budget)._replace(mass=num_kept)

    return keep


def fresh_moments(truth: Moments) -> Fresh:
    """Hand over the moments of the truth, with the mass of the fresh samples."""

    def fresh(key, sizes: Sizes) -> Moments:
        return truth._replace(mass=jnp.asarray(sizes.num_fresh, truth.mean.dtype))

    return fresh


def limit(workflow: str) -> str:
    """Name the workflow that has the same mean field on moments: infinitely many subsampled points are all points."""
    return "accumulate" if workflow == "accumulate_subsample" else workflow


def mean_field(target: Target, workflow: Workflow, fresh: Fresh | None = None, ridge: float = 0.0) -> Collapse:
    r"""Compose the deterministic recursion of the Gaussian family.

    With moments :math:`m_t, C_t` of what is kept and its weight w in the training set (1 for replace,
    1 / (t + 1) for accumulate),

    .. math:: \mu \leftarrow \mu + w (m_t - \mu), \qquad
              \Sigma \leftarrow (1 - w) \Sigma + w C_t + w (1 - w) (m_t - \mu)(m_t - \mu)'.

    Run it in float64, under `jax.enable_x64(True)`. `limit` names the workflow to build.

    Args:
        target: of the verifier.
        workflow: built on `moments_memory`, as in the simulation.
        fresh: from `fresh_moments`, for `fresh_mix`.
        ridge: of the fit, as in the simulation.
    """
    return build_collapse(gaussian(ridge), kept_moments(target), workflow, fresh)
