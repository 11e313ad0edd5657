"""Scheme II round by round: distance to the central barycenter and to the Gaussian fixed point."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

DASHES = ("-", style.DASHED)
PANELS = {
    "to_central": "distance to the\ncentral barycenter / spread",
    "to_gaussian": "distance of moments to the\nGaussian barycenter / spread",
}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw means over problems with two standard errors, one panel for each oracle."""
    figure, panels = plt.subplots(1, 2, figsize=(style.PAGE, 2.4), layout="constrained")
    table = data[list(PANELS)].to_dataframe().reset_index()
    epsilons, steps = (sorted(table[name].unique()) for name in ("epsilon", "step"))
    drawn = []
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        means = style.over_seeds(table, ["epsilon", "step", "round"], column)
        drawn.append(means.assign(quantity=column))
        axes.set(yscale="log", xlabel="round", ylabel=label)
        for epsilon, look in zip(epsilons, style.SERIES, strict=False):
            for step, dash in zip(steps, DASHES, strict=False):
                rows = means[(means.epsilon == epsilon) & (means.step == step)]
                style.band(axes, rows, "mean", "error", x="round", **look | {"linestyle": dash})
    panels[0].axhline(float(data.floor.mean()), **style.THEORY)
    handles = [
        Line2D([], [], markersize=3, label=rf"$\epsilon$ = {epsilon:g}", **look | {"linestyle": "none"})
        for epsilon, look in zip(epsilons, style.SERIES, strict=False)
    ]
    handles += [
        Line2D([], [], color="0.4", linestyle=dash, label=f"step {step:g}")
        for step, dash in zip(steps, DASHES, strict=False)
    ]
    handles.append(Line2D([], [], label="two central solutions", **style.THEORY))
    panels[0].legend(handles=handles, loc="upper right")
    return figure, pd.concat(drawn)
