"""Arrays and image files of one's own: what is read is compared with the pixels that were written."""

import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from image_files import agree, random_pixels, write_image
from PIL import Image

from jaxcollapse.data import files, folders
from jaxcollapse.data.folders import load_folders
from jaxcollapse.data.images import check_images
from jaxcollapse.data.npz import load_npz


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 3)])
def test_arrays_of_bytes_are_read(tmp_path, shape):
    pixels = random_pixels(*shape)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.array([2, 0, 5]))
    for path in (tmp_path, tmp_path / "images.npz"):
        agree(load_npz(path), pixels.reshape(*shape[:3], -1), [2, 0, 5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_floats_are_read(tmp_path, dtype):
    values = np.random.default_rng(1).uniform(-1, 1, (3, 4, 5)).astype(dtype)
    np.savez(tmp_path / "mine.npz", images=values, labels=np.arange(3, dtype=np.uint8))
    images = load_npz(tmp_path / "mine.npz")
    check_images("images", images)
    assert images.shape == (4, 5, 1)
    np.testing.assert_array_equal(images.points, values.reshape(3, 20).astype(np.float32))


UNIT = np.linspace(0, 1, 12).reshape(3, 2, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": UNIT, "labels": [0, 1, 2]}, r"values are in \[0, 1\], as if black were 0, .*store 2 x - 1"),
        ({"images": UNIT * 255, "labels": [0, 1, 2]}, r"values are in \[0, 255\], and must be in \[-1, 1\]"),
        ({"images": UNIT * np.nan, "labels": [0, 1, 2]}, "12 values are not finite"),
        ({"images": np.zeros((3, 2, 2), int), "labels": [0, 1, 2]}, "images of type int64 must be uint8, or floats"),
        ({"images": random_pixels(3, 12), "labels": [0, 1, 2]}, r"images of shape \(3, 12\) must be \[n, h, w\]"),
        ({"images": random_pixels(3, 3, 8, 8), "labels": [0, 1, 2]}, r"shape \(3, 8, 8\) must be .* at most 4 chan"),
        ({"images": random_pixels(0, 8, 8), "labels": np.zeros(0, int)}, "n at least 1"),
        ({"images": random_pixels(3, 8, 8), "labels": [0, 1]}, r"3 images, and labels of shape \(2,\)"),
        ({"images": random_pixels(3, 8, 8), "labels": [0.0, 1.0, 2.0]}, "labels of type float64 must be whole"),
        ({"images": random_pixels(3, 8, 8), "labels": [0, -1, 2]}, "labels are in -1..2, and must be at least 0"),
        ({"images": random_pixels(3, 8, 8)}, "no item named 'labels.npy' in the archive"),
        ({"images": np.array([None]), "labels": [0]}, "is not an npz file .*allow_pickle=False"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=f"mine.npz: .*{message}"):
        load_npz(tmp_path / "mine.npz")


def test_broken_and_missing_arrays_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images.npz not found: give a file with the arrays"):
        load_npz(tmp_path)
    path = tmp_path / "images.npz"
    np.savez(path, images=random_pixels(3, 8, 8), labels=[0, 1, 2])
    whole = path.read_bytes()
    for content in (whole[:-40], b"no archive", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"images.npz: is cut short, or is not an npz file"):
            load_npz(path)
    with path.open("wb") as file:
        np.save(file, random_pixels(3, 8, 8))
    with pytest.raises(ValueError, match="is not an npz file"):
        load_npz(path)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_folders_are_classes_in_order(tmp_path, channels):
    pixels = random_pixels(3, 6, 4, *channels)
    for name, image in zip(["b/1.png", "b/2.bmp", "a/9.png"], pixels, strict=True):
        write_image(tmp_path / name, image)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a" / ".hidden").write_text("no image")
    (tmp_path / "notes.txt").write_text("beside the folders")
    agree(load_folders(tmp_path), pixels[[2, 0, 1]].reshape(3, 6, 4, -1), [0, 1, 1])
    agree(load_folders(tmp_path, 4), pixels[[2, 0, 1], 1:5].reshape(3, 4, 4, -1), [0, 1, 1])


def test_images_of_several_sizes_need_a_size(tmp_path):
    write_image(tmp_path / "a" / "1.png", random_pixels(6, 4, 3))
    write_image(tmp_path / "b" / "2.png", random_pixels(5, 9, 3))
    with pytest.raises(ValueError, match=r"2.png: shape \(5, 9, 3\) must be \(6, 4, 3\), .*give a size"):
        load_folders(tmp_path)
    assert load_folders(tmp_path, 4).shape == (4, 4, 3)
    write_image(tmp_path / "b" / "3.png", random_pixels(9, 9))
    with pytest.raises(ValueError, match=r"3.png: shape \(4, 4\) must be \(4, 4, 3\), .*no grey images"):
        load_folders(tmp_path, 4)


def test_palettes_and_black_and_white_are_converted(tmp_path):
    coloured = np.repeat(np.repeat(random_pixels(2, 2, 3), 2, axis=0), 2, axis=1)
    palette = Image.fromarray(coloured).quantize(4)
    (tmp_path / "a").mkdir()
    palette.save(tmp_path / "a" / "1.png")
    agree(load_folders(tmp_path), np.asarray(palette.convert("RGB"))[None], [0])
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a" / "1.png")
    agree(load_folders(tmp_path), np.array([[[[255], [0]]]], np.uint8), [0])


def test_what_is_wrong_with_folders_is_named(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no folders found: put images there, in one folder for each"):
            load_folders(directory)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="a: is empty"):
        load_folders(tmp_path)
    with pytest.raises(ValueError, match="size = 0: must be at least 1"):
        load_folders(tmp_path, 0)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"notes.txt: .*is not an image in .* \(UnidentifiedImageError"):
        load_folders(tmp_path)
    (tmp_path / "a" / "notes.txt").unlink()
    (tmp_path / "a" / "nested").mkdir()
    with pytest.raises(ValueError, match=r"nested: is no regular file"):
        load_folders(tmp_path)


def deep_png(colour, levels):
    """Write a PNG of 16 bits by hand: Pillow writes none in colour."""
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels))
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )


@pytest.mark.parametrize(
    ("colour", "shape", "mode"),
    [(0, (4, 4), "I;16"), (2, (4, 4, 3), "RGB"), (4, (4, 4, 2), "RGBA"), (6, (4, 4, 4), "RGBA")],
)
def test_sixteen_bits_are_refused(tmp_path, colour, shape, mode):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(deep_png(colour, np.arange(np.prod(shape)).reshape(shape)))
    with pytest.raises(ValueError, match=rf"1.png: an image of mode {mode} of 16 bits must be grey or RGB, 8 bits"):
        load_folders(tmp_path)


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg"), ("RGBA", "webp")])
def test_transparency_and_inks_are_refused(tmp_path, mode, suffix):
    (tmp_path / "a").mkdir()
    Image.new(mode, (4, 4), 1).save(tmp_path / "a" / f"1.{suffix}")
    with pytest.raises(
        ValueError, match=rf"1.{suffix}: an image of mode {mode} must be grey or RGB, 8 bits, without trans"
    ):
        load_folders(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_is_refused(tmp_path, mode):
    (tmp_path / "a").mkdir()
    Image.new(mode, (4, 4)).save(tmp_path / "a" / "1.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    with pytest.raises(ValueError, match=rf"1.png: an image of mode {mode} must be .* without transparency"):
        load_folders(tmp_path)


# By the number of EXIF: where the first row and the first column of what is stored are shown.
UPRIGHT = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored[::-1].swapaxes(0, 1),  # right, top
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_images_are_read_upright(tmp_path, number, suffix):
    stored, exif = random_pixels(5, 3, 3), Image.Exif()
    exif[0x112] = number
    (tmp_path / "a").mkdir()
    Image.fromarray(stored).save(tmp_path / "a" / f"1.{suffix}", exif=exif, lossless=True)
    agree(load_folders(tmp_path), UPRIGHT[number](stored)[None], [0])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_several_frames_the_first_is_read(tmp_path, suffix):
    first, second = (Image.new("L", (4, 4), level) for level in (255, 0))
    (tmp_path / "a").mkdir()
    first.save(tmp_path / "a" / f"1.{suffix}", save_all=True, append_images=[second], lossless=True)
    assert (load_folders(tmp_path).points == 1).all()


def test_pixels_and_scans_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_PIXELS", 6400)
    write_image(tmp_path / "a" / "1.png", random_pixels(80, 80))
    assert load_folders(tmp_path).shape == (80, 80, 1)
    write_image(tmp_path / "a" / "1.png", random_pixels(80, 81))
    with pytest.raises(ValueError, match=r"1.png: an image of 81 x 80 pixels .* must have at most 6400 pixels"):
        load_folders(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    path = tmp_path / "a" / "1.jpg"
    write_image(path, random_pixels(80, 40))
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 15)
    assert load_folders(tmp_path).shape == (80, 40, 1)
    path.write_bytes(path.read_bytes() + b"\xff\xda")
    with pytest.raises(ValueError, match=r"40 x 80 pixels in 17 scans must .* fewer in more than 8 scans"):
        load_folders(tmp_path)


def test_all_images_together_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MOST_PIXEL_BYTES", 2**20)
    for i in range(3):
        write_image(tmp_path / "a" / f"{i}.png", np.zeros((600, 600), np.uint8))
    with pytest.raises(ValueError, match="holds more than 1 MiB"):
        load_folders(tmp_path)
    assert load_folders(tmp_path, 4).shape == (4, 4, 1)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_only_regular_files_are_opened(tmp_path, make):
    (tmp_path / "a").mkdir()
    for path, load in ((tmp_path / "a" / "1.png", load_folders), (tmp_path / "mine.npz", load_npz)):
        make(path)
        if path.is_dir() and load is load_npz:
            continue  # is searched for images.npz
        with pytest.raises(ValueError, match=f"{path.name}: is no regular file"):
            load(path if load is load_npz else tmp_path)


def test_sizes_and_methods_in_an_archive_are_limited(tmp_path, monkeypatch):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, images=np.zeros((3, 99, 99), np.uint8), labels=[0, 1, 2])
    load_npz(path)
    monkeypatch.setattr(files, "MOST_BYTES", 2**10)
    monkeypatch.setattr(files, "MOST_RATIO", 9)
    with pytest.raises(ValueError, match=r"mine.npz, images: holds more than 0 MiB"):
        load_npz(path)
    monkeypatch.undo()
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("images.npy", b"")
        with pytest.raises(ValueError, match=f"mine.npz: .*images is compressed by method {method}"):
            load_npz(path)


def test_numbers_beyond_float32_are_refused(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.full((3, 2, 2), -1e300), labels=[0, 1, 2])
    with pytest.raises(ValueError, match="12 values are not finite"):
        load_npz(tmp_path / "mine.npz")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_images_cut_short_are_refused(tmp_path, suffix, share):
    path = tmp_path / "a" / f"1.{suffix}"
    write_image(path, random_pixels(40, 40, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="is cut short, or is not an image"):
        load_folders(tmp_path)
