"""Images of one's own, as NumPy arrays in a file."""

import math
import zipfile
from pathlib import Path

import numpy as np

from jaxcollapse.data.files import Unreadable, check_size, most_inside, open_file, reading
from jaxcollapse.data.images import LabelledImages, from_bytes, labelled_images

NAME = "images.npz"


def load_npz(path: Path) -> LabelledImages:
    """Load the arrays `images`, [n, h, w] or [n, h, w, c], and `labels`, [n], as `numpy.savez` writes them.

    Images are in uint8, or in floating point in [-1, 1]. Floats that are all in [0, 1] are refused: they are almost
    surely meant for another convention. A file that holds more than 256 MiB and a hundred times its own size is
    refused, and so is any but stored and deflated arrays.

    Args:
        path: of the file, or of a directory that holds it as `images.npz`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not as described.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from jaxcollapse.data import load_npz
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(Path(folder) / "images.npz", images=np.zeros((5, 8, 8), np.uint8), labels=np.arange(5))
        ...     images = load_npz(Path(folder))
        >>> images.points.shape, float(images.points[0, 0])
        ((5, 64), -1.0)
    """
    path = path / NAME if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: give a file with the arrays images and labels, or its directory")
    with (
        open_file(path) as file,
        reading(path, "an npz file with the arrays images and labels"),
        zipfile.ZipFile(file) as archive,
    ):
        pixels, labels = (_read_array(path, archive, name) for name in ("images", "labels"))
    if pixels.ndim not in (3, 4):
        raise ValueError(f"{path}: images of shape {pixels.shape} must be [n, h, w] or [n, h, w, c]")
    if pixels.dtype == np.uint8:
        return from_bytes(str(path), pixels, labels)
    if pixels.dtype.kind != "f":
        raise ValueError(f"{path}: images of type {pixels.dtype} must be uint8, or floats in [-1, 1]")
    shape = (*pixels.shape[1:], 1)[:3]
    images = labelled_images(str(path), pixels.reshape(len(pixels), math.prod(shape)), labels, shape)
    low, high = images.points.min(), images.points.max()
    if low >= 0:
        raise ValueError(
            f"{path}: values are in [{low:g}, {high:g}], as if black were 0, and black must be -1: "
            "store 2 x - 1 in place of x in [0, 1], or uint8"
        )
    return images


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy")
    check_size(f"{path}, {name}", member.file_size, most_inside(path))
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable(f"{path}: {name} is compressed by method {member.compress_type}, must be stored or deflated")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
