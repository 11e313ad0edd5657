"""Scheme I: how near the interpolating measure comes to the geodesic, and its potentials."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw the excess over the distance of the ends by round, and the slope of potentials by tau."""
    table = data[["excess", "potential_slope"]].to_dataframe().reset_index()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 2.4), layout="constrained")
    excess = style.over_seeds(table, ["tau", "round"], "excess")
    left.set(yscale="log", xlabel="round", ylabel=r"$[W(P, \xi) + W(\xi, Q)] / W(P, Q) - 1$")
    for (tau, rows), look in zip(excess.groupby("tau"), style.SERIES, strict=False):
        style.band(left, rows, "mean", "error", x="round", label=rf"$\tau = {tau:g}$", **look)
    left.axhline(0.01, label="1%", **style.THEORY)
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
