"""The composed recursion, and its run as one scan over generations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxcollapse.base import (
    Collapse,
    Counted,
    Data,
    Fresh,
    Generator,
    Info,
    Keep,
    Measure,
    Moments,
    Record,
    Run,
    Select,
    Sizes,
    State,
    Workflow,
    counted,
    summed,
    together,
)
from jaxcollapse.prng import unrolled
from jaxcollapse.tree import row, stack

RECORD = 2**32 - 1  # beyond the indices that a step splits its key into


def sample_and_select(
    generator: Generator,
    select: Select,
    embed: Callable[[Float[Array, "n d"]], Float[Array, "n f"]] = lambda points: points,
) -> Keep:
    """Draw a pool of candidates from the model and select from it.

    Args:
        generator: to draw from.
        select: re-weights the pool.
        embed: maps candidates to the features that are selected by; the candidates themselves are kept.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> model = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> keep = jc.sample_and_select(jc.generators.gaussian(), jc.selectors.random())
        >>> kept = keep(jax.random.key(0), model, jc.sizes(10, 0.5)).value
        >>> kept.points.shape, float(kept.weights.sum())
        ((20, 2), 10.0)
    """
    _require("generator", generator, "a Generator, as gaussian() makes it", holds=isinstance(generator, Generator))
    made = callable(select) and not isinstance(select, type)
    _require("select", select, "a selector, as top(mahalanobis(target)) makes it", holds=made)

    def keep(key, params, sizes: Sizes) -> Counted:
        # The second key drew references once: without it published tables would be drawn anew.
        sample_key, _, select_key = jax.random.split(key, 3)
        points = generator.sample(sample_key, params, sizes.max_candidates)
        drawn = jnp.arange(sizes.max_candidates) < sizes.num_candidates
        _require_shape("generator.sample", points, (sizes.max_candidates, points.shape[-1]))
        seen = embed(points)
        weights, trouble = counted(select(select_key, Measure(seen, drawn.astype(points.dtype)), sizes))
        if isinstance(weights, Measure):
            _require("select", select, "one that moves nothing where features are selected by", holds=seen is points)
            points, weights = weights
        _require_shape("select", weights, drawn.shape)
        beyond = {"kept places where no candidate is": jnp.sum(~drawn & (weights > 0))}
        return Counted(Measure(points, jnp.where(drawn, weights, 0)), {**trouble, **beyond})

    return keep


def _require(name: str, value: Any, allowed: str, *, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r}: must be {allowed}")


def _require_shape(who: str, found: Array, shape: tuple[int, ...]) -> None:
    if not hasattr(found, "shape"):
        raise ValueError(f"{who} returned {found!r}: must be floating, of shape {list(shape)}")
    if found.shape != shape or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{who} returned {found.dtype}{list(found.shape)}: must be floating, of shape {list(shape)}")


def build_collapse(generator: Generator, keep: Keep, workflow: Workflow, fresh: Fresh | None = None) -> Collapse:
    """Compose the recursion: keep some candidates, update the training set, refit.

    Args:
        generator: whose `fit` follows each update.
        keep: what a generation keeps. A sampled selection makes a simulation; exact moments make the mean-field theory
            of the same recursion.
        workflow: how kept data become the training set.
        fresh: `fresh(key, sizes)`, new real data for each generation.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> gaussian, sizes = jc.generators.gaussian(), jc.sizes(10, 0.5)
        >>> keep = jc.sample_and_select(gaussian, jc.selectors.random())
        >>> collapse = jc.build_collapse(gaussian, keep, jc.workflows.replace(jc.moments_memory()))
        >>> state = collapse.init(jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2)), sizes)
        >>> int(collapse.step(jax.random.key(0), state, sizes)[0].generation)
        1
    """
    _require("generator", generator, "a Generator, as gaussian() makes it", holds=isinstance(generator, Generator))
    _require("workflow", workflow, "a Workflow, as accumulate(memory) makes it", holds=isinstance(workflow, Workflow))
    _require("keep", keep, "a function, as sample_and_select(generator, select) makes it", holds=callable(keep))

    @jax.jit  # traced once for its shapes and for every step
    def keep_counted(key, params, sizes):
        return counted(keep(key, params, sizes))

    def init(params, sizes):
        with jax.default_matmul_precision("highest"):  # as in every step, or it would be traced anew
            kept, _ = jax.eval_shape(keep_counted, unrolled(jax.random.key(0)), params, sizes)
        return State(jnp.zeros((), jnp.int32), params, workflow.init(kept, sizes))

    def step(key, state, sizes):
        keep_key, fresh_key, workflow_key, fit_key = jax.random.split(key, 4)
        kept, of_kept = keep_counted(keep_key, state.params, sizes)
        new = None if fresh is None else fresh(fresh_key, sizes)
        memory, training = workflow.update(workflow_key, state.memory, kept, new, sizes)
        training, of_training = counted(training)
        params = generator.fit(fit_key, state.params, training)
        trouble = {**beyond_bounds(sizes), **miscount(kept, sizes), **of_kept, **of_training}
        return State(state.generation + 1, params, memory), Info(kept, training, trouble)

    return Collapse(init, jax.jit(step))


def miscount(kept: Data, sizes: Sizes) -> dict[str, Array]:
    """Count the candidates that a kept set, or a stack of them, has too few or too many."""
    mass = kept.mass if isinstance(kept, Moments) else kept.weights.sum(axis=-1)
    missing = jnp.minimum(sizes.num_kept, sizes.num_candidates) - jnp.round(mass).astype(jnp.int32)
    return {
        "candidates short of num_kept": jnp.maximum(missing, 0).sum(),
        "candidates beyond num_kept": jnp.maximum(-missing, 0).sum(),
    }


def beyond_bounds(sizes: Sizes) -> Mapping[str, Array]:
    """Count by how much traced sizes exceed their static bounds."""
    return {
        f"{name} beyond {bound}": jnp.maximum(getattr(sizes, name) - getattr(sizes, bound), 0)
        for name, bound in (("num_kept", "max_kept"), ("num_candidates", "max_candidates"), ("num_fresh", "max_fresh"))
    }


def side_by_side(
    generator: Generator, keep: Keep, workflows: Sequence[Workflow], fresh: Fresh | None = None
) -> Collapse:
    """Compose recursions that differ in nothing but their workflow: one program, and every random number drawn once.

    Each trajectory is what `build_collapse` makes of its workflow under the same key.

    Args:
        generator: whose `fit` follows each update.
        keep: what a generation keeps.
        workflows: W ways in which kept data become the training set.
        fresh: `fresh(key, sizes)`, new real data for each generation.

    Returns:
        A collapse whose `params` and kept data have a leading axis [W]; its memory and training sets are tuples.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> keep = jc.theory.mean_field.kept_moments(jc.isotropic_target(jnp.zeros(2)))
        >>> workflows = [workflow(jc.moments_memory()) for workflow in (jc.workflows.replace, jc.workflows.accumulate)]
        >>> collapse = jc.side_by_side(jc.generators.gaussian(), keep, workflows)
        >>> collapse.init(truth, jc.sizes(10, 0.5)).params.covariance.shape  # of each workflow
        (2, 2, 2)
    """

    def fit(key, params, trainings):
        return stack([generator.fit(key, row(params, i), training) for i, training in enumerate(trainings)])

    def memories(kept, sizes):
        return tuple(w.init(jax.eval_shape(lambda k, i=i: row(k, i), kept), sizes) for i, w in enumerate(workflows))

    def update(key, state, kept, fresh, sizes):
        updates = [w.update(key, state[i], row(kept, i), fresh, sizes) for i, w in enumerate(workflows)]
        states, trainings = zip(*updates, strict=True)
        trainings, troubles = zip(*map(counted, trainings), strict=True)
        return states, Counted(trainings, together(troubles))

    def keep_each(key, params, sizes):
        kept, trouble = jax.vmap(lambda p: counted(keep(key, p, sizes)))(params)
        return Counted(kept, summed(trouble))

    init, step = build_collapse(generator._replace(fit=fit), keep_each, Workflow(memories, update), fresh)

    def init_each(params, sizes):
        return init(stack([params] * len(workflows)), sizes)

    return Collapse(init_each, step)


def start(run: Run) -> tuple[State, tuple[Any, Mapping[str, Array]]]:
    """Set up generation 0, whose model is given, and record it.

    No step led there, so what is recorded of its info is NaN (zero where it is not floating point).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> record = jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth)
        >>> state, (row, trouble) = jc.start(jc.Run(jax.random.key(0), collapse, truth, jc.sizes(10, 0.5, 2), record))
        >>> int(state.generation), float(row["trace_ratio"])
        (0, 1.0)
    """
    with jax.default_matmul_precision("highest"):
        state = run.collapse.init(run.params, run.sizes)
        return state, _record(run, *_stand(run, state))


def advance(run: Run, state: State, num_generations: int) -> tuple[State, tuple[Any, Mapping[str, Array]]]:
    """Run further generations from a state.

    Generation t draws from `fold_in(key, t)` alone: a trajectory run in pieces is the trajectory run at
    once, bit for bit. Matrix products keep full precision on every device.

    Returns:
        The last state; and what `record` gave after each generation, and the counts of trouble, stacked.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> run = jc.Run(jax.random.key(0), collapse, truth, jc.sizes(10, 0.5, 2), jc.record_model({}, truth))
        >>> state, _ = jc.advance(run, jc.start(run)[0], num_generations=2)
        >>> int(state.generation), round(float(state.params.covariance[0, 0]), 2)
        (2, 0.09)
    """

    def body(state, _):
        key, state, info = _step(run, state)
        return state, _record(run, key, state, info)

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(body, state, length=num_generations)


def fill(
    run: Run, state: State, begun: Bool[Array, ""], num_rows: Int[Array, ""], max_rows: int
) -> tuple[State, tuple[Any, Mapping[str, Array]]]:
    """Run and record generations, as many as are asked for: `start` and `advance` as one program of any length.

    Args:
        run: what is run.
        state: where it stands.
        begun: whether generation 0 has been recorded. If not, the first row is of the state itself.
        num_rows: generations to record, traced, at most `max_rows`.
        max_rows: static bound; rows beyond `num_rows` are zero.

    Returns:
        As those of `advance`, with `max_rows` rows.
    """

    @jax.jit  # traced once for its shapes and for every generation
    def record(key, state, info):
        return _record(run, key, state, info)

    def write(i, carry):
        state, rows = carry
        steps = (begun | (i > 0)).astype(jnp.int32)  # a loop of one turn or none: a conditional would copy the memory
        at = jax.lax.fori_loop(0, steps, lambda _, at: _step(run, at[1]), _stand(run, state))
        return at[1], jax.tree.map(lambda all_rows, new: all_rows.at[i].set(new), rows, record(*at))

    with jax.default_matmul_precision("highest"):
        row = jax.eval_shape(lambda state: record(*_stand(run, state)), state)
        rows = jax.tree.map(lambda leaf: jnp.zeros((max_rows, *leaf.shape), leaf.dtype), row)
        return jax.lax.fori_loop(0, num_rows, write, (state, rows))


def _step(run: Run, state: State) -> tuple[Key[Array, ""], State, Info]:
    key = jax.random.fold_in(unrolled(run.key), state.generation)
    return key, *run.collapse.step(key, state, run.sizes)


def _stand(run: Run, state: State) -> tuple[Key[Array, ""], State, Info]:
    """Stay where no step has led, with an info of NaN, or zero where it is not floating point."""

    def missing(leaf):
        fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return jnp.full(leaf.shape, fill, leaf.dtype)

    key = unrolled(run.key)
    _, info = jax.eval_shape(run.collapse.step, key, state, run.sizes)
    return key, state, jax.tree.map(missing, info)


def _record(run: Run, key: Key[Array, ""], state: State, info: Info) -> tuple[Any, Mapping[str, Array]]:
    return run.record(jax.random.fold_in(unrolled(key), RECORD), state, info), info.trouble


def run(key: Key[Array, ""], collapse: Collapse, params: Any, sizes: Sizes, record: Record) -> tuple[State, Any]:
    """Run a whole trajectory, one program.

    Args:
        key: of the trajectory.
        collapse: from `build_collapse`.
        params: the model of generation 0, usually the truth.
        sizes: of the recursion.
        record: `record(key, state, info)`, what to keep of a generation.

    Returns:
        The last state, and the records of generations 0..T, stacked along axis 0. `sweep` counts trouble as well.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> record = jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth)
        >>> state, records = jc.run(jax.random.key(0), collapse, truth, jc.sizes(10, 0.5, 2), record)
        >>> int(state.generation), [round(ratio, 2) for ratio in records["trace_ratio"].tolist()]
        (2, [1.0, 0.31, 0.09])
    """
    whole = Run(key, collapse, params, sizes, jax.jit(lambda *at: record(*at)))  # traced once for all generations
    state, (first, _) = start(whole)
    state, (rest, _) = advance(whole, state, sizes.num_generations)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
