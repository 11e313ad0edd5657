"""Sweeps: many runs over named axes, compiled as one program and run in chunks of generations."""

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
from numpy.typing import ArrayLike

from jaxcollapse import results
from jaxcollapse.base import Run
from jaxcollapse.checks import check_count, check_memory, check_range, shown
from jaxcollapse.recursion import fill

Progress = Callable[[int, int, str], None]
MOST_SEEDS = 10**6


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
        ValueError: if they are no integers, none or more than `MOST_SEEDS`, or the key is no whole number.
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
) -> xr.Dataset:
    """Run `build(**point)` at every point of a product of axes.

    One program is traced and compiled, whatever the length of the axes. Given a checkpoint or progress, it runs a chunk
    of generations at a time, as many as the interval has room for.

    Args:
        build: makes a run from one value of each axis, by name.
        axes: in the order of the result's dimensions. Numbers are their own labels.
        fixed: further arguments of `build`, the same at all points. Arrays that `build` captures would be written into
            the program instead.
        prepare: makes further arguments of `build` that do not depend on the generation, such as selectors, from the
            same arguments; once a sweep.
        dims: names of the axes that records have of their own, by record.
        coords: labels of those axes.
        checkpoint: file that holds the state, written every ten intervals, at the end and on interruption. A sweep that
            finds it continues, bit for bit.
        progress: called with the generations done, all of them, and what comes next: `tracing`, `compiling`, `running`;
            an exception that it raises interrupts the sweep.
        interval: seconds of a chunk, about.

    Returns:
        All records, by name, with the axes, `generation` and their own axes as dimensions, and magnitudes that were
        told on the way, such as `marginal_error`. The attribute `warnings` lists what went wrong, in words; each is a
        Python warning as well.

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
        run = make(point, prepared, fixed)
        return run.collapse.init(run.params, run.sizes)

    def proceed(point, prepared, fixed, state, begun, count):
        return fill(make(point, prepared, fixed), state, begun, count, max_rows)

    def over_axes(function: Callable, *others: int | None) -> Callable:
        """Map over all axes: of points, of `prepared` and of the others; `fixed` is the same at all points."""
        for name in reversed(points):
            mapped = {other: 0 if other == name else None for other in points}
            function = jax.vmap(function, in_axes=(mapped, 0, None, *others))
        return function

    report = progress or (lambda done, total, doing: None)
    report(0, 0, "tracing")
    prepared = {}
    if prepare is not None:
        prepared = jax.jit(over_axes(lambda point, _, fixed: prepare(**fixed, **point)))(points, {}, fixed)
    first = jax.jit(over_axes(begin))
    state = jax.eval_shape(first, points, prepared, fixed)
    num_generations, in_chunks = horizon[0], checkpoint is not None or progress is not None
    max_rows = min(num_generations + 1, max(50, num_generations // 10)) if in_chunks else num_generations + 1
    chunk = jax.jit(over_axes(proceed, 0, None, None))
    program = chunk.lower(points, prepared, fixed, state, np.bool_(1), np.int32(max_rows))
    check_memory(program)
    identity = {}
    if checkpoint is not None:
        identity = {
            "generations": str(num_generations),
            **{name: results.digest((np.asarray(axis.labels), axis.values)) for name, axis in named.items()},
            **{name: results.digest(value) for name, value in fixed.items()},
            "program": results.digest_program(program),
        }
    history = _History(num_axes, num_generations + 1, program.out_info[1])
    stored = results.load_arrays(checkpoint, identity) if checkpoint is not None else None
    if stored is not None:
        history.restore(stored, jax.tree.structure(state))

    def save() -> None:
        if checkpoint is not None:
            results.save_arrays(checkpoint, history.leaves(), identity)

    def tell(doing: str) -> None:
        report(max(history.num_rows - 1, 0), num_generations, doing)

    if history.num_rows <= num_generations:
        tell("compiling")
        if stored is None:
            history.reached = (0, first(points, prepared, fixed))
        compiled, count, saved = program.compile(), 1 if in_chunks else max_rows, time.monotonic()
        check_memory(compiled)
        tell("running")
        try:
            while history.num_rows <= num_generations:
                started, count = time.monotonic(), min(count, num_generations + 1 - history.num_rows)
                begun = np.bool_(history.num_rows > 0)
                state, rows = compiled(points, prepared, fixed, history.reached[1], begun, np.int32(count))
                history.extend(count, rows, state)
                now = time.monotonic()
                if history.num_rows > num_generations or now - saved >= 10 * interval:
                    save()
                    saved = time.monotonic()
                tell("running")
                count = int(np.clip(count * interval / max(now - started, 1e-9), 1, min(4 * count, max_rows)))
        except KeyboardInterrupt:
            save()
            raise
    else:
        tell("running")

    records, trouble = history.records
    leading = {name: axis.labels for name, axis in named.items()} | {"generation": np.arange(num_generations + 1)}
    magnitudes = {name: each for name, each in trouble.items() if np.issubdtype(each.dtype, np.floating)}
    messages = in_words({name: counts for name, counts in trouble.items() if name not in magnitudes})
    for message in messages:
        warnings.warn(message, stacklevel=2)
    found = _dataset(records, leading, dims or {}, coords or {}).assign_attrs(warnings=messages)
    return found.assign({name: (tuple(leading), each) for name, each in magnitudes.items() if name not in found})


def along(name: str, datasets: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """Lay datasets side by side along a new axis, whose labels are the keys.

    What one of them lacks is NaN; along an axis that one of them lacks it is constant.
    """
    labels, parts = pd.Index(list(datasets), name=name), list(datasets.values())
    found = xr.concat(parts, labels, join="outer", coords="minimal", combine_attrs="drop")
    messages = [f"{label}: {m}" for label, part in datasets.items() for m in part.attrs.get("warnings", [])]
    return found.assign_attrs(warnings=messages)


class _History:
    """Records of the generations done, on the host, and the state that goes on from there.

    Attributes:
        records: pytree of arrays, in which generations are the axis `num_axes`.
        reached: number of generations recorded, 0 among them, and the state after them: one value, so that no
            interruption comes between.
    """

    def __init__(self, num_axes: int, max_rows: int, shapes: Any):
        def whole(chunk):
            return np.empty((*chunk.shape[:num_axes], max_rows, *chunk.shape[num_axes + 1 :]), chunk.dtype)

        self._leading, self.records, self.reached = (slice(None),) * num_axes, jax.tree.map(whole, shapes), (0, None)

    @property
    def num_rows(self) -> int:
        return self.reached[0]

    def extend(self, count: int, records: Any, state: Any) -> None:
        """Add the first rows of a chunk."""
        to = (*self._leading, slice(self.num_rows, self.num_rows + count))
        for all_rows, new in zip(jax.tree.leaves(self.records), jax.tree.leaves(records), strict=True):
            all_rows[to] = np.asarray(new)[(*self._leading, slice(count))]
        self.reached = (self.num_rows + count, state)

    def leaves(self) -> list[ArrayLike]:
        """List the number of rows, all of them, and the state."""
        num_rows, state = self.reached
        rows = [x[(*self._leading, slice(num_rows))] for x in jax.tree.leaves(self.records)]
        return [num_rows, *rows, *jax.tree.leaves(state)]

    def restore(self, stored: list[np.ndarray], state: Any) -> None:
        """Take what `leaves` listed, given the structure of the state."""
        first = len(jax.tree.leaves(self.records)) + 1
        self.extend(int(stored[0]), stored[1:first], jax.tree.unflatten(state, map(jnp.asarray, stored[first:])))


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


def in_words(trouble: Mapping[str, np.ndarray]) -> list[str]:
    """Say what went wrong, how often, and when first."""
    messages = []
    for name, counts in trouble.items():
        runs = np.asarray(counts).reshape(-1, np.shape(counts)[-1])
        if runs.any():
            concerned, first = runs.any(axis=1).sum(), np.flatnonzero(runs.any(axis=0))[0]
            messages.append(f"{runs.sum()} {name}, in {concerned} of {len(runs)} runs, first in generation {first}")
    return messages
