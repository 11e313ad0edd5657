"""Files as they were published: where they must lie, whether they are whole, and images among them."""

import contextlib
import hashlib
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

GREY, COLOUR = ("1", "L"), ("P", "RGB")
_UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError,
    pickle.PickleError, tarfile.TarError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class Published(NamedTuple):
    """A data set as its authors published it.

    Attributes:
        title: its name.
        download: what to download from where, and what to put into the directory.
        folder: that its archive unpacks to, or "".
        archive: a tar file, as downloaded, or "".
        md5: published checksums, by name of file.
    """

    title: str
    download: str
    folder: str
    archive: str
    md5: Mapping[str, str]


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        source: where it was read, for messages.
        data: its bytes.
    """

    source: str
    data: bytes


@contextlib.contextmanager
def reading(source: str | Path, kind: str) -> Iterator[None]:
    """Say which file could not be read, and as what.

    Raises:
        ValueError: in place of any error of a reader of files.
    """
    try:
        yield
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{source}: is cut short, or is not {kind} ({reason})") from error


def not_found(published: Published, directory: Path, names: Iterable[str]) -> FileNotFoundError:
    """Say what to download, and where to put it."""
    return FileNotFoundError(f"{published.title}: {', '.join(names)} not found in {directory}: {published.download}")


def read_published(published: Published, directory: Path, names: Iterable[str], *, verify: bool) -> list[Content]:
    """Read files from the folder of an archive, from the directory itself, or out of the archive.

    Args:
        published: the data set.
        directory: holds the folder, the files or the archive.
        names: of the files.
        verify: whether what is read must have the published checksum, where there is one.

    Raises:
        FileNotFoundError: if the files are in none of these places.
        ValueError: if a checksum differs, or the archive cannot be read or lacks a file.
    """
    names = list(names)
    folders = (directory / published.folder, directory)
    for folder in folders:
        if all((folder / name).is_file() for name in names):
            return [_read(folder / name, published.md5.get(name) if verify else None) for name in names]
    archive = directory / published.archive
    if archive.is_file():
        if verify:
            _check_sum(archive, published.md5[published.archive])
        return _unpack(archive, names)
    raise not_found(published, directory, [n for n in names if not any((f / n).is_file() for f in folders)])


def read_image(path: Path) -> Image.Image:
    """Read a file with an image in grey levels or colours of 8 bits.

    Returns:
        An image of mode "L" or "RGB".

    Raises:
        ValueError: if it is no image, or one of another kind, such as with transparency or 16 bits.
    """
    with reading(path, "an image"), Image.open(path) as image:
        image.load()
    if image.mode not in GREY + COLOUR or image.has_transparency_data:
        raise ValueError(f"{path}: an image of mode {image.mode} must be grey or RGB, 8 bits, without transparency")
    return image.convert("L" if image.mode in GREY else "RGB")


def square(image: Image.Image, size: int) -> UInt8[np.ndarray, "size size *c"]:
    """Crop an image to the largest square in its centre, and resize that, bilinear and without aliasing.

    Args:
        image: of mode "L" or "RGB".
        size: side of the result in pixels.
    """
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    centre = image.crop((left, top, left + side, top + side))
    return np.asarray(centre.resize((size, size), Image.Resampling.BILINEAR))


def _read(path: Path, md5: str | None) -> Content:
    if md5:
        _check_sum(path, md5)
    return Content(str(path), path.read_bytes())


def _unpack(archive: Path, names: list[str]) -> list[Content]:
    found = {}
    with reading(archive, "a tar archive"), tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if name in names and (file := tar.extractfile(member)):
                found[name] = Content(f"{archive}, {name}", file.read())
                if len(found) == len(names):
                    break
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{archive}: is cut short, or is another archive: {', '.join(missing)} not found in it")
    return [found[name] for name in names]


def _check_sum(path: Path, md5: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise ValueError(
            f"{path}: md5 is {found}, and that of the published file is {md5}: download it again, "
            "or give verify=False if the file is your own"
        )
