"""Siloed recursion on real images: quality and diversity over generations."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

QUANTITIES = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "class_entropy": "class entropy (nats)",
}
SHOWN = (
    "random", "single_silo", "center_matching", "scheme_i", "scheme_ii", "federated_sinkhorn", "pooled", "tilt",
    "recoloured", "balanced", "capped", "kernel_balanced", "landmark_balanced",
)  # fmt: skip


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw a row for each split and generator, a column for each score; dotted: real training images."""
    table, real = data[list(QUANTITIES)].sel(silo=0).to_dataframe().reset_index(), data.attrs["summary"]["real_images"]
    table = table[table.verifier.isin(SHOWN)]
    by = ["split", "generator", "verifier", "generation"]
    drawn = pd.concat([style.over_seeds(table, by, q).assign(quantity=q) for q in QUANTITIES])
    rows = list(drawn[["split", "generator"]].drop_duplicates().itertuples(index=False, name=None))
    figure, panels = plt.subplots(
        len(rows), len(QUANTITIES), figsize=(style.PAGE, 0.9 + 1.35 * len(rows)), layout="constrained",
        sharex=True, sharey="col", squeeze=False,
    )  # fmt: skip
    for line, (split, generator) in zip(panels, rows, strict=True):
        line[0].set_yscale("log")
        here = drawn[(drawn.split == split) & (drawn.generator == generator)]
        for axes, quantity in zip(line, QUANTITIES, strict=True):
            for verifier in SHOWN:
                cell = here[(here.verifier == verifier) & (here.quantity == quantity)]
                if len(cell):
                    style.band(axes, cell, "mean", "error", label=style.label(verifier), **style.VERIFIERS[verifier])
            axes.axhline(real[quantity], color="grey", linestyle=":", linewidth=0.8, label="real images")
        line[0].set_ylabel(f"{split}\n{style.label(generator)}".replace(" with", "\nwith"))
    for axes, title in zip(panels[0], QUANTITIES.values(), strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlabel("generation $t$")
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure, drawn
