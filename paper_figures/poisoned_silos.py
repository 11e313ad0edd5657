"""Silos that lie: what the Fréchet distance loses to each lie, with and without screens."""

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcollapse.paper_figures.support import style

LABELS = {"none": "no screen", "silent": "liars left out", "random": "random selection"}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw damage over the share of liars: a row for each verifier and division of images, a column for each lie."""
    drawn = tabulate(data)
    rows = list(drawn[["verifier", "split"]].drop_duplicates().itertuples(index=False, name=None))
    lies = [lie for lie in dict.fromkeys(drawn.lie) if lie not in ("none", "silent")]
    screens = dict.fromkeys(drawn.screen[~drawn.screen.isin(["random"])])
    looks = dict(zip(screens, style.SERIES, strict=False)) | {"silent": {"color": "0.45", "linestyle": style.DOTTED}}
    figure, panels = plt.subplots(
        len(rows), len(lies), figsize=(style.PAGE, 0.8 + 1.15 * len(rows)), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for line, (verifier, split) in zip(panels, rows, strict=True):
        here = drawn[(drawn.verifier == verifier) & (drawn.split == split)]
        honest, by_chance = here[here.lie == "none"], here.loc[here.screen == "random", "mean"].iloc[0]
        for axes, lie in zip(line, lies, strict=True):
            for name, look in looks.items():
                as_one = here.lie == name if name == "silent" else (here.lie == lie) & (here.screen == name)
                start = honest[honest.screen == ("none" if name == "silent" else name)]
                points = pd.concat([start, here[as_one]])
                axes.errorbar(points.share, points["mean"], 2 * points.error, markersize=3, capsize=1.5, **look)
            axes.axhline(by_chance, color="black", linewidth=0.8, linestyle=style.DASHED)
            axes.axhline(0, color="black", linewidth=0.4)
        line[0].set_ylabel(f"{style.label(verifier)}\nsilos: {split}")
    for axes, lie in zip(panels[0], lies, strict=True):
        axes.set_title(lie)
    for axes in panels[-1]:
        axes.set_xlabel("share of silos that lie")
    figure.supylabel(r"$\log_2$ of Fréchet distance over that under honest silos and no screen", fontsize=8)
    handles = [Line2D([], [], markersize=3, label=LABELS.get(name, name), **look) for name, look in looks.items()]
    handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=style.DASHED, label=LABELS["random"]))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure, drawn


def tabulate(data: xr.Dataset) -> pd.DataFrame:
    """Average over seeds, with random selection as one more screen; what a screen does to liars and the honest."""
    by, num_silos = ["verifier", "split", "lie", "num_liars", "screen"], data.attrs["configuration"]["num_silos"]
    columns = ["lost_recall", "share_of_liars", "honest_left_out"]
    table = data[["damage", *columns]].to_dataframe(dim_order=["verifier", "case", "seed"]).reset_index()
    drawn = style.over_seeds(table, by, "damage").join(table.groupby(by)[columns].mean(), by)
    random = data[["damage_of_random", "lost_recall_of_random"]].to_dataframe(dim_order=["verifier", "case", "seed"])
    random = random.rename(columns=lambda name: name.removesuffix("_of_random")).reset_index()
    random = random[(random.lie == "none") & (random.screen == "none")].assign(screen="random")
    chance = style.over_seeds(random, by, "damage").join(random.groupby(by)[["lost_recall"]].mean(), by)
    drawn = pd.concat([drawn, chance]).sort_values(by[:2], kind="stable", key=lambda c: pd.factorize(c)[0])
    return drawn.assign(share=drawn.num_liars / num_silos)
