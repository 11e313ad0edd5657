"""Handwritten digits that ship with scikit-learn."""

from typing import NamedTuple

import numpy as np
import sklearn.datasets
from jaxtyping import Float, Int


class LabelledData(NamedTuple):
    """Samples with classes.

    Attributes:
        points: shape [n, d].
        labels: class of each sample, shape [n].
    """

    points: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]


def load_digits() -> LabelledData:
    """Load 1797 images of 8 x 8 pixels, rows first, of the digits 0 to 9 [alpaydin1998]_.

    Returns:
        Points of shape [1797, 64] in float32, grey levels 0 to 16 mapped to [-1, 1]; labels in int32.
    """
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    return LabelledData((pixels / 8 - 1).astype(np.float32), labels.astype(np.int32))
