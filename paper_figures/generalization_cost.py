"""What selection costs downstream: excess risk against Wasserstein distance, and accuracy over generations."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw each generation and seed as a point, the mean over seeds of their slopes, and what the bound allows."""
    table, summary = data.to_dataframe().reset_index(), data.attrs["summary"]
    accuracy, slope = summary["real_images"]["accuracy"], summary["slope_of_excess_risk"]
    table = table.assign(excess=table.risk - table.kept_risk, allowed=table.slope * table.entropic_w)
    rank = table.entropic_w.corr(table.excess, method="spearman")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(style.PAGE, 2.6), layout="constrained")
    for verifier, look in style.VERIFIERS.items():
        points = table[table.verifier == verifier]
        if len(points):
            scattered = look | {"linestyle": "none", "markersize": 2}
            left.plot(points.entropic_w, points.excess, **scattered)
            middle.plot(points.allowed, points.excess, **scattered)
            means = style.over_seeds(points, ["generation"], "accuracy")
            style.band(right, means, "mean", "error", label=style.label(verifier), **look)
    w = np.array([table.entropic_w.min(), table.entropic_w.max()])
    name = f"mean of the seeds' slopes: {slope:.2f}\nrank correlation: {rank:.2f}"
    left.plot(w, table.excess.mean() + slope * (w - table.entropic_w.mean()), label=name, **style.THEORY)
    left.set_ylim(min(table.excess.min(), 0) - 0.1, 1.25 * table.excess.max())
    left.set(xlabel="entropic $W_2$, kept to real images", ylabel="excess risk: real less kept (nats)")
    left.legend(loc="upper left", borderaxespad=0)
    a = np.array([table.allowed.min(), table.allowed.max()])
    middle.plot(a, a, color="grey", linewidth=0.8, label="bound")
    middle.set(xscale="log", xlabel="bound: steepest loss times $W_2$ (nats)", ylabel="excess risk (nats)")
    middle.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    middle.xaxis.set_major_formatter("{x:g}")
    middle.minorticks_off()
    middle.set_yscale("symlog", linthresh=1)
    middle.set_ylim(bottom=-1)
    middle.legend(loc="upper left")
    right.axhline(accuracy, color="grey", linestyle=":", linewidth=0.8, label="real images")
    right.set(xlabel="generation $t$", ylabel="accuracy on real images", yscale="logit")
    right.set_yticks([0.2, 0.5, 0.8, 0.9, 0.95, 0.98], ["0.2", "0.5", "0.8", "0.9", "0.95", "0.98"])
    right.minorticks_off()
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    measured = ["excess", "risk", "entropic_w", "sliced_w", "frechet", "allowed", "accuracy"]
    columns = ["verifier", "seed", "generation", *measured]
    last = {"verifier": "real images", "seed": 0, "generation": 0, "accuracy": accuracy}
    return figure, pd.concat([table[columns], pd.DataFrame([last])])
