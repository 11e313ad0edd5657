"""Gain over random selection: predicted before anything is trained, and what happened."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.analysis import seed_interval
from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw what happened over what was predicted, a marker for each verifier and a colour for each generator."""
    rows = []
    for generator, verifier in np.ndindex(data.generator.size, data.verifier.size):
        cell = data.isel(generator=generator, verifier=verifier)
        predicted, happened = (seed_interval(cell[name].to_numpy()) for name in ("predicted", "happened"))
        rows.append(
            {
                "generator": cell.generator.item(),
                "verifier": cell.verifier.item(),
                "log_trace": cell.log_trace.item(),
                "log_trace_half": cell.log_trace_half.item(),
                "junk_share": cell.junk_share.item(),
                "predicted": predicted.mean,
                "predicted_half": predicted.high - predicted.mean,
                "happened": happened.mean,
                "happened_half": happened.high - happened.mean,
            }
        )
    table = pd.DataFrame(rows).astype({"predicted": float, "happened": float})
    figure, axes = plt.subplots(figsize=(style.COLUMN, 4.6), layout="constrained")
    colours = {g: look["color"] for g, look in zip(data.generator.values, style.SERIES, strict=False)}
    for row in table.itertuples():
        look = {name: style.VERIFIERS[row.verifier][name] for name in ("marker", "fillstyle")}
        axes.errorbar(
            row.predicted, row.happened, row.happened_half, row.predicted_half, color=colours[row.generator],
            markersize=4, elinewidth=0.5, markeredgewidth=0.7, **look,
        )  # fmt: skip
    axes.axline((0, 0), slope=1, **style.THEORY)
    for line in (axes.axhline, axes.axvline):
        line(0, color="0.7", linewidth=0.6, zorder=0)
    axes.set(xlabel="predicted log distance over random selection's", ylabel="happened")
    right = np.sign(table.predicted) == np.sign(table.happened)
    axes.set_title(f"signs right: {right.sum()} of {len(right)}", loc="left")
    handles = [Line2D([], [], color=c, label=style.label(g)) for g, c in colours.items()]
    for verifier in data.verifier.values:
        look = {name: style.VERIFIERS[verifier][name] for name in ("marker", "fillstyle")}
        handles.append(Line2D([], [], color="0.3", linestyle="none", label=style.label(verifier), **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, table
