"""The checker that the import hook of `conftest` applies to every function of the package."""

import typing

from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as Python's typing has it


def checked(function):
    """Check arguments and results of a function whenever it is called."""
    if function.__name__ == "__init__":
        return function  # JAX rebuilds closures with placeholders in the place of their arrays
    for hint in getattr(function, "__annotations__", {}).values():
        _allow_protocols(hint)
    return _beartype(function)


def _allow_protocols(hint):
    # Whether a function keeps a protocol can be asked only where the protocol allows the question.
    if isinstance(hint, type) and getattr(hint, "_is_protocol", False):
        typing.runtime_checkable(hint)
    for inner in typing.get_args(hint):
        _allow_protocols(inner)
