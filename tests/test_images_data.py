"""Every format is written here byte by byte, and what is read is compared with the pixels that were written."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxcollapse.data import DATASETS, celeba, cifar10, idx, stl10
from jaxcollapse.data.celeba import load_celeba
from jaxcollapse.data.cifar10 import load_cifar10
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.folders import load_folders
from jaxcollapse.data.idx import load_fashion_mnist, load_mnist
from jaxcollapse.data.images import LabelledImages, check_images, from_bytes, hold_out
from jaxcollapse.data.npz import load_npz
from jaxcollapse.data.stl10 import load_stl10

RNG = np.random.default_rng(0)


def random_pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def agree(images, pixels, labels):
    """Compare with pixels [n, h, w, c] and labels, by the definition of the convention."""
    check_images("images", images)
    assert images.points.dtype == np.float32
    assert images.labels.dtype == np.int32
    assert images.shape == pixels.shape[1:]
    np.testing.assert_allclose(images.points.reshape(pixels.shape), pixels / 255 * 2 - 1, atol=1e-6)
    np.testing.assert_array_equal(images.labels, labels)


def pack(archive, folder, names):
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            tar.add(folder / name, f"{folder.name}/{name}")


# Images in the convention.


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


# CIFAR-10.


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
    pixels, labels = random_pixels(12, 32, 32, 3), RNG.integers(0, 10, 12)
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


# STL-10.


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


def triangle(length, size):
    """Make the matrix that resizes by a triangle filter as wide as two pixels of the result."""
    scale = length / size
    centres, positions = (np.arange(size) + 0.5) * scale, np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(positions - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(pixels, size):
    matrix = triangle(pixels.shape[1], size)
    return np.einsum("yr,xc,nrck->nyxk", matrix, matrix, pixels.astype(float), optimize=True)


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


# MNIST and Fashion-MNIST.


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


# Checksums.


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


def test_folders_and_archives_are_verified_both(cifar):
    directory, _, _ = cifar
    folder = directory / "cifar-10-batches-py"
    with pytest.raises(ValueError, match="data_batch_1: md5 is"):
        load_cifar10(directory)
    pack(directory / "cifar-10-python.tar.gz", folder, cifar10.BATCHES)
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz: md5 is .* c58f30108f718f92721af3b95e74349a"):
        load_cifar10(directory)


def test_stl10_and_celeba_are_verified(stl, faces):
    with pytest.raises(ValueError, match=r"train_X.bin: md5 is"):
        load_stl10(stl[0])
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: md5 is"):
        load_celeba(faces[0])


# CelebA.

NAMES = ["000001.png", "000002.png", "000003.png", "000004.png"]
ATTRIBUTES = np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1], [-1, 1, -1]])
PARTS = [0, 2, 1, 0]


def write_lists(directory, names=NAMES, count=None, attributes=ATTRIBUTES, parts=PARTS):
    rows = [f"{name} " + " ".join(f"{value:2d}" for value in row) for name, row in zip(names, attributes, strict=False)]
    header = [str(len(names) if count is None else count), "Bald Male Smiling "]
    (directory / "list_attr_celeba.txt").write_text("\r\n".join([*header, *rows, ""]))
    lines = [f"{name} {part}" for name, part in zip(NAMES, parts, strict=True)]
    (directory / "list_eval_partition.txt").write_text("\n".join([*lines, ""]))


@pytest.fixture
def faces(tmp_path):
    """Write four images of 10 x 14 pixels (lossless, to be compared) in the layout of CelebA."""
    directory = tmp_path / "faces"
    (directory / "img_align_celeba").mkdir(parents=True)
    pixels = random_pixels(4, 14, 10, 3)
    for name, image in zip(NAMES, pixels, strict=True):
        Image.fromarray(image).save(directory / "img_align_celeba" / name)
    write_lists(directory)
    return directory, pixels


def test_celeba_is_cropped_in_the_centre_and_divided_as_published(faces):
    directory, pixels = faces
    train, test = load_celeba(directory, size=10, verify=False)
    agree(train, pixels[[0, 3], 2:12], [0, 1])
    agree(test, pixels[[1], 2:12], [0])


def test_celeba_is_resized_without_aliasing(faces):
    directory, pixels = faces
    train, _ = load_celeba(directory, size=4, verify=False)
    levels = (train.points.reshape(2, 4, 4, 3) + 1) * 127.5
    np.testing.assert_allclose(levels, resized(pixels[[0, 3], 2:12], 4), atol=1.1)
    assert load_celeba(directory, verify=False)[0].shape == (64, 64, 3)


def test_attributes_of_celeba_combine_to_classes(faces):
    directory, _ = faces
    assert load_celeba(directory, ["Smiling"], verify=False)[0].labels.tolist() == [1, 0]
    train, test = load_celeba(directory, ["Smiling", "Male", "Bald"], verify=False)
    assert train.labels.tolist() == [1 + 4, 2]
    assert test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"count": 5}, r"list_attr_celeba.txt: 4 images, and its first line says 5"),
        ({"count": "many"}, r"list_attr_celeba.txt: .*is not a list of attributes"),
        ({"attributes": ATTRIBUTES[:, :2]}, r"000001.png must have 1 or -1 for each of 3 attributes"),
        ({"attributes": ATTRIBUTES * 2}, r"000001.png must have 1 or -1"),
        ({"parts": [0, 2, 3, 0]}, r"list_eval_partition.txt: part '3' must be 0, 1 or 2"),
        ({"parts": [0, 0, 1, 0]}, r"list_eval_partition.txt: no image is in part 2"),
        ({"parts": ["0 0", 2, 1, 0]}, r"list_eval_partition.txt: .*is not a list of names and parts"),
        ({"names": NAMES[:3]}, r"000004.png is in one of them only"),
        ({"names": [*NAMES[:3], "a.png"]}, r"000004.png is in one of them only"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(faces, lists, message):
    directory, _ = faces
    write_lists(directory, **lists)
    with pytest.raises(ValueError, match=message):
        load_celeba(directory, verify=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attributes": ["Smilling"]}, "attribute 'Smilling' is not known: .*did you mean 'Smiling'"),
        ({"attributes": []}, r"number of attributes = 0: must be in \[1, 10\]"),
        ({"size": 0}, "size = 0: must be at least 1"),
    ],
)
def test_arguments_of_celeba_are_checked(faces, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_celeba(faces[0], **arguments, verify=False)


def test_broken_and_missing_faces_are_named(faces):
    directory, _ = faces
    path = directory / "img_align_celeba" / NAMES[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000002.png: is cut short, or is not an image"):
        load_celeba(directory, verify=False)
    path.unlink()
    with pytest.raises(ValueError, match=r"000002.png: .*FileNotFoundError"):
        load_celeba(directory, verify=False)
    path.parent.rename(directory / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"CelebA: img_align_celeba not found in .*: put the folder"):
        load_celeba(directory, verify=False)


# Arrays and files of one's own.


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 3)])
def test_arrays_of_bytes_are_read(tmp_path, shape):
    pixels = random_pixels(*shape)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.array([2, 0, 5]))
    for path in (tmp_path, tmp_path / "images.npz"):
        agree(load_npz(path), pixels.reshape(*shape[:3], -1), [2, 0, 5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_floats_are_read(tmp_path, dtype):
    values = RNG.uniform(-1, 1, (3, 4, 5)).astype(dtype)
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


def write_image(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


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


# The registry.


def test_own_images_and_digits_are_divided_by_the_seed(tmp_path):
    pixels = random_pixels(10, 4, 4)
    for i, image in enumerate(pixels):
        write_image(tmp_path / "class" / f"{i}.png", image)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.zeros(10, int))
    for load in (DATASETS["folders"], DATASETS["npz"]):
        train, test = load(tmp_path, 1)
        expected = hold_out(from_bytes("pixels", pixels, np.zeros(10, int)), 1)
        np.testing.assert_array_equal(train.points, expected[0].points)
        np.testing.assert_array_equal(test.points, expected[1].points)
        assert len(test.labels) == 2
    train, test = DATASETS["digits"](tmp_path / "nowhere", 0)
    assert train.shape == (8, 8, 1)
    assert len(train.labels) + len(test.labels) == 1797
    assert isinstance(load_digits(), LabelledImages)


PUBLISHED = {
    "celeba": (celeba.CELEBA, "list_attr_celeba.txt, list_eval_partition.txt"),
    "cifar10": (cifar10.CIFAR10, "data_batch_1, .*, test_batch"),
    "fashion_mnist": (idx.FASHION_MNIST, "train-images-idx3-ubyte.gz, .*, t10k-labels-idx1-ubyte.gz"),
    "mnist": (idx.MNIST, "train-images-idx3-ubyte.gz, .*, t10k-labels-idx1-ubyte.gz"),
    "stl10": (stl10.STL10, "train_X.bin, train_y.bin, test_X.bin, test_y.bin"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_named_with_what_to_download(tmp_path, name):
    published, files = PUBLISHED[name]
    with pytest.raises(FileNotFoundError, match=rf"{published.title}: {files} not found in {tmp_path}: put .* there"):
        DATASETS[name](tmp_path, 0)


def test_every_data_set_is_tested():
    assert set(DATASETS) == {*PUBLISHED, "digits", "folders", "npz"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sums_are_sums(name):
    for found in PUBLISHED[name][0].md5.values():
        assert len(bytes.fromhex(found)) == 16
