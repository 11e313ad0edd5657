"""Sweeps: many runs over named axes, compiled as one program and run in chunks of lanes and of generations."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from jaxcollapse import results
from jaxcollapse.base import Run
from jaxcollapse.checks import check_count, check_memory, check_range, shown
from jaxcollapse.history import History, Rows, gather, kept_width, named
from jaxcollapse.lanes import LANES, Layout, agreed, compile_all, fit, mesh_of, on_host, put, share
from jaxcollapse.recursion import fill

Progress = Callable[[int, int, str], None]
MOST_SEEDS = 10**6
MOST_ROWS = 50  # generations of which a device holds the records
TAKEN = ("generation", "generations", "lanes", "devices", "program", "range", "names", "run")


class Axis(NamedTuple):
    """Labels and values of a sweep's axis.

    Attributes:
        labels: numbers or text, one for each value.
        values: pytree of arrays, stacked along axis 0; traced, so what changes shapes is fixed outside.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> axis = jc.Axis(["near", "far"], jnp.array([1.0, 9.0]))
        >>> axis.labels, axis.values.shape
        (['near', 'far'], (2,))
    """

    labels: Sequence[Any]
    values: Any


def seeds(labels: int | Sequence[int] | np.ndarray, key: int = 0) -> Axis:
    """Make an axis of random keys, each of its label alone: settings that are compared share their randomness.

    Args:
        labels: of the seeds, or how many.
        key: that all of them are folded into.

    Raises:
        ValueError: if they are no integers, none or more than `MOST_SEEDS`, or the key is no whole number.

    Example:
        >>> import jaxcollapse as jc
        >>> list(map(int, jc.seeds(3).labels)), jc.seeds([7, 9]).values.shape
        ([0, 1, 2], (2,))
    """
    check_count("key", key, high=2**32 - 1)
    if isinstance(labels, int):
        check_range("seeds", labels, high=MOST_SEEDS)
    try:
        numbers = np.arange(labels) if isinstance(labels, int) else np.asarray(labels)
    except ValueError:  # lists of different lengths
        numbers = np.empty(0)
    if numbers.ndim != 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"seeds = {shown(labels)}: must be a number of them, at least 1, or a list of integers")
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return Axis(numbers, fold(jax.random.key(key), numbers.astype(np.uint32)))


def sweep(
    build: Callable[..., Run],
    axes: Mapping[str, Axis | Sequence[float]],
    *,
    fixed: Mapping[str, Any] | None = None,
    prepare: Callable[..., Mapping[str, Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    checkpoint: Path | str | None = None,
    progress: Progress | None = None,
    interval: float = 1.0,
    devices: Sequence[Any] | None = None,
    lanes: int | None = None,
    shard: tuple[int, int] = (1, 1),
    identity: Mapping[str, str] | None = None,
    debug_nans: bool = False,
) -> xr.Dataset:
    """Run `build(**point)` at every point of a product of axes.

    The points are lanes. As many as fit in memory run at once, divided among the devices, and some generations at a
    time, as many as the interval has room for: all by one program, traced and compiled once. What the devices hold
    grows neither with the lanes nor, where the memory of the recursion does not, with the generations.

    Args:
        build: makes a run from one value of each axis, by name.
        axes: in the order of the result's dimensions. Numbers are their own labels.
        fixed: further arguments of `build`, the same at all points. Arrays that `build` captures would be written into
            the program instead.
        prepare: makes further arguments of `build` that do not depend on the generation, such as selectors, from the
            same arguments; once a lane.
        dims: names of the axes that records have of their own, by record.
        coords: labels of those axes.
        checkpoint: file that holds the state, written every ten intervals, at the end and on interruption; further
            chunks of lanes have files of their own beside it. A sweep that finds it continues, bit for bit.
        progress: called with the generations done, all of them, summed over the chunks of lanes, and what comes next:
            `tracing`, `compiling`, `running`; an exception that it raises interrupts the sweep.
        interval: seconds of a chunk of generations, about.
        devices: that divide the lanes; by default all of this process.
        lanes: that run at once, rounded up to a multiple of the devices, and to two each; by default those of the
            checkpoint, or as many as fit. Equal numbers a device give results that are equal bit for bit; others round
            differently.
        shard: i of n, from 1: only the i-th of n contiguous ranges of lanes is run and kept in the checkpoint, from
            which `merge` takes it. In the result the other lanes repeat one of them.
        identity: what else a checkpoint is of.
        debug_nans: whether to look at the state after every generation.

    Returns:
        All records, by name, with the axes, `generation` and their own axes as dimensions, and magnitudes that were
        told on the way, such as `marginal_error`. The attribute `warnings` lists what went wrong, in words; each is a
        Python warning as well. The attribute `layout` counts lanes, devices, lanes that a device runs at once, and
        chunks.

    Raises:
        ValueError: if an axis does not fit its labels or has a name that is taken, the checkpoint is of another
            sweep, width or number of devices, memory has no room for the fewest lanes, or a NaN was looked for and is
            there.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> record = jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth)
        >>> def build(budget, seed):
        ...     return jc.Run(seed, collapse, truth, jc.sizes(10, budget, 2, max_candidates=20), record)
        >>> dict(jc.sweep(build, {"budget": [0.5, 1.0], "seed": jc.seeds(2)}).trace_ratio.sizes)
        {'budget': 2, 'seed': 2, 'generation': 3}
    """
    named_axes, fixed = {name: _as_axis(name, axis) for name, axis in axes.items()}, dict(fixed or {})
    clash = sorted(set(named_axes) & {*fixed, *TAKEN})
    if clash:
        raise ValueError(f"axes: {clash} are taken, by fixed or by the sweep itself")
    if lanes is not None:
        check_count("lanes", lanes, low=1)
    shape, report, horizon = _shape(named_axes), progress or (lambda *_: None), []
    num_lanes = math.prod(shape)
    low, high = share(num_lanes, *shard)
    if low == high:  # an empty share runs a lane for its shapes, and keeps nothing
        low, checkpoint = min(low, num_lanes - 1), None
        high = low + 1
    checkpoint, identity = checkpoint and Path(checkpoint), dict(identity or {})
    if checkpoint:
        lanes, identity = lanes or kept_width(checkpoint), _identity(named_axes, fixed) | identity
    devices = jax.local_devices() if devices is None else devices
    mesh = mesh_of(devices)
    points, fixed = {name: on_host(axis.values) for name, axis in named_axes.items()}, put(fixed, mesh)

    def make(point, prepared, fixed) -> Run:
        run = build(**{**fixed, **point, **prepared})
        horizon.append(run.sizes.num_generations)
        return run

    def begin(lane, fixed):
        _, point = lane
        with jax.default_matmul_precision("highest"):
            prepared = {} if prepare is None else prepare(**fixed, **point)
        run = make(point, prepared, fixed)
        return prepared, run.collapse.init(run.params, run.sizes)

    def proceed(lane, prepared, fixed, state, begun, count):
        _, point = lane
        state, (records, trouble) = fill(make(point, prepared, fixed), state, begun, count, max_rows())
        return state, Rows(named(records), dict(trouble))

    def max_rows() -> int:
        return min(horizon[0] + 1, MOST_ROWS)

    def lower(layout: Layout) -> list[jax.stages.Lowered]:
        report(0, 0, "tracing")
        lane = layout.take(points, *layout.chunks[0])
        first = layout.over_lanes(begin, (0, None)).trace(lane, fixed)
        chunk = layout.over_lanes(proceed, (0, 0, None, 0, None, None), donate_argnums=3)
        return [first.lower(), chunk.lower(lane, first.out_info[0], fixed, first.out_info[1], np.bool_(1), np.int32(1))]

    def compile_(layout: Layout, programs: Sequence[jax.stages.Lowered], chunk: int = 0, count: int = 0) -> list[Any]:
        tell(layout, chunk, count, "compiling")
        return compile_all(programs)

    def tell(layout: Layout, chunk: int, count: int, doing: str) -> None:
        num_generations = horizon[0]
        report(chunk * num_generations + max(count - 1, 0), len(layout.chunks) * num_generations, doing)

    layout, compiled = Layout(mesh, shape, low, high, 0), []
    if lanes is None:
        layout, programs, compiled = fit(layout, lower, compile_, fixed)
    else:
        layout = layout.of_width(lanes)
        programs = lower(layout)
    num_generations, num_rows = horizon[0], horizon[0] + 1
    if checkpoint:
        of_program = {"lanes": layout.width, "devices": mesh.size, "program": results.digest_program(*programs)}
        identity = {"generations": str(num_generations), **identity, **{k: str(v) for k, v in of_program.items()}}
    history = History(layout, num_rows, programs[1].out_info[1], checkpoint, identity)

    steps, saved = 1, time.monotonic()
    for chunk, ends in enumerate(layout.chunks):
        count, leaves = history.load(chunk)
        if count == num_rows:
            tell(layout, chunk, count, "running")
            continue
        if not compiled:
            check_memory(programs, devices)
            compiled = compile_(layout, programs, chunk, count)
            check_memory(compiled, devices)
        lane = layout.take(points, *ends)
        prepared, state = compiled[0](lane, fixed)
        if leaves:
            state = put(jax.tree.unflatten(jax.tree.structure(state), leaves), mesh, LANES)
        reached = count, state  # one value, so that no interruption comes between
        try:
            tell(layout, chunk, count, "running")
            while count < num_rows:
                started, steps = time.monotonic(), min(steps, num_rows - count)
                begun = np.bool_(count > 0)
                state, rows = compiled[1](lane, prepared, fixed, reached[1], begun, np.int32(steps))
                history.write(chunk, count, steps, rows)
                count += steps
                reached = count, state
                if debug_nans:
                    _require_numbers(on_host(state), layout, chunk, named_axes, count - 1)
                now = time.monotonic()
                most = 1 if debug_nans else min(4 * steps, max_rows())
                further = np.clip(steps * interval / max(now - started, 1e-9), 1, most)
                due = count == num_rows or now - saved >= 10 * interval
                steps, due = (int(each) for each in agreed(mesh, np.int32([further, due])))
                if due:
                    history.save(chunk, *reached)
                    saved = time.monotonic()
                tell(layout, chunk, count, "running")
        except KeyboardInterrupt:
            if not (mesh.is_multi_process or any(leaf.is_deleted() for leaf in jax.tree.leaves(reached[1]))):
                history.save(chunk, *reached)
            raise

    others = np.clip(np.arange(num_lanes), low, high - 1) - low
    whole = history.rows if high - low == num_lanes else jax.tree.map(lambda leaf: leaf[others], history.rows)
    counts = {"devices": mesh.size, "lanes_per_device": layout.width // mesh.size, "chunks": len(layout.chunks)}
    counts["shards"] = 1
    return _dataset(whole, counts, named_axes, dims or {}, coords or {})


def merge(
    files: Sequence[Path],
    axes: Mapping[str, Axis | Sequence[float]],
    *,
    fixed: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    identity: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Put a sweep together from the checkpoints of its shards; other arguments are those of `sweep`.

    Raises:
        ValueError: if a file is of another sweep, or lanes are in none or in several.
    """
    named_axes = {name: _as_axis(name, axis) for name, axis in axes.items()}
    wanted = {**_identity(named_axes, fixed or {}), **(identity or {})}
    return _dataset(*gather(files, math.prod(_shape(named_axes)), wanted), named_axes, dims or {}, coords or {})


def along(name: str, datasets: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """Lay datasets side by side along a new axis, whose labels are the keys.

    What one of them lacks is NaN; along an axis that one of them lacks it is constant.

    Example:
        >>> import xarray as xr
        >>> import jaxcollapse as jc
        >>> replace = xr.Dataset({"trace_ratio": ("generation", [1.0, 0.5])})
        >>> accumulate = xr.Dataset({"trace_ratio": ("generation", [1.0, 0.75])})
        >>> both = jc.along("workflow", {"replace": replace, "accumulate": accumulate})
        >>> both.trace_ratio.sel(workflow="accumulate").values
        array([1.  , 0.75])
    """
    labels, parts = pd.Index(list(datasets), name=name), list(datasets.values())
    found = xr.concat(parts, labels, join="outer", coords="minimal", combine_attrs="drop")
    messages = [f"{label}: {m}" for label, part in datasets.items() for m in part.attrs.get("warnings", [])]
    return found.assign_attrs(warnings=messages)


def _as_axis(name: str, axis: Any) -> Axis:
    if not isinstance(axis, Axis):
        values = np.asarray(axis)
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.number):
            raise ValueError(f"axis {name!r}: must be numbers, or an Axis of labels and values")
        axis = Axis(values, jnp.asarray(values))
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(axis.values)}
    if sizes != {(len(axis.labels),)}:
        raise ValueError(f"axis {name!r}: {len(axis.labels)} labels do not fit values stacked {sorted(sizes)}")
    return axis


def _require_numbers(state: Any, layout: Layout, chunk: int, axes: Mapping[str, Axis], generation: int) -> None:
    """Require that a chunk's state holds no NaN.

    Raises:
        ValueError: if it does, with the first place.
    """
    low, high = layout.chunks[chunk]
    for path, leaf in jax.tree.leaves_with_path(state):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        lanes = np.argwhere(np.isnan(leaf[: high - low]))[:, 0] if floating else np.empty(0)
        if lanes.size:
            at = np.unravel_index(low + lanes[0], layout.shape)
            point = ", ".join(f"{name} = {axis.labels[i]}" for (name, axis), i in zip(axes.items(), at, strict=True))
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"the state holds a NaN in {name}, first in generation {generation} of {point}")


def _shape(axes: Mapping[str, Axis]) -> tuple[int, ...]:
    return tuple(len(axis.labels) for axis in axes.values())


def _identity(axes: Mapping[str, Axis], fixed: Mapping[str, Any]) -> dict[str, str]:
    of_axes = {name: results.digest((np.asarray(axis.labels), axis.values)) for name, axis in axes.items()}
    return of_axes | {name: results.digest(value) for name, value in fixed.items()}


def _dataset(
    rows: Rows,
    layout: Mapping[str, Any],
    axes: Mapping[str, Axis],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Any],
) -> xr.Dataset:
    """Give lanes back their axes, name those of the records, and warn of what went wrong."""
    num_rows = len(jax.tree.leaves(rows)[0][0])
    leading = {name: axis.labels for name, axis in axes.items()} | {"generation": np.arange(num_rows)}
    rows = jax.tree.map(lambda leaf: leaf.reshape(*_shape(axes), *leaf.shape[1:]), rows)
    variables = {}
    for name, leaf in rows.records.items():
        own = dims.get(name, [f"{name}_{i}" for i in range(leaf.ndim - len(leading))])
        variables[name] = ((*leading, *own), leaf)
    magnitudes = {name: each for name, each in rows.trouble.items() if np.issubdtype(each.dtype, np.floating)}
    told = {name: (tuple(leading), each) for name, each in magnitudes.items() if name not in variables}
    messages = in_words({name: counts for name, counts in rows.trouble.items() if name not in magnitudes})
    for message in messages:
        warnings.warn(message, stacklevel=3)
    labels = {name: np.asarray(each) for name, each in {**leading, **coords}.items()}
    attributes = {"warnings": messages, "layout": {"lanes": math.prod(_shape(axes)), **layout}}
    return xr.Dataset({**variables, **told}, labels, attributes)


def in_words(trouble: Mapping[str, np.ndarray]) -> list[str]:
    """Say what went wrong, how often, and when first."""
    messages = []
    for name, counts in trouble.items():
        runs = np.asarray(counts).reshape(-1, np.shape(counts)[-1])
        if runs.any():
            concerned, first = runs.any(axis=1).sum(), np.flatnonzero(runs.any(axis=0))[0]
            messages.append(f"{runs.sum()} {name}, in {concerned} of {len(runs)} runs, first in generation {first}")
    return messages
