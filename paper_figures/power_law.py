"""The exponent map: local slopes over generations, and the last ones against psi."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw slopes with 95% intervals over seeds; mean field dashed, psi as thin lines."""
    drawn = ["slope", "slope_low", "slope_high", "slope_mean_field", "psi"]
    table = data[drawn].rename(centre="generation").to_dataframe().reset_index()
    figure, panels = plt.subplots(3, 1, figsize=(style.COLUMN, 6.6), layout="constrained")
    dims = sorted(table.dim.unique())
    looks = dict(zip(dims, style.SERIES, strict=False))
    colour = {dim: look["color"] for dim, look in looks.items()}
    budget = table.budget.min()
    for axes, target in zip(panels, ("centred", "offset"), strict=False):
        for dim in dims:
            rows = table[(table.target == target) & (table.dim == dim) & (table.budget == budget)]
            axes.fill_between(rows.generation, rows.slope_low, rows.slope_high, color=colour[dim], alpha=0.3, lw=0)
            axes.plot(rows.generation, rows.slope, markersize=3, markevery=0.2, **looks[dim])
            axes.plot(rows.generation, rows.slope_mean_field, **style.THEORY)
            axes.axhline(rows.psi.iloc[0], color=colour[dim], linewidth=0.5, linestyle=":")
        axes.set(xscale="log", ylabel="local slope of trace", xlabel="generation $t$")
        axes.set_title(rf"{target} target, $\alpha = {budget:g}$", loc="left")
    handles = [Line2D([], [], markersize=3, label=f"$d = {dim}$", **looks[dim]) for dim in dims]
    handles += [
        Line2D([], [], label="mean field", **style.THEORY),
        Line2D([], [], color="0.4", linewidth=0.5, linestyle=":", label=r"$\psi = 1 - \kappa_d(\alpha)$"),
    ]
    figure.legend(handles=handles, ncols=3, loc="outside lower center")

    last = table.sort_values("generation").groupby(["target", "dim", "budget"]).tail(1)
    axes = panels[2]
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.6)
    for (target, dim), rows in last.groupby(["target", "dim"]):
        error = [rows.slope - rows.slope_low, rows.slope_high - rows.slope]
        marker = {"marker": "o" if target == "centred" else "s", "markersize": 3.5}
        fill = colour[dim] if target == "centred" else "none"
        axes.errorbar(rows.psi, rows.slope, error, fmt="none", ecolor=colour[dim], elinewidth=0.6, capsize=1.5)
        axes.plot(rows.psi, rows.slope, linestyle="none", color=colour[dim], markerfacecolor=fill, **marker)
    generation = int(last.generation.max())
    axes.set(xlabel=r"$\psi = 1 - \kappa_d(\alpha)$", ylabel=f"slope at $t = {generation}$")
    axes.legend(
        handles=[
            Line2D([], [], color="0.3", marker="o", markersize=3.5, linestyle="none", label="centred"),
            Line2D([], [], color="0.3", marker="s", markersize=3.5, markerfacecolor="none",
                   linestyle="none", label="offset"),
        ]
    )  # fmt: skip
    return figure, table
