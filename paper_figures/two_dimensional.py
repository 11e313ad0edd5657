"""Clouds over generations: which segments of a planar shape survive which verifier."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

SHOWN = (0, 1, 2, 5, 10)


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw one shape and the last generator over generations, and below it every shape and generator at the end."""
    curves = data.curve.to_dataset("axis").to_dataframe()
    shown = data.points.sel(seed=[0]).to_dataset("axis").to_dataframe().reset_index().drop(columns="sample")
    coverage = data[["covered", "smallest_share", "entropy"]].to_dataframe().reset_index()
    table = coverage.merge(shown, how="left")
    verifiers = list(dict.fromkeys(table.verifier))
    last = table.generation.max()
    keys = ["dataset", "generator"]
    pairs = list(table[keys].drop_duplicates().itertuples(index=False, name=None))
    dataset, generator = pairs[0][0], pairs[-1][1]
    generations = sorted({min(t, last) for t in SHOWN})
    half = len(pairs) if len(pairs) <= 3 else -(-len(pairs) // 2)
    blocks = [pairs[i : i + half] for i in range(0, len(pairs), half)]
    heights = 0.95 * len(generations) + 0.5, 1.1 / len(blocks) * 1.15 * half + 0.5
    figure = plt.figure(figsize=(style.PAGE, sum(heights)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    first = table[(table.dataset == dataset) & (table.generator == generator)]
    rows = {f"$t = {t}$": first[first.generation == t] for t in generations}
    grid(top, rows, verifiers, curves)
    top.suptitle(f"{style.label(dataset)}, {style.label(generator)}: segments covered, of 8", fontsize=8)
    end = table[table.generation == last]
    for part, block in zip(np.atleast_1d(bottom.subfigures(1, len(blocks))), blocks, strict=True):
        rows = {f"{style.label(d)}\n{style.label(g)}": end[(end.dataset == d) & (end.generator == g)] for d, g in block}
        grid(part, rows, verifiers, curves)
    bottom.suptitle(f"after {last} generations", fontsize=8)
    return figure, pd.concat([first[first.generation.isin(generations)], end]).drop_duplicates()


def grid(figure, rows: dict[str, pd.DataFrame], verifiers: list[str], curves: pd.DataFrame) -> None:
    """Draw a row of clouds for each name, a column for each verifier."""
    panels = figure.subplots(len(rows), len(verifiers), squeeze=False)
    for line, (name, points) in zip(panels, rows.items(), strict=True):
        for axes, verifier in zip(line, verifiers, strict=True):
            cloud(axes, points[points.verifier == verifier], curves)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    for axes, verifier in zip(panels[0], verifiers, strict=True):
        axes.set_title(style.label(verifier).replace(" ", "\n"), fontsize=7)


def cloud(axes: plt.Axes, points: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Draw the samples of one model before the true shape, and under them how many segments it covers, over seeds."""
    shape = curves.loc[points.dataset.iloc[0]]
    axes.scatter(shape.x, shape.y, s=1.5, color="0.8", linewidth=0)
    axes.scatter(points.x, points.y, s=0.6, color=style.BLUE, linewidth=0)
    covered = points.drop_duplicates("seed").covered
    spread = f" ({covered.min():g}-{covered.max():g})" if np.ptp(covered) else ""
    axes.set_xlabel(f"{covered.mean():.3g}{spread}", fontsize=7, labelpad=1)
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.3)
