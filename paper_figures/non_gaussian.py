"""Collapse beyond the Gaussian: spread and distance over generations, and where the Gaussian theory stops."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from paper_figures import style

COLOURS = {
    "replace": style.ORANGE,
    "replace+select": style.RED,
    "accumulate": style.SKY,
    "accumulate+select": style.BLUE,
}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw a column for each family: dispersion ratios for each n beside theory, sliced distances for the last."""
    table = table[table.generation > 0]
    families, sizes = list(dict.fromkeys(table.family)), sorted(table.num_kept.unique())
    rows = [("dispersion_ratio", n) for n in sizes] + [("sliced_w", sizes[-1])]
    figure, panels = plt.subplots(
        len(rows), len(families), figsize=(style.PAGE, 0.7 + 1.35 * len(rows)), layout="constrained",
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    by = ["family", "setting", "num_kept", "generation"]
    quantities = ("dispersion_ratio", "dispersion_theory", "sliced_w")
    drawn = pd.concat([style.over_seeds(table, by, q).assign(quantity=q) for q in quantities])
    for line, (quantity, n) in zip(panels, rows, strict=True):
        for axes, family in zip(line, families, strict=True):
            here = drawn[(drawn.family == family) & (drawn.num_kept == n)]
            for setting, colour in COLOURS.items():
                lines = here[here.setting == setting]
                style.band(axes, lines[lines.quantity == quantity], "mean", "error", color=colour, label=setting)
                if quantity == "dispersion_ratio":
                    theory = lines[lines.quantity == "dispersion_theory"]
                    axes.plot(theory.generation, theory["mean"], **style.THEORY | {"zorder": 3})
            axes.set(xscale="log", yscale="log")
            if quantity == "dispersion_ratio":
                axes.set_ylim(1e-3, 3)
        label = "dispersion ratio" if quantity == "dispersion_ratio" else "sliced $W_2$"
        line[0].set_ylabel(f"{label}\n$n = {n}$")
    for axes, family in zip(panels[0], families, strict=True):
        axes.set_title(family.replace("_", " "))
    for axes in panels[-1]:
        axes.set_xlabel("generation $t$")
    handles, labels = panels[0][0].get_legend_handles_labels()
    theory = plt.Line2D([], [], **style.THEORY)
    figure.legend([*handles, theory], [*labels, "Gaussian theory"], loc="outside lower center", ncols=5)
    return figure, drawn


if __name__ == "__main__":
    style.main("non_gaussian", draw)
