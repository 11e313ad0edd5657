"""What selection costs downstream: excess risk against Wasserstein distance, and accuracy over generations."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw each generation and seed as a point, the line of least squares through all, and what the bound allows."""
    table, real = data.to_dataframe().reset_index(), data.attrs["summary"]["real_images"]
    table = table.assign(excess=table.risk - table.kept_risk, allowed=table.slope * table.entropic_w)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(style.PAGE, 2.6), layout="constrained")
    for verifier, look in style.VERIFIERS.items():
        points = table[table.verifier == verifier]
        if len(points):
            scattered = look | {"linestyle": "none", "markersize": 2}
            left.plot(points.entropic_w, points.excess, **scattered)
            middle.plot(points.allowed, points.excess, **scattered)
            means = style.over_seeds(points, ["generation"], "accuracy")
            style.band(right, means, "mean", "error", label=style.label(verifier), **look)
    line = scipy.stats.linregress(table.entropic_w, table.excess)
    w = np.array([table.entropic_w.min(), table.entropic_w.max()])
    left.plot(w, line.intercept + line.slope * w, label=f"slope {line.slope:.2g}", **style.THEORY)
    left.set_ylim(min(table.excess.min(), 0) - 0.1, 1.15 * table.excess.max())
    left.set(xlabel="entropic $W_2$, kept to real images", ylabel="excess risk on real images (nats)")
    left.legend(loc="upper left")
    a = np.array([table.allowed.min(), table.allowed.max()])
    middle.plot(a, a, color="grey", linewidth=0.8, label="bound")
    middle.set(xscale="log", xlabel="bound: steepest loss times $W_2$ (nats)", ylabel="excess risk (nats)")
    middle.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    middle.xaxis.set_major_formatter("{x:g}")
    middle.minorticks_off()
    middle.set_yscale("symlog", linthresh=1)
    middle.legend(loc="upper left")
    right.axhline(real["accuracy"], color="grey", linestyle=":", linewidth=0.8, label="real images")
    right.set(xlabel="generation $t$", ylabel="accuracy on real images", ylim=(0, 1))
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    columns = ["verifier", "seed", "generation", "excess", "entropic_w", "allowed", "accuracy"]
    last = {"verifier": "real images", "seed": 0, "generation": 0, "accuracy": real["accuracy"]}
    return figure, pd.concat([table[columns], pd.DataFrame([last])])
