"""The composed recursion, and its run as one scan over generations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import (
    BatchFn,
    Collapse,
    Controls,
    Data,
    Generator,
    Info,
    MetricFn,
    State,
    Workflow,
)

RecordFn = Callable[[Key[Array, ""], State, Info], Any]
_RECORD = 2**32 - 1  # beyond the indices that a step splits its key into
FreshFn = Callable[[Key[Array, ""], Controls], Data]


def build_collapse(
    generator: Generator, batch_fn: BatchFn, workflow: Workflow, fresh_fn: FreshFn | None = None
) -> Collapse:
    """Compose the recursion: keep a batch, update the training set, refit.

    Args:
        generator: whose `fit` follows each update.
        batch_fn: what a generation keeps. A sampled selection makes a simulation; exact moments make
            the mean-field theory of the same recursion.
        workflow: how kept data become the training set.
        fresh_fn: `fresh_fn(key, controls)`, new real data for each generation.
    """
    batch_fn = jax.jit(batch_fn)  # traced once for its shapes and for every step

    def init(params, controls):
        batch = jax.eval_shape(batch_fn, jax.random.key(0), params, controls)
        return State(jnp.zeros((), jnp.int32), params, workflow.init(batch))

    def step(key, state, controls):
        batch_key, fresh_key, workflow_key, fit_key = jax.random.split(key, 4)
        batch = batch_fn(batch_key, state.params, controls)
        fresh = None if fresh_fn is None else fresh_fn(fresh_key, controls)
        memory, training = workflow.update(workflow_key, state.memory, batch, fresh, controls)
        params = generator.fit(fit_key, state.params, training)
        return State(state.generation + 1, params, memory), Info(batch, training)

    return Collapse(init, jax.jit(step))


def side_by_side(
    generator: Generator, batch_fn: BatchFn, workflows: Sequence[Workflow], fresh_fn: FreshFn | None = None
) -> Collapse:
    """Compose recursions that differ in nothing but their workflow: one program, and every random number drawn once.

    Each trajectory is what `build_collapse` makes of its workflow under the same key.

    Args:
        generator: whose `fit` follows each update.
        batch_fn: what a generation keeps.
        workflows: W ways in which kept data become the training set.
        fresh_fn: `fresh_fn(key, controls)`, new real data for each generation.

    Returns:
        A collapse whose `params` and kept batch have a leading axis [W]; its memory and training sets are tuples.
    """

    def row(tree, index):
        return jax.tree.map(lambda leaf: leaf[index], tree)

    def fit(key, params, trainings):
        models = [generator.fit(key, row(params, i), training) for i, training in enumerate(trainings)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)

    def memories(batches):
        return tuple(w.init(jax.eval_shape(lambda b, i=i: row(b, i), batches)) for i, w in enumerate(workflows))

    def update(key, state, batches, fresh, controls):
        updates = [w.update(key, state[i], row(batches, i), fresh, controls) for i, w in enumerate(workflows)]
        return tuple(zip(*updates, strict=True))

    batch_each = jax.vmap(batch_fn, in_axes=(None, 0, None))
    init, step = build_collapse(generator._replace(fit=fit), batch_each, Workflow(memories, update), fresh_fn)

    def init_each(params, controls):
        return init(jax.tree.map(lambda leaf: jnp.stack([leaf] * len(workflows)), params), controls)

    return Collapse(init_each, step)


def advance(
    key: Key[Array, ""],
    collapse: Collapse,
    state: State,
    controls: Controls,
    num_generations: int,
    record_fn: RecordFn,
) -> tuple[State, Any]:
    """Run further generations from a state.

    Generation t draws from `fold_in(key, t)` alone: a trajectory run in pieces is the trajectory run at
    once, bit for bit. Matrix products keep full precision on every device.

    Returns:
        The last state, and what `record_fn(key, state, info)` gave after each generation, stacked.
    """

    def body(state, _):
        step_key = jax.random.fold_in(key, state.generation)
        state, info = collapse.step(step_key, state, controls)
        return state, record_fn(jax.random.fold_in(step_key, _RECORD), state, info)

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(body, state, length=num_generations)


def start(
    key: Key[Array, ""], collapse: Collapse, params: Any, controls: Controls, record_fn: RecordFn
) -> tuple[State, Any]:
    """Set up generation 0, whose model is given, and record it.

    No step led there, so what is recorded of its info is NaN (zero where it is not floating point).
    """
    state = collapse.init(params, controls)
    _, info = jax.eval_shape(collapse.step, key, state, controls)

    def missing(leaf):
        fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return jnp.full(leaf.shape, fill, leaf.dtype)

    return state, record_fn(jax.random.fold_in(key, _RECORD), state, jax.tree.map(missing, info))


def run(
    key: Key[Array, ""],
    collapse: Collapse,
    params: Any,
    controls: Controls,
    num_generations: int,
    record_fn: RecordFn,
) -> tuple[State, Any]:
    """Run a whole trajectory, one program.

    Args:
        key: of the trajectory.
        collapse: from `build_collapse`.
        params: the model of generation 0, usually the truth.
        controls: traced knobs.
        num_generations: T, static.
        record_fn: `record_fn(key, state, info)`, what to keep of a generation.

    Returns:
        The last state, and the records of generations 0..T, stacked along axis 0.
    """
    state, first = start(key, collapse, params, controls, record_fn)
    state, rest = advance(key, collapse, state, controls, num_generations, record_fn)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


def record_model(metrics: Mapping[str, MetricFn], truth: Data) -> RecordFn:
    """Record metrics of a model whose parameters are moments."""

    def record(key, state: State, info: Info) -> dict[str, Array]:
        return {name: metric(key, state.params, truth) for name, metric in metrics.items()}

    return record


def record_side_by_side(record_fn: RecordFn) -> RecordFn:
    """Record the model of every workflow of `side_by_side`, with a function that looks at the model alone."""

    def record(key, state: State, info: Info):
        return jax.vmap(lambda params: record_fn(key, state._replace(params=params), info))(state.params)

    return record
