"""MNIST is written here byte by byte, and what is read is compared with the pixels that were written."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
from image_files import agree, random_pixels

from jaxcollapse.data import idx
from jaxcollapse.data.idx import load_fashion_mnist, load_mnist


def idx_bytes(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Write four images to train on and two to test with, some files compressed."""
    pixels, labels = random_pixels(6, 7, 5), np.array([9, 0, 3, 3, 1, 2], np.uint8)
    for name, values in zip(idx.FILES, [pixels[:4], labels[:4], pixels[4:], labels[4:]], strict=True):
        (tmp_path / name).write_bytes(idx_bytes(values))
    path = tmp_path / idx.FILES[0]
    (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return tmp_path, pixels[..., None], labels


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_idx_files_are_read_compressed_or_not(mnist, load):
    directory, pixels, labels = mnist
    train, test = load(directory, verify=False)
    agree(train, pixels[:4], labels[:4])
    agree(test, pixels[4:], labels[4:])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-images-idx3-ubyte", b"", "begins with , and must begin with 00000803"),
        ("t10k-images-idx3-ubyte", bytes([0, 0, 8, 3, 0, 0]), "begins with 00000803, and .* the lengths of axes"),
        ("t10k-images-idx3-ubyte", idx_bytes(np.zeros(2, np.uint8)), "begins with 00000801, and must .* 00000803"),
        ("t10k-images-idx3-ubyte", b"\x1f\x8b", "begins with 1f8b, and must begin with 00000803"),
        ("t10k-images-idx3-ubyte", idx_bytes(random_pixels(2, 7, 5))[:-1], r"69 values, .* says \(2, 7, 5\)"),
        ("t10k-images-idx3-ubyte", idx_bytes(random_pixels(2, 5, 7)), r"shape \(7, 5, 1\), .* with \(5, 7, 1\)"),
        ("t10k-images-idx3-ubyte", idx_bytes(random_pixels(0, 7, 5)), "n at least 1"),
        ("t10k-images-idx3-ubyte", idx_bytes(random_pixels(3, 7, 5)), r"3 images, and labels of shape \(2,\)"),
        ("t10k-labels-idx1-ubyte", idx_bytes(np.full(2, 10, np.uint8)), "labels are in 10..10, and must be in 0..9"),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(bytes(99), mtime=0)[:-9],
            "gz: is cut short, or is not a gzip file",
        ),
        ("train-images-idx3-ubyte.gz", bytes(99), "gz: .*is not a gzip file"),
    ],
)
def test_what_is_wrong_with_an_idx_file_is_named(mnist, name, content, message):
    directory, _, _ = mnist
    (directory / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_mnist(directory, verify=False)


def test_a_file_that_is_not_the_published_one_is_named_with_both_sums(mnist):
    directory, _, _ = mnist
    name = "train-images-idx3-ubyte.gz"
    found = hashlib.md5((directory / name).read_bytes()).hexdigest()
    message = f"{name}: md5 is {found}, and that of the published file is {idx.MNIST.md5[name]}: .* verify=False"
    with pytest.raises(ValueError, match=message):
        load_mnist(directory)


def test_the_published_sum_lets_a_file_pass(mnist, monkeypatch):
    directory, pixels, labels = mnist
    name = "train-images-idx3-ubyte.gz"
    monkeypatch.setitem(idx.MNIST.md5, name, hashlib.md5((directory / name).read_bytes()).hexdigest())
    agree(load_mnist(directory)[0], pixels[:4], labels[:4])
