"""The look of every figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

COLUMN, PAGE = 3.25, 6.75
# Colours stay apart for the colour-blind.
BLACK, BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BROWN, INDIGO = (
    "#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F4F24", "#332288",
)  # fmt: skip
STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.hashsalt": "jaxcollapse",
}
DASHED, DOTTED, DASH_DOT, DASH_DOTS, LONG = (
    (0, (4, 1)), (0, (1, 0.8)), (0, (4, 1, 1, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (8, 1.5)),
)  # fmt: skip
FULL, OPEN = "full", "none"
VERIFIERS = {
    name: {"color": colour, "marker": marker, "fillstyle": fill, "linestyle": dash}
    for name, colour, marker, fill, dash in (
        ("random", BLACK, "o", FULL, "-"),
        ("keep_all", BLACK, "o", OPEN, DOTTED),
        ("k_means", BLACK, "h", FULL, DASHED),
        ("single_silo", RED, "v", FULL, "-"),
        ("reversed_silo", RED, "^", OPEN, DOTTED),
        ("unbiased_silo", RED, "v", OPEN, DASHED),
        ("center_matching", ORANGE, "<", FULL, DOTTED),
        ("covariance_matching", ORANGE, ">", FULL, DASHED),
        ("pooled", INDIGO, "^", FULL, LONG),
        ("per_silo", INDIGO, "p", FULL, DOTTED),
        ("scheme_i", SKY, "s", FULL, DASHED),
        ("scheme_ii", BLUE, "D", FULL, DASH_DOT),
        ("federated_sinkhorn", PURPLE, "P", FULL, DASH_DOTS),
        ("tilt", GREEN, "d", FULL, "-"),
        ("private_tilt", GREEN, "d", OPEN, DOTTED),
        ("recoloured", GREEN, "*", FULL, DASHED),
        ("moment_ratio", BROWN, "s", OPEN, DASHED),
        ("logistic_ratio", BROWN, "D", OPEN, DOTTED),
        ("balanced", BROWN, "X", OPEN, DASHED),
        ("kernel_balanced", BROWN, "X", FULL, "-"),
        ("landmark_balanced", BROWN, "8", FULL, DASH_DOT),
        ("private_balanced", BROWN, "8", OPEN, DOTTED),
        ("capped", PURPLE, "p", OPEN, "-"),
    )
}
WORKFLOWS = {
    "replace": {"color": RED, "marker": "v"},
    "accumulate": {"color": BLUE, "marker": "o"},
    "accumulate_subsample": {"color": ORANGE, "marker": "s"},
    "fresh_mix": {"color": GREEN, "marker": "^"},
}
# Looks of what has no look of its own.
SERIES = tuple(
    {"color": colour, "marker": marker, "linestyle": dash}
    for colour, marker, dash in (
        (BLUE, "o", "-"), (RED, "s", DASHED), (GREEN, "^", DASH_DOT), (ORANGE, "D", DASH_DOTS), (PURPLE, "v", DOTTED),
        (SKY, "P", LONG), (BROWN, "X", "-"), (BLACK, "p", DASHED),
    )
)  # fmt: skip
THEORY = {"color": BLACK, "linestyle": (0, (2, 1.5)), "linewidth": 0.8}
LABELS = {
    "scheme_i": "Scheme I",
    "scheme_ii": "Scheme II",
    "k_means": "k-means",
    "federated_sinkhorn": "federated Sinkhorn",
    "gaussian_mixture": "Gaussian mixture",
    "eight_gaussians": "eight Gaussians",
}
SIZES = {
    "num_kept": "n = {}",
    "num_points": "n = {}",
    "num_candidates": "N = {}",
    "num_train": "real images: {}",
    "num_silos": "silos: {}",
    "num_seeds": "seeds: {}",
    "seeds": "instances: {}",
    "num_replicates": "replicates: {}",
    "repeats": "median of {} runs",
}


def label(name: str) -> str:
    """Write a name as figures show it."""
    name, *defect = name.split("_with_")
    return " with ".join([LABELS.get(name, name.replace("_", " ")), *defect])


def workflow(setting: str) -> dict[str, Any]:
    """Look of a workflow, solid with selection and dotted without."""
    name = setting.removesuffix("+select")
    return WORKFLOWS[name] | {"linestyle": DOTTED if setting == name else "-"}


def sizes(configuration: Mapping[str, Any]) -> str:
    """Say how large a run was: samples and seeds."""
    found = {words: configuration[name] for name, words in SIZES.items() if name in configuration}
    if "seeds" in configuration:
        found[SIZES["seeds"]] = len(configuration["seeds"])
    return ", ".join(words.format(str(value).strip("[]")) for words, value in found.items())


def band(axes: Axes, table: pd.DataFrame, y: str, error: str, x: str = "generation", **line) -> None:
    """Draw a mean over generations, or rounds, with a band of two standard errors; a few markers tell lines apart.

    On a logarithmic axis, set before, they are those of the logarithm: a mean does not reach zero by its error.
    """
    axes.plot(table[x], table[y], markersize=3, markevery=0.2, **line)
    if axes.get_yscale() == "log":
        factor = np.exp(2 * table[error] / table[y])
        low, high = table[y] / factor, table[y] * factor
    else:
        low, high = table[y] - 2 * table[error], table[y] + 2 * table[error]
    axes.fill_between(table[x], low, high, color=line["color"], alpha=0.25, linewidth=0)


def over_seeds(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Average a column over seeds, with standard errors."""
    groups = table.groupby(by, sort=False)[column]
    return groups.agg(mean="mean", error="sem").fillna({"error": 0.0}).reset_index()
