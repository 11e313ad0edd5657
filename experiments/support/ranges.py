"""Ranges of flags: stated once, with the type; shown in the help, and checked before anything runs."""

import contextlib
import re
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from tyro.constructors import PrimitiveConstructorSpec

from jaxcollapse.checks import check_count, check_names, check_range

MAY_BE_EMPTY = "may be empty"


class Range(PrimitiveConstructorSpec):
    """The numbers from low to high, or where both are integers the whole numbers, as metadata of `typing.Annotated`."""

    low: float
    high: float
    kind: Callable[[str], float]
    test: Callable[..., None]

    def __init__(self, low: float, high: float):
        kind, check = (int, check_count) if isinstance(low, int) and isinstance(high, int) else (float, check_range)
        super().__init__(
            nargs=1,
            metavar=f"{low}..{high}",
            instance_from_str=lambda words: self.read(words[0]),
            is_instance=lambda value: isinstance(value, kind | int),
            str_from_instance=lambda value: [str(value)],
        )
        vars(self).update(low=low, high=high, kind=kind, test=check)

    def read(self, word: str) -> float:
        """Take a word for a number.

        Raises:
            ValueError: if it is none.
        """
        try:
            return self.kind(word)
        except ValueError as error:
            raise ValueError(f"{word}: must be {'a whole' if self.kind is int else 'a'} number") from error

    def check(self, name: str, value: Any) -> None:
        """Require a number of the range.

        Raises:
            ValueError: if it is none.
        """
        self.test(name, value, self.low, self.high)


Count = Annotated[int, Range(1, 10**6)]
NumSeeds = Annotated[int, Range(1, 1000)]
NumSilos = Annotated[int, Range(1, 10**4)]
Dim = Annotated[int, Range(1, 4096)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(1e-6, 1.0)]
Fraction = Annotated[float, Range(0.0, 1.0)]
Spread = Annotated[float, Range(0.0, 100.0)]
BelowOne = Annotated[float, Range(1e-6, 0.999)]
Inner = Annotated[float, Range(1e-3, 0.999)]
Step = Annotated[float, Range(1e-3, 1.0)]
Epsilon = Annotated[float, Range(1e-3, 1e3)]


def flag(name: str) -> str:
    """Write a field's name as the command line does."""
    return f"--{name.replace('_', '-')}"


def check_flags(config: Any) -> None:
    """Require of every field of a configuration what its type says.

    Raises:
        ValueError: at the first that is not so.
    """
    for name, kind in typing.get_type_hints(type(config), include_extras=True).items():
        _check(flag(name), getattr(config, name), kind)


@contextlib.contextmanager
def flags_named(config: Any) -> Iterator[None]:
    """Let an error that begins with the name of a field begin with its flag."""
    try:
        yield
    except ValueError as error:
        name, rest = re.match(r"(\w*)(.*)", str(error), re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if hasattr(config, name):
            raise ValueError(flag(name) + rest) from error
        raise


def _check(name: str, value: Any, kind: Any, *notes: Any) -> None:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        _check(name, value, *arguments)
    elif origin is Literal:
        check_names(name, [value], arguments)
    elif origin is tuple:
        if not value and MAY_BE_EMPTY not in notes:
            raise ValueError(f"{name}: must have a value at least")
        if arguments[1:] == (...,) and len(set(value)) < len(value):
            raise ValueError(f"{name} = {value}: the values must differ")
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        for each, of_each in zip(value, kinds, strict=True):
            _check(name, each, of_each)
    for note in notes:
        if isinstance(note, Range):
            note.check(name, value)
