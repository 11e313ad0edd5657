"""The vocabulary: data, controls, and the contracts that every member keeps.

Data are weighted empirical measures, or the moments that summarise them.
Algorithms are NamedTuples of pure functions, made by lower-case factories:
what changes shapes or Python structure is a factory argument, everything
else is traced and rides in `Controls`. All contracts are written for one
seed; `jax.vmap` adds the others.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Measure(NamedTuple):
    r"""A weighted empirical measure :math:`\sum_i w_i \delta_{x_i}`.

    Attributes:
        points: x, shape [n, d]; stacks of measures (silos, references) lead with further axes.
        weights: w, non-negative masses, shape [n]. Padding has mass zero.
    """

    points: Float[Array, "*stack n d"]
    weights: Float[Array, "*stack n"]


class Moments(NamedTuple):
    """Mass, mean and (maximum likelihood) covariance: all that a Gaussian fit sees of a measure.

    Attributes:
        mass: total weight, shape [].
        mean: shape [d].
        covariance: shape [d, d].
    """

    mass: Float[Array, "*stack"]
    mean: Float[Array, "*stack d"]
    covariance: Float[Array, "*stack d d"]


Data = Measure | Moments


class Target(NamedTuple):
    r"""A verifier's ideal: candidates are scored by :math:`-\lVert G (x - u) \rVert^2`.

    Attributes:
        location: u, shape [d].
        factor: G, shape [d, d].
    """

    location: Float[Array, "*stack d"]
    factor: Float[Array, "*stack d d"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Controls:
    """The knobs of a generation. Every field is traced: sweep them with `jax.vmap`, without recompiling.

    `jaxcollapse.validation.make_controls` builds one from checked Python numbers.

    Attributes:
        num_kept: n, how many candidates are kept.
        num_candidates: N, how many are drawn.
        num_fresh: real samples added to each training set by `fresh_mix`.
        temperature: of soft selection, in units of the score.
    """

    num_kept: Int[Array, "*stack"]
    num_candidates: Int[Array, "*stack"]
    num_fresh: Int[Array, "*stack"]
    temperature: Float[Array, "*stack"]


class Generator(NamedTuple):
    """A family of generative models.

    Attributes:
        init: `init(key, data) -> params`, a first fit.
        fit: `fit(key, params, data) -> params`, the next fit, warm-started where that helps.
        sample: `sample(key, params, num_samples) -> [num_samples, d]`, independent draws.
    """

    init: Callable[[Key[Array, ""], Data], Any]
    fit: Callable[[Key[Array, ""], Any, Data], Any]
    sample: Callable[[Key[Array, ""], Any, int], Float[Array, "n d"]]


class Memory(NamedTuple):
    """What a workflow remembers of the data it was given.

    Attributes:
        init: `init(batch) -> state`, empty; only the shapes of the batch are read.
        add: `add(state, batch) -> state`.
        training: `training(state) -> Data`, everything remembered.
        subsample: `subsample(key, state, num) -> Measure`, `num` of the remembered points, uniformly
            without replacement; None where points are not kept.
    """

    init: Callable[[Data], Any]
    add: Callable[[Any, Data], Any]
    training: Callable[[Any], Data]
    subsample: Callable[[Key[Array, ""], Any, Int[Array, ""]], Measure] | None


class Workflow(NamedTuple):
    """How kept data become the next training set.

    Attributes:
        init: `init(batch) -> state`; only the shapes of the batch are read.
        update: `update(key, state, batch, fresh, controls) -> (state, training)`, with `fresh` a
            batch of new real data or None.
    """

    init: Callable[[Data], Any]
    update: Callable[[Key[Array, ""], Any, Data, Data | None, Controls], tuple[Any, Data]]


class ReferenceFn(Protocol):
    """What verifiers are shown: a stack of r references, made from the silos and perhaps the pool."""

    def __call__(self, key: Key[Array, ""], silos: Any, pool: Measure, controls: Controls) -> Any: ...


class ScoreFn(Protocol):
    """Score every candidate against one reference; high is good."""

    def __call__(self, key: Key[Array, ""], pool: Measure, reference: Any) -> Float[Array, " n"]: ...


class AggregateFn(Protocol):
    """Turn the scores of r references into weights; candidates of mass zero keep mass zero."""

    def __call__(
        self, key: Key[Array, ""], scores: Float[Array, "r n"], pool: Measure, controls: Controls
    ) -> Float[Array, " n"]: ...


class SelectFn(Protocol):
    """Re-weight a pool: the kept candidates have mass one, the others zero."""

    def __call__(
        self, key: Key[Array, ""], pool: Measure, references: Any, controls: Controls
    ) -> Float[Array, " n"]: ...


class BatchFn(Protocol):
    """Hand over what one generation keeps: a sampled selection, or its exact large-sample limit."""

    def __call__(self, key: Key[Array, ""], params: Any, controls: Controls) -> Data: ...


class MetricFn(Protocol):
    """Compare generated data, or the moments of a model, with the truth."""

    def __call__(self, key: Key[Array, ""], generated: Data, truth: Data) -> Float[Array, ""]: ...


class State(NamedTuple):
    """What the next generation needs.

    Attributes:
        generation: t, shape [].
        params: of the model of generation t.
        memory: of the workflow.
    """

    generation: Int[Array, "*stack"]
    params: Any
    memory: Any


class Info(NamedTuple):
    """Everything else that a generation produced; what nobody records is never computed.

    Attributes:
        batch: the kept data.
        training: the data that the model was fitted on.
    """

    batch: Data
    training: Data


class Collapse(NamedTuple):
    """The composed recursion.

    Attributes:
        init: `init(params, controls) -> State` of generation 0, whose model is given.
        step: `step(key, state, controls) -> (State, Info)`, one generation.
    """

    init: Callable[[Any, Controls], State]
    step: Callable[[Key[Array, ""], State, Controls], tuple[State, Info]]


def zeros_like_shape(tree: Any) -> Any:
    """Make zeros with the shapes and dtypes of a pytree of arrays or of their abstract values."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
