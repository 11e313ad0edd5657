"""Collapse of a tail: the symbols of a Zipf law that survive, and the mass of those that do not."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

VERIFIERS = {"none": "no verifier", "silo": "verifier prefers its silo's symbols"}
QUANTITIES = {"symbols": "surviving symbols", "lost_mass": "truth's mass on lost symbols"}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw surviving symbols and lost mass, a column for each verifier."""
    by = ["workflow", "verifier", "source", "generation"]
    table = data.sel(generation=slice(1, None)).to_dataframe().reset_index()
    drawn = pd.concat([style.over_seeds(table, by, q).assign(quantity=q) for q in QUANTITIES])
    figure, panels = plt.subplots(
        2, len(VERIFIERS), figsize=(style.PAGE, 3.6), sharex=True, sharey="row", layout="constrained"
    )
    for row, (quantity, label) in zip(panels, QUANTITIES.items(), strict=True):
        for axes, (verifier, title) in zip(row, VERIFIERS.items(), strict=True):
            axes.set(xscale="log", xlim=(1, table.generation.max()))
            if quantity == "symbols":
                axes.set(yscale="log", title=title)
            else:
                axes.set(ylim=(0, 1), xlabel="generation $t$")
            for workflow, look in style.WORKFLOWS.items():
                chosen = (drawn.quantity == quantity) & (drawn.verifier == verifier) & (drawn.workflow == workflow)
                cell = drawn[chosen]
                style.band(axes, cell[cell.source == "simulation"], "mean", "error", **look)
                theory = cell[cell.source == "theory"]
                axes.plot(theory.generation, theory["mean"], **style.THEORY)
        row[0].set_ylabel(label)
    handles = [Line2D([], [], markersize=3, label=style.label(name), **look) for name, look in style.WORKFLOWS.items()]
    handles.append(Line2D([], [], label="theory (a lower bound for accumulate subsample)", **style.THEORY))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure, drawn
