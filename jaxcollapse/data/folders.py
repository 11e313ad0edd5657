"""Images of one's own, as files in one folder for each class."""

from pathlib import Path

import numpy as np

from jaxcollapse.checks import check_range
from jaxcollapse.data.files import check_size, read_image, square
from jaxcollapse.data.images import LabelledImages, from_bytes

MOST_PIXEL_BYTES = 2**32
"""Of all images together, one for each colour of a pixel."""


def load_folders(directory: Path, size: int | None = None) -> LabelledImages:
    """Load image files, all grey or all in colour; classes are folders, numbered from 0 in the order of their names.

    Images are read as `jaxcollapse.data.files.read_image` says: upright, in 8 bits, without transparency.

    Args:
        directory: holds the folders, which hold nothing but images. Hidden files are passed over.
        size: side in pixels, resized from the largest square in the centre; None for images of one size as they are.

    Raises:
        FileNotFoundError: if there are no folders.
        ValueError: if the size is out of range, a folder is empty, or a file is no image or one unlike the first.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> from jaxcollapse.data import load_folders
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "cats").mkdir()
        ...     Image.new("L", (8, 8)).save(Path(folder) / "cats" / "tom.png")
        ...     print(load_folders(Path(folder)).labels)
        [0]
    """
    if size is not None:
        check_range("size", size, low=1)
    folders = [path for path in _visible(directory) if path.is_dir()] if directory.is_dir() else []
    if not folders:
        raise FileNotFoundError(f"{directory}: no folders found: put images there, in one folder for each class")
    files = [(path, label) for label, folder in enumerate(folders) for path in _images(folder)]
    pixels = []
    for path, _ in files:
        image = read_image(path)
        pixels.append(np.asarray(image) if size is None else square(image, size))
        check_size(directory, len(files) * pixels[0].nbytes, MOST_PIXEL_BYTES)
        if pixels[-1].shape != pixels[0].shape:
            raise ValueError(
                f"{path}: shape {pixels[-1].shape} must be {pixels[0].shape}, as of the first image; "
                "give a size for images of several sizes, and no grey images among coloured ones"
            )
    labels = np.array([label for _, label in files])
    return from_bytes(str(directory), np.array(pixels), labels)


def _images(folder: Path) -> list[Path]:
    if not (paths := _visible(folder)):
        raise ValueError(f"{folder}: is empty, and must hold the images of a class")
    return paths


def _visible(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
