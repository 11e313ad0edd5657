"""CIFAR-10 is written here byte by byte, and what is read is compared with the pixels that were written."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile

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


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("wrap", [list, np.array, lambda labels: np.array(labels, ">u2")])
def test_batches_of_ones_own_may_be_pickled_by_any_protocol(cifar, protocol, order, wrap):
    directory, pixels, labels = cifar
    rows = np.asarray(pixels[:2].transpose(0, 3, 1, 2).reshape(2, 3072), order=order)
    content = pickle.dumps({"labels": wrap([3, 4]), "data": rows}, protocol=protocol)
    for name in (content, content.replace(b"numpy._core", b"numpy.core")) if protocol < 4 else (content,):
        (directory / "cifar-10-batches-py" / "data_batch_1").write_bytes(name)
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


class Forged:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def forged_array(code, order="|", *, state=(-1, -1, 0)):
    """Pickle an array whose type has a state of one's own."""
    dtype = Forged(np.dtype, (code, False, True), (3, order, None, None, None, *state))
    array = (1, (2, 3072), dtype, False, bytes(6144))
    return pickle.dumps(
        {"data": Forged(np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"), array), "labels": [0, 1]}
    )


@pytest.mark.parametrize(
    ("code", "order"), [("O8", "|"), ("V8", "|"), ("f8", "<"), ("u1", "3u1,"), ("u1,O8", "|"), ("U4", "<"), ("u3", "|")]
)
def test_only_whole_numbers_are_unpickled(cifar, code, order):
    directory, _, _ = cifar
    (directory / "cifar-10-batches-py" / "data_batch_3").write_bytes(forged_array(code, order))
    with pytest.raises(ValueError, match=f"data_batch_3: .*numbers of type .*{code} are not allowed in it"):
        load_cifar10(directory, verify=False)


def test_flags_of_a_pickled_type_are_not_believed(cifar):
    directory, pixels, labels = cifar
    (directory / "cifar-10-batches-py" / "data_batch_1").write_bytes(forged_array("u1", state=(8, 8, 63)))
    black = np.concatenate([np.zeros((2, 32, 32, 3), np.uint8), pixels[2:10]])
    agree(load_cifar10(directory, verify=False)[0], black, [0, 1, *labels[2:10]])


def test_a_pickle_changes_nothing_for_the_next(cifar):
    directory, pixels, labels = cifar
    path = directory / "cifar-10-batches-py" / "data_batch_1"
    whole = path.read_bytes()
    for name in ("numpy\ndtype", "numpy\nndarray", "numpy.core.multiarray\n_reconstruct", "_codecs\nencode"):
        path.write_bytes(f"c{name}\n(NdVvalues\nI1\nsVcode\nI2\nsV__defaults__\n)st".encode() + b"b.")
        with pytest.raises(ValueError, match="data_batch_1"):
            load_cifar10(directory, verify=False)
    path.write_bytes(whole)
    agree(load_cifar10(directory, verify=False)[0], pixels[:10], labels[:10])


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a pickled batch"),
        (b"no pickle at all", "is not a pickled batch"),
        (pickle.dumps({"data": ROWS, "labels": [0, 1]})[:-500], "is cut short, or is not a pickled batch"),
        (pickle.dumps([ROWS, [0, 1]]), "is not a pickled batch of CIFAR-10"),
        (pickle.dumps({"data": ROWS}), "'labels'"),
        (pickle.dumps({"data": ROWS / 255, "labels": [0, 1]}), "numbers of type <f8 are not allowed"),
        (pickle.dumps({"data": ROWS.astype(int), "labels": [0, 1]}), r"type int64 and shape \(2, 3072\) must be uint8"),
        (pickle.dumps({"data": [[0] * 3072], "labels": [0]}), "is not a pickled batch of CIFAR-10"),
        (b"\x80\x04}r\xff\xff\xff\x7f.", "index 2147483647 of operation 2"),
        (b"\x80\x04" + b"]" * 300_000 + b".", "more than 300000 operations"),
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


def test_folders_and_members_of_archives_are_verified_both(cifar, monkeypatch):
    directory, pixels, labels = cifar
    folder = directory / "cifar-10-batches-py"
    published = cifar10.CIFAR10.md5["data_batch_1"]
    with pytest.raises(ValueError, match=f"data_batch_1: md5 of data_batch_1 is .*, published is {published}"):
        load_cifar10(directory)
    pack(directory / "cifar-10-python.tar.gz", folder, cifar10.BATCHES)
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in cifar10.BATCHES}
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"tar.gz, data_batch_1: md5 of data_batch_1 is .*--no-verify"):
        load_cifar10(directory)
    for name, found in sums.items():
        monkeypatch.setitem(cifar10.CIFAR10.md5, name, found)
    agree(load_cifar10(directory)[0], pixels[:10], labels[:10])


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (header("other", 2**40), "holds more than 256 MiB"),
        (header("data_batch_1", 2**40), "holds more than 256 MiB"),
        (header("data_batch_1", 2**28), "holds more than 256 MiB"),
        (header("data_batch_1", -512), "data_batch_1 has -512 bytes"),
        (header("data_batch_1", 2000), "data_batch_1 is shorter than its header says"),
        (header("data_batch_1", 2**33, tarfile.GNUTYPE_SPARSE), "holds more than 256 MiB"),
        (header("data_batch_1", 0, tarfile.GNUTYPE_SPARSE), "data_batch_1, .* not found in it"),
        (header("data_batch_1", 0, tarfile.SYMTYPE), "data_batch_1, .* not found in it"),
        (header("other", 0) * 1001 + header("data_batch_1", 0), "data_batch_1, .* not found in it"),
        (b"\x01" * 512, "HeaderError"),
    ],
)
def test_headers_of_archives_are_not_believed(tmp_path, blocks, message):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(blocks))
    with pytest.raises(ValueError, match=f"cifar-10-python.tar.gz: .*{message}"):
        load_cifar10(tmp_path, verify=False)
