"""Collapse of a Gaussian: trace and mean error over generations, six settings, theory on top."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

PANELS = {
    "trace_ratio": r"trace ratio $\mathrm{Tr}\,\Sigma_t / \mathrm{Tr}\,\Sigma_0$",
    "mean_error": r"mean error $\|\mu_t - \mu_0\|^2$",
}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw means over instances with two standard errors of their logarithms, and the mean of the theory."""
    table = data.sel(generation=slice(1, None)).to_dataframe().reset_index()
    figure, panels = plt.subplots(2, 1, figsize=(style.COLUMN, 5.0), sharex=True, layout="constrained")
    drawn = []
    for axes, (metric, label) in zip(panels, PANELS.items(), strict=True):
        means = style.over_seeds(table, ["setting", "source", "generation"], metric)
        drawn.append(means.assign(metric=metric))
        axes.set(xscale="log", yscale="log", ylabel=label)
        for setting, rows in means.groupby("setting"):
            style.band(axes, rows[rows.source == "simulation"], "mean", "error", **style.workflow(setting))
            theory = rows[rows.source == "theory"]
            axes.plot(theory.generation, theory["mean"], zorder=3, **style.THEORY)
        axes.set_xlim(1, table.generation.max())
    panels[0].set_ylim(1e-2, 2)
    panels[1].set_xlabel("generation $t$")
    handles = [Line2D([], [], markersize=3, label=style.label(name), **look) for name, look in style.WORKFLOWS.items()]
    handles += [
        Line2D([], [], color="0.4", label="with selection"),
        Line2D([], [], color="0.4", linestyle=style.DOTTED, label="without"),
        Line2D([], [], label="theory", **style.THEORY),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, pd.concat(drawn)
