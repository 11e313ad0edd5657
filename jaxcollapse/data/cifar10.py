"""CIFAR-10, as pickled for Python."""

import functools
import io
import pickle
import pickletools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from jaxcollapse.data.files import Content, Published, read_published, reading
from jaxcollapse.data.images import Division, LabelledImages, from_bytes

CIFAR10 = Published(
    title="CIFAR-10",
    download="put cifar-10-python.tar.gz, the version for Python on the CIFAR-10 page of the University of Toronto, "
    "or the folder cifar-10-batches-py that it unpacks to, there",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]

MOST_OPERATIONS = 300_000
"""In the pickle of a batch; a published one has about 40,000."""


class _DType:
    """What is pickled as `numpy.dtype`. NumPy itself would believe whatever a state says."""

    def __init__(self, code: str, *_: Any):
        self.code = code

    def __setstate__(self, state: tuple):
        order = state[1]
        if order not in ("<", ">", "=", "|") or not re.fullmatch("[iu][1248]", self.code):
            raise pickle.UnpicklingError(f"numbers of type {order}{self.code} are not allowed in it")
        self.dtype = np.dtype(order + self.code)


class _Array:
    """What is pickled as `numpy.ndarray`: by protocols 0 to 4 without values at first."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: tuple):
        _, shape, kind, by_columns, data = state
        self.values = _Buffer(data, kind, shape, "F" if by_columns else "C").values


class _Buffer(_Array):
    """What protocol 5 pickles as `numpy.ndarray`."""

    def __init__(self, data: bytes | str, kind: _DType, shape: tuple, order: Literal["C", "F"]):
        data = data.encode("latin1") if isinstance(data, str) else data  # strings of Python 2 are bytes
        self.values = np.frombuffer(data, kind.dtype).reshape(shape, order=order)


# All that a pickled array asks for, under the names of old and of new versions of NumPy.
_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("numpy._core.numeric", "_frombuffer"): _Buffer,
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # bytes, by protocols 0 to 2
}


class _ArraysOnly(pickle.Unpickler):
    """Read arrays of whole numbers and Python's plain types; a pickled file could call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it")
        return functools.partial(_ALLOWED[module, name])  # a pickle may set attributes of what it finds


def load_cifar10(directory: Path, *, verify: bool = True) -> Division:
    """Load colour images of 32 x 32 pixels, of ten classes: 50,000 to train on, 10,000 to test with [krizhevsky2009]_.

    Args:
        directory: holds `cifar-10-python.tar.gz`, or the folder that it unpacks to.
        verify: whether files must have the published checksums; False reads others in the same format, pickled by
            any protocol, with arrays of whole numbers.

    Raises:
        FileNotFoundError: if it holds neither.
        ValueError: if a checksum differs, or a file is not in the format.

    Example:
        >>> from pathlib import Path
        >>> from jaxcollapse.data import load_cifar10
        >>> train, test = load_cifar10(Path("cifar10"))  # doctest: +SKIP
    """
    *train, test = map(_read_batch, read_published(CIFAR10, directory, BATCHES, verify=verify))
    return _join(train), test


def _read_batch(content: Content) -> LabelledImages:
    with reading(content.source, "a pickled batch of CIFAR-10"):
        batch = _unpickle(content.data)
        pixels, labels = batch["data"].values, _whole_numbers(batch["labels"])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
        raise ValueError(
            f"{content.source}: data of type {pixels.dtype} and shape {pixels.shape} must be uint8, [n, 3072]"
        )
    return from_bytes(content.source, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, 10)


def _unpickle(data: bytes) -> Any:
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if count == MOST_OPERATIONS:
            raise pickle.UnpicklingError(f"more than {MOST_OPERATIONS} operations")
        # The table of what is put aside is as long as the largest index in it.
        if operation.name.endswith("PUT") and (argument or 0) > count:
            raise pickle.UnpicklingError(f"index {argument} of operation {count}")
    return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()


def _whole_numbers(labels: _Array | list[int]) -> Int[np.ndarray, "*n"]:
    if isinstance(labels, _Array):
        return labels.values
    if any(type(label) is not int for label in labels):
        raise TypeError("labels must be whole numbers")
    return np.array(labels, np.int64)


def _join(batches: Sequence[LabelledImages]) -> LabelledImages:
    points, labels, shapes = zip(*batches, strict=True)
    return LabelledImages(np.concatenate(points), np.concatenate(labels), shapes[0])
