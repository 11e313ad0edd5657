"""Collapse on real digits: what a verifier's silo does to each workflow."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

VERIFIERS = {"random": "random", "pooled": "pooled", "silo": "single_silo"}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw trace ratios: a row for each split, a column for each workflow."""
    dims = ["source", "split", "verifier", "seed", "generation", "workflow"]
    table = data.trace_ratio.sel(generation=slice(1, None)).to_dataframe(dim_order=dims).reset_index()
    means = style.over_seeds(table, ["workflow", "split", "verifier", "source", "generation"], "trace_ratio")
    splits, workflows = means.split.unique(), means.workflow.unique()
    figure, panels = plt.subplots(
        len(splits), len(workflows), figsize=(style.PAGE, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    for row, split in zip(panels, splits, strict=True):
        for axes, workflow in zip(row, workflows, strict=True):
            axes.set(xscale="log", yscale="log", ylim=(1e-3, 2))
            for verifier, name in VERIFIERS.items():
                cell = means[(means.split == split) & (means.workflow == workflow) & (means.verifier == verifier)]
                style.band(axes, cell[cell.source == "simulation"], "mean", "error", **style.VERIFIERS[name])
                theory = cell[cell.source == "theory"]
                axes.plot(theory.generation, theory["mean"], **style.THEORY)
            axes.set_xlim(1, table.generation.max())
        row[0].set_ylabel(f"{split}\ntrace ratio")
    for axes, workflow in zip(panels[0], workflows, strict=True):
        axes.set_title(style.label(workflow))
    for axes in panels[-1]:
        axes.set_xlabel("generation $t$")
    handles = [Line2D([], [], markersize=3, label=v, **style.VERIFIERS[name]) for v, name in VERIFIERS.items()]
    handles.append(Line2D([], [], label="theory", **style.THEORY))
    panels[0, 1].legend(handles=handles, loc="lower left")
    return figure, means
