"""Scheme I: how near the interpolating measure comes to the geodesic, and its potentials."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

COLOURS = (style.ORANGE, style.SKY, style.BLUE, style.RED)


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw the excess over the distance of the ends by round, and the slope of potentials by tau."""
    table = data[["excess", "potential_slope"]].to_dataframe().reset_index()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 2.4), layout="constrained")
    excess = style.over_seeds(table, ["tau", "round"], "excess")
    for (tau, rows), colour in zip(excess.groupby("tau"), COLOURS, strict=False):
        left.plot(rows["round"], rows["mean"], color=colour, label=rf"$\tau = {tau:g}$")
        low, high = rows["mean"] - 2 * rows["error"], rows["mean"] + 2 * rows["error"]
        left.fill_between(rows["round"], low, high, color=colour, alpha=0.2, linewidth=0)
    left.axhline(0.01, label="1%", **style.THEORY)
    left.set(yscale="log", xlabel="round", ylabel=r"$[W(P, \xi) + W(\xi, Q)] / W(P, Q) - 1$")
    left.legend()
    last = table[table["round"] == table["round"].max()]
    slopes = style.over_seeds(last, ["tau"], "potential_slope")
    right.plot([0, 1], [0, 1], label=r"$f_\tau = \tau f$", **style.THEORY)
    right.errorbar(
        slopes.tau, slopes["mean"], 2 * slopes["error"], fmt="o", markersize=3, color=style.BLUE, label="measured"
    )
    right.set(
        xlabel=r"$\tau$", ylabel=r"slope of $f_\tau$ on $f$", xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.25)
    )
    right.legend(loc="upper left")
    drawn = pd.concat([excess.assign(quantity="excess"), slopes.assign(quantity="potential_slope")])
    return figure, drawn
