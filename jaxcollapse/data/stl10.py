"""STL-10, in binary files."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxcollapse.checks import check_range
from jaxcollapse.data.files import Content, Published, read_published, square
from jaxcollapse.data.images import Division, LabelledImages, from_bytes

STL10 = Published(
    title="STL-10",
    download="put stl10_binary.tar.gz, the binary files on the STL-10 page of Stanford University, "
    "or the folder stl10_binary that it unpacks to, there",
    folder="stl10_binary",
    archive="stl10_binary.tar.gz",
    md5={
        "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
        "train_y.bin": "5a34089d4802c674881badbb80307741",
        "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
        "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    },
)
FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
SIDE = 96


def load_stl10(directory: Path, size: int = 64, *, verify: bool = True) -> Division:
    """Load colour images, of ten classes: 5,000 to train on, 8,000 to test with [coates2011]_.

    Args:
        directory: holds `stl10_binary.tar.gz`, or the folder that it unpacks to.
        size: side in pixels, resized from the published 96.
        verify: whether files must have the published checksums; False reads others in the same format.

    Raises:
        FileNotFoundError: if it holds neither.
        ValueError: if the size is out of range, a checksum differs, or a file is not in the format.

    Example:
        >>> from pathlib import Path
        >>> from jaxcollapse.data import load_stl10
        >>> train, test = load_stl10(Path("stl10"), size=32)  # doctest: +SKIP
    """
    check_range("size", size, low=1, high=SIDE)
    contents = read_published(STL10, directory, FILES, verify=verify)
    return _read_part(*contents[:2], size=size), _read_part(*contents[2:], size=size)


def _read_part(images: Content, labels: Content, *, size: int) -> LabelledImages:
    """Read images stored by channel, then column, then row, and labels stored from 1."""
    values = np.frombuffer(images.data, np.uint8)
    if len(values) % (3 * SIDE * SIDE):
        raise ValueError(f"{images.source}: {len(values)} bytes must be a multiple of {3 * SIDE * SIDE}, an image")
    pixels = values.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
    if size != SIDE:
        pixels = np.array([square(Image.fromarray(image), size) for image in pixels])
    classes = np.frombuffer(labels.data, np.uint8).astype(np.int32) - 1
    return from_bytes(f"{images.source} with {labels.source} less 1", pixels, classes, 10)
