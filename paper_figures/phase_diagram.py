"""Half-lives of the trace over budget and bias: simulated colours under the mean field's contour lines."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxcollapse.paper_figures.support import style

FAR = {"linestyle": "none", "marker": "x", "color": "black", "markersize": 2.5, "markeredgewidth": 0.6}
NEVER = {"facecolor": "white", "edgecolor": "0.6", "hatch": "//////", "linewidth": 0.0}
CONTOUR = {"linestyles": "--", "colors": "black", "linewidths": 0.6}
OF_THEORY = {
    "mean_field": {"linestyle": style.DASHED, "fillstyle": style.OPEN},
    "finite_n": {"linestyle": "-", "fillstyle": style.FULL},
}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw half-lives."""
    steps = octaves(float(data.half_life.min()), float(data.half_life.max()))
    return maps(data, "half_life", dict.fromkeys(data.workflow.values, ("half-life, generations", steps)))


def maps(data: xr.Dataset, quantity: str, scales: Mapping[str, tuple[str, np.ndarray]]) -> tuple[Figure, pd.DataFrame]:
    """Draw maps at the largest n, a row for each workflow and a column for each dimension, and agreement by n below.

    Contours are the mean field's. Crossed cells are off the finite-n theory or, where it is not known, the mean field.

    Args:
        data: of the experiment.
        quantity: half_life or exponent.
        scales: by workflow, the label of its colours, and the levels where they change and contours lie.
    """
    names = [quantity, *(f"{quantity}_{suffix}" for suffix in ("error", "mean_field", "finite_n"))]
    simulated, error, mean_field, finite_n = (data[name] for name in names)
    far = abs(simulated - finite_n.fillna(mean_field)) > 4 * error
    dims = data.dim.values
    figure = plt.figure(figsize=(style.COLUMN, 1.45 * len(scales) + 2.2), layout="constrained")
    figure.suptitle(f"maps of $n = {int(data.num_kept.max())}$", fontsize=8, x=0.02, ha="left")
    grid = figure.add_gridspec(len(scales) + 1, len(dims))
    for line, (workflow, (label, levels)) in enumerate(scales.items()):
        norm = BoundaryNorm(levels, len(levels) - 1)
        colours = ListedColormap(plt.get_cmap("YlGnBu")(np.linspace(0.05, 0.65, len(levels) - 1)))
        row = [figure.add_subplot(grid[line, column]) for column in range(len(dims))]
        for axes, dim in zip(row, dims, strict=True):
            at = {"workflow": workflow, "dim": dim, "num_kept": data.num_kept.max()}
            shown, lines, crossed = (x.sel(at).transpose("bias", "budget").values for x in (simulated, mean_field, far))
            image = axes.imshow(shown, norm=norm, cmap=colours, aspect="auto", origin="lower")
            axes.patch.set(**NEVER)
            if min(lines.shape) > 1:
                axes.clabel(axes.contour(lines, levels, **CONTOUR), fontsize=5, fmt="%g")
            axes.plot(*np.nonzero(crossed)[::-1], **FAR)
            axes.set_xticks(*ticks(data.budget.values))
            axes.set_yticks(*ticks(data.bias.values))
            axes.set_title(f"{style.label(workflow)}, $d = {dim}$", loc="left")
            axes.set_xlabel(r"budget $\alpha$" if line == len(scales) - 1 else "")
        row[0].set_ylabel("bias, st. dev.")
        figure.colorbar(image, ax=row, label=label, aspect=12, format="%g")

    agreement = data[["within_2", "within_4", "median_difference"]].sel(quantity=quantity)
    agreement = agreement.to_dataframe().dropna().reset_index()
    axes = figure.add_subplot(grid[-1, :])
    for (workflow, name), rows in agreement.groupby(["workflow", "theory"], sort=False):
        axes.plot(rows.num_kept, rows.within_2, markersize=3.5, **style.WORKFLOWS[workflow], **OF_THEORY[name])
    axes.axhline(0.954, color="0.6", linewidth=0.6)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="samples kept $n$", ylabel="cells within\ntwo st. errors")
    axes.set_xticks(data.num_kept.values, data.num_kept.values)
    axes.minorticks_off()
    handles = [Line2D([], [], label=style.label(w), **style.WORKFLOWS[w]) for w in scales]
    handles += [Line2D([], [], label=style.label(n), color="0.3", marker="o", **look) for n, look in OF_THEORY.items()]
    handles += [Line2D([], [], label="contours: mean field", color="black", linewidth=0.6, linestyle="--")]
    handles += [Line2D([], [], label="theory over 4 errors off", **FAR)]
    generations = data.attrs["configuration"]["num_generations"]
    handles += [Patch(label=f"not halved by $t = {generations}$", **NEVER)] if simulated.isnull().any() else []
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1, markerscale=0.6)
    return figure, pd.concat([data[names].to_dataframe().reset_index(), agreement])


def ticks(values: np.ndarray) -> tuple[range, list[str]]:
    """Label every third cell, up to the last."""
    places = range((len(values) - 1) % 3, len(values), 3)
    return places, [f"{values[i]:g}" for i in places]


def octaves(low: float, high: float) -> np.ndarray:
    """List the powers of two about a range."""
    return 2.0 ** np.arange(np.floor(np.log2(low)), np.ceil(np.log2(high)) + 1)
