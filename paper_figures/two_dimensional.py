"""Clouds over generations: which segments of a planar shape survive which verifier."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures import style

SHOWN = (0, 1, 2, 5, 10)


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw one shape and the last generator over generations, and below it every shape and generator at the end."""
    methods = list(dict.fromkeys(table.method))
    last = table.generation.max()
    keys = ["dataset", "generator"]
    pairs = list(table[keys].drop_duplicates().itertuples(index=False, name=None))
    dataset, generator = pairs[0][0], pairs[-1][1]
    generations = sorted({min(t, last) for t in SHOWN})
    height = 0.72
    figure = plt.figure(figsize=(style.PAGE, height * (len(methods) + len(pairs)) + 0.9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[len(methods) + 0.4, len(pairs) + 0.5])
    first = table[(table.dataset == dataset) & (table.generator == generator)]
    above = top.subplots(len(methods), len(generations), squeeze=False)
    for row, method in zip(above, methods, strict=True):
        for axes, generation in zip(row, generations, strict=True):
            cloud(axes, first[(first.method == method) & (first.generation == generation)])
        row[0].set_ylabel(method, rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, generation in zip(above[0], generations, strict=True):
        axes.set_title(f"$t = {generation}$", fontsize=7)
    top.suptitle(f"{dataset.replace('_', ' ')}, {generator.replace('_', ' ')}: segments covered, of 8", fontsize=8)
    below = bottom.subplots(len(pairs), len(methods), squeeze=False)
    end = table[table.generation == last]
    for row, (dataset, generator) in zip(below, pairs, strict=True):
        for axes, method in zip(row, methods, strict=True):
            cloud(axes, end[(end.dataset == dataset) & (end.generator == generator) & (end.method == method)])
        name = f"{dataset}\n{generator}".replace("_", " ")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, method in zip(below[0], methods, strict=True):
        axes.set_title(method, fontsize=7)
    bottom.suptitle(f"after {last} generations", fontsize=8)
    return figure, pd.concat([first[first.generation.isin(generations)], end]).drop_duplicates()


def cloud(axes: plt.Axes, points: pd.DataFrame) -> None:
    """Draw the samples of one model, and under them how many segments it covers, over seeds."""
    axes.scatter(points.x, points.y, s=0.6, color=style.BLUE, linewidth=0)
    covered = points.drop_duplicates("seed").covered
    spread = f" ({covered.min()}-{covered.max()})" if np.ptp(covered) else ""
    axes.set_xlabel(f"{covered.mean():.3g}{spread}", fontsize=5.5, labelpad=1)
    axes.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.3)


if __name__ == "__main__":
    style.main("two_dimensional", draw)
