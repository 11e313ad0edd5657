"""Checks of a user's input, in Python, before anything is compiled.

Each check names the argument, what was given and what is allowed.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import psutil

from jaxcollapse.base import Measure


def check_range(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Require low <= value <= high.

    Raises:
        ValueError: if the value is outside, or not a number.
    """
    if not isinstance(value, int | float | np.number | np.ndarray | jax.Array):
        raise ValueError(f"{name} = {value!r}: must be a number")
    if not low <= value <= high:
        allowed = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} = {value!r}: must be {allowed}")


def check_numbers(low: float, high: float, **values: Any) -> None:
    """Require ranges of Python numbers; arrays, which may be traced, pass.

    Raises:
        ValueError: at the first that is outside.
    """
    for name, value in values.items():
        if isinstance(value, int | float):
            check_range(name, value, low, high)


def check_array(name: str, value: Any) -> None:
    """Require a number or an array of numbers.

    Raises:
        ValueError: if it is text, a function or anything else.
    """
    dtype = value.dtype if isinstance(value, jax.Array) else np.asarray(value).dtype
    if not jnp.issubdtype(dtype, jnp.number):
        raise ValueError(f"{name} = {value!r}: must be a number, or an array of them")


def check_count(name: str, value: Any, low: int = 0) -> None:
    """Require a whole number, at least low.

    Raises:
        ValueError: if it is none.
    """
    check_array(name, value)
    if np.ndim(value) or value % 1:
        raise ValueError(f"{name} = {value!r}: must be a whole number")
    check_range(name, value, low=low)


def check_budget(budget: float) -> None:
    """Require a budget in (0, 1].

    Raises:
        ValueError: if it is outside.
    """
    if not 0 < budget <= 1:
        raise ValueError(f"budget = {budget!r}: must be in (0, 1], the share of candidates kept")


def check_finite(name: str, values: Any) -> None:
    """Require finite numbers throughout.

    Raises:
        ValueError: if any is NaN or infinite.
    """
    bad = np.argwhere(~np.isfinite(np.asarray(values)))
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


def check_names(kind: str, names: Iterable[str], known: Mapping[str, Any] | Iterable[str]) -> None:
    """Require known names, and suggest the nearest to an unknown one.

    Raises:
        ValueError: at the first name that is not known.
    """
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
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
    if is_known(epsilon) and not np.asarray(epsilon) > 0:
        raise ValueError(f"epsilon = {float(epsilon)!r}: must be positive")
    n, m = source.weights.shape[-1], target.weights.shape[-1]
    per_pair, memory = 2 * source.points.dtype.itemsize, _device_memory()  # the costs and the plan
    if n * m * per_pair > memory:
        raise ValueError(
            f"source has {n} points and target {m}: the plan between them needs {n * m * per_pair / 2**30:.1f} GiB of "
            f"{memory / 2**30:.1f}; for this source at most {memory // (n * per_pair)} points fit"
        )


def _device_memory() -> int:
    """Read how many bytes the default device has."""
    statistics = jax.devices()[0].memory_stats()
    return statistics["bytes_limit"] if statistics else psutil.virtual_memory().total


def is_known(value: Any) -> bool:
    """Tell whether the leaves of a pytree are values, and not traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
