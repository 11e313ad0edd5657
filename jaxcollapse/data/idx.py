"""MNIST and Fashion-MNIST, in IDX files."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcollapse.data.files import Content, Published, read_published
from jaxcollapse.data.images import Division, from_bytes

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST = Published(
    title="MNIST",
    download="put the four files of the MNIST database of handwritten digits there, compressed or not",
    folder="",
    archive="",
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
FASHION_MNIST = Published(
    title="Fashion-MNIST",
    download="put the four files of Fashion-MNIST by Zalando Research there, compressed or not",
    folder="",
    archive="",
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)


def load_mnist(directory: Path, *, verify: bool = True) -> Division:
    """Load grey images of 28 x 28 pixels of the digits 0 to 9: 60,000 to train on, 10,000 to test with [lecun1998]_.

    Args:
        directory: holds the four IDX files, each compressed or not.
        verify: whether files must have a published checksum, compressed or decompressed, where one is known; False
            reads others in the same format.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a checksum differs, or a file is not in the format.

    Example:
        >>> from pathlib import Path
        >>> from jaxcollapse.data import load_mnist
        >>> train, test = load_mnist(Path("mnist"))  # doctest: +SKIP
    """
    return _load(MNIST, directory, verify=verify)


def load_fashion_mnist(directory: Path, *, verify: bool = True) -> Division:
    """Load grey images of 28 x 28 pixels of ten kinds of clothing, in the format and numbers of MNIST [xiao2017]_.

    Args:
        directory: holds the four IDX files, each compressed or not.
        verify: whether files must have a published checksum, compressed or decompressed, where one is known; False
            reads others in the same format.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a checksum differs, or a file is not in the format.

    Example:
        >>> from pathlib import Path
        >>> from jaxcollapse.data import load_fashion_mnist
        >>> train, test = load_fashion_mnist(Path("fashion_mnist"))  # doctest: +SKIP
    """
    return _load(FASHION_MNIST, directory, verify=verify)


def _load(published: Published, directory: Path, *, verify: bool) -> Division:
    contents = read_published(published, directory, FILES, verify=verify)
    train, test = (
        from_bytes(f"{images.source} with {labels.source}", _read_idx(images, 3), _read_idx(labels, 1), 10)
        for images, labels in (contents[:2], contents[2:])
    )
    if train.shape != test.shape:
        raise ValueError(f"{directory}: images to train on have shape {train.shape}, and to test with {test.shape}")
    return train, test


def _read_idx(content: Content, num_axes: int) -> UInt8[np.ndarray, "*axes"]:
    """Read a header, big-endian: the type in the third byte, the number of axes, their lengths; then the values."""
    source, data = content
    start, magic = 4 + 4 * num_axes, bytes([0, 0, 8, num_axes])
    if data[:4] != magic or len(data) < start:
        raise ValueError(
            f"{source}: begins with {data[:4].hex()}, and must begin with {magic.hex()} and the lengths of axes, "
            f"as an IDX file of bytes with {num_axes} axes"
        )
    shape = tuple(map(int, np.frombuffer(data[4:start], ">u4")))
    values = np.frombuffer(data[start:], np.uint8)
    if len(values) != math.prod(shape):
        raise ValueError(f"{source}: {len(values)} values, and its header says {shape}")
    return values.reshape(shape)
