"""Gain over random selection, by how much the generator's candidates grow in a generation without a verifier."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.analysis import seed_interval
from jaxcollapse.paper_figures.support import style


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw 95% intervals over measured growth of the trace, a marker for each verifier.

    Generators stand in the order of their growth, at equal distances.
    """
    growth = [seed_interval(data.growth.sel(generator=g).to_numpy()) for g in data.generator.values]
    order = np.argsort([rate.mean for rate in growth])
    rows = []
    for generator, rate in ((data.generator.values[i], growth[i]) for i in order):
        for verifier in data.verifier.values:
            gain = seed_interval(data.happened.sel(generator=generator, verifier=verifier).to_numpy())
            rows.append((generator, verifier, rate.mean, rate.high - rate.mean, gain.mean, gain.high - gain.mean))
    table = pd.DataFrame(rows, columns=["generator", "verifier", "growth", "growth_half", "happened", "happened_half"])
    figure, axes = plt.subplots(figsize=(style.PAGE, 3.6), layout="constrained")
    places, shift = np.arange(len(order)), 0.6 / max(1, data.verifier.size - 1)
    for i, (verifier, here) in enumerate(table.groupby("verifier", sort=False)):
        x = places + (i - (data.verifier.size - 1) / 2) * shift
        look = style.VERIFIERS[verifier] | {"linestyle": "none"}
        axes.errorbar(
            x, here.happened, here.happened_half, markersize=4, elinewidth=0.6, label=style.label(verifier), **look
        )
    axes.axhline(0, color=style.BLACK, linewidth=0.7)
    for place in places[1:] - 0.5:
        axes.axvline(place, color="0.85", linewidth=0.5, zorder=0)
    names = table.drop_duplicates("generator")
    axes.set_xticks(
        places,
        [
            f"{style.label(row.generator)}\n${round(row.growth, 2) + 0.0:+.2f} \\pm {row.growth_half:.2f}$".replace(
                " with", "\nwith"
            ).replace(", ", ",\n")
            for row in names.itertuples()
        ],
    )
    axes.set_xlabel("generator; growth of the log trace in a generation of random selection")
    axes.set_ylabel("log distance over random selection's")
    figure.legend(loc="outside lower center", ncols=8)
    return figure, table
