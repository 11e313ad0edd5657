"""Every way to select against random selection, seed by seed."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

QUANTITIES = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "trace_ratio": "trace ratio",
}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw paired differences with 95% intervals, a row of panels for each split and generator.

    One seed has no interval: its difference stands alone, and tells nothing better or worse.
    """
    columns, order = ["mean", "half", "difference_mean", "difference_half"], ["score", "split", "generator", "verifier"]
    table = data[columns].rename(selection="verifier").to_dataframe(order).reset_index()
    table = table[(table.verifier != "random") & table.score.isin(QUANTITIES)]
    rows = list(table[["split", "generator"]].drop_duplicates().itertuples(index=False, name=None))
    verifiers = list(dict.fromkeys(table.verifier))
    figure, panels = plt.subplots(
        len(rows), len(QUANTITIES), figsize=(style.PAGE, 0.5 + max(0.9, 0.125 * len(verifiers)) * len(rows)),
        layout="constrained", sharex="col", sharey=True, squeeze=False,
    )  # fmt: skip
    distance = table[table.score == "frechet"].difference_mean
    low, high = distance.min(), distance.max()
    position = {verifier: -i for i, verifier in enumerate(verifiers)}
    for line, (split, generator) in zip(panels, rows, strict=True):
        for axes, quantity in zip(line, QUANTITIES, strict=True):
            cell = table[(table.split == split) & (table.generator == generator) & (table.score == quantity)]
            away = np.sign(cell.difference_mean) * (abs(cell.difference_mean) > cell.difference_half)
            better = away * (-1 if quantity == "frechet" else 1) * (quantity != "trace_ratio")
            for sign, colour, marker in ((1, style.GREEN, "^"), (0, "grey", "o"), (-1, style.RED, "v")):
                some = cell[better == sign]
                half = some.difference_half.where(np.isfinite(some.difference_half), 0)
                axes.errorbar(
                    some.difference_mean, some.verifier.map(position), xerr=half, fmt=marker, color=colour,
                    markersize=2.5, linewidth=0.8,
                )  # fmt: skip
            axes.axvline(0, color="black", linewidth=0.6)
        line[0].set_xscale("symlog", linthresh=0.3)
        line[0].set_xticks([-1, 0, 1, 10])
        line[0].set_xlim(min(-1, 1.5 * low), max(1, 1.5 * high))
        line[0].set_ylabel(f"{split}\n{style.label(generator)}".replace(" with", "\nwith"))
        line[0].set_yticks(list(position.values()), map(named, position), fontsize=6)
        line[0].set_ylim(0.6 - len(verifiers), 0.6)
    for axes, title in zip(panels[0], QUANTITIES.values(), strict=True):
        axes.set_title(title)
    figure.supxlabel(
        "difference from random selection, last generation (green, up: better; red, down: worse)", fontsize=7
    )
    return figure, table


def named(selection: str) -> str:
    """Write a way to select as the figure shows it; what any of several silos verifies is a mean over them."""
    verifier, *_any = selection.split(", ")
    return style.label(verifier) + " (mean over silos)" * bool(_any)
