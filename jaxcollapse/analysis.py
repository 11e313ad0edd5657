"""Statistics of trajectories, on the host."""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def log_spaced(last: int, per_decade: int = 10, first: int = 1) -> NDArray[np.int64]:
    """List distinct generations from `first` to `last`, evenly in the logarithm."""
    count = int(np.ceil(per_decade * np.log10(max(last / first, 1)))) + 1
    return np.unique(np.round(np.geomspace(first, last, count)).astype(np.int64))


def local_slopes(
    values: ArrayLike, generations: ArrayLike, span: float = 10**0.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Measure local log-log slopes :math:`\log(y_b / y_a) / \log(b / a)`, with :math:`a = t / r` and :math:`b = t r`.

    Args:
        values: y > 0, shape [..., T].
        generations: t > 0, increasing, shape [T].
        span: r > 1; values between generations are interpolated in the logarithms.

    Returns:
        The generations t whose window lies inside the data, and the slopes there, shape [..., len(t)].
    """
    log_t, log_y = np.log(np.asarray(generations, float)), np.log(np.asarray(values, float))
    half = np.log(span)
    centre = log_t[(log_t - half >= log_t[0] - 1e-9) & (log_t + half <= log_t[-1] + 1e-9)]

    def slopes(row):
        return (np.interp(centre + half, log_t, row) - np.interp(centre - half, log_t, row)) / (2 * half)

    return np.exp(centre), np.apply_along_axis(slopes, -1, log_y)


def seed_interval(values: ArrayLike, axis: int = 0, level: float = 0.95) -> Interval:
    r"""Average over seeds with the interval :math:`\bar y \pm t_{k-1} s / \sqrt k` of Student.

    A single seed gives an infinite interval.
    """
    values = np.asarray(values, float)
    count = values.shape[axis]
    mean = values.mean(axis)
    if count < 2:
        return Interval(mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf))
    half = scipy.stats.t.ppf((1 + level) / 2, count - 1) * standard_error(values, axis)
    return Interval(mean, mean - half, mean + half)


def standard_error(values: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    r"""Estimate the standard error :math:`s / \sqrt k` of a mean over k seeds."""
    values = np.asarray(values, float)
    return np.asarray(values.std(axis, ddof=1) / np.sqrt(values.shape[axis]))


def wilson(count: ArrayLike, size: ArrayLike, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Bound a probability by Wilson's interval [wilson1927]_, from counts k among n.

    .. math:: \frac{1}{1 + z^2/n} \Big( \hat p + \frac{z^2}{2n}
              \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4 n^2}} \Big), \qquad \hat p = k / n.
    """
    size = np.asarray(size, float)
    share, z2 = np.asarray(count, float) / size, scipy.stats.norm.ppf((1 + level) / 2) ** 2 / size
    centre, half = share + z2 / 2, np.sqrt(z2 * (share * (1 - share) + z2 / 4))
    return np.asarray((centre - half) / (1 + z2)), np.asarray((centre + half) / (1 + z2))
