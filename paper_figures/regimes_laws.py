"""Laws of generators that expand or produce junk: decay, best budgets and crossing times, simulated and predicted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

BARS = {"linestyle": "none", "elinewidth": 0.7, "markeredgewidth": 0.7}
SIZES = {"replace": 5, "accumulate": 2.5}  # where both workflows are at one place, both are seen
SCALES = ((style.OPEN, style.DOTTED), (style.FULL, "-"))


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw decay and crossing times over what theory says, and best budgets over the share of junk."""
    figure, (decay, best, times) = plt.subplots(3, 1, figsize=(style.COLUMN, 5.8), layout="constrained")
    tables = []

    def table_of(here: xr.Dataset, *names: str) -> pd.DataFrame:
        tables.append(here[list(names)].to_dataframe().reset_index().dropna())
        return tables[-1]

    looks = {w: style.WORKFLOWS[w] | BARS | {"markersize": SIZES[w]} for w in data.workflow.values}
    scales = list(zip(data.scale.values, SCALES, strict=False))
    for workflow, look in looks.items():
        here = data.sel(workflow=workflow)
        rows = table_of(here, "exponent", "exponent_error", "exponent_theory", "exponent_limit")
        decay.errorbar(rows.exponent_limit, rows.exponent, 2 * rows.exponent_error, **look)
        for scale, (fill, dash) in scales:
            rows = table_of(here.sel(scale=scale), "best_budget", "best_budget_error", "best_budget_exact")
            best.errorbar(rows.share, rows.best_budget, 2 * rows.best_budget_error, fillstyle=fill, **look)
            best.plot(rows.share, rows.best_budget_exact, color=look["color"], linestyle=dash, linewidth=0.7)
        gained = here.where(here.crossing_theory > 0)
        rows = table_of(gained, "crossing", "crossing_error", "crossing_theory")
        times.errorbar(rows.crossing_theory, rows.crossing, 2 * rows.crossing_error, **look)

    n, many = (data.attrs["configuration"][name] for name in ("num_kept", "many_kept"))
    decay.axline((0, 0), slope=1, **style.THEORY)
    decay.set(xlabel=r"predicted $1 - \kappa (1 + h^2)$", ylabel="simulated")
    decay.set_title(f"decay of the trace, $n = {many}$", loc="left")
    best.plot(data.share, 1 - data.share, **style.THEORY)
    best.set(xlabel=r"junk share $\rho$", ylabel=r"best budget $\alpha$")
    best.set_title(f"best budget, $n = {n}$", loc="left")
    times.axline((1, 1), slope=1, **style.THEORY)
    times.set(xscale="log", yscale="log", xlabel="predicted, generations", ylabel="simulated, generations")
    times.set_title(f"gain lost again, $n = {many}$", loc="left")
    for axis in (times.xaxis, times.yaxis):
        low, high = axis.get_view_interval()
        ticks = [t for t in np.outer(10.0 ** np.arange(-1, 4), [1, 2, 5]).ravel() if low <= t <= high]
        axis.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
        axis.set_ticks([], minor=True)
    handles = [Line2D([], [], label=style.label(w), linestyle="none", **style.WORKFLOWS[w]) for w in looks]
    handles += [
        Line2D([], [], label=f"junk of scale {scale:g}", color="0.3", marker="o", fillstyle=fill, linestyle=dash)
        for scale, (fill, dash) in scales
    ]
    handles += [Line2D([], [], label="in closed form", **style.THEORY)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1, markerscale=0.6)
    return figure, pd.concat(tables)
