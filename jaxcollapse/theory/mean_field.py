"""Mean field: the recursion at infinitely many candidates, as a `Collapse` like any other."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxcollapse.base import Collapse, Fresh, Generator, Keep, Moments, Sizes, Target, Workflow
from jaxcollapse.gaussian.truncation import truncated_moments
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.generators.gaussian_mixture import Mixture
from jaxcollapse.measures import union
from jaxcollapse.recursion import build_collapse
from jaxcollapse.theory.mixture import kept_components
from jaxcollapse.tree import row

GAUSSIAN = gaussian()


def _law_of(generator: Generator) -> Callable[[Any], Moments]:
    if generator.law is None:
        raise ValueError(f"generator = {generator!r}: must be of a law that it tells, a mixture of Gaussians")
    return generator.law


def kept_moments(target: Target, generator: Generator = GAUSSIAN) -> Keep:
    """Hand over the exact moments of the kept region, with the mass of the kept candidates.

    Args:
        target: of the verifier.
        generator: whose law is a Gaussian or a mixture of few.
    """
    law = _law_of(generator)

    def keep(key, params: Moments, sizes: Sizes) -> Moments:
        parts = law(params)
        if len(parts.mass) > 1:
            return union(kept_components(target)(key, Mixture(*parts), sizes))
        num_kept = sizes.num_kept.astype(parts.mean.dtype)
        budget = num_kept / sizes.num_candidates.astype(parts.mean.dtype)
        return truncated_moments(row(parts, 0), target, budget)._replace(mass=num_kept)

    return keep


def all_moments(generator: Generator) -> Keep:
    """Hand over the exact moments of all candidates, of which some are kept by chance.

    Args:
        generator: with a law.
    """
    law = _law_of(generator)
    return lambda key, params, sizes: union(law(params))._replace(mass=sizes.num_kept.astype(params.mean.dtype))


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
