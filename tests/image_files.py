"""What the tests of image formats share: pixels written, and pixels as they should be read."""

import tarfile

import numpy as np
from PIL import Image

from jaxcollapse.data.images import check_images

_RNG = np.random.default_rng(0)


def random_pixels(*shape):
    return _RNG.integers(0, 256, shape, np.uint8)


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


def triangle(length, size):
    """Make the matrix that resizes by a triangle filter as wide as two pixels of the result."""
    scale = length / size
    centres, positions = (np.arange(size) + 0.5) * scale, np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(positions - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(pixels, size):
    matrix = triangle(pixels.shape[1], size)
    return np.einsum("yr,xc,nrck->nyxk", matrix, matrix, pixels.astype(float), optimize=True)


def write_image(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
