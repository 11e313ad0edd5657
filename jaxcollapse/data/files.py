"""Files as they were published: where they must lie, whether they are whole, and images among them.

What a file may hold is limited, so that a small one cannot fill the memory. Only regular files are opened: a pipe
would wait for ever.
"""

import contextlib
import gzip
import hashlib
import io
import re
import stat
import tarfile
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

MOST_BYTES = 2**28
"""Of a file, or of what it or a member of it is decompressed to, that is read in one piece."""
MOST_RATIO = 100
"""Of the size of an archive's contents to its own, where they are larger than `MOST_BYTES`."""
MOST_MEMBERS = 1000
"""Of a tar archive that are looked at."""
MOST_PIXELS = 2**26
"""Of an image."""
MOST_SCANS = 8
"""Of a progressive image of that many pixels; a smaller one may have more."""
# Not TIFF, whose decoder writes to standard error, nor formats that are programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
GREY, COLOUR = ("1", "L"), ("P", "RGB")
_BLOCK = 512


class Published(NamedTuple):
    """A data set as its authors published it.

    Attributes:
        title: its name.
        download: what to download from where, and what to put into the directory.
        folder: that its archive unpacks to, or "".
        archive: a tar file compressed by gzip, as downloaded, or "".
        md5: published checksums, by name of file: of NAME.gz as downloaded, of NAME decompressed.
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
        data: its bytes, decompressed.
    """

    source: str
    data: bytes


class Unreadable(ValueError):
    """A file that is not read, with the reason."""


@contextlib.contextmanager
def reading(source: str | Path, kind: str) -> Iterator[None]:
    """Say which file could not be read, and as what.

    Raises:
        Unreadable: in place of any error of a decoder.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Unreadable:
        raise
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise Unreadable(f"{source}: is cut short, or is not {kind} ({reason})") from error


def not_found(published: Published, directory: Path, names: Iterable[str]) -> FileNotFoundError:
    """Say what to download, and where to put it."""
    return FileNotFoundError(f"{published.title}: {', '.join(names)} not found in {directory}: {published.download}")


def open_file(path: Path) -> BinaryIO:
    """Open a regular file.

    Raises:
        OSError: if it is not there, or may not be read.
        Unreadable: if it is a directory, a pipe or a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Unreadable(f"{path}: is no regular file")
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """Read a regular file whole.

    Raises:
        OSError: if it is not there, or cannot be read.
        Unreadable: if it is a directory, a pipe or a device, or holds more than `MOST_BYTES`.
    """
    with open_file(path) as file:
        check_size(path, path.stat().st_size, MOST_BYTES)
        return file.read()


def check_size(source: str | Path, size: int, most: int) -> None:
    """Require a size, in bytes, of what a file holds.

    Raises:
        Unreadable: if it is larger than `most`.
    """
    if size > most:
        raise Unreadable(f"{source}: holds more than {most >> 20} MiB, the most that is read")


def most_inside(path: Path) -> int:
    """Limit what an archive may hold, in bytes."""
    return max(MOST_BYTES, MOST_RATIO * path.stat().st_size)


def read_published(published: Published, directory: Path, names: Iterable[str], *, verify: bool) -> list[Content]:
    """Read files from the folder of an archive, from the directory itself, or out of the archive.

    A file NAME may be there as NAME.gz, compressed.

    Args:
        published: the data set.
        directory: holds the folder, the files or the archive.
        names: of the files.
        verify: whether what is read must have a published checksum, compressed or decompressed, where there is one.

    Raises:
        FileNotFoundError: if the files are in none of these places.
        Unreadable: if a checksum differs, or the archive or a compressed file cannot be read or lacks a file.
    """
    names = list(names)
    folders = (directory / published.folder, directory)
    found = [{name: path for name in names if (path := _compressed_or_not(folder / name))} for folder in folders]
    sums = published.md5 if verify else {}
    for paths in found:
        if len(paths) == len(names):
            return [_read(path, name, sums) for name, path in paths.items()]
    if published.archive and (archive := directory / published.archive).exists():
        return _unpack(archive, names, sums)
    raise not_found(published, directory, [name for name in names if not any(name in paths for paths in found)])


def read_image(path: Path) -> Image.Image:
    """Read a file with an image in grey levels or colours of 8 bits, upright: turned as its metadata say.

    Palettes become colours, and black and white grey levels 0 and 255. Of several frames the first is read.
    Transparency, 16 bits, which would lose their lower half, CMYK and other modes are refused.

    Args:
        path: of a file in one of `FORMATS`, of at most `MOST_PIXELS` pixels.

    Returns:
        An image of mode "L" or "RGB".

    Raises:
        OSError: if the file is not there, or cannot be read.
        Unreadable: if it is no image, or one that is refused.
    """
    data = read_file(path)
    with reading(path, f"an image in one of the formats {', '.join(FORMATS)}"), warnings.catch_warnings(action="error"):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        # Each scan takes the time of a whole image. Only JPEG has several.
        scans = data.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 1
        if width * height * max(scans, MOST_SCANS) > MOST_PIXELS * MOST_SCANS:
            raise Unreadable(
                f"{path}: an image of {width} x {height} pixels in {scans} scans must have at most {MOST_PIXELS} "
                f"pixels, and fewer in more than {MOST_SCANS} scans"
            )
        # The mode of an image of 16 bits can be that of 8. BGR;16 is not one: 5 or 6 bits a colour.
        deep = any(re.search(r"(?<!BGR);16", str(tile[3])) for tile in image.tile)
        upright = ImageOps.exif_transpose(image)
    if image.mode not in GREY + COLOUR or deep or image.has_transparency_data:
        bits = " of 16 bits" if deep else ""
        raise Unreadable(
            f"{path}: an image of mode {image.mode}{bits} must be grey or RGB, 8 bits, without transparency: convert it"
        )
    return upright.convert("L" if image.mode in GREY else "RGB")


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


def _compressed_or_not(path: Path) -> Path | None:
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.exists()), None)


def _read(path: Path, name: str, sums: Mapping[str, str]) -> Content:
    data = content = read_file(path)
    if path.name != name:
        with reading(path, "a gzip file"), gzip.open(io.BytesIO(data)) as file:
            content = file.read(MOST_BYTES + 1)
            check_size(path, len(content), MOST_BYTES)
    _check_sums(path, {path.name: data, name: content}, sums)
    return Content(str(path), content)


def _unpack(archive: Path, names: list[str], sums: Mapping[str, str]) -> list[Content]:
    """Read members of an archive in the order in which they come, up to the last that is wanted.

    The blocks are read here: headers that `tarfile` reads itself may be of any size.
    """
    found = {}
    with (
        open_file(archive) as file,
        reading(archive, "a tar archive compressed by gzip"),
        gzip.open(file) as tar,
    ):
        most, end = most_inside(archive), 0
        for _ in range(MOST_MEMBERS):
            if len(found) == len(names):
                break
            tar.seek(end)
            if not (header := tar.read(tarfile.BLOCKSIZE)).strip(b"\0"):
                break
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            name, size = Path(member.name).name, member.size
            end = tar.tell() + size + -size % tarfile.BLOCKSIZE
            check_size(archive, end, most)
            if size < 0:
                raise tarfile.HeaderError(f"{name} has {size} bytes")
            if name in names and name not in found and member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                check_size(f"{archive}, {name}", size, MOST_BYTES)
                found[name] = tar.read(size)
                if len(found[name]) < size:
                    raise EOFError(f"{name} is shorter than its header says")
    if missing := [name for name in names if name not in found]:
        raise Unreadable(f"{archive}: is cut short, or is another archive: {', '.join(missing)} not found in it")
    for name, data in found.items():
        _check_sums(f"{archive}, {name}", {name: data}, sums)
    return [Content(f"{archive}, {name}", found[name]) for name in names]


def _check_sums(source: str | Path, files: Mapping[str, bytes], sums: Mapping[str, str]) -> None:
    """Require the published checksum of one of several forms of a file, if that of any is known."""
    known = [name for name in files if name in sums]
    found = {name: hashlib.md5(files[name]).hexdigest() for name in known}
    if known and not any(found[name] == sums[name] for name in known):
        differs = ", and ".join(f"md5 of {name} is {found[name]}, published is {sums[name]}" for name in known)
        raise Unreadable(
            f"{source}: {differs}: download it again, or give verify=False, on the command line --no-verify, "
            "if the file is your own"
        )
