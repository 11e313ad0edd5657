"""Workflows: how kept data become the next training set. A new one is a function here and a line in `WORKFLOWS`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Fresh, Measure, Memory, Moments, Sizes, Workflow
from jaxcollapse.checks import check_range, is_known
from jaxcollapse.measures import inverse_cdf, share, total


def replace(memory: Memory) -> Workflow:
    """Train on this generation's kept data only [shumailov2024]_.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> workflow, sizes = jc.workflows.replace(jc.moments_memory()), jc.sizes(2, num_generations=2)
        >>> kept = jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state, _ = workflow.update(None, workflow.init(kept, sizes), kept, None, sizes)
        >>> _, training = workflow.update(None, state, kept, None, sizes)
        >>> float(training.value.mass)  # of the second kept set
        2.0
    """

    def update(key, state, kept, fresh, sizes: Sizes):
        return state, memory.training(memory.add(memory.init(kept, sizes, 1), kept, sizes.max_kept))

    return Workflow(lambda kept, sizes: (), update)


def accumulate(memory: Memory) -> Workflow:
    """Train on everything kept so far [gerstgrasser2024]_.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> workflow, sizes = jc.workflows.accumulate(jc.moments_memory()), jc.sizes(2, num_generations=2)
        >>> kept = jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state, _ = workflow.update(None, workflow.init(kept, sizes), kept, None, sizes)
        >>> _, training = workflow.update(None, state, kept, None, sizes)
        >>> float(training.value.mass)  # of both kept sets
        4.0
    """

    def init(kept, sizes: Sizes):
        return memory.init(kept, sizes, sizes.num_generations)

    def update(key, state, kept, fresh, sizes: Sizes):
        state = memory.add(state, kept, sizes.max_kept)
        return state, memory.training(state)

    return Workflow(init, update)


def accumulate_subsample(memory: Memory) -> Workflow:
    """Accumulate, then train on `sizes.num_kept` points drawn uniformly without replacement [kazdan2025]_.

    Raises:
        ValueError: if the memory keeps no points.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> workflow, sizes = jc.workflows.accumulate_subsample(jc.buffer_memory()), jc.sizes(2, num_generations=2)
        >>> kept = jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state, _ = workflow.update(jax.random.key(1), workflow.init(kept, sizes), kept, None, sizes)
        >>> _, training = workflow.update(jax.random.key(2), state, kept, None, sizes)
        >>> float(training.value.weights.sum())  # two of four points
        2.0
    """
    subsample = memory.subsample
    if subsample is None:
        raise ValueError("accumulate_subsample needs a memory that keeps points: use buffer_memory")

    def update(key, state, kept, fresh, sizes: Sizes):
        state = memory.add(state, kept, sizes.max_kept)
        return state, subsample(key, state, sizes)

    return Workflow(accumulate(memory).init, update)


def fresh_mix(memory: Memory, weight: Float[Array | float, ""] | None = None) -> Workflow:
    r"""Train on this generation's kept data together with new real data [alemohammad2024]_.

    The real data come from the `fresh` of `build_collapse`. With n kept and r real samples the real share of the
    training mass is r / (n + r), or a weight that is chosen [he2025]_: samples are then weighed so that it is w.
    `jaxcollapse.theory.closed_forms.best_weight` is the one whose means err least in the end.

    Args:
        memory: of kept and real data.
        weight: w in (0, 1).

    Raises:
        ValueError: if the weight is out of range.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> sizes = jc.sizes(2, num_fresh=2)
        >>> kept, fresh = jc.uniform_measure(np.array([[0.0], [2.0]])), jc.uniform_measure(np.array([[4.0], [6.0]]))
        >>> for weight in (None, 0.75):
        ...     workflow = jc.workflows.fresh_mix(jc.moments_memory(), weight)
        ...     _, training = workflow.update(None, workflow.init(kept, sizes), kept, fresh, sizes)
        ...     print(float(training.value.mean[0]))
        3.0
        4.0
    """
    if weight is not None and is_known(weight):
        check_range("weight", weight, low=1e-6, high=1 - 1e-6)

    def update(key, state, kept, fresh, sizes: Sizes):
        if fresh is None:
            raise ValueError("fresh_mix needs fresh real data: give build_collapse a function that draws them")
        if weight is not None:
            fresh = _of_mass(fresh, weight / (1 - weight) * _mass(kept))
        # The kept set last: a memory counts what it loses of the last addition.
        mixed = memory.add(memory.init(kept, sizes, 1), fresh, sizes.max_fresh)
        return state, memory.training(memory.add(mixed, kept, sizes.max_kept))

    return Workflow(lambda kept, sizes: (), update)


def _mass(data: Data) -> Array:
    return data.mass if isinstance(data, Moments) else total(data.weights)


def _of_mass(data: Data, mass: Array) -> Data:
    return data._replace(mass=mass) if isinstance(data, Moments) else data._replace(weights=share(data.weights) * mass)


def fresh_samples(real: Measure) -> Fresh:
    """Draw the new real data of `fresh_mix` from a measure, with replacement.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> fresh = jc.workflows.fresh_samples(jc.uniform_measure(np.array([[4.0], [6.0]])))
        >>> drawn = fresh(jax.random.key(0), jc.sizes(2, num_fresh=50))
        >>> drawn.points.shape, sorted(set(drawn.points.ravel().tolist()))
        ((50, 1), [4.0, 6.0])
    """
    index_at = inverse_cdf(real.weights)

    def fresh(key, sizes: Sizes) -> Measure:
        index = index_at(jax.random.uniform(key, (sizes.max_fresh,), real.weights.dtype))
        drawn = jnp.arange(sizes.max_fresh) < sizes.num_fresh
        return Measure(real.points[index], drawn.astype(real.weights.dtype))

    return fresh


WORKFLOWS = {
    "replace": replace,
    "accumulate": accumulate,
    "accumulate_subsample": accumulate_subsample,
    "fresh_mix": fresh_mix,
}
