"""The look of every figure, and the command line that draws one beside the table behind it."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Draw = Callable[[pd.DataFrame], tuple[Figure, pd.DataFrame]]
COLUMN, PAGE = 3.25, 6.75
BROWN = "#7F4F24"
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
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
    "legend.handlelength": 1.8,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.hashsalt": "jaxcollapse",
}
METHODS = {
    "random": "black",
    "single silo": RED,
    "center matching": ORANGE,
    "Scheme I": SKY,
    "Scheme II": BLUE,
    "mixture": PURPLE,
    "pooled": YELLOW,
    "tilt": GREEN,
    "balanced": BROWN,
}
THEORY = {"color": "black", "linestyle": (0, (2, 1.5)), "linewidth": 0.8}


def band(axes: Axes, table: pd.DataFrame, y: str, error: str, **line) -> None:
    """Draw a mean over generations with a band of two standard errors."""
    axes.plot(table.generation, table[y], **line)
    low, high = table[y] - 2 * table[error], table[y] + 2 * table[error]
    axes.fill_between(table.generation, low, high, color=line["color"], alpha=0.25, linewidth=0)


def over_seeds(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Average a column over seeds, with standard errors."""
    groups = table.groupby(by, sort=False)[column]
    return groups.agg(mean="mean", error="sem").fillna({"error": 0.0}).reset_index()


def main(name: str, draw: Draw) -> None:
    """Read RESULTS/NAME.csv and write OUT/NAME.png, NAME.pdf and NAME.csv, the numbers drawn."""
    save(name, draw, *directories(f"paper_figures.{name}"))


def directories(program: str) -> tuple[Path, Path]:
    """Read from the command line where results are, and where figures go."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--results", default="results", help="directory with NAME.csv")
    parser.add_argument("--out", default="figures", help="directory for the figure and its table")
    arguments = parser.parse_args()
    return Path(arguments.results), Path(arguments.out)


def save(name: str, draw: Draw, results: Path, out: Path) -> None:
    """Draw one figure."""
    try:
        table = pd.read_csv(results / f"{name}.csv")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    with mpl.rc_context(STYLE):
        figure, drawn = draw(table)
        figure.savefig(out / f"{name}.png")
        figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
    plt.close(figure)
    drawn.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    print(f"{name}: {out / name}.png", file=sys.stderr)
