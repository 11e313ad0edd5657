"""MNIST is written here byte by byte, and what is read is compared with the pixels that were written."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import tyro
from image_files import agree, random_pixels

from jaxcollapse.data import files, idx
from jaxcollapse.data.idx import load_fashion_mnist, load_mnist
from jaxcollapse.experiments import generalization_cost, siloed_images
from jaxcollapse.experiments.support.image_silos import problem


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


NAME = "train-images-idx3-ubyte"


def md5(data):
    return hashlib.md5(data).hexdigest()


def test_a_file_that_is_not_the_published_one_is_named_with_all_sums(mnist):
    directory, _, _ = mnist
    data = (directory / f"{NAME}.gz").read_bytes()
    published = idx.MNIST.md5
    message = (
        f"{NAME}.gz: md5 of {NAME}.gz is {md5(data)}, published is {published[f'{NAME}.gz']}, and md5 of {NAME} is "
        f"{md5(gzip.decompress(data))}, published is {published[NAME]}: .*verify=False, on the command line --no-verify"
    )
    with pytest.raises(ValueError, match=message):
        load_mnist(directory)


def test_the_published_sum_of_a_file_or_of_its_content_lets_it_pass(mnist, monkeypatch):
    directory, pixels, labels = mnist
    path = directory / f"{NAME}.gz"
    content = gzip.decompress(path.read_bytes())
    for name in idx.FILES[1:]:
        monkeypatch.setitem(idx.MNIST.md5, name, md5((directory / name).read_bytes()))
    with monkeypatch.context() as patch:
        patch.setitem(idx.MNIST.md5, path.name, md5(path.read_bytes()))
        agree(load_mnist(directory)[0], pixels[:4], labels[:4])
    monkeypatch.setitem(idx.MNIST.md5, NAME, md5(content))
    for level in (1, 9):
        path.write_bytes(gzip.compress(content, level, mtime=level))
        agree(load_mnist(directory)[0], pixels[:4], labels[:4])
    path.unlink()
    (directory / NAME).write_bytes(content)
    agree(load_mnist(directory)[0], pixels[:4], labels[:4])
    (directory / NAME).write_bytes(idx_bytes(255 - pixels[:4, ..., 0]))
    with pytest.raises(ValueError, match=f"{NAME}: md5 of {NAME} is"):
        load_mnist(directory)


def test_files_are_read_where_all_of_them_are_compressed(mnist):
    directory, pixels, labels = mnist
    for name in idx.FILES[1:]:
        path = directory / name
        (directory / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    train, test = load_fashion_mnist(directory, verify=False)
    agree(train, pixels[:4], labels[:4])
    agree(test, pixels[4:], labels[4:])


def test_what_a_compressed_file_may_hold_is_limited(mnist, monkeypatch):
    directory, _, _ = mnist
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    content = gzip.decompress((directory / f"{NAME}.gz").read_bytes())
    (directory / f"{NAME}.gz").write_bytes(gzip.compress(content + bytes(2**20 - len(content))))
    with pytest.raises(ValueError, match="1048560 values, and its header says"):
        load_mnist(directory, verify=False)
    (directory / f"{NAME}.gz").write_bytes(gzip.compress(bytes(2**20 + 1)))
    with pytest.raises(ValueError, match=f"{NAME}.gz: holds more than 1 MiB, the most that is read"):
        load_mnist(directory, verify=False)


@pytest.mark.parametrize("experiment", [siloed_images, generalization_cost])
def test_checksums_may_be_passed_over_on_the_command_line(mnist, experiment):
    flags = ["--dataset", "mnist", "--data", str(mnist[0])]
    for more, message in (([], "--no-verify"), (["--no-verify"], "num.train = 1000")):
        config = tyro.cli(experiment.Config, args=flags + more)
        with pytest.raises(ValueError, match=message):
            problem(config, runner=None)
