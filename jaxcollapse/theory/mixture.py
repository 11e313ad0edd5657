r"""Gaussian mixtures under selection, at infinitely many candidates. Derived here.

A candidate's component is a label that selection does not see: it keeps the region :math:`\{e \le q\}` of the score,
whatever the component. With :math:`F_j` the distribution function of the energy under component j, generalised
chi-square,

.. math:: \sum_j \pi_j F_j(q) = \alpha, \qquad \pi_j' = \pi_j F_j(q) / \alpha,

and the kept candidates of component j have its moments truncated to the region. What is far from the target, in the
units of the score, loses its weight: in every generation the odds of components change by :math:`F_i(q) / F_j(q)`.

These are the component masses and the total moments of what is kept, exactly. As a refitted mixture they are

- exact for one iteration of expectation maximisation that starts from the model which was sampled, overlapping or not:
  the responsibilities of a candidate are the probabilities of its label, kept or not;
- exact for any number of iterations, and for accumulated data, as components separate and labels become certain;
- an approximation otherwise: further iterations take truncated components apart by their shapes, not by their labels.

One threshold serves components whose energies are of any size, which needs float64, under `jax.enable_x64(True)`, and
covariances that are not zero.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Collapse, Generator, Keep, Memory, Moments, Sizes, Target, Workflow
from jaxcollapse.gaussian.quadratic_form import contour_at, energy_quantile, node_weights, tilt
from jaxcollapse.gaussian.truncation import Frame, moments_below, separate
from jaxcollapse.generators.gaussian_mixture import Mixture
from jaxcollapse.memories import Summary, moments_memory
from jaxcollapse.recursion import build_collapse

NUM_STEPS = 40  # of components from 10^-5 to 10^5 standard deviations, masses are then right to 1e-9


def component_moments(model: Mixture, target: Target, threshold: Array) -> Moments:
    r"""Compute :math:`F_j(q)`, and the mean and covariance of each component truncated to :math:`\{e \le q\}`.

    A component without mass there keeps its mean and covariance.

    Args:
        model: k components.
        target: of the verifier.
        threshold: q, in units of the score, shape [].

    Returns:
        Moments of the masses :math:`F_j(q)`, stacked [k]. Where q is far below the energy of a component's mean, they
        are right to the rounding of that energy.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.generators.gaussian_mixture import Mixture
        >>> from jaxcollapse.theory.mixture import component_moments
        >>> model = Mixture(jnp.array([0.5, 0.5]), jnp.array([[0.0], [9.0]]), jnp.ones((2, 1, 1)))
        >>> kept = jax.jit(component_moments)(model, jc.isotropic_target(jnp.zeros(1)), jnp.asarray(1.0))
        >>> [round(mass, 2) for mass in kept.mass.tolist()]  # one deviation about the first, far from the second
        [0.68, 0.0]
    """
    return _below(model, _frames(model, target), threshold)


def kept_threshold(model: Mixture, target: Target, budget: Array) -> Float[Array, ""]:
    r"""Solve :math:`F(q) = \sum_j \pi_j F_j(q) = \alpha` between the components' own quantiles.

    Newton's method on the logarithm of the odds of F, with a bisection of log q wherever it leaves the bracket.

    Args:
        model: k components.
        target: of the verifier.
        budget: :math:`\alpha` in (0, 1), shape [].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.generators.gaussian_mixture import Mixture
        >>> from jaxcollapse.theory.mixture import kept_threshold
        >>> model = Mixture(jnp.array([0.5, 0.5]), jnp.array([[0.0], [9.0]]), jnp.ones((2, 1, 1)))
        >>> threshold = jax.jit(kept_threshold)(model, jc.isotropic_target(jnp.zeros(1)), jnp.asarray(0.25))
        >>> round(float(threshold), 1)  # half of the first
        0.5
    """
    frames = _frames(model, target)

    def quantile(frame: Frame):
        threshold, contour = energy_quantile(frame.energy, budget / (1 - budget))
        return frame.centre + (threshold + tilt(frame.energy, contour.vertex)[1]) / frame.unit

    def law(frame: Frame, threshold: Array) -> tuple[Array, Array]:
        threshold, contour = contour_at(frame.energy, frame.unit * (threshold - frame.centre))
        weights = node_weights(contour, threshold)
        return weights.sum().real, frame.unit * (weights @ contour.nodes).real

    def between(low: Array, high: Array) -> Array:
        return jnp.where(low > 0, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)

    def narrow(_, carry):
        low, high, q = carry
        masses, densities = jax.vmap(law, (0, None))(frames, q)
        mass, density = model.weights @ masses, model.weights @ densities
        enough = mass >= budget
        low, high = jnp.where(enough, low, q), jnp.where(enough, q, high)
        excess = jnp.log(mass / (1 - mass) * (1 - budget) / budget)
        newton = q - excess * mass * (1 - mass) / density
        return low, high, jnp.where((low <= newton) & (newton <= high), newton, between(low, high))

    quantiles = jax.vmap(quantile)(frames)
    there = model.weights > 0
    low, high = jnp.min(quantiles, where=there, initial=jnp.inf), jnp.max(quantiles, where=there, initial=-jnp.inf)
    return jax.lax.fori_loop(0, NUM_STEPS, narrow, (low, high, between(low, high)))[2]


def kept_components(target: Target) -> Keep:
    """Hand over the exact moments of each component's share of the kept candidates, stacked [k], with its mass.

    A budget of one keeps the model as it is.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.generators.gaussian_mixture import Mixture
        >>> from jaxcollapse.theory.mixture import kept_components
        >>> model = Mixture(jnp.array([0.5, 0.5]), jnp.array([[0.0], [9.0]]), jnp.ones((2, 1, 1)))
        >>> keep = jax.jit(kept_components(jc.isotropic_target(jnp.zeros(1))))
        >>> print(keep(jax.random.key(0), model, jc.sizes(10, 0.25)).mass.round(2))  # the far one is lost
        [10.  0.]
    """

    def keep(key, params: Mixture, sizes: Sizes) -> Moments:
        num_kept = sizes.num_kept.astype(params.means.dtype)
        budget = num_kept / sizes.num_candidates.astype(params.means.dtype)
        inside = budget < 1
        kept = component_moments(params, target, kept_threshold(params, target, jnp.where(inside, budget, 0.5)))
        share = params.weights * kept.mass
        truncated = kept._replace(mass=num_kept * share / share.sum())
        whole = Moments(num_kept * params.weights, params.means, params.covariances)
        return jax.tree.map(lambda a, b: jnp.where(inside, a, b), truncated, whole)

    return keep


def component_memory() -> Memory:
    """Remember the merged moments of each component.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.theory.mixture import component_memory
        >>> memory = component_memory()
        >>> parts = jc.Moments(jnp.array([2.0, 4.0]), jnp.zeros((2, 1)), jnp.ones((2, 1, 1)))
        >>> state = memory.init(parts, jc.sizes(6), 2)
        >>> memory.training(memory.add(memory.add(state, parts, 6), parts, 6)).value.mass.tolist()
        [4.0, 8.0]
    """
    memory, each = moments_memory(), Summary(moments=0, lost=None)  # pyright: ignore[reportArgumentType]
    return memory._replace(add=jax.vmap(memory.add, in_axes=(each, 0, None), out_axes=each))


def mixture_mean_field(target: Target, workflow: Workflow, ridge: float = 0.0) -> Collapse:
    r"""Compose the deterministic recursion of a mixture whose components are refitted each by its own kept candidates.

    .. math:: \pi_j = m_j \Big/ \sum_l m_l, \qquad (\mu_j, \Sigma_j) = \text{moments of its training data},

    with the masses m. What that says of expectation maximisation is at the head of this module.

    Args:
        target: of the verifier.
        workflow: replace or accumulate, built on `component_memory`.
        ridge: added to the diagonal of each covariance, as in the simulation.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.generators.gaussian_mixture import Mixture
        >>> from jaxcollapse.theory.mixture import component_memory, mixture_mean_field
        >>> model, sizes = Mixture(jnp.ones(2) / 2, jnp.array([[0.0], [9.0]]), jnp.ones((2, 1, 1))), jc.sizes(10, 0.25)
        >>> collapse = mixture_mean_field(jc.isotropic_target(jnp.zeros(1)), jc.workflows.replace(component_memory()))
        >>> print(jc.run(jax.random.key(0), collapse, model, sizes, lambda *told: ())[0].params.weights.round(2))
        [1. 0.]
    """

    def fit(key, params, training) -> Mixture:
        mass, means, covariances = training
        return Mixture(mass / mass.sum(), means, covariances + ridge * jnp.eye(means.shape[-1], dtype=means.dtype))

    return build_collapse(Generator(fit, fit, lambda *_: None), kept_components(target), workflow)


def _frames(model: Mixture, target: Target) -> Frame:
    return jax.vmap(separate, in_axes=(0, None))(Moments(*model), target)


def _below(model: Mixture, frames: Frame, threshold: Array) -> Moments:
    def moments(frame: Frame) -> Moments:
        return moments_below(frame, *contour_at(frame.energy, frame.unit * (threshold - frame.centre)))

    mass, means, covariances = jax.vmap(moments)(frames)
    there = mass > 0
    return Moments(
        jnp.where(there, jnp.minimum(mass, 1), 0),
        jnp.where(there[:, None], means, model.means),
        jnp.where(there[:, None, None], covariances, model.covariances),
    )
