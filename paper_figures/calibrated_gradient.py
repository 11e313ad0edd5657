"""Calibrated gradients against finite differences of the exact cost: every point probed, direct and by proxy."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw predicted against measured derivatives at the smallest change of mass, a panel for each epsilon."""
    smallest = data[["predicted", "finite_difference", "marginal_error"]].sel(size=data["size"].min())
    table = smallest.to_dataframe().reset_index()
    epsilons = sorted(table.epsilon.unique(), reverse=True)
    figure, panels = plt.subplots(
        1, len(epsilons), figsize=(style.PAGE, 2.6), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    limits = np.array([table.finite_difference.min(), table.finite_difference.max()])
    for axes, epsilon in zip(panels[0], epsilons, strict=True):
        axes.plot(limits, limits, **style.THEORY)
        for tau, look in zip(sorted(table.tau.unique()), style.SERIES, strict=False):
            cell = table[(table.epsilon == epsilon) & (table.tau == tau)]
            slope = np.polyfit(cell.finite_difference, cell.predicted, 1)[0]
            correlation = np.corrcoef(cell.finite_difference, cell.predicted)[0, 1]
            name = "direct" if tau == 1 else rf"proxy, $\tau = {tau:g}$"
            rank = cell.finite_difference.corr(cell.predicted, method="spearman")
            label = rf"{name}: slope {slope:.2f}, $r$ = {correlation:.3f}, $\rho$ = {rank:.3f}"
            points = look | {"linestyle": "none", "markersize": 2.5, "alpha": 0.8}
            axes.plot(cell.finite_difference, cell.predicted, label=label, **points)
        axes.set_title(rf"$\epsilon$ = {epsilon:g} mean cost")
        axes.set_xlabel("measured derivative of the cost")
        axes.legend(loc="upper left", handletextpad=0.1, borderaxespad=0, fontsize=5.5)
    panels[0, 0].set_ylabel("calibrated gradient")
    # Linear where most candidates are, logarithmic where those far out are.
    panels[0, 0].set_xscale("symlog", linthresh=10)
    panels[0, 0].set_yscale("symlog", linthresh=10)
    panels[0, 0].set_ylim(top=1e5)
    return figure, table
