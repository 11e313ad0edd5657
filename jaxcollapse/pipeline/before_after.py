"""What a kept set is, beside all candidates and what silos hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxcollapse.analysis import wilson
from jaxcollapse.base import Measure, Moments, Parties
from jaxcollapse.exchanges import carry_out, moments
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.paper_figures.support import style
from jaxcollapse.pipeline.report import Chart, Listing, Quantity

COMPARED = 2000  # rows of each that nearest neighbours are looked for among
SHOWN = 600  # points of each in a chart
NEIGHBOURS = ("precision", "recall", "coverage")
DEFINITIONS = {
    "frechet": "Fréchet distance from the silos' union: of the means, and of the covariances",
    "trace_ratio": "total variance over that of the silos' union",
    "mean_distance": "distance of the mean from that of the silos' union, in its standard deviations (Mahalanobis)",
    "precision": "share inside the silos' support: within the third neighbour's distance of a row of theirs",
    "recall": "share of the silos' rows inside the support of these",
    "coverage": "share of the silos' rows that have one of these among their five nearest",
}
UNITS = {"frechet": "squared units of the features"}


class Side(NamedTuple):
    """Rows, by their moments, and a sample of them.

    Attributes:
        moments: of all of them, in double precision.
        sample: some, at random, [m, d].
    """

    moments: Moments
    sample: Float[np.ndarray, "m d"]


def side(take: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, rng: np.random.Generator, block: int) -> Side:
    """Sum over rows, block by block, about one of them."""
    rows = np.sort(rows)
    centre = np.asarray(take(rows[:1]), np.float64)[0]
    total, square = np.zeros_like(centre), np.zeros((len(centre),) * 2)
    for start in range(0, len(rows), block):
        x = np.asarray(take(rows[start : start + block]), np.float64) - centre
        total, square = total + x.sum(axis=0), square + x.T @ x
    mean = total / len(rows)
    sample = take(np.sort(rng.choice(rows, min(COMPARED, len(rows)), replace=False)))
    return Side(Moments(np.float64(len(rows)), centre + mean, square / len(rows) - np.outer(mean, mean)), sample)


def numbers(side: Side, silos: Side) -> dict[str, float]:
    """Compare rows with the silos' union; by neighbours too, where some of its rows are known."""
    inverse, shift = np.linalg.pinv(silos.moments.covariance), side.moments.mean - silos.moments.mean
    found = {
        "frechet": _frechet(*(jax.tree.map(jnp.float32, _about(s, silos)) for s in (side, silos))),
        "trace_ratio": np.trace(side.moments.covariance) / np.trace(silos.moments.covariance),
        "mean_distance": np.sqrt(max(shift @ inverse @ shift, 0)),
    }
    found |= _neighbours(side.sample, silos.sample) if len(silos.sample) else {}
    return {name: float(value) for name, value in found.items()}


def _about(side: Side, silos: Side) -> Moments:
    """Measure means from that of the silos, so that single precision holds them."""
    return side.moments._replace(mean=side.moments.mean - silos.moments.mean)


_frechet = jax.jit(lambda one, other: METRICS["frechet"](None, one, other))


@jax.jit
def _of_points(points: Measure, real: Measure) -> dict[str, jax.Array]:
    return {name: POINT_METRICS[name](jax.random.key(0), points, real) for name in NEIGHBOURS}


def _neighbours(points: np.ndarray, real: np.ndarray) -> dict[str, jax.Array]:
    """Compare by neighbours, at one size of the samples, so that one program serves all."""

    def filled(sample: np.ndarray) -> Measure:
        missing = COMPARED - len(sample)
        weights = np.pad(np.ones(len(sample), np.float32), (0, missing))
        return Measure(np.pad(np.float32(sample), ((0, missing), (0, 0))), weights)

    return _of_points(filled(points), filled(real))


def quantities(silos: Side, before: Side, after: Side, found: Sequence[Mapping[str, float]]) -> list[Quantity]:
    """List numbers of all candidates and of those kept, `found`; shares of sampled rows have intervals."""

    def bounds(name: str, share: float, side: Side) -> tuple[float, float]:
        if name not in NEIGHBOURS:
            return np.nan, np.nan
        size = len((side if name == "precision" else silos).sample)
        low, high = wilson(share * size, size)
        return float(low), float(high)

    return [
        Quantity(
            f"{name}_{when}", values[name], f"{words}; {whose}", UNITS.get(name, ""), *bounds(name, values[name], side)
        )
        for name, words in DEFINITIONS.items()
        if name in found[0]
        for when, whose, side, values in zip(
            ("before", "after"), ("all candidates", "the kept"), (before, after), found, strict=True
        )
    ]


def columns(names: Sequence[str], silos: Side, before: Side, after: Side) -> Listing:
    """List means and standard deviations by column."""
    found = {"column": list(names)}
    for whose, each in (("silos", silos), ("candidates", before), ("kept", after)):
        found[f"mean_{whose}"] = each.moments.mean
        found[f"sd_{whose}"] = np.sqrt(np.maximum(np.diagonal(each.moments.covariance), 0))
    return Listing("columns", "Means and standard deviations by column", pd.DataFrame(found))


def classes(labels: np.ndarray, kept: np.ndarray, of_silos: np.ndarray | None) -> Listing:
    """List shares of classes among the candidates, the kept, and the silos' rows where they have labels."""
    names, of_rows = np.unique(labels, return_inverse=True)
    if of_silos is not None:
        names = np.union1d(names, of_silos)
        of_rows = np.searchsorted(names, labels)
    found = {
        "class": names,
        "candidates": np.bincount(of_rows, minlength=len(names)) / len(labels),
        "kept": np.bincount(of_rows[kept], minlength=len(names)) / len(kept),
    }
    if of_silos is not None:
        found["silos"] = np.array([np.mean(of_silos == name) for name in names])
    frame = pd.DataFrame(found)
    expected = np.minimum(found["candidates"], found.get("silos", 1))
    error = np.sqrt(expected * (1 - expected) / len(kept))
    frame["falls"] = (frame.kept < expected / 2) & (frame.kept < expected - 4 * error)
    meanings = {
        "falls": "whether the share kept is less than half of that of the candidates and of the silos, beyond four "
        "standard errors"
    }
    return Listing("classes", "Shares of classes", frame, meanings)


def panel(silos: Side, before: Side, after: Side, probability: np.ndarray, shares: Listing | None) -> Chart:
    """Show candidates and kept on the silos' first two principal components, and how probable it was to be kept."""
    n = [f"{s.moments.mass:,.0f}" for s in (silos, before, after)]

    def draw() -> Figure:
        figure, axes = plt.subplots(1, 3, figsize=(style.PAGE, 2.6), layout="constrained")
        _, vectors = np.linalg.eigh(silos.moments.covariance)
        axis = vectors[:, ::-1][:, :2] if vectors.shape[0] > 1 else np.array([[1.0, 0.0]])
        drawn = [(s.sample[:SHOWN] - silos.moments.mean) @ axis for s in (silos, before, after)]
        ends = np.quantile(np.concatenate([drawn[0], drawn[2]]), [0.002, 0.998], axis=0)
        margin = np.maximum(0.15 * (ends[1] - ends[0]), 1e-6)
        for place, points, title, colour, marker in (
            (0, drawn[1], "all candidates", style.RED, "x"), (1, drawn[2], "kept", style.BLUE, "+"),
        ):  # fmt: skip
            if len(drawn[0]):
                axes[place].scatter(*drawn[0].T, s=5, color="0.6", linewidths=0, label="silos", rasterized=True)
            axes[place].scatter(
                *points.T, s=8, color=colour, marker=marker, linewidths=0.5, label=title, rasterized=True
            )
            axes[place].set(xlabel="first principal component", title=title)
            axes[place].set_xlim(ends[0][0] - margin[0], ends[1][0] + margin[0])
            axes[place].set_ylim(ends[0][1] - margin[1], ends[1][1] + margin[1])
            axes[place].legend(loc="upper right", handletextpad=0.1)
        axes[0].set_ylabel("second")
        if shares is not None:
            frame, places = shares.frame, np.arange(len(shares.frame))
            looks = {"silos": ("0.6", "o"), "candidates": (style.RED, "x"), "kept": (style.BLUE, "+")}
            for whose in (c for c in looks if c in frame):
                colour, marker = looks[whose]
                axes[2].plot(places, frame[whose], linestyle="none", color=colour, marker=marker, label=whose)
            axes[2].set_xticks(places, frame["class"], rotation=90 if len(places) > 10 else 0)
            axes[2].set(xlabel="class", title="share of rows", ylim=(0, None))
            axes[2].legend()
        elif np.isfinite(probability).any():
            axes[2].hist(probability[np.isfinite(probability)], bins=40, color=style.BLUE)
            axes[2].set(xlabel="probability of being kept", ylabel="candidates", yscale="log", xlim=(0, 1))
        else:
            axes[2].set_axis_off()
        return figure

    caption = (
        f"The {n[1]} candidates and the {n[2]} kept, beside the silos' {n[0]} rows, on the first two principal "
        f"components of the silos' union; {SHOWN} of each at most are drawn, and what lies outside is not."
    )
    return Chart("before_after", caption, draw)


def side_of(silos: Sequence[np.ndarray], rng: np.random.Generator, block: int) -> Side:
    """Sum over the rows of all silos."""
    rows = np.concatenate([np.asarray(silo) for silo in silos])
    return side(lambda index: rows[index], np.arange(len(rows)), rng, block)


def told_side(parties: Parties) -> Side:
    """Ask silos on other hosts for the moments of their union; no row of theirs comes."""
    found = carry_out(moments(), jax.random.key(0), None, parties)
    return Side(jax.tree.map(lambda leaf: np.asarray(leaf, float), found), np.empty((0, found.mean.size), np.float32))


def exchanged(accounts: Mapping[str, Any]) -> Listing:
    """List what was exchanged with each silo."""
    rows = [(name, a.rounds, a.sent, a.received, a.missing or "took part") for name, a in accounts.items()]
    frame = pd.DataFrame(rows, columns=["silo", "rounds", "bytes_sent", "bytes_received", "outcome"])
    meanings = {
        "rounds": "messages of the silo that were used",
        "bytes_sent": "bytes of the server's messages to it, within the framing of TLS and HTTP/2",
        "bytes_received": "bytes of its messages, likewise",
    }
    return Listing("silos", "What was exchanged with each silo", frame, meanings)
