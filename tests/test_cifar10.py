"""CIFAR-10 is written here byte by byte, and what is read is compared with the pixels that were written."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
from image_files import agree, pack, random_pixels

from jaxcollapse.data import cifar10
from jaxcollapse.data.cifar10 import load_cifar10


class Python2Pickler(pickle._Pickler):
    """Pickle as Python 2 and its NumPy did: all strings are strings of bytes."""

    def save_string(self, value):
        data = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {str: save_string, bytes: save_string}


def python2_pickle(value):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


@pytest.fixture
def cifar(tmp_path):
    """Write two images in each batch; return the directory, pixels and labels."""
    pixels, labels = random_pixels(12, 32, 32, 3), np.random.default_rng(1).integers(0, 10, 12)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i, name in enumerate(cifar10.BATCHES):
        # A row is all of red, then green, then blue, each by rows.
        rows = np.array([[image[:, :, c].ravel() for c in range(3)] for image in pixels[2 * i : 2 * i + 2]])
        batch = {"batch_label": name, "labels": labels[2 * i : 2 * i + 2].tolist(), "data": rows.reshape(2, 3072)}
        (folder / name).write_bytes(python2_pickle(batch))
    return tmp_path, pixels, labels


def test_cifar10_is_read_from_its_folder(cifar):
    directory, pixels, labels = cifar
    train, test = load_cifar10(directory, verify=False)
    agree(train, pixels[:10], labels[:10])
    agree(test, pixels[10:], labels[10:])


def test_cifar10_is_read_from_its_archive_alone_and_from_the_folder_as_directory(cifar):
    directory, pixels, labels = cifar
    folder = directory / "cifar-10-batches-py"
    agree(load_cifar10(folder, verify=False)[0], pixels[:10], labels[:10])
    pack(directory / "cifar-10-python.tar.gz", folder, sorted(cifar10.BATCHES, reverse=True))
    for name in cifar10.BATCHES:
        (folder / name).unlink()
    train, test = load_cifar10(directory, verify=False)
    agree(train, pixels[:10], labels[:10])
    agree(test, pixels[10:], labels[10:])
    assert not list(folder.iterdir())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_batches_of_ones_own_may_be_pickled_by_python_3(cifar, protocol):
    directory, pixels, labels = cifar
    rows = pixels[:2].transpose(0, 3, 1, 2).reshape(2, 3072)
    content = pickle.dumps({"labels": [3, 4], "data": rows}, protocol=protocol)
    path = directory / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(content)
    if protocol == 2:  # bytes are pickled as a call there
        with pytest.raises(ValueError, match=r"_codecs.encode is not allowed"):
            load_cifar10(directory, verify=False)
    else:
        agree(load_cifar10(directory, verify=False)[0], pixels[:10], [3, 4, *labels[2:10]])


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickled_batch_cannot_run_anything(cifar, tmp_path):
    directory, _, _ = cifar
    path = directory / "cifar-10-batches-py" / "data_batch_4"
    path.write_bytes(pickle.dumps({"data": Malicious(tmp_path / "owned"), "labels": []}))
    with pytest.raises(ValueError, match=r"data_batch_4: .* is not a pickled batch .*mkdir is not allowed"):
        load_cifar10(directory, verify=False)
    assert not (tmp_path / "owned").exists()


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOFError"),
        (b"no pickle at all", "UnpicklingError"),
        (pickle.dumps({"data": ROWS, "labels": [0, 1]})[:-500], "is cut short, or is not a pickled batch"),
        (pickle.dumps([ROWS, [0, 1]]), "is not a pickled batch of CIFAR-10"),
        (pickle.dumps({"data": ROWS}), "'labels'"),
        (pickle.dumps({"data": ROWS / 255, "labels": [0, 1]}), r"type float64 and shape \(2, 3072\) must be uint8"),
        (pickle.dumps({"data": ROWS[:, 1:], "labels": [0, 1]}), r"shape \(2, 3071\) must be uint8, \[n, 3072\]"),
        (pickle.dumps({"data": ROWS, "labels": [0, 1, 2]}), r"2 images, and labels of shape \(3,\)"),
        (pickle.dumps({"data": ROWS, "labels": [0, 10]}), "labels are in 0..10, and must be in 0..9"),
        (pickle.dumps({"data": ROWS, "labels": ["cat", "dog"]}), "must be whole numbers"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(cifar, content, message):
    directory, _, _ = cifar
    path = directory / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_2: .*{message}"):
        load_cifar10(directory, verify=False)


def test_broken_archives_are_named(cifar):
    directory, _, _ = cifar
    folder, archive = directory / "cifar-10-batches-py", directory / "cifar-10-python.tar.gz"
    pack(archive, folder, cifar10.BATCHES)
    whole = archive.read_bytes()
    (folder / "data_batch_5").unlink()
    for content in (whole[: len(whole) // 2], b"no archive", b""):
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz: is cut short, or is "):
            load_cifar10(directory, verify=False)
    pack(archive, folder, cifar10.BATCHES[:4])
    with pytest.raises(ValueError, match=r"tar.gz: .* another archive: data_batch_5, test_batch not found in it"):
        load_cifar10(directory, verify=False)
    archive.unlink()
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10: data_batch_5 not found in .*: put cifar-10-python.tar.gz"):
        load_cifar10(directory, verify=False)


def test_folders_and_archives_are_verified_both(cifar):
    directory, _, _ = cifar
    folder = directory / "cifar-10-batches-py"
    with pytest.raises(ValueError, match="data_batch_1: md5 is"):
        load_cifar10(directory)
    pack(directory / "cifar-10-python.tar.gz", folder, cifar10.BATCHES)
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz: md5 is .* c58f30108f718f92721af3b95e74349a"):
        load_cifar10(directory)
