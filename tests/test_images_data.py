"""The convention that all images keep, and the registry of data sets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import random_pixels, write_image

from jaxcollapse.data import DATASETS, celeba, cifar10, idx, stl10
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.images import LabelledImages, check_images, from_bytes, hold_out


def small(num=5):
    return from_bytes("small", random_pixels(num, 4, 3, 2), np.arange(num))


def test_bytes_end_at_minus_one_and_one():
    images = from_bytes("ends", np.array([[[0, 255]]], np.uint8), np.array([7]))
    assert images.points.tolist() == [[-1, 1]]
    assert images.shape == (1, 2, 1)
    assert images.labels.tolist() == [7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (4, 6)}, r"an image of shape \(4, 6\) must be"),
        ({"shape": (2, 2, 6)}, r"an image of shape \(2, 2, 6\) must be \(height, width, at most 4 channels\)"),
        ({"shape": (4, 4, 2)}, r"points of shape \(5, 24\) must be \[n, 32\]"),
        ({"points": np.zeros((0, 24), np.float32)}, r"points of shape \(0, 24\) must be .* n at least 1"),
        ({"points": np.zeros((5, 24))}, "points of type float64 must be float32"),
        ({"points": np.full((5, 24), 255, np.float32)}, r"values are in \[255, 255\], and must be in \[-1, 1\]"),
        ({"points": np.full((5, 24), np.nan, np.float32)}, "120 values are not finite"),
        ({"labels": np.zeros(4, np.int32)}, r"5 images, and labels of shape \(4,\)"),
        ({"labels": np.zeros((5, 1), np.int32)}, r"5 images, and labels of shape \(5, 1\)"),
        ({"labels": np.zeros(5, np.int64)}, "labels of type int64 must be int32"),
        ({"labels": np.arange(-1, 4, dtype=np.int32)}, r"labels are in -1..3, and must be in 0..9"),
        ({"labels": np.arange(6, 11, dtype=np.int32)}, r"labels are in 6..10, and must be in 0..9"),
    ],
)
def test_what_is_wrong_with_images_is_named(change, message):
    check_images("there", small(), 10)
    with pytest.raises(ValueError, match=f"there: {message}"):
        check_images("there", small()._replace(**change), 10)


def test_negative_labels_are_refused_whatever_the_number_of_classes():
    with pytest.raises(ValueError, match=r"labels are in -2..-2, and must be at least 0"):
        check_images("there", small()._replace(labels=np.full(5, -2, np.int32)))


@pytest.mark.parametrize("labels", [np.zeros(5), np.full(5, 2**32), np.full(5, "cat")])
def test_labels_are_whole_numbers(labels):
    with pytest.raises(ValueError, match="must be whole numbers that int32 holds"):
        from_bytes("there", random_pixels(5, 4, 4), labels)


def test_held_out_images_and_the_others_are_all_images_once():
    images = small(50)
    train, test = hold_out(images, 3, 0.3)
    assert len(train.labels) == 35
    assert len(test.labels) == 15
    order = np.concatenate([train.labels, test.labels])
    assert sorted(order) == list(range(50))
    assert list(order) != list(range(50))
    np.testing.assert_array_equal(np.concatenate([train.points, test.points]), images.points[order])
    assert train.shape == test.shape == images.shape
    np.testing.assert_array_equal(hold_out(images, 3, 0.3)[1].labels, test.labels)
    assert (hold_out(images, 4, 0.3)[1].labels != test.labels).any()


@pytest.mark.parametrize("share", [0, 0.01, 0.99, 1, -1, 2])
def test_neither_part_may_be_empty(share):
    with pytest.raises(ValueError, match=rf"images held out, share = {share} of 20 = .*: must be in \[1, 19\]"):
        hold_out(small(20), 0, share)


def test_own_images_and_digits_are_divided_by_the_seed(tmp_path):
    pixels = random_pixels(10, 4, 4)
    for i, image in enumerate(pixels):
        write_image(tmp_path / "class" / f"{i}.png", image)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.zeros(10, int))
    for load in (DATASETS["folders"], DATASETS["npz"]):
        train, test = load(tmp_path, 1, True)
        expected = hold_out(from_bytes("pixels", pixels, np.zeros(10, int)), 1)
        np.testing.assert_array_equal(train.points, expected[0].points)
        np.testing.assert_array_equal(test.points, expected[1].points)
        assert len(test.labels) == 2
    train, test = DATASETS["digits"](tmp_path / "nowhere", 0, True)
    assert train.shape == (8, 8, 1)
    assert len(train.labels) + len(test.labels) == 1797
    assert isinstance(load_digits(), LabelledImages)


PUBLISHED = {
    "celeba": (celeba.CELEBA, "list_attr_celeba.txt, list_eval_partition.txt"),
    "cifar10": (cifar10.CIFAR10, "data_batch_1, .*, test_batch"),
    "fashion_mnist": (idx.FASHION_MNIST, "train-images-idx3-ubyte, .*, t10k-labels-idx1-ubyte"),
    "mnist": (idx.MNIST, "train-images-idx3-ubyte, .*, t10k-labels-idx1-ubyte"),
    "stl10": (stl10.STL10, "train_X.bin, train_y.bin, test_X.bin, test_y.bin"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_named_with_what_to_download(tmp_path, name):
    published, files = PUBLISHED[name]
    with pytest.raises(FileNotFoundError, match=rf"{published.title}: {files} not found in {tmp_path}: put .* there"):
        DATASETS[name](tmp_path, 0, True)


def test_every_data_set_is_tested():
    assert set(DATASETS) == {*PUBLISHED, "digits", "folders", "npz"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sums_are_sums(name):
    for found in PUBLISHED[name][0].md5.values():
        assert len(bytes.fromhex(found)) == 16


def test_damaged_and_harmful_files_are_read_or_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_files", "--cases", "100"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
