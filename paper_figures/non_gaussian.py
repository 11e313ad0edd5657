"""Collapse beyond the Gaussian: spread and distance over generations, and where the Gaussian theory stops."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

SETTINGS = ("replace", "replace+select", "accumulate", "accumulate+select")
NUMBER = {
    "marker": "*",
    "markersize": 6,
    "markerfacecolor": "white",
    "linestyle": "none",
    "zorder": 4,
    "clip_on": False,
}
# Single numbers at generation 200 [qiao2026], of accumulate, accumulate+select and replace, by family and n. That of
# replace+select is 0.0000.
PUBLISHED_GENERATION = 200
PUBLISHED = {
    ("anisotropic", 100): (0.9894, 0.0829, 0.0556), ("anisotropic", 500): (0.9736, 0.0734, 0.6692),
    ("gmm", 100): (0.9455, 0.0923, 0.0258), ("gmm", 500): (1.0034, 0.0472, 0.5604),
    ("unequal_gmm", 100): (0.9699, 0.0690, 0.0790), ("unequal_gmm", 500): (1.0010, 0.0736, 0.5615),
    ("laplace", 100): (1.0439, 0.0169, 0.1336), ("laplace", 500): (0.9990, 0.0149, 1.0510),
}  # fmt: skip


def published() -> pd.DataFrame:
    """Lay the published numbers out as rows of the table drawn; they come without errors."""
    rows = [
        {"family": family, "setting": setting, "num_kept": n, "generation": PUBLISHED_GENERATION, "mean": ratio}
        for (family, n), ratios in PUBLISHED.items()
        for setting, ratio in zip(("accumulate", "accumulate+select", "replace"), ratios, strict=True)
    ]
    return pd.DataFrame(rows).assign(quantity="dispersion_published")


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw a column for each family: dispersion ratios for each n beside theory, sliced distances for the last."""
    quantities = ["dispersion_ratio", "dispersion_theory", "sliced_w"]
    table = data[quantities].sel(generation=slice(1, None)).to_dataframe().reset_index()
    families, sizes = list(dict.fromkeys(table.family)), sorted(table.num_kept.unique())
    rows = [("dispersion_ratio", n) for n in sizes] + [("sliced_w", sizes[-1])]
    figure, panels = plt.subplots(
        len(rows), len(families), figsize=(style.PAGE, 0.7 + 1.35 * len(rows)), layout="constrained",
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    by = ["family", "setting", "num_kept", "generation"]
    measured = [style.over_seeds(table, by, q).assign(quantity=q) for q in quantities]
    others = published()
    there = others.generation.isin(table.generation) & others.family.isin(families) & others.num_kept.isin(sizes)
    drawn = pd.concat([*measured, others[there]], ignore_index=True)
    for line, (quantity, n) in zip(panels, rows, strict=True):
        for axes, family in zip(line, families, strict=True):
            here = drawn[(drawn.family == family) & (drawn.num_kept == n)]
            axes.set(xscale="log", yscale="log")
            for setting in SETTINGS:
                look = style.workflow(setting)
                lines = here[here.setting == setting]
                style.band(axes, lines[lines.quantity == quantity], "mean", "error", label=setting, **look)
                if quantity == "dispersion_ratio":
                    theory = lines[lines.quantity == "dispersion_theory"]
                    axes.plot(theory.generation, theory["mean"], **style.THEORY | {"zorder": 3})
                    for number in lines[lines.quantity == "dispersion_published"].itertuples():
                        axes.plot(number.generation, number.mean, color=look["color"], **NUMBER)
            if quantity == "dispersion_ratio":
                axes.set_ylim(1e-3, 3)
            else:
                axes.set_yticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"])
                axes.set_yticks([], minor=True)
        label = "dispersion ratio" if quantity == "dispersion_ratio" else "sliced $W_2$"
        line[0].set_ylabel(f"{label}\n$n = {n}$")
    for axes, family in zip(panels[0], families, strict=True):
        axes.set_title(style.label(family))
    for axes in panels[-1]:
        axes.set_xlabel("generation $t$")
    handles, labels = panels[0][0].get_legend_handles_labels()
    theory, number = plt.Line2D([], [], **style.THEORY), plt.Line2D([], [], color="gray", **NUMBER)
    names = [*labels, "Gaussian theory", "published, one number"]
    figure.legend([*handles, theory, number], names, loc="outside lower center", ncols=6)
    return figure, drawn
