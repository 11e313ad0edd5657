"""What a reference and silos cover of a population: by the balls about points, by class, and by mode."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from sklearn.cluster import KMeans

from jaxcollapse.analysis import wilson
from jaxcollapse.base import Measure
from jaxcollapse.metrics import POINT_METRICS
from jaxcollapse.pipeline.assess.bias import frechet, moments_of
from jaxcollapse.pipeline.assess.evidence import Evidence, Part

MAX_POINTS = 1000  # of the union, and of the population, whose distances are looked at
MIN_POINTS = 50  # of a silo among them
NUM_MODES = 10
NUM_DRAWS = 3  # of random samples that a silo is compared with
MIN_EXPECTED = 5.0  # rows of a mode that a random sample would have: below, none may be chance
NAMES = ("precision", "recall", "density", "coverage")


class Points(NamedTuple):
    """Points of one or several parts, [n, d], what each stands for, and whose it is."""

    points: Float[np.ndarray, "n d"]
    weights: np.ndarray
    owner: np.ndarray


class Coverage(NamedTuple):
    """What a reference and silos cover.

    Attributes:
        reference: of the population by the reference, and by a random sample of its size; a row of `NAMES` each.
        silos: one row each.
        without: one row each, for what the union loses without a silo; None where there is no other.
        num_points: of the reference and of what it is compared with.
        num_union: points of all parties.
    """

    reference: pd.DataFrame
    silos: pd.DataFrame
    without: pd.DataFrame | None
    num_points: tuple[int, int]
    num_union: int


def coverage(evidence: Evidence, rng: np.random.Generator) -> Coverage:
    """Measure precision, recall, density and coverage of each party, beside a random sample of its size.

    A party is compared with the others' rows, and the reference with the population where there is one. A random sample
    is one of the rows that both have, compared with the rest.

    Args:
        evidence: with a population or silos.
        rng: of subsamples.
    """
    union = _take(rng, evidence.parties)
    known = evidence.population is not None
    population = _take(rng, evidence.truth) if known else union
    num = len(evidence.parties)
    masks = [union.owner == k for k in range(num)]
    if known:
        ours = _four(union, population, [(masks[0], np.ones(len(population.points), bool))])
        sample = _halves(rng, len(population.points), int(masks[0].sum()))
        reference = np.stack([ours[0], _four(population, population, sample).mean(axis=0)])
        sizes = int(masks[0].sum()), len(population.points)
    elif num > 1:
        pairs = [(masks[0], ~masks[0]), *_halves(rng, len(union.points), int(masks[0].sum()))]
        found = _four(union, union, pairs)
        reference, sizes = np.stack([found[0], found[1:].mean(axis=0)]), (int(masks[0].sum()), int((~masks[0]).sum()))
    else:
        reference, sizes = np.full((2, 4), np.nan), (int(masks[0].sum()), 0)
    silos, without = pd.DataFrame({"silo": [p.name for p in evidence.parties]}), None
    silos["rows"] = [part.num_rows for part in evidence.parties]
    if num > 1:
        chance = [pair for mask in masks for pair in _halves(rng, len(union.points), int(mask.sum()))]
        found = _four(union, union, [(mask, ~mask) for mask in masks] + chance)
        by_chance = found[num:].reshape(num, NUM_DRAWS, 4).mean(axis=1)
        sizes_of = {"precision": [mask.sum() for mask in masks], "recall": [(~mask).sum() for mask in masks]}
        for i, name in enumerate(NAMES):
            silos[name], silos[f"{name}_by_chance"] = found[:num, i], by_chance[:, i]
            if name != "density":
                num_points = np.array(sizes_of["precision" if name == "precision" else "recall"])
                silos[f"{name}_low"], silos[f"{name}_high"] = wilson(found[:num, i] * num_points, num_points)
        silos = pd.concat([silos, _by_moments(evidence)], axis=1)
        without = _without(evidence, union, population, masks, rng)
    return Coverage(
        pd.DataFrame(reference, ["reference", "random sample"], NAMES), silos, without, sizes, len(union.points)
    )


def _take(rng: np.random.Generator, parts: tuple[Part, ...]) -> Points:
    """Draw points by size of the parts, of each `MIN_POINTS` at least."""
    rows = np.array([part.num_rows for part in parts])
    sizes = [min(len(part.points), max(MIN_POINTS, round(MAX_POINTS * part.num_rows / rows.sum()))) for part in parts]
    chosen = [
        part.points[rng.choice(len(part.points), size, replace=False)] for part, size in zip(parts, sizes, strict=True)
    ]
    return Points(np.concatenate(chosen), np.repeat(rows / sizes, sizes), np.repeat(np.arange(len(parts)), sizes))


def _halves(rng: np.random.Generator, num: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw random samples of a size, at most half, and what each leaves."""
    ranks = [rng.permutation(num) < min(size, num // 2) for _ in range(NUM_DRAWS)]
    return [(mask, ~mask) for mask in ranks]


def _four(y: Points, x: Points, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Measure all four of some points y beside some points x, for each pair of masks."""
    masses = [
        np.float32([mask * of.weights for mask in masks])
        for of, masks in zip((y, x), zip(*pairs, strict=True), strict=True)
    ]
    return np.asarray(_compared(np.float32(y.points), np.float32(x.points), *masses), float)


@jax.jit
def _compared(y: Array, x: Array, y_masses: Array, x_masses: Array) -> Array:
    def each(masses):
        ours, theirs = Measure(y, masses[0]), Measure(x, masses[1])
        return jnp.stack([POINT_METRICS[name](None, ours, theirs) for name in NAMES])

    return jax.lax.map(each, (y_masses, x_masses))


def _by_moments(evidence: Evidence) -> pd.DataFrame:
    """Compare what each silo may tell where data may not meet: its moments, with those of the union."""
    points = np.concatenate([part.points for part in evidence.parties])
    owner = np.repeat(np.arange(len(evidence.parties)), [len(part.points) for part in evidence.parties])
    mass = np.concatenate([np.full(len(p.points), p.num_rows / len(p.points)) for p in evidence.parties])
    ours = moments_of(points, [mass * (owner == k) for k in range(len(evidence.parties))])
    union = moments_of(points, [mass])
    scale = np.linalg.pinv(union.covariance[0], rcond=1e-9, hermitian=True)
    delta = ours.mean - union.mean
    square = np.einsum("bi,ij,bj->b", delta, scale, delta)
    sizes = np.array([min(part.effective_size, len(part.points)) for part in evidence.parties])
    chance = np.einsum("bij,ji->b", ours.covariance, scale) / sizes * (1 - ours.mass / union.mass)
    trace = np.trace(ours.covariance, axis1=1, axis2=2) / np.trace(union.covariance[0])
    found = {"bias": np.sqrt(np.maximum(square - chance, 0)), "trace_ratio": trace, "frechet": frechet(ours, union)}
    return pd.DataFrame(found)


def _without(
    evidence: Evidence, union: Points, population: Points, masks: list[np.ndarray], rng: np.random.Generator
) -> pd.DataFrame:
    """Measure the union, the union without each party, and without as many random rows, against the population."""
    everything = np.ones(len(population.points), bool)
    by_chance = [rng.permutation(mask) for mask in masks for _ in range(NUM_DRAWS)]
    left = [np.ones(len(union.points), bool), *(~mask for mask in (*masks, *by_chance))]
    found = _four(union, population, [(mask, everything) for mask in left])
    kept, random = found[1 : 1 + len(masks)], found[1 + len(masks) :].reshape(len(masks), NUM_DRAWS, 4).mean(axis=1)
    parts = evidence.parties if evidence.population is None else (*evidence.parties, *evidence.truth)
    points = np.concatenate([part.points for part in parts])
    owner = np.repeat(np.arange(len(parts)), [len(part.points) for part in parts])
    mass = np.concatenate([np.full(len(p.points), p.num_rows / len(p.points)) for p in parts])
    ours = owner < len(masks)
    truth = moments_of(points, [mass * (ours if evidence.population is None else ~ours)])
    distance = frechet(moments_of(points, [mass * (ours & (owner != k)) for k in (-1, *range(len(masks)))]), truth)
    return pd.DataFrame(
        {
            "silo": [part.name for part in evidence.parties],
            "coverage_without": kept[:, 3],
            "coverage_lost": found[0, 3] - kept[:, 3],
            "coverage_lost_by_chance": found[0, 3] - random[:, 3],
            "recall_without": kept[:, 1],
            "recall_lost": found[0, 1] - kept[:, 1],
            "recall_lost_by_chance": found[0, 1] - random[:, 1],
            "frechet_without": distance[1:],
            "frechet_gained": distance[1:] - distance[0],
        }
    )


def shares(evidence: Evidence, num_modes: int = NUM_MODES, seed: int = 0) -> pd.DataFrame:
    """Count classes, or k-means cells of the population where there are no labels, in the reference and in silos.

    A mode is missing where the reference has none of it, and a random sample of its size would have at least
    `MIN_EXPECTED` rows; it is scarce where the interval of the reference's share ends below half of the interval of the
    population's; rare where a random sample might have none as well.

    Args:
        evidence: of which the union stands for the population where that is not known.
        num_modes: cells.
        seed: of k-means.

    Returns:
        A row a mode, with Wilson's intervals of 95%.
    """
    truth = evidence.truth
    if evidence.parties[0].labels is not None:
        names, of = np.unique(
            np.concatenate([np.asarray(p.labels) for p in (*evidence.parties, *truth)]), return_inverse=True
        )
        names = [str(name) for name in names]
        parts = np.split(of, np.cumsum([len(p.points) for p in (*evidence.parties, *truth)])[:-1])
        modes = dict(zip([p.name for p in (*evidence.parties, *truth)], parts, strict=True))
    else:
        points = np.concatenate([part.points for part in truth])
        mass = np.concatenate([np.full(len(p.points), p.num_rows / len(p.points)) for p in truth])
        fitted = KMeans(min(num_modes, len(np.unique(points, axis=0))), n_init=3, random_state=seed)
        fitted.fit(points, sample_weight=mass)
        names = [f"cell {i}" for i in range(fitted.n_clusters)]
        modes = {p.name: fitted.predict(p.points) for p in (*evidence.parties, *truth)}
    counts = {name: np.bincount(of, minlength=len(names)) for name, of in modes.items()}
    rows = {p.name: p.num_rows for p in (*evidence.parties, *truth)}
    share = {name: count / count.sum() for name, count in counts.items()}
    goal = sum(share[p.name] * rows[p.name] for p in truth) / sum(rows[p.name] for p in truth)
    size = evidence.parties[0].effective_size
    low, high = wilson(share["reference"] * size, size)
    size_of_goal = sum(p.effective_size for p in truth)
    goal_low, goal_high = wilson(goal * size_of_goal, size_of_goal)
    none, expected = counts["reference"] == 0, goal * size
    status = np.select(
        [none & (expected >= MIN_EXPECTED), none & (goal > 0), high < goal_low / 2, goal == 0],
        ["missing", "rare", "scarce", "unknown to the population"],
        "",
    )
    found = {
        "mode": names, "status": status, "reference_rows": counts["reference"], "reference": share["reference"],
        "reference_low": low, "reference_high": high, "population": goal, "population_low": goal_low,
        "population_high": goal_high,
    }  # fmt: skip
    found |= {p.name: share[p.name] for p in evidence.parties[1:]}
    return pd.DataFrame(found)
