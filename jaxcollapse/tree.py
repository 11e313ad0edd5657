"""Pytrees: functions that know arrays, and operations on stacks."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

T = TypeVar("T")


def static(**options: Any) -> Any:
    """Declare a field of a `closure` that is fixed when a program is compiled, and hashable.

    Example:
        >>> import jax
        >>> import jaxcollapse as jc
        >>> @jc.closure
        ... class power:
        ...     exponent: int = jc.static(default=2)
        ...     __call__ = lambda self, x: x**self.exponent
        >>> jax.tree.leaves(power()), power(3)(2.0)
        ([], 8.0)
    """
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def closure(cls: type[T]) -> type[T]:
    """Make a function that knows arrays: a frozen dataclass with `__call__`, whose fields are the leaves of a pytree.

    A nested function that captures an array has it written into every program that calls it. A field is an argument of
    the program instead, so that new values compile nothing, and `jax.vmap` maps over it.

    Example:
        >>> import jax
        >>> import jaxcollapse as jc
        >>> @jc.closure
        ... class scaled:
        ...     factor: float
        ...     def __call__(self, x):
        ...         return self.factor * x
        >>> jax.tree.leaves(scaled(2.0)), scaled(2.0)(3.0)
        ([2.0], 6.0)
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def as_pytree(function: Callable) -> Any:
    """Make a pytree without leaves of a plain function; a pytree stays as it is."""
    leaves = jax.tree.leaves(function)
    return jax.tree_util.Partial(function) if len(leaves) == 1 and leaves[0] is function else function


def stack(trees: Sequence[Any]) -> Any:
    """Stack pytrees of arrays along a new leading axis; arrays of NumPy stay on the host."""

    def join(*leaves):
        return (np if all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves) else jnp).stack(leaves)

    return jax.tree.map(join, *trees)


def row(tree: Any, index: int | Array | np.ndarray | tuple[()]) -> Any:
    """Take one of a stack, or several; by an empty index, all."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def expand(tree: Any) -> Any:
    """Make a stack of one."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def cast(tree: Any, dtype: Any) -> Any:
    """Move a pytree of floating-point arrays to the device in one precision."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def zeros_like_shape(tree: Any) -> Any:
    """Make zeros with the shapes and dtypes of a pytree of arrays or of their abstract values."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def is_key(leaf: Any) -> bool:
    """Tell a random key from other arrays."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def num_bytes(tree: Any) -> int:
    """Count the bytes of a pytree of arrays or of their abstract values."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
