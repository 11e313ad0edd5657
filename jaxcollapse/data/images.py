"""Images with classes, in one convention: values in [-1, 1], rows first, then columns, then channels."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from jaxcollapse.checks import check_finite, check_range

MOST_CHANNELS = 4
HELD_OUT = 0.2


class LabelledImages(NamedTuple):
    """Images of one shape, flattened, with classes.

    Attributes:
        points: values in [-1, 1], float32, shape [n, h w c].
        labels: class of each image, from 0, int32, shape [n].
        shape: (h, w, c), height, width and channels; `points.reshape(-1, *shape)` are images.
    """

    points: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    shape: tuple[int, int, int]


Division = tuple[LabelledImages, LabelledImages]
"""Images to train on, and images to test with."""


def check_images(name: str, images: LabelledImages, num_classes: int | None = None) -> None:
    """Require images in the convention of this module, one label for each.

    Args:
        name: of the images in a message: the file that they are from.
        images: to be checked.
        num_classes: L; labels are 0 to L - 1. None for any number.

    Raises:
        ValueError: at the first that is not so: shapes, types, counts, finite values in [-1, 1], labels.
    """
    points, labels, shape = images
    if len(shape) != 3 or min(shape) < 1 or shape[2] > MOST_CHANNELS:
        raise ValueError(f"{name}: an image of shape {shape} must be (height, width, at most {MOST_CHANNELS} channels)")
    if points.ndim != 2 or points.shape[0] == 0 or points.shape[1] != math.prod(shape):
        raise ValueError(f"{name}: points of shape {points.shape} must be [n, {math.prod(shape)}], with n at least 1")
    if points.dtype != np.float32:
        raise ValueError(f"{name}: points of type {points.dtype} must be float32")
    if labels.shape != points.shape[:1]:
        raise ValueError(f"{name}: {len(points)} images, and labels of shape {labels.shape}: must be one for each")
    if labels.dtype != np.int32:
        raise ValueError(f"{name}: labels of type {labels.dtype} must be int32")
    check_finite(name, points)
    low, high = points.min(), points.max()
    if low < -1 or high > 1:
        raise ValueError(f"{name}: values are in [{low:g}, {high:g}], and must be in [-1, 1]")
    low, high = labels.min(), labels.max()
    if low < 0 or (num_classes and high >= num_classes):
        allowed = f"in 0..{num_classes - 1}" if num_classes else "at least 0"
        raise ValueError(f"{name}: labels are in {low}..{high}, and must be {allowed}")


def labelled_images(
    name: str,
    points: Float[np.ndarray, "n d"],
    labels: Shaped[np.ndarray, " n"],
    shape: tuple[int, ...],
    num_classes: int | None = None,
) -> LabelledImages:
    """Put images into the types of this module.

    Args:
        name: of the images in a message: the file that they are from.
        points: values in [-1, 1], shape [n, h w c].
        labels: class of each image, whole numbers of any type.
        shape: (h, w, c).
        num_classes: L; labels are 0 to L - 1. None for any number.

    Raises:
        ValueError: if the images are not as `check_images` requires.
    """
    if labels.dtype.kind not in "iu" or (labels.astype(np.int32) != labels).any():
        raise ValueError(f"{name}: labels of type {labels.dtype} must be whole numbers that int32 holds")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        points = points.astype(np.float32, copy=False)
    images = LabelledImages(points, labels.astype(np.int32), shape)
    check_images(name, images, num_classes)
    return images


def from_bytes(
    name: str, pixels: UInt8[np.ndarray, "n h w *c"], labels: Shaped[np.ndarray, " n"], num_classes: int | None = None
) -> LabelledImages:
    """Map grey levels or colours of 8 bits to [-1, 1]: x / 127.5 - 1.

    Args:
        name: of the images in a message: the file that they are from.
        pixels: x, shape [n, h, w] or [n, h, w, c].
        labels: class of each image, whole numbers of any type.
        num_classes: L; labels are 0 to L - 1. None for any number.

    Raises:
        ValueError: if the images are not as `check_images` requires.
    """
    shape = (*pixels.shape[1:], 1) if pixels.ndim == 3 else pixels.shape[1:]
    points = pixels.reshape(len(pixels), math.prod(shape)).astype(np.float32)
    points /= 127.5
    points -= 1
    return labelled_images(name, points, labels, shape, num_classes)


def hold_out(images: LabelledImages, seed: int, share: float = HELD_OUT) -> Division:
    """Divide images at random into those to train on and those to test with, both shuffled.

    Args:
        images: n of them.
        seed: of the shuffle.
        share: held out for the test, in (0, 1); rounded to a number of images.

    Raises:
        ValueError: if the images are not as `check_images` requires, or a part is left without any.

    Example:
        >>> from jaxcollapse.data import hold_out, load_digits
        >>> train, test = hold_out(load_digits(), seed=0, share=0.1)
        >>> train.points.shape, test.points.shape
        ((1617, 64), (180, 64))
    """
    check_images("images", images)
    check_range("seed", seed, low=0)
    num_images = len(images.labels)
    num_test = round(share * num_images)
    check_range(f"images held out, share = {share:g} of {num_images}", num_test, low=1, high=num_images - 1)
    order = np.random.default_rng(seed).permutation(num_images)
    train, test = (
        images._replace(points=images.points[part], labels=images.labels[part])
        for part in (order[num_test:], order[:num_test])
    )
    return train, test
