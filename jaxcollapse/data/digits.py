"""Handwritten digits that ship with scikit-learn."""

import sklearn.datasets

from jaxcollapse.data.images import LabelledImages, labelled_images


def load_digits() -> LabelledImages:
    """Load 1797 grey images of 8 x 8 pixels of the digits 0 to 9, levels 0 to 16 mapped to [-1, 1] [alpaydin1998]_.

    Example:
        >>> from jaxcollapse.data import load_digits
        >>> digits = load_digits()
        >>> digits.points.shape, digits.shape, sorted(set(digits.labels.tolist()))
        ((1797, 64), (8, 8, 1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    return labelled_images("digits", pixels / 8 - 1, labels, (8, 8, 1), 10)
