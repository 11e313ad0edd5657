"""Checks of a user's input, in Python, before anything is compiled.

Each check names the argument, what was given and what is allowed.
"""

import difflib
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import psutil

from jaxcollapse.base import Measure

MOST = 2**31 - 1  # what indices on a device hold
Number = int | float | np.number | np.ndarray | jax.Array


def shown(value: Any) -> str:
    """Write a value in one short line."""
    return textwrap.shorten(repr(value), 80)


def check_range(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Require low <= value <= high, and of integers that a device holds them.

    Raises:
        ValueError: if the value is outside, or not a number.
    """
    if not isinstance(value, Number) or np.ndim(value):
        raise ValueError(f"{name} = {shown(value)}: must be a number")
    if isinstance(value, int) and value > MOST and math.isinf(high):
        high = MOST
    if not low <= value <= high:
        ends = [str(end) if isinstance(end, int) else f"{end:g}" for end in (low, high)]
        between = f"at most {ends[1]}" if math.isinf(low) else f"in [{ends[0]}, {ends[1]}]"
        raise ValueError(f"{name} = {value!r}: must be {f'at least {ends[0]}' if math.isinf(high) else between}")


def check_numbers(low: float, high: float, **values: Any) -> None:
    """Require ranges of Python numbers; arrays, which may be traced, pass.

    Raises:
        ValueError: at the first that is outside.
    """
    for name, value in values.items():
        if isinstance(value, int | float):
            check_range(name, value, low, high)


def check_array(name: str, value: Any) -> None:
    """Require a real number or an array of them.

    Raises:
        ValueError: if it is text, a function or anything else.
    """
    if type(value) in (int, float):  # integers of any length
        return
    try:
        dtype = value.dtype if isinstance(value, jax.Array) else np.asarray(value).dtype
    except ValueError:  # lists of different lengths
        dtype = np.dtype(object)
    if not jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(f"{name} = {shown(value)}: must be a number, or an array of them")


def check_count(name: str, value: Any, low: int = 0, high: int = MOST) -> int:
    """Require a whole number, from low to high, and hand it over as an integer.

    Raises:
        ValueError: if it is none.
    """
    check_array(name, value)
    if np.ndim(value) or value % 1:
        raise ValueError(f"{name} = {shown(value)}: must be a whole number")
    if value < low:
        check_range(name, value, low=low)
    check_range(name, value, high=high)
    return int(value)


def check_recursion(num_samples: Any, num_generations: Any) -> None:
    """Require numbers of samples and generations of which theory can speak.

    Raises:
        ValueError: at the first that is not so.
    """
    check_count("num_samples", num_samples, low=1)
    check_count("num_generations", num_generations, high=10**7)


def check_budget(budget: float) -> None:
    """Require a budget in (0, 1].

    Raises:
        ValueError: if it is outside.
    """
    if not (isinstance(budget, Number) and np.ndim(budget) == 0 and 0 < budget <= 1):
        raise ValueError(f"budget = {shown(budget)}: must be in (0, 1], the share of candidates kept")


def check_finite(name: str, values: Any) -> None:
    """Require finite numbers throughout.

    Raises:
        ValueError: if any is NaN or infinite, or no number.
    """
    check_array(name, values)
    bad = np.argwhere(~np.isfinite(np.asarray(values, None if np.ndim(values) else float)))
    if bad.size:
        first = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name}: {len(bad)} values are not finite, the first at index {first}")


def check_covariance(name: str, covariance: Any) -> None:
    """Require a finite, symmetric, positive definite matrix.

    Raises:
        ValueError: if it is none.
    """
    check_finite(name, covariance)
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name}: shape {matrix.shape} must be square, [d, d]")
    if not np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6 * np.abs(matrix).max()):
        raise ValueError(f"{name}: must be symmetric")
    smallest = np.linalg.eigvalsh(matrix).min()
    if smallest <= 0:
        raise ValueError(f"{name}: smallest eigenvalue {smallest:.3g} must be positive")


def check_names(kind: str, names: Iterable[Any], known: Mapping[str, Any] | Iterable[str]) -> None:
    """Require known names, and suggest the nearest to an unknown one.

    Raises:
        ValueError: at the first name that is not known.
    """
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{kind} {name!r} is not known: choose from {', '.join(known)}{hint}")


def check_fit(num_kept: int, dim: int) -> None:
    """Require enough samples for a covariance of full rank.

    Raises:
        ValueError: if fewer than d + 2 are kept.
    """
    if num_kept < dim + 2:
        raise ValueError(f"num_kept = {num_kept}: a Gaussian in {dim} dimensions needs at least {dim + 2} samples")


def check_measure(name: str, measure: Measure) -> None:
    """Require points and masses of one shape, finite points, and in each measure of a stack some mass, none negative.

    Of these, values that are being compiled are not known, and pass.

    Raises:
        ValueError: at the first that is not so.
    """
    points, weights = measure
    if points.shape[:-1] != weights.shape:
        raise ValueError(f"{name}: points of shape {points.shape} and weights of shape {weights.shape} do not match")
    if is_known(points):
        check_finite(f"{name}.points", points)
    if is_known(weights):
        check_finite(f"{name}.weights", weights)
        mass = np.asarray(weights)
        if mass.min(initial=0) < 0:
            raise ValueError(f"{name}.weights: the least is {mass.min():g}, and masses must not be negative")
        for index, total in np.ndenumerate(mass.sum(axis=-1)):
            if total == 0:
                where = f"[{', '.join(map(str, index))}]" if index else ""
                raise ValueError(f"{name}.weights{where}: the total is 0, and must be positive")


def check_transport(source: Measure, target: Measure, epsilon: Any) -> None:
    """Require measures of one dimension and a positive epsilon, and memory for the plan between them.

    Raises:
        ValueError: at the first that is not so.
    """
    dim = source.points.shape[-1]
    if target.points.shape[-1] != dim:
        raise ValueError(f"target.points: shape {target.points.shape} must end in {dim}, as that of source.points")
    check_measure("source", source)
    check_measure("target", target)
    scalar = isinstance(epsilon, Number) and np.ndim(epsilon) == 0
    if is_known(epsilon) and not (scalar and np.asarray(epsilon) > 0):
        raise ValueError(f"epsilon = {float(epsilon) if scalar else shown(epsilon)}: must be positive")
    n, m = source.weights.shape[-1], target.weights.shape[-1]
    per_pair, memory = 2 * source.points.dtype.itemsize, device_memory()  # the costs and the plan
    if n * m * per_pair > memory:
        raise ValueError(
            f"source has {n} points and target {m}: the plan between them needs {n * m * per_pair / 2**30:.1f} GiB of "
            f"{memory / 2**30:.1f}; for this source at most {memory // (n * per_pair)} points fit"
        )


def memory_needed(programs: Sequence[jax.stages.Lowered | jax.stages.Compiled], devices: Sequence[Any] = ()) -> int:
    """Count the bytes on each device for what a program takes and returns and, once it is compiled, holds meanwhile.

    Of several programs, which run one by one, the largest counts.
    """

    def of(program: jax.stages.Lowered | jax.stages.Compiled) -> int:
        if isinstance(program, jax.stages.Compiled) and (planned := program.memory_analysis()):
            held = planned.argument_size_in_bytes + planned.output_size_in_bytes - planned.alias_size_in_bytes
            return held + planned.temp_size_in_bytes
        shapes = jax.tree.leaves((program.args_info, program.out_info))
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in shapes) // max(len(devices), 1)

    return max(map(of, programs))


def check_memory(programs: Sequence[jax.stages.Lowered | jax.stages.Compiled], devices: Sequence[Any] = ()) -> None:
    """Require memory for programs, on each of the devices that divide them among themselves or on the default one.

    Raises:
        ValueError: if a device has less.
    """
    needed, memory = memory_needed(programs, devices), device_memory(devices)
    if needed > memory:
        raise ValueError(f"{needed / 2**30:.1f} GiB of memory are needed of {memory / 2**30:.1f}: lower the sizes")


def device_memory(devices: Sequence[Any] = ()) -> int:
    """Read how many bytes each device has; the processors of a machine share its memory."""
    local = [device for device in devices if device.process_index == jax.process_index()] or jax.local_devices()[:1]
    statistics = local[0].memory_stats()
    return statistics["bytes_limit"] if statistics else psutil.virtual_memory().total // len(local)


def is_known(value: Any) -> bool:
    """Tell whether the leaves of a pytree are values, and not traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
