"""STL-10 is written here byte by byte, and what is read is compared with the pixels that were written."""

import numpy as np
import pytest
from image_files import agree, pack, random_pixels, resized

from jaxcollapse.data import stl10
from jaxcollapse.data.stl10 import load_stl10


@pytest.fixture
def stl(tmp_path):
    """Write three images to train on and two to test with; return the directory, pixels and labels."""
    pixels, labels = random_pixels(5, 96, 96, 3), np.array([0, 9, 4, 3, 3])
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, part in {"train": slice(3), "test": slice(3, 5)}.items():
        # Columns of red from the left, then of green, then of blue.
        columns = [image[:, x, c] for image in pixels[part] for c in range(3) for x in range(96)]
        (folder / f"{name}_X.bin").write_bytes(np.concatenate(columns).tobytes())
        (folder / f"{name}_y.bin").write_bytes(bytes((labels[part] + 1).tolist()))
    return tmp_path, pixels, labels


def test_stl10_is_read_by_columns_with_labels_from_zero(stl):
    directory, pixels, labels = stl
    train, test = load_stl10(directory, 96, verify=False)
    agree(train, pixels[:3], labels[:3])
    agree(test, pixels[3:], labels[3:])


def test_an_upright_image_of_stl10_stays_upright(stl):
    directory, _, _ = stl
    content = bytearray(3 * 96 * 96)
    content[96 * 96 + 96 * 5 + 80] = 255  # green, sixth column, low in the image
    (directory / "stl10_binary" / "train_X.bin").write_bytes(content)
    (directory / "stl10_binary" / "train_y.bin").write_bytes(b"\x01")
    train, _ = load_stl10(directory, 96, verify=False)
    assert np.argwhere(train.points.reshape(96, 96, 3) > 0).tolist() == [[80, 5, 1]]


def test_stl10_is_resized_without_aliasing(stl):
    directory, pixels, labels = stl
    train, test = load_stl10(directory, verify=False)
    assert train.shape == test.shape == (64, 64, 3)
    levels = (train.points.reshape(3, 64, 64, 3) + 1) * 127.5
    np.testing.assert_allclose(levels, resized(pixels[:3], 64), atol=1.1)  # rounded after each axis
    np.testing.assert_array_equal(train.labels, labels[:3])


def test_stl10_is_read_from_its_archive(stl):
    directory, pixels, labels = stl
    folder = directory / "stl10_binary"
    pack(directory / "stl10_binary.tar.gz", folder, stl10.FILES)
    folder.rename(directory / "elsewhere")
    agree(load_stl10(directory, 96, verify=False)[1], pixels[3:], labels[3:])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", bytes(27647), r"train_X.bin: 27647 bytes must be a multiple of 27648"),
        ("train_X.bin", b"", r"train_X.bin with .*train_y.bin less 1: "),
        ("train_X.bin", bytes(27648), r"1 images, and labels of shape \(3,\)"),
        ("test_y.bin", b"\x00\x01", "test_y.bin less 1: labels are in -1..0, and must be in 0..9"),
        ("test_y.bin", b"\x0b\x01", "test_y.bin less 1: labels are in 0..10, and must be in 0..9"),
    ],
)
def test_what_is_wrong_with_a_binary_file_is_named(stl, name, content, message):
    directory, _, _ = stl
    (directory / "stl10_binary" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_stl10(directory, verify=False)


@pytest.mark.parametrize("size", [0, 97])
def test_stl10_is_not_enlarged(stl, size):
    with pytest.raises(ValueError, match=rf"size = {size}: must be in \[1, 96\]"):
        load_stl10(stl[0], size, verify=False)


def test_stl10_is_verified(stl):
    with pytest.raises(ValueError, match=r"train_X.bin: md5 of train_X.bin is"):
        load_stl10(stl[0])
