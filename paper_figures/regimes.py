"""Where biased selection pays: simulated ratios of distances over junk, expansion and budget, with exact contours."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

MARK = {"linestyle": "none", "color": "black", "markersize": 2.5, "markeredgewidth": 0.6}
PAYS, OPEN = MARK | {"marker": "o"}, MARK | {"marker": "x"}
CONTOUR = {"linestyles": "--", "colors": "black", "linewidths": 0.9}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw a row for each workflow: over expansion at the middle budget, and over budget without expansion.

    Colours and dots are simulated, contours are the exact mean field's zero. All biases count in the share of points on
    the right side.
    """
    middle = {name: float(data[name][data.sizes[name] // 2]) for name in ("budget", "bias")}
    columns = {"expansion": {"budget": middle["budget"]}, "budget": {"expansion": float(data.expansion[0])}}
    labels = {"expansion": r"expansion $h^2$", "budget": r"budget $\alpha$"}
    workflows = data.workflow.values
    figure, grid = plt.subplots(
        len(workflows), 2, figsize=(style.COLUMN, 1.5 * len(workflows) + 1), layout="constrained", squeeze=False
    )
    largest = float(abs(data.log_ratio).quantile(0.8))
    for row, workflow in zip(grid, workflows, strict=True):
        for axes, (name, at) in zip(row, columns.items(), strict=True):
            here = data.sel(workflow=workflow, bias=middle["bias"], **at)
            shown, error, exact = (
                here[key].transpose("share", name).values for key in ("log_ratio", "log_ratio_error", "log_ratio_exact")
            )
            image = axes.imshow(shown, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", origin="lower")
            if min(exact.shape) > 1:
                axes.contour(np.tanh(exact / 2), [0.0], **CONTOUR)  # finite where random selection is perfect
            axes.plot(*np.nonzero(shown < 0)[::-1], **PAYS)
            axes.plot(*np.nonzero(abs(shown) < 2 * error)[::-1], **OPEN)
            every = 1 + shown.shape[1] // 6
            axes.set_xticks(range(shown.shape[1])[::every], [f"{x:g}" for x in data[name].values[::every]])
            axes.set_yticks(range(shown.shape[0]), [f"{x:g}" for x in data.share.values])
            fixed = rf"$\alpha = {at['budget']:g}$" if "budget" in at else rf"$h^2 = {at['expansion']:g}$"
            axes.set_title(f"{style.label(workflow)}, {fixed}", loc="left")
            axes.set_xlabel(labels[name] if workflow == workflows[-1] else "")
        row[0].set_ylabel(r"junk share $\rho$")
    figure.colorbar(image, ax=grid, aspect=30, label="log distance of selection / random", extend="both")
    summary = data.attrs["summary"]
    handles = [
        Line2D([], [], label="selection is closer, simulated", **PAYS),
        Line2D([], [], label="within two standard errors", **OPEN),
        Line2D([], [], label="equal, exact mean field", color="black", linewidth=0.9, linestyle="--"),
    ]
    right = f"on theory's side: {summary['right_side']:.1%} of {summary['points']} points, of all biases and expansions"
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, columnspacing=1, title=right, title_fontsize=6.5
    )
    generations = data.attrs["configuration"]["num_generations"]
    figure.suptitle(rf"$b = {middle['bias']:g}$, $t = {generations}$", fontsize=8, x=0.02, ha="left")
    return figure, data[["log_ratio", "log_ratio_error", "log_ratio_exact"]].to_dataframe().reset_index()
