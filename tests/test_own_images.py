"""Arrays and image files of one's own: what is read is compared with the pixels that were written."""

import numpy as np
import pytest
from image_files import agree, random_pixels, write_image
from PIL import Image

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
        ({"images": random_pixels(3, 8, 8)}, "labels is not a file in the archive"),
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
    with pytest.raises(ValueError, match=r"notes.txt: .*is not an image \(UnidentifiedImageError"):
        load_folders(tmp_path)
    (tmp_path / "a" / "notes.txt").unlink()
    (tmp_path / "a" / "nested").mkdir()
    with pytest.raises(ValueError, match=r"nested: .*is not an image \(IsADirectoryError"):
        load_folders(tmp_path)


@pytest.mark.parametrize("pixels", [random_pixels(4, 4, 4), np.zeros((4, 4), np.uint16)])
def test_transparency_and_deep_levels_are_refused(tmp_path, pixels):
    write_image(tmp_path / "a" / "1.png", pixels)
    with pytest.raises(ValueError, match=r"1.png: an image of mode .* must be grey or RGB, 8 bits"):
        load_folders(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_images_cut_short_are_refused(tmp_path, suffix, share):
    path = tmp_path / "a" / f"1.{suffix}"
    write_image(path, random_pixels(40, 40, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="is cut short, or is not an image"):
        load_folders(tmp_path)
