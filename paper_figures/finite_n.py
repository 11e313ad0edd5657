"""Finite samples: the approach to mean field, and replace without selection."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style


def rows_of(data: xr.Dataset, name: str, quantity: str) -> pd.DataFrame:
    """Lay out a quantity of the last generation: simulation, its standard error, and theory."""
    columns = {name: "simulation", f"{name}_error": "standard_error", f"{name}_theory": "theory"}
    rows = data[list(columns)].to_dataframe().reset_index().rename(columns=columns | {"num_samples": "num_kept"})
    return rows.assign(generation=int(data.generation[-1]), quantity=quantity)


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw the excess over mean field against n, and log determinants against their closed form."""
    figure, (excess, log_det) = plt.subplots(2, 1, figsize=(style.COLUMN, 4.4), layout="constrained")
    generation = int(data.generation[-1])
    ratio = rows_of(data, "final_ratio", "trace over mean field")
    log_dets = rows_of(data, "final_log_det", "log determinant")
    for look, (instance, rows) in zip(style.SERIES, ratio.groupby("instance"), strict=False):
        excess.errorbar(
            rows.num_kept, rows.simulation - 1, 2 * rows.standard_error,
            markersize=3, capsize=1.5, elinewidth=0.6, label=f"instance {instance}", **look | {"linestyle": "none"},
        )  # fmt: skip
        excess.plot(rows.num_kept, rows.theory - 1, **style.THEORY)
    excess.set(xscale="log", yscale="log", xlabel="samples kept $n$")
    excess.set_ylabel(f"trace over mean field $-\\,1$, $t = {generation}$")
    excess.plot([], [], label="linear noise, $c/n$", **style.THEORY)
    excess.legend()

    log_det.errorbar(
        log_dets.num_kept, -log_dets.simulation, 2 * log_dets.standard_error,
        fmt="o", markersize=3, color=style.ORANGE, capsize=1.5, elinewidth=0.6, label="replace, $d = 2$",
    )  # fmt: skip
    log_det.plot(log_dets.num_kept, -log_dets.theory, label="closed form", **style.THEORY)
    log_det.set(xscale="log", yscale="log", xlabel="samples a generation $n$")
    log_det.set_ylabel(rf"$-E\,\log\det\Sigma_t$, $t = {generation}$")
    log_det.legend()
    for axes, ticks in ((excess, np.sort(data.num_kept)), (log_det, np.sort(data.num_samples))):
        axes.set_xticks(ticks, [str(t) for t in ticks], minor=False)
        axes.minorticks_off()
    return figure, pd.concat([ratio, log_dets])
