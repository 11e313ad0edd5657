r"""Where biased selection beats random selection, by the exact mean field of generators that expand and produce junk.

As in `jaxcollapse.theory.regimes` the truth is :math:`N(0, I_d)`, the target lies at the distance b, and the generator
samples from

.. math:: (1 - \rho) \, N(\mu_t, (1 + h^2) \Sigma_t) + \rho \, N(0, s^2 I).

Models are judged by the Bures distance of their fitted Gaussian from the truth; random selection is that of budget one.
Nothing is fitted to simulations. Derived here.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy
from jaxtyping import Array, Float

from jaxcollapse.base import Generator, Moments, Target
from jaxcollapse.checks import MOST
from jaxcollapse.generators import contaminate, expand, gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import bures_w2
from jaxcollapse.recursion import build_collapse, run
from jaxcollapse.sizes import sizes
from jaxcollapse.theory.mean_field import fresh_moments, kept_moments
from jaxcollapse.workflows import WORKFLOWS

NUM_KEPT = 10**6  # of whole numbers of candidates and of fresh data: budgets and shares are as fine


class Regime(NamedTuple):
    r"""Numbers that say whether selection pays, or arrays of them that broadcast.

    Attributes:
        budget: :math:`\alpha` in [1e-3, 1].
        bias: b, in standard deviations of the truth.
        noise: h, of `jaxcollapse.generators.expand`.
        share: :math:`\rho`, of `jaxcollapse.generators.contaminate`.
        scale: s, in standard deviations of the truth.
        fresh: share of real data in the training sets of fresh_mix, below 1.

    Example:
        >>> from jaxcollapse.theory.critical import Regime
        >>> Regime(budget=0.5, bias=1.0)
        Regime(budget=0.5, bias=1.0, noise=0.0, share=0.0, scale=3.0, fresh=0.0)
    """

    budget: Float[Array | float, "*stack"] = 1.0
    bias: Float[Array | float, "*stack"] = 0.0
    noise: Float[Array | float, "*stack"] = 0.0
    share: Float[Array | float, "*stack"] = 0.0
    scale: Float[Array | float, "*stack"] = 3.0
    fresh: Float[Array | float, "*stack"] = 0.0


def members(regime: Regime, dim: int) -> tuple[Moments, Target, Generator]:
    """Make the truth, the target and the generator; the target is the origin, where any spread is resolved.

    Example:
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.critical import Regime, members
        >>> truth, target, generator = members(Regime(bias=2.0), dim=1)
        >>> float(jc.metrics.target_distance(target)(None, truth, truth))  # the bias squared
        4.0
    """
    _, bias, noise, share, scale, _ = map(jnp.asarray, regime)
    eye = jnp.eye(dim, dtype=bias.dtype)
    truth = Moments(jnp.ones_like(bias), bias * eye[0], eye)
    junk = truth._replace(covariance=scale**2 * eye)
    return truth, Target(jnp.zeros_like(truth.mean), eye), contaminate(expand(gaussian(), noise), share, junk)


@partial(jax.jit, static_argnums=(0, 1, 2))
def distances(workflow: str, dim: int, num_generations: int, regime: Regime) -> Float[Array, "*stack t"]:
    """Compute the Bures distance of the models of generations 0..T from the truth, in its standard deviations.

    Run it in float64, under `jax.enable_x64(True)`.

    Args:
        workflow: replace, accumulate or fresh_mix.
        dim: d.
        num_generations: T.
        regime: in which the recursion runs.

    Example:
        >>> import jax
        >>> from jaxcollapse.theory.critical import Regime, distances
        >>> with jax.enable_x64(True):
        ...     found = distances("replace", 1, 2, Regime(noise=1.0))
        >>> [round(float(distance), 2) for distance in found]  # variances 1, 2 and 4
        [0.0, 0.41, 1.0]
    """

    def trajectory(*leaves):
        regime = Regime(*leaves)
        truth, target, generator = members(regime, dim)
        num_fresh = jnp.round(NUM_KEPT * regime.fresh / (1 - regime.fresh))
        at = sizes(NUM_KEPT, regime.budget, num_generations, num_fresh=num_fresh, max_candidates=MOST, max_fresh=MOST)
        made = WORKFLOWS[workflow](moments_memory())
        collapse = build_collapse(generator, kept_moments(target, generator), made, fresh_moments(truth))
        metric = partial(bures_w2, truth=truth)
        return run(jax.random.key(0), collapse, truth, at, lambda key, state, info: metric(key, state.params))[1]

    leaves = map(jnp.asarray, regime)
    return jnp.vectorize(trajectory, signature="(),(),(),(),(),()->(t)")(*leaves)


def critical_share(workflow: str, dim: int, num_generations: int, regime: Regime) -> float:
    r"""Find the share :math:`\rho` of junk above which selection is closer to the truth than random selection.

    Args:
        workflow: replace, accumulate or fresh_mix.
        dim: d.
        num_generations: T, after which models are compared.
        regime: numbers, of which the share does not count.

    Returns:
        Zero where selection is closer without junk, and NaN where it is not even among junk alone.

    Example:
        >>> from jaxcollapse.theory.critical import Regime, critical_share
        >>> round(float(critical_share("replace", 1, 2, Regime(budget=0.5))), 2)
        0.15
    """

    def excess(share):
        both = regime._replace(budget=jnp.array([regime.budget, 1.0]), share=share)
        selected, random = distances(workflow, dim, num_generations, both)[:, -1]
        return float(selected - random)

    with jax.enable_x64(True):  # noqa: FBT003
        if excess(0.0) <= 0:
            return 0.0
        return scipy.optimize.brentq(excess, 0, 1, xtol=1e-6) if excess(1.0) < 0 else float("nan")


def best_budget(workflow: str, dim: int, num_generations: int, regime: Regime) -> float:
    r"""Find the budget whose model is closest to the truth.

    It is :math:`1 - \rho` where junk is far: whoever keeps less contracts, as the `multiplier` says, and whoever keeps
    more keeps junk. Where junk overlaps with the rest it is larger.

    Args:
        workflow: replace, accumulate or fresh_mix.
        dim: d.
        num_generations: T, after which models are compared.
        regime: numbers, of which the budget does not count.

    Example:
        >>> from jaxcollapse.theory.critical import Regime, best_budget
        >>> round(float(best_budget("replace", 1, 2, Regime(share=0.25, scale=100.0))), 2)  # all but the junk
        0.75
    """

    def distance(budget):
        return float(distances(workflow, dim, num_generations, regime._replace(budget=budget))[-1])

    with jax.enable_x64(True):  # noqa: FBT003
        return scipy.optimize.minimize_scalar(distance, bounds=(1e-3, 1), method="bounded", options={"xatol": 1e-4}).x
