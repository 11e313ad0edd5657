"""Point clouds in the plane whose shape can be seen, each in segments that a silo may hold or lack."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NUM_SEGMENTS = 8
Curve = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, "n 2"]]


class LabelledData(NamedTuple):
    """Samples with classes.

    Attributes:
        points: shape [n, 2].
        labels: class of each sample, shape [n].
    """

    points: Float[np.ndarray, "n 2"]
    labels: Int[np.ndarray, " n"]


def eight_gaussians(position: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Place eight points on a circle: all of a segment in one place."""
    angle = 2 * np.pi * np.floor(NUM_SEGMENTS * position) / NUM_SEGMENTS
    return 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def moons(position: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Run through two interleaved half circles, one after the other."""
    angle = np.pi * (2 * position % 1)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    return 1.2 * (np.where(position[:, None] < 0.5, upper, lower) - [0.5, 0.25])


def spiral(position: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Run through two arms of a spiral, one after the other, at constant speed."""
    radius = np.sqrt(0.05 + 0.95 * (2 * position % 1))
    angle = 3 * np.pi * radius + np.pi * (position < 0.5)
    return 2 * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def swiss_roll(position: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Run through the section of a rolled sheet."""
    angle = 1.5 * np.pi * (1 + 2 * position)
    return angle[:, None] / 8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


PLANAR = {"eight_gaussians": eight_gaussians, "moons": moons, "spiral": spiral, "swiss_roll": swiss_roll}


def sample_curve(seed: int, curve: Curve, num_samples: int, noise: float = 0.1) -> LabelledData:
    """Draw samples evenly along a curve, with Gaussian noise; labels number its eight segments, equally many in each.

    Args:
        seed: of the positions and of the noise.
        curve: of `PLANAR`, from positions in [0, 1) to the plane.
        num_samples: n.
        noise: standard deviation.

    Returns:
        Points of shape [n, 2] in float32 and labels 0..7, in order.
    """
    rng = np.random.default_rng(seed)
    position = (np.arange(num_samples) + rng.uniform(size=num_samples)) / num_samples
    points = curve(position) + noise * rng.standard_normal((num_samples, 2))
    return LabelledData(points.astype(np.float32), np.floor(NUM_SEGMENTS * position).astype(np.int32))
