r"""Messages as bytes: numbers, words and arrays of fixed kinds, and nothing that runs.

A message is

.. math:: \text{length of the header, 4 bytes} \;\|\; \text{header, JSON} \;\|\; \text{arrays, little-endian}.

The header tells the structure, and of every array its kind and shape, whose bytes have to make up the rest exactly.
Structures are tuples, lists and the classes of `CLASSES`, by name, with their fields. Random keys do not travel.
"""

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
from typing import Any

import jax
import numpy as np

from jaxcollapse import exchanges, features
from jaxcollapse.base import Measure, Moments, Target

KINDS = ("float32", "float64", "int32", "uint32")
MAX_HEADER = 2**16


class Refused(Exception):
    """Bytes are no message, or not the one that is due; the argument is one of few words, and tells no value."""


def _is_data(member: Any) -> bool:
    return inspect.isclass(member) and (hasattr(member, "_fields") or dataclasses.is_dataclass(member))


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("jaxcollapse.")


def _classes() -> dict[str, type]:
    names = [f"{exchanges.__name__}.{module.name}" for module in pkgutil.iter_modules(exchanges.__path__)]
    modules = [features, *map(importlib.import_module, names)]
    members = [cls for module in modules for _, cls in inspect.getmembers(module, _is_data)]
    return {_name(cls): cls for cls in (Measure, Moments, Target, *members)}


CLASSES = _classes()


def encode(message: Any) -> bytes:
    """Write a message: a pytree of arrays and numbers, words, and structures of `CLASSES`.

    Raises:
        TypeError: if a part is of another kind.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.network.codec import decode, encode
        >>> message = decode(encode({"round": 1, "reply": jc.Measure(np.ones((2, 1)), np.ones(2))}))
        >>> message["round"], message["reply"].points.tolist()
        (1, [[1.0], [1.0]])
    """
    arrays: list[np.ndarray] = []

    def node(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return {"value": value}
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            arrays.append(np.ascontiguousarray(jax.device_get(value)))
            if str(arrays[-1].dtype) not in KINDS:
                raise TypeError(f"array of {arrays[-1].dtype}: must be of {', '.join(KINDS)}")
            return {"array": str(arrays[-1].dtype), "shape": list(np.shape(value))}
        if _name(type(value)) in CLASSES:
            return {
                "class": _name(type(value)),
                "fields": {name: node(getattr(value, name)) for name in _fields(value)},
            }
        if isinstance(value, dict):
            return {"dict": {str(key): node(each) for key, each in value.items()}}
        if type(value) in (tuple, list):
            return {"tuple": [node(each) for each in value]}
        raise TypeError(f"{type(value).__name__}: must be arrays, numbers, words or one of {', '.join(CLASSES)}")

    header = json.dumps(node(message)).encode()
    parts = [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays]
    return b"".join([len(header).to_bytes(4, "little"), header, *parts])


def decode(data: bytes) -> Any:
    """Read a message; lists come back as tuples, numbers of arrays are views of the bytes.

    Raises:
        Refused: if the bytes are none.

    Example:
        >>> from jaxcollapse.network.codec import decode, encode
        >>> decode(encode(["round", 1]))
        ('round', 1)
    """
    length = int.from_bytes(data[:4], "little")
    if len(data) < 4 or length > MAX_HEADER or len(data) < 4 + length:
        raise Refused("length")
    place = 4 + length

    def value(node: Any, depth: int = 0) -> Any:
        nonlocal place
        match node:
            case _ if depth > 20:
                raise Refused("structure")
            case {"value": None | bool() | int() | str() as found, **rest} if not rest:
                return found
            case {"float": str() as found, **rest} if not rest:
                return float.fromhex(found)
            case {"array": kind, "shape": list() as shape, **rest} if not rest and kind in KINDS and len(shape) <= 8:
                if not all(type(side) is int and 0 <= side < 2**40 for side in shape):
                    raise Refused("shape")
                start, place = place, place + math.prod(shape) * np.dtype(kind).itemsize
                if place > len(data):
                    raise Refused("shape")
                return np.frombuffer(data, np.dtype(kind).newbyteorder("<"), math.prod(shape), start).reshape(shape)
            case {"class": str() as name, "fields": dict() as fields, **rest} if not rest and name in CLASSES:
                if list(fields) != list(_fields(CLASSES[name])):
                    raise Refused("fields")
                return CLASSES[name](**{key: value(each, depth + 1) for key, each in fields.items()})
            case {"dict": dict() as found, **rest} if not rest:
                return {key: value(each, depth + 1) for key, each in found.items()}
            case {"tuple": list() as found, **rest} if not rest:
                return tuple(value(each, depth + 1) for each in found)
        raise Refused("structure")

    try:
        found = value(json.loads(data[4:place]))
    except Refused:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise Refused("structure") from error
    if place != len(data):
        raise Refused("length")
    return found


def check_like(message: Any, expected: Any) -> None:
    """Check a message that came against the abstract value of the one that is due, and that its numbers are finite.

    Raises:
        Refused: if it has another structure, shape or kind, or holds what is not finite.
    """
    if jax.tree.structure(message) != jax.tree.structure(expected):
        raise Refused("structure")
    for leaf, due in zip(jax.tree.leaves(message), jax.tree.leaves(expected), strict=True):
        if np.shape(leaf) != due.shape or np.asarray(leaf).dtype != due.dtype:
            raise Refused("shape")
        if not np.isfinite(leaf).all():
            raise Refused("number that is not finite")


def _fields(structure: Any) -> tuple[str, ...]:
    named = getattr(structure, "_fields", None)
    return named if named is not None else tuple(field.name for field in dataclasses.fields(structure))
