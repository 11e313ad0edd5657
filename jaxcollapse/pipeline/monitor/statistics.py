r"""What is measured of a sample, with standard deviations: spread, volume, tail, mean and cells.

Rows are projected on axes that the reference R fixes, :math:`z = A'(x - c)`, in which it has covariance I. What the
model and R differ in at the start is an error of fit; collapse is a departure from the sample of generation 0.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.cluster import KMeans

from jaxcollapse.checks import check_array
from jaxcollapse.theory.closed_forms import replace_log_det

LEAST_ROWS = 20
ROWS_AN_AXIS = 10
CELLS = 12
EDGE, QUANTILE = 0.95, 0.99
ROWS_CLUSTERED = 5_000
TINY = 1e-12  # variance at which a sample has collapsed to a point: logarithms stay finite


class Frame(NamedTuple):
    """What a reference fixes.

    Attributes:
        centre: mean of the reference, [d].
        axes: [d, k], to coordinates of covariance I.
        cells: centres of cells, [c, k].
    """

    centre: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d k"]
    cells: Float[np.ndarray, "c k"]


class Sample(NamedTuple):
    r"""Statistics of a sample of N rows.

    With :math:`u_j` the rows about their mean, their distance capped, :math:`W = \sum_j u_j u_j' / (N - 1)`.

    Attributes:
        rows: N.
        spread: :math:`\log(\operatorname{tr} W / k)`, the variance of an average axis.
        volume: :math:`\log\det W / k`, that of their geometric mean, less the bias of a Gaussian sample of N rows.
        tail: share of rows beyond the edge.
        mean: [k], that of all rows and the :math:`u_j` about it, which far rows hardly move.
        cells: rows nearest to each centre, [c].
        moved: the same once an affine map has given the rows the mean and covariance of generation 0, [c].
        copies: share of rows that equal an earlier one.
        spread_deviation: :math:`\sigma` of the spread, so that its variance is :math:`\sigma^2 / N`.
        volume_deviation: of the volume.
    """

    rows: int
    spread: float
    volume: float
    tail: float
    mean: Float[np.ndarray, " k"]
    cells: Float[np.ndarray, " c"]
    moved: Float[np.ndarray, " c"]
    copies: float
    spread_deviation: float
    volume_deviation: float


class Moments(NamedTuple):
    """What generation 0 fixes.

    Attributes:
        mean: [k].
        covariance: W, [k, k].
        cap: 99% quantile of the squared distance from the mean, where the distance of a row ends.
        edge: 95% quantile, where the tail begins.
    """

    mean: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    cap: float
    edge: float


def check_rows(name: str, points: Any, least: int = LEAST_ROWS) -> Float[np.ndarray, "n d"]:
    """Require a table of finite numbers, and hand it over in double precision.

    Raises:
        ValueError: if it is none, has too few rows, or rows that are not finite.
    """
    check_array(name, points)
    table = np.asarray(points, float)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(f"{name}: shape {table.shape} must be [rows, columns]")
    if len(table) < least:
        raise ValueError(f"{name}: {len(table)} rows, and at least {least} are needed")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name}: {bad.size} of {len(table)} rows hold numbers that are not finite, first row {bad[0]}"
        )
    return table


def frame(reference: Float[np.ndarray, "m d"], num_rows: int) -> Frame:
    """Fix axes and cells.

    Axes are the leading principal ones of standardised columns: as many as columns are independent, and at most one for
    ten rows.

    Args:
        reference: R, finite.
        num_rows: of generation 0.

    Raises:
        ValueError: if a column is constant.
    """
    centre, scale = reference.mean(axis=0), reference.std(axis=0)
    constant = np.flatnonzero(np.ptp(reference, axis=0) == 0)
    if constant.size:
        raise ValueError(
            f"reference: {constant.size} columns are constant, the first is column {constant[0]}: leave out"
        )
    standard = (reference - centre) / scale
    values, vectors = np.linalg.eigh(standard.T @ standard / len(reference))
    num_axes = min((values > 1e-9 * values[-1]).sum(), min(num_rows, len(reference)) // ROWS_AN_AXIS)
    values, vectors = values[::-1][:num_axes], vectors[:, ::-1][:, :num_axes]
    axes = vectors / np.sqrt(values) / scale[:, None]
    z = (reference - centre) @ axes
    near = _capped(z, np.quantile((z**2).sum(axis=1), QUANTILE))
    some = np.random.default_rng(0).permutation(len(z))[:ROWS_CLUSTERED]
    found = KMeans(min(CELLS, len(z) // ROWS_AN_AXIS), n_init=4, random_state=0).fit(near[some])
    return Frame(centre, axes, found.cluster_centers_)


def moments(within: Frame, points: Float[np.ndarray, "n d"]) -> Moments:
    """Compute those of generation 0.

    Raises:
        ValueError: if the rows have no spread in a direction of the reference.
    """
    z = (points - within.centre) @ within.axes
    cap = float(np.quantile(((z - z.mean(axis=0)) ** 2).sum(axis=1), QUANTILE))
    _, mean, covariance = _capped_moments(z, cap)
    found = Moments(mean, covariance, cap, float(np.quantile(((z - mean) ** 2).sum(axis=1), EDGE)))
    if np.linalg.eigvalsh(found.covariance)[0] < TINY:
        raise ValueError(
            "features: generation 0 has no spread in a direction in which the reference has: collapsed already"
        )
    return found


def measure(within: Frame, first: Moments, points: Float[np.ndarray, "n d"]) -> Sample:
    r"""Compute the statistics of a sample.

    Standard deviations are those of influence functions: of the spread :math:`|u_j|^2 / \operatorname{tr} W`, of the
    volume the jackknife's :math:`-(N - 1) \log(1 - u_j' W^{-1} u_j / (N - 1)) / k`.
    """
    z = (points - within.centre) @ within.axes
    num, k = z.shape
    u, mean, covariance = _capped_moments(z, first.cap)
    squares = (u**2).sum(axis=1)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, TINY)
    lever = ((u @ vectors) ** 2 / values).sum(axis=1) * num / (num - 1) ** 2
    bias = replace_log_det(num, 1, k)[1] / k - np.log1p(-1 / num)
    moved = (z - mean) @ _map(covariance, first.covariance) + first.mean
    return Sample(
        rows=num,
        spread=float(np.log(values.mean())),
        volume=float(np.log(values).mean() - bias),
        tail=float((((z - first.mean) ** 2).sum(axis=1) > first.edge).mean()),
        mean=mean,
        cells=_count(z, within.cells),
        moved=_count(moved, within.cells),
        copies=1 - len({row.tobytes() for row in points}) / num,
        spread_deviation=float(squares.std() / squares.mean() if squares.any() else 0.0),
        volume_deviation=float((num - 1) * np.log1p(-np.minimum(lever, 1 - TINY)).std() / k),
    )


def _capped_moments(z: np.ndarray, cap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cap the rows' distance from their mean: the rows about it, their mean and W."""
    mean = z.mean(axis=0)
    u = _capped(z - mean, cap)
    return u, mean + u.mean(axis=0), u.T @ u / (len(z) - 1)


def _capped(z: np.ndarray, cap: float) -> np.ndarray:
    """Pull rows beyond a squared radius back to it."""
    square = (z**2).sum(axis=1, keepdims=True)
    return z * np.sqrt(np.minimum(1, cap / np.maximum(square, TINY)))


def _count(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Count the rows nearest to each centre."""
    return np.bincount((z @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1), minlength=len(centres))


def _map(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    r"""Compute the symmetric T with :math:`T \Sigma T = \Sigma_0`, optimal between Gaussians [knott1984]_."""
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.maximum(values, TINY) ** exponent @ vectors.T
