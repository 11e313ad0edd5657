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

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.mean_field import kept_moments
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> keep = jax.jit(kept_moments(jc.isotropic_target(jnp.zeros(2))))
        >>> kept = keep(jax.random.key(0), model, jc.sizes(10, 0.5))
        >>> float(kept.mass), round(float(kept.covariance[0, 0]), 3)
        (10.0, 0.307)
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

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.mean_field import all_moments
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> kept = all_moments(jc.generators.expand(jc.generators.gaussian(), 1.0))(None, model, jc.sizes(10))
        >>> float(kept.mass), float(kept.covariance[0, 0])
        (10.0, 2.0)
    """
    law = _law_of(generator)
    return lambda key, params, sizes: union(law(params))._replace(mass=sizes.num_kept.astype(params.mean.dtype))


def fresh_moments(truth: Moments) -> Fresh:
    """Hand over the moments of the truth, with the mass of the fresh samples.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.mean_field import fresh_moments
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> float(fresh_moments(truth)(None, jc.sizes(10, num_fresh=5)).mass)
        5.0
    """

    def fresh(key, sizes: Sizes) -> Moments:
        return truth._replace(mass=jnp.asarray(sizes.num_fresh, truth.mean.dtype))

    return fresh


def limit(workflow: str) -> str:
    """Name the workflow that has the same mean field on moments: infinitely many subsampled points are all points.

    Example:
        >>> from jaxcollapse.theory.mean_field import limit
        >>> limit("accumulate_subsample")
        'accumulate'
    """
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

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> record = jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth)
        >>> _, records = jc.run(jax.random.key(0), collapse, truth, jc.sizes(10, 0.5, 2), record)
        >>> [round(ratio, 2) for ratio in records["trace_ratio"].tolist()]  # powers of kappa
        [1.0, 0.31, 0.09]
    """
    return build_collapse(gaussian(ridge), kept_moments(target), workflow, fresh)
