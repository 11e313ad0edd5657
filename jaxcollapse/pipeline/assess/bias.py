r"""How far the moments of a reference are from those of a population, beside what chance does.

With :math:`\delta` the difference of means, and S the population's covariance,

.. math:: b^2 = \delta' S^{-1} \delta, \qquad r = \operatorname{Tr} \Sigma / \operatorname{Tr} S, \qquad
          F = \lVert \delta \rVert^2 + \operatorname{tr}(\Sigma + S - 2 (\Sigma S)^{1/2}).

A sample's b and F are too large, by what chance adds; a bootstrap adds the same once more. So
:math:`2 b^2 - \overline{b^{*2}}` has no bias to first order, and the interval is the basic one,
:math:`2 b^2 - q(b^{*2})`. Chance alone is drawn as well: samples of the reference's size from all rows together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxcollapse.base import Moments
from jaxcollapse.pipeline.assess.evidence import Evidence, Part

NUM_RESAMPLES = 200
LEVELS = (0.025, 0.975)


class Estimate(NamedTuple):
    """A number without the bias of its sample, its interval of 95%, and what chance alone stays below.

    Attributes:
        value: without bias.
        low: end of the interval.
        high: the other end.
        noise: largest of `NUM_RESAMPLES` samples in which nothing but chance differs.
        seen: the number as the sample has it, to compare with the noise.
    """

    value: float
    low: float
    high: float
    noise: float
    seen: float

    @property
    def is_beyond_chance(self) -> bool:
        """Whether no sample by chance alone was as far, which happens once in 201 times."""
        return bool(self.seen > self.noise)


class Bias(NamedTuple):
    r"""Of a reference, from the population.

    Attributes:
        mean: b.
        trace_ratio: r; its noise is that of :math:`|\log r|`.
        frechet: F.
        reference: moments, [B + 1], of the sample itself and then of its resamples.
        population: likewise.
    """

    mean: Estimate
    trace_ratio: Estimate
    frechet: Estimate
    reference: Moments
    population: Moments


def bias(evidence: Evidence, rng: np.random.Generator) -> Bias:
    """Compare the reference's moments with the population's, or with the union's where no population is known.

    Args:
        evidence: with a population or silos.
        rng: of resamples.
    """
    reference, known = evidence.parties[0], evidence.population is not None
    rows = (reference, *evidence.truth) if known else evidence.parties
    z = np.concatenate([part.points for part in rows])
    mass = np.concatenate([np.full(len(part.points), part.num_rows / len(part.points)) for part in rows])
    is_reference = _among(rows, 0)
    is_other = ~is_reference if known else np.ones_like(is_reference)

    def drawn(weights: np.ndarray, size: int) -> np.ndarray:
        return rng.multinomial(size, weights / weights.sum()) * weights.sum() / size

    resampled, by_chance = [(mass * is_reference, mass * is_other)], []
    for _ in range(NUM_RESAMPLES):
        again = sum(drawn(mass * _among(rows, i), _size(part)) for i, part in enumerate(rows))
        resampled.append((again * is_reference, again * is_other))
        other = drawn(mass, _size(rows[1])) if known else mass
        by_chance.append((drawn(mass, _size(reference)), other))
    ours, theirs = (moments_of(z, [pair[i] for pair in resampled]) for i in (0, 1))
    our_chance, their_chance = (moments_of(z, [pair[i] for pair in by_chance]) for i in (0, 1))
    scale = np.linalg.pinv(theirs.covariance[0], rcond=1e-9, hermitian=True)
    squares, noise = (squared_bias(*pair, scale) for pair in ((ours, theirs), (our_chance, their_chance)))
    ratio, ratio_by_chance = (np.log(_traces(a) / _traces(b)) for a, b in ((ours, theirs), (our_chance, their_chance)))
    distance, distance_by_chance = frechet(ours, theirs), frechet(our_chance, their_chance)
    mean = Estimate(*_basic(squares, np.sqrt), np.sqrt(noise.max()), np.sqrt(squares[0]))
    _, low, high = _basic(ratio, np.exp, -np.inf)
    spread = Estimate(float(np.exp(ratio[0])), low, high, np.abs(ratio_by_chance).max(), np.abs(ratio[0]))
    return Bias(mean, spread, Estimate(*_basic(distance), distance_by_chance.max(), distance[0]), ours, theirs)


def moments_of(points: Float[np.ndarray, "n d"], weights) -> Moments:
    """Compute moments under each of a list of weights, stacked, in double precision."""
    found = []
    for w in weights:
        used = w > 0
        x, share = points[used], w[used] / w.sum()
        mean = share @ x
        found.append((w.sum(), mean, ((x - mean) * share[:, None]).T @ (x - mean)))
    masses, means, covariances = map(np.stack, zip(*found, strict=True))
    return Moments(masses, means, covariances)


def squared_bias(ours: Moments, theirs: Moments, scale: Float[np.ndarray, "d d"]) -> Float[np.ndarray, " stack"]:
    r"""Compute :math:`\delta' S^{-1} \delta` of stacks, with :math:`S^{-1}` given."""
    delta = ours.mean - theirs.mean
    return np.einsum("bi,ij,bj->b", delta, scale, delta)


def frechet(ours: Moments, theirs: Moments) -> Float[np.ndarray, " stack"]:
    """Compute Fréchet distances of stacks: the cross term is the nuclear norm of the product of square roots."""

    def root(covariance):
        spread, axes = np.linalg.eigh(covariance)
        return np.sqrt(np.maximum(spread, 0))[..., None] * np.swapaxes(axes, -1, -2)

    cross = np.linalg.svd(root(ours.covariance) @ np.swapaxes(root(theirs.covariance), -1, -2), compute_uv=False)
    gap = np.sum((ours.mean - theirs.mean) ** 2, axis=-1)
    return np.maximum(gap + _traces(ours) + _traces(theirs) - 2 * cross.sum(axis=-1), 0)


def _basic(
    values: Float[np.ndarray, " stack"], of: Callable[[Any], Any] = np.asarray, least: float = 0.0
) -> tuple[float, float, float]:
    """Take the first as the sample's and the others as its resamples': a function of the estimate and its interval."""
    low, high = np.quantile(values[1:], LEVELS)
    value, low, high = of(np.maximum(2 * values[0] - np.array([values[1:].mean(), high, low]), least))
    return float(value), float(low), float(high)


def _traces(moments: Moments) -> np.ndarray:
    return np.trace(moments.covariance, axis1=-2, axis2=-1)


def _among(rows: tuple[Part, ...], i: int) -> np.ndarray:
    return np.repeat(np.arange(len(rows)) == i, [len(part.points) for part in rows])


def _size(part: Part) -> int:
    """Count the rows that a resample has: copies tell nothing new."""
    return max(2, round(min(part.effective_size, len(part.points))))
