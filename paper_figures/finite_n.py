"""Finite samples: the approach to mean field, and replace without selection."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures import style


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the excess over mean field against n, and log determinants against their closed form."""
    figure, (excess, log_det) = plt.subplots(2, 1, figsize=(style.COLUMN, 4.4), layout="constrained")
    generation = int(table.generation.iloc[0])
    ratio = table[table.quantity == "trace over mean field"]
    for colour, (instance, rows) in zip((style.BLUE, style.RED, style.GREEN), ratio.groupby("instance"), strict=False):
        excess.errorbar(
            rows.num_kept, rows.simulation - 1, 2 * rows.standard_error,
            fmt="o", markersize=3, color=colour, capsize=1.5, elinewidth=0.6,
            label=f"instance {int(float(instance))}",
        )  # fmt: skip
        excess.plot(rows.num_kept, rows.theory - 1, **style.THEORY)
    excess.set(xscale="log", yscale="log", xlabel="samples kept $n$")
    excess.set_ylabel(f"trace over mean field $-\\,1$, $t = {generation}$")
    excess.plot([], [], label="linear noise, $c/n$", **style.THEORY)
    excess.legend()

    rows = table[table.quantity == "log determinant"]
    log_det.errorbar(
        rows.num_kept, -rows.simulation, 2 * rows.standard_error,
        fmt="o", markersize=3, color=style.ORANGE, capsize=1.5, elinewidth=0.6, label="replace, $d = 2$",
    )  # fmt: skip
    log_det.plot(rows.num_kept, -rows.theory, label="closed form", **style.THEORY)
    log_det.set(xscale="log", yscale="log", xlabel="samples a generation $n$")
    log_det.set_ylabel(rf"$-E\,\log\det\Sigma_t$, $t = {generation}$")
    log_det.legend()
    for axes in (excess, log_det):
        ticks = np.sort(table.num_kept[table.quantity.eq("log determinant") == (axes is log_det)].unique())
        axes.set_xticks(ticks, [str(t) for t in ticks], minor=False)
        axes.minorticks_off()
    return figure, table


if __name__ == "__main__":
    style.main("finite_n", draw)
