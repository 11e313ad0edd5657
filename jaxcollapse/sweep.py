"""Sweeps: many runs over named axes, compiled as one program and run in chunks of generations."""

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
from jaxcollapse.recursion import advance, start


class Axis(NamedTuple):
    """Labels and values of a sweep's axis.

    Attributes:
        labels: numbers or text, one for each value.
        values: pytree of arrays, stacked along axis 0; traced, so what changes shapes is fixed outside.
    """

    labels: Sequence[Any]
    values: Any


def seeds(labels: int | Sequence[int] | np.ndarray, key: int = 0) -> Axis:
    """Make an axis of random keys, each of its label alone: settings that are compared share their randomness.

    Args:
        labels: of the seeds, or how many.
        key: that all of them are folded into.

    Raises:
        ValueError: if they are no integers, or none.
    """
    numbers = np.arange(labels) if isinstance(labels, int) else np.asarray(labels)
    if numbers.ndim != 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"seeds = {labels!r}: must be a number of them, at least 1, or a list of integers")
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
    chunk_size: int | None = None,
    checkpoint: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Run `build(**point)` at every point of a product of axes.

    One program is traced and compiled, whatever the length of the axes; it is run once a chunk. Chunks have one
    size, so that a few generations beyond the last one may be computed; they are dropped.

    Args:
        build: makes a run from one value of each axis, by name.
        axes: in the order of the result's dimensions. Numbers are their own labels.
        fixed: further arguments of `build`, the same at all points. Arrays that `build` captures would be written into
            the program instead.
        prepare: makes further arguments of `build` that do not depend on the generation, such as selectors, from the
            same arguments; once a sweep.
        dims: names of the axes that records have of their own, by record.
        coords: labels of those axes.
        chunk_size: generations a chunk at most; by default a tenth and at least 50, and all of them where there is
            neither checkpoint nor progress.
        checkpoint: file that holds the state after each chunk. A sweep that finds it continues, bit for bit.
        progress: called with the generations done and in all, at the start and after every chunk.

    Returns:
        All records, by name, with the axes, `generation` and their own axes as dimensions. The attribute `warnings`
        lists what went wrong, in words; each is a Python warning as well.

    Raises:
        ValueError: if an axis does not fit its labels or has a name that is taken, or the checkpoint is of another
            sweep.

    Example:
        >>> runs = sweep(build, {"budget": [0.1, 0.25], "seed": seeds(8)})
    """
    named = {name: _as_axis(name, axis) for name, axis in axes.items()}
    points, fixed = {name: axis.values for name, axis in named.items()}, dict(fixed or {})
    clash = sorted(set(named) & {*fixed, "generation", "generations", "program"})
    if clash:
        raise ValueError(f"axes: {clash} are taken, by fixed or by the sweep itself")
    num_axes, horizon = len(named), []
    checkpoint = checkpoint and Path(checkpoint)

    def make(point, prepared, fixed) -> Run:
        run = build(**{**fixed, **point, **prepared})
        horizon.append(run.sizes.num_generations)
        return run

    def begin(point, prepared, fixed):
        return start(make(point, prepared, fixed))

    def proceed(point, prepared, fixed, state):
        return advance(make(point, prepared, fixed), state, size)

    def over_axes(function: Callable, num_mapped: int) -> Callable:
        """Map over all axes; after the points come trees that have them all, then `fixed`, then others likewise."""
        for name in reversed(points):
            mapped = {other: 0 if other == name else None for other in points}
            function = jax.vmap(function, in_axes=(mapped, 0, None, *[0] * num_mapped))
        return function

    prepared = {}
    if prepare is not None:
        prepared = jax.jit(over_axes(lambda point, _, fixed: prepare(**fixed, **point), 0))(points, {}, fixed)
    first = jax.jit(over_axes(begin, 0))
    state, history = jax.eval_shape(first, points, prepared, fixed)
    num_generations = horizon[0]
    if chunk_size is None:
        chunk_size = max(50, num_generations // 10) if checkpoint or progress else num_generations
    num_chunks = max(1, -(-num_generations // max(chunk_size, 1)))
    size = -(-num_generations // num_chunks)
    program = jax.jit(over_axes(proceed, 1)).lower(points, prepared, fixed, state)
    identity = {}
    if checkpoint is not None:
        identity = {
            "generations": str(num_generations),
            **{name: results.digest((np.asarray(axis.labels), axis.values)) for name, axis in named.items()},
            **{name: results.digest(value) for name, value in fixed.items()},
            "program": results.digest_program(program),
        }

    done, treedef = 0, jax.tree.structure((state, history))
    stored = results.load_arrays(checkpoint, identity) if checkpoint is not None else None
    if stored is None:
        state, history = first(points, prepared, fixed)
        history = jax.tree.map(lambda x: np.expand_dims(x, num_axes), history)
    else:
        done, (state, history) = int(stored[0]), jax.tree.unflatten(treedef, stored[1:])
    if progress:
        progress(done, num_generations)
    compiled = None
    while done < num_generations:
        compiled = compiled or program.compile()
        state, records = compiled(points, prepared, fixed, jax.tree.map(jnp.asarray, state))
        done = min(done + size, num_generations)
        kept = (slice(None),) * num_axes + (slice(done + 1),)
        history = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=num_axes)[kept], history, records)  # noqa: B023
        if checkpoint is not None:
            results.save_arrays(checkpoint, [done, *jax.tree.leaves((state, history))], identity)
        if progress:
            progress(done, num_generations)

    records, trouble = history
    leading = {name: axis.labels for name, axis in named.items()} | {"generation": np.arange(num_generations + 1)}
    messages = _warnings(trouble)
    for message in messages:
        warnings.warn(message, stacklevel=2)
    return _dataset(records, leading, dims or {}, coords or {}).assign_attrs(warnings=messages)


def along(name: str, datasets: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """Lay datasets side by side along a new axis, whose labels are the keys.

    What one of them lacks is NaN; along an axis that one of them lacks it is constant.
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


def _dataset(
    records: Any, leading: Mapping[str, Any], dims: Mapping[str, Sequence[str]], coords: Mapping[str, Any]
) -> xr.Dataset:
    """Name the records' axes. A record that is no dictionary is named by its fields."""
    variables = {}
    for path, leaf in jax.tree.leaves_with_path(records):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "record"
        num_own = leaf.ndim - len(leading)
        own = dims.get(name, [f"{name}_{i}" for i in range(num_own)])
        variables[name] = ((*leading, *own), np.asarray(leaf))
    return xr.Dataset(variables, {name: np.asarray(labels) for name, labels in {**leading, **coords}.items()})


def _warnings(trouble: Mapping[str, np.ndarray]) -> list[str]:
    """Say what went wrong, how often, and when first."""
    messages = []
    for name, counts in trouble.items():
        runs = np.asarray(counts).reshape(-1, np.shape(counts)[-1])
        if runs.any():
            concerned, first = runs.any(axis=1).sum(), np.flatnonzero(runs.any(axis=0))[0]
            messages.append(f"{runs.sum()} {name}, in {concerned} of {len(runs)} runs, first in generation {first}")
    return messages
