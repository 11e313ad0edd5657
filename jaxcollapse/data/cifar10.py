"""CIFAR-10, as pickled for Python."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcollapse.data.files import Content, Published, read_published, reading
from jaxcollapse.data.images import Division, LabelledImages, from_bytes

CIFAR10 = Published(
    title="CIFAR-10",
    download="put cifar-10-python.tar.gz, the version for Python on the CIFAR-10 page of the University of Toronto, "
    "or the folder cifar-10-batches-py that it unpacks to, there",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    md5={
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]

# All that a pickled array asks for, under the names of old and of new versions of NumPy.
_RECONSTRUCT, _FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
}


class _ArraysOnly(pickle.Unpickler):
    """Read arrays and Python's plain types; a pickled file could call anything else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it")
        return _ALLOWED[module, name]


def load_cifar10(directory: Path, *, verify: bool = True) -> Division:
    """Load colour images of 32 x 32 pixels, of ten classes: 50,000 to train on, 10,000 to test with [krizhevsky2009]_.

    Args:
        directory: holds `cifar-10-python.tar.gz`, or the folder that it unpacks to.
        verify: whether files must have the published checksums; False reads others in the same format.

    Raises:
        FileNotFoundError: if it holds neither.
        ValueError: if a checksum differs, or a file is not in the format.
    """
    *train, test = map(_read_batch, read_published(CIFAR10, directory, BATCHES, verify=verify))
    return _join(train), test


def _read_batch(content: Content) -> LabelledImages:
    with reading(content.source, "a pickled batch of CIFAR-10"):
        batch = _ArraysOnly(io.BytesIO(content.data), encoding="latin1").load()
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
        raise ValueError(
            f"{content.source}: data of type {pixels.dtype} and shape {pixels.shape} must be uint8, [n, 3072]"
        )
    return from_bytes(content.source, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, 10)


def _join(batches: Sequence[LabelledImages]) -> LabelledImages:
    points, labels, shapes = zip(*batches, strict=True)
    return LabelledImages(np.concatenate(points), np.concatenate(labels), shapes[0])
