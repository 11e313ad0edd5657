"""Time and memory against size, with the exponents of their growth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

LOOKS = style.VERIFIERS | {
    "potentials": {"color": style.ORANGE, "marker": "o", "linestyle": "-"},
    "c-transform": {"color": style.GREEN, "marker": "v", "linestyle": style.DOTTED},
}
QUANTITIES = {"seconds": "seconds", "bytes": "temporary bytes"}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw both quantities, a row each, against every axis, a column each; at the end of a line its exponent."""
    order = ["operation", "axis", "factor"]
    table = data[["size", *QUANTITIES]].to_dataframe(order).dropna().astype({"bytes": int}).reset_index()
    names = list(dict.fromkeys(table.axis))
    operations = list(dict.fromkeys(table.operation))
    figure, panels = plt.subplots(
        2, len(names), figsize=(style.PAGE, 4.0), sharex="col", sharey="row", layout="constrained"
    )
    for row, (quantity, label) in zip(panels, QUANTITIES.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            for operation in operations:
                cell = table[(table.axis == name) & (table.operation == operation)]
                if len(cell) == 0:
                    continue
                slope = np.polyfit(np.log(cell["size"]), np.log(cell[quantity]), 1)[0]
                look = LOOKS[operation]
                axes.plot(cell["size"], cell[quantity], markersize=2.5, label=style.label(operation), **look)
                end = cell[["size", quantity]].iloc[-1]
                axes.annotate(
                    f"{slope:z.2f}", end, (4, 0), textcoords="offset points", va="center", fontsize=6,
                    color=look["color"],
                )  # fmt: skip
            axes.set(xscale="log", yscale="log")
        row[0].set_ylabel(label)
    for axes, name in zip(panels[-1], names, strict=True):
        sizes = sorted(table["size"][table.axis == name].unique())
        axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=6)
        axes.xaxis.minorticks_off()
        axes.set_xlabel(name)
    handles = {name: line for axes in panels[0] for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    return figure, table
