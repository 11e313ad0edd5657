"""Charts of an assessment."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

MOST_SHOWN = 20
LOOKS = {
    "mahalanobis": {"color": style.BLUE, "marker": "o", "fillstyle": style.OPEN},
}


def coverage(table: pd.DataFrame) -> Figure:
    """Draw what silos share with the others, beside random samples of their sizes.

    Args:
        table: silo; and precision, recall and coverage, each with what a random sample of that size has.
    """
    table = table.head(MOST_SHOWN)
    names = ("precision", "recall", "coverage")
    figure, panels = plt.subplots(
        1, 3, figsize=(style.PAGE, 0.9 + 0.22 * len(table)), sharey=True, sharex=True, layout="constrained"
    )
    rows = np.arange(len(table))
    for axes, name, look in zip(panels, names, style.SERIES, strict=False):
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        axes.hlines(rows, low, high, color=look["color"], linewidth=0.9)
        axes.plot(table[name], rows, look["marker"], color=look["color"], markersize=4)
        axes.plot(table[f"{name}_by_chance"], rows, "|", color=style.BLACK, markersize=9)
        axes.set(title=name, xlim=(-0.03, 1.03))
    panels[0].set_yticks(rows, table["silo"])
    panels[0].invert_yaxis()
    return figure


def shares(table: pd.DataFrame) -> Figure:
    """Draw the shares of modes in the reference and in the population; those that are missing are named so.

    Args:
        table: as `jaxcollapse.pipeline.assess.coverage.shares` makes it.
    """
    shown = table.sort_values("population", ascending=False).head(MOST_SHOWN)
    figure, axes = plt.subplots(figsize=(style.PAGE, 2.3), layout="constrained")
    at = np.arange(len(shown))
    for offset, name, marker, color, fill in (
        (-0.12, "population", "s", style.BLACK, "none"),
        (0.12, "reference", "o", style.BLUE, style.BLUE),
    ):
        axes.vlines(at + offset, shown[f"{name}_low"], shown[f"{name}_high"], color=color, linewidth=0.9)
        axes.plot(at + offset, shown[name], marker, color=color, markersize=4, markerfacecolor=fill, label=name)
    top = max(shown["population_high"].max(), shown["reference_high"].max())
    for x, status in zip(at, shown["status"], strict=True):
        axes.annotate(status, (x, -0.07 * top), ha="center", va="center", fontsize=6, color=style.RED)
    axes.set(xticks=at, ylabel="share of rows", ylim=(-0.12 * top, 1.05 * top), xlim=(-0.6, len(shown) - 0.4))
    axes.set_xticklabels(shown["mode"], rotation=45 if shown["mode"].str.len().max() > 8 else 0)
    axes.legend()
    return figure


def forecast(table: pd.DataFrame, resampled: pd.DataFrame) -> Figure:
    """Draw what is left of the trace by theory, with its interval, and in the resampled data.

    Args:
        table: generation, trace, low, high.
        resampled: likewise, of the stand-in; it may be empty.
    """
    figure, axes = plt.subplots(figsize=(style.PAGE * 0.7, 2.5), layout="constrained")
    axes.set_yscale("log")
    axes.axhline(0.5, **style.THEORY)
    axes.annotate("half", (0, 0.5), xytext=(2, 2), textcoords="offset points", fontsize=6.5)
    axes.plot(table["generation"], table["trace"], color=style.BLUE, label="Gaussian theory")
    axes.fill_between(table["generation"], table["low"], table["high"], color=style.BLUE, alpha=0.2, linewidth=0)
    if len(resampled):
        bars = np.abs(resampled[["low", "high"]].to_numpy().T - resampled["trace"].to_numpy())
        axes.errorbar(
            resampled["generation"], resampled["trace"], bars, color=style.RED, marker="s", markersize=3.5,
            linestyle=style.DASHED, capsize=2, label="resampled data",
        )  # fmt: skip
    axes.set(xlabel="generation", ylabel="trace over that of generation 0")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:.3g}"))
    if np.min(table["low"]) > 0.05:
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.legend()
    return figure


def gain(table: pd.DataFrame) -> Figure:
    """Draw predicted gains over random selection.

    Args:
        table: as `jaxcollapse.pipeline.assess.gain.gains` makes it.
    """
    figure, axes = plt.subplots(figsize=(style.PAGE * 0.7, 0.8 + 0.3 * len(table)), layout="constrained")
    rows = np.arange(len(table))
    for row, (name, mean, low, high, *_) in zip(rows, table.to_numpy(), strict=True):
        look = {k: v for k, v in (style.VERIFIERS | LOOKS)[name].items() if k != "linestyle"}
        axes.plot([low, high], [row, row], color=look["color"], linewidth=1.2)
        axes.plot([mean], [row], markersize=5, linestyle="none", **look)
    axes.axvline(0, **style.THEORY)
    axes.set(xlabel="log of distance over that of random selection (left: pays)")
    axes.set_yticks(rows, [style.label(name) for name in table["verifier"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    return figure
