"""Verifiers in the recursion: what keeps the trace, what stays near the truth, and what it costs."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw trace ratios over generations, and the distance to the truth at the end against all bytes sent."""
    quantities = [name for name in ("trace_ratio", "bures_w2", "bytes", "exchange_rounds") if name in data]
    table = data[quantities].to_dataframe().reset_index()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 3.0), layout="constrained")
    by = ["verifier", "generation"]
    drawn = pd.concat([style.over_seeds(table.dropna(subset=q), by, q).assign(quantity=q) for q in quantities])
    left.set(xscale="log", yscale="log", xlabel="generation $t$", ylabel="trace ratio")
    for verifier in dict.fromkeys(table.verifier):
        look, here = style.VERIFIERS[verifier], drawn[drawn.verifier == verifier]
        rows = here[(here.quantity == "trace_ratio") & (here.generation > 0)]
        style.band(left, rows, "mean", "error", label=style.label(verifier), **look)
        last = here[here.generation == table.generation.max()].set_index("quantity")
        sent, distance = last.loc["bytes"], last.loc["bures_w2"]
        right.errorbar(
            sent["mean"], distance["mean"], 2 * distance["error"], 2 * sent["error"], markersize=4,
            **look | {"linestyle": "none"},
        )  # fmt: skip
    left.set_xlim(1, table.generation.max())
    right.set(yscale="log", xlabel="bytes sent, mean over seeds")
    right.set_ylabel(rf"Bures $W_2$ to the truth, $t = {table.generation.max()}$")
    right.set_xscale("symlog", linthresh=100)
    right.set_xlim(-20, 3 * drawn["mean"][drawn.quantity == "bytes"].max())
    figure.legend(loc="outside right center")
    return figure, drawn
