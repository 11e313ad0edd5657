"""Scheme II round by round: distance to the central barycenter and to the Gaussian fixed point."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

COLOURS = (style.RED, style.BLUE, style.GREEN)
STYLES = ("-", (0, (3, 1)))
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
        for epsilon, colour in zip(epsilons, COLOURS, strict=False):
            for step, line in zip(steps, STYLES, strict=False):
                rows = means[(means.epsilon == epsilon) & (means.step == step)]
                axes.plot(rows["round"], rows["mean"], color=colour, linestyle=line)
                low, high = rows["mean"] - 2 * rows["error"], rows["mean"] + 2 * rows["error"]
                axes.fill_between(rows["round"], low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(yscale="log", xlabel="round", ylabel=label)
    panels[0].axhline(float(data.floor.mean()), **style.THEORY)
    handles = [Line2D([], [], color=c, label=rf"$\epsilon$ = {e:g}") for e, c in zip(epsilons, COLOURS, strict=False)]
    handles += [
        Line2D([], [], color="0.4", linestyle=s, label=f"step {t:g}") for t, s in zip(steps, STYLES, strict=False)
    ]
    handles.append(Line2D([], [], label="two central solutions", **style.THEORY))
    panels[0].legend(handles=handles, loc="upper right")
    return figure, pd.concat(drawn)
