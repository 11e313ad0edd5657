"""What attacks on a silo's replies recover, against the sharpness of the plans."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw, for each dimension, how near the recovered points come to the silo's, and which share of them hits."""
    table = data[["distance", "share_recovered"]].to_dataframe().reset_index()
    dims = table.dim.unique()
    figure, rows = plt.subplots(
        2, len(dims), figsize=(style.PAGE, 3.6), layout="constrained", sharex=True, sharey="row", squeeze=False
    )
    keys = ["dim", "attack", "epsilon"]
    quantities = {
        "distance": "distance to the nearest sample\n/ spacing of the samples",
        "share_recovered": "share of recovered points\nwithin a tenth of the spacing",
    }
    summaries = []
    for panels, (quantity, label) in zip(rows, quantities.items(), strict=True):
        summary = style.over_seeds(table, keys, quantity)
        summaries.append(summary.assign(quantity=quantity))
        for axes, dim in zip(panels, dims, strict=True):
            here = summary[summary.dim == dim]
            control, *attacks = (lines for _, lines in here.groupby("attack", sort=False))
            axes.plot(control.epsilon, control["mean"], label="fresh draw of the same law", **style.THEORY)
            for lines, look in zip(attacks, style.SERIES, strict=False):
                name = lines.attack.iloc[0]
                axes.errorbar(lines.epsilon, lines["mean"], 2 * lines["error"], markersize=2.5, label=name, **look)
            axes.set(xscale="log")
        panels[0].set_ylabel(label)
    for axes, dim in zip(rows[0], dims, strict=True):
        axes.set_title(f"{dim} dimensions")
    for axes in rows[-1]:
        axes.set_xlabel(r"$\varepsilon$ / mean cost")
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, pd.concat(summaries)
