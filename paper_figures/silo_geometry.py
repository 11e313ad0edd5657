"""When selection is better than random: a map of skew and budget, and one dial at a time, of silos, fits or defects."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

DIALS = {"num_silos": "silos $K$", "num_train": "real images", "num_iterations": "EM iterations"}
DEFECTS = {
    "noise": "noise $h$",
    "junk_share": r"share of junk $\rho$",
    "blend_share": r"share of blends $\beta$",
    "bandwidth": "bandwidth $b$",
}
OF_THE_MAP = {"linestyle": "none", "fillstyle": "none", "markeredgewidth": 0.6}
LARGEST = 4  # colours end at a sixteenth, and at sixteen times, the distance of random selection
ACROSS = 5  # panels beside one another


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw gains over random selection, log2 of the ratio of Fréchet distances; crossed where two errors reach zero.

    Open points along the dials are the map's: their silos share a class less evenly, and are other draws. Below the
    severity of a defect stands what each generation of random selection adds to the logarithm of the trace.
    """
    table = data[["gain"]].to_dataframe().dropna().reset_index()
    table = table[table.verifier != "random"]
    keys = ["classes", "budget", *DIALS, "verifier"]
    drawn = style.over_seeds(table, keys, "gain")
    base = {dial: drawn[dial].iloc[0] for dial in DIALS}
    verifiers = list(dict.fromkeys(drawn.verifier))
    dials = [dial for dial in DIALS if drawn[dial].nunique() > 1]
    defects = tabulate_defects(data) if "defect_gain" in data else None
    columns, rows = min(ACROSS, len(verifiers)), -(-len(verifiers) // ACROSS)
    heights = [1.3 + 1.2 * rows] + [1.7] * bool(dials) + [2.2] * (defects is not None)
    figure = plt.figure(figsize=(style.PAGE, sum(heights)), layout="constrained")
    top, *rest = np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights))
    at_base = drawn[(drawn[list(base)] == pd.Series(base)).all(axis=1)]
    panels = top.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, verifier in zip(panels.flat, verifiers, strict=False):
        here = at_base[at_base.verifier == verifier]
        gain, error = (here.pivot(index="classes", columns="budget", values=c) for c in ("mean", "error"))
        image = axes.imshow(gain, cmap="PuOr", vmin=-LARGEST, vmax=LARGEST, aspect="auto", origin="lower")
        for i, j in zip(*np.nonzero(abs(gain.to_numpy()) < 2 * error.to_numpy()), strict=True):
            axes.plot(j, i, "x", color="black", markersize=3, markeredgewidth=0.6)
        axes.set_xticks(range(gain.shape[1]), [f"{b:g}" for b in gain.columns])
        axes.set_yticks(range(gain.shape[0]), gain.index)
        axes.set_title(style.label(verifier))
    for axes in panels.flat[len(verifiers) - columns : len(verifiers)]:
        axes.tick_params(labelbottom=True)
    top.colorbar(image, ax=panels, label=r"$\log_2$ of gain", aspect=12 * rows)
    for axes in panels.flat[len(verifiers) :]:
        axes.remove()
    top.supxlabel("budget", fontsize=8)
    top.supylabel("classes of a silo $C$", fontsize=8)
    handles = [Line2D([], [], markersize=3, label=style.label(v), **style.VERIFIERS[v]) for v in verifiers]
    if dials:
        one_class = drawn[(drawn.classes == drawn.classes.iloc[0])]
        panels = rest[0].subplots(1, len(dials), sharey=True, squeeze=False)[0]
        for axes, dial in zip(panels, dials, strict=True):
            others = {other: value for other, value in base.items() if other != dial}
            here = one_class[(one_class[list(others)] == pd.Series(others)).all(axis=1)]
            here = here[here.budget == here[here[dial] != base[dial]].budget.iloc[0]]
            for verifier in verifiers:
                line, look = here[here.verifier == verifier].sort_values(dial), style.VERIFIERS[verifier]
                apart = line[dial] == base[dial]
                for points, drawn_as in ((line[~apart], look), (line[apart], look | OF_THE_MAP)):
                    axes.errorbar(points[dial], points["mean"], 2 * points["error"], markersize=3.5, **drawn_as)
            axes.axhline(0, color="black", linewidth=0.6)
            axes.set(xscale="log", xlabel=DIALS[dial])
            axes.set_xticks(sorted(here[dial].unique()), sorted(here[dial].unique()))
            axes.minorticks_off()
        panels[0].set_ylabel(r"$\log_2$ of gain, one class a silo")
        handles.append(Line2D([], [], marker="o", color="0.4", markersize=4, label="of the map above", **OF_THE_MAP))
    if defects is not None:
        names = list(dict.fromkeys(defects.defect))
        panels = rest[-1].subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            here = defects[defects.defect == name]
            for verifier in verifiers:
                line = here[here.verifier == verifier]
                axes.errorbar(line.severity, line["mean"], 2 * line.error, markersize=3.5, **style.VERIFIERS[verifier])
            axes.axhline(0, color="black", linewidth=0.6)
            growth = here.groupby("severity").growth.first()
            axes.set_xlabel(f"{DEFECTS[name]}\ngrowth of the log trace")
            axes.set_xscale("symlog", linthresh=0.1)
            axes.set_xticks(growth.index, [f"{severity:g}\n${each:+.2f}$" for severity, each in growth.items()])
            axes.minorticks_off()
        panels[0].set_ylabel(r"$\log_2$ of gain, one class a silo")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(ACROSS, len(handles)))
    return figure, pd.concat([drawn, defects])


def tabulate_defects(data: xr.Dataset) -> pd.DataFrame:
    """Average gains, and growth under random selection, over seeds."""
    table = data[["defect_gain", "defect_growth"]].to_dataframe().dropna().reset_index()
    place = ["defect", "severity"]
    growth = table.groupby(place).defect_growth.mean().rename("growth")
    return style.over_seeds(table[table.verifier != "random"], [*place, "verifier"], "defect_gain").join(growth, place)
