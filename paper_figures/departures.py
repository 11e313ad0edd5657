"""What the published settings of the schemes change, under generators that are clean, expand, or make junk."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.analysis import seed_interval
from jaxcollapse.paper_figures.support import style

SETTINGS = {
    "usual": "as usual here",
    "support": "all candidates as support",
    "rounds": "ten rounds",
    "debiased": "debiased potentials",
    "classifier": "a classifier's features",
    "all": "all of these",
}


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw gains over random selection, log2 of the ratio of Fréchet distances, with 95% intervals over seeds.

    Open markers are of images, whose pixels are cut to their range.
    """
    rows = []
    for generator, setting, verifier in np.ndindex(data.generator.size, data.setting.size, data.verifier.size):
        cell = data.isel(generator=generator, setting=setting, verifier=verifier)
        names = {name: cell[name].item() for name in ("generator", "setting", "verifier")}
        of_images = np.log2(cell.random_frechet_images / cell.frechet_images)
        for gained, values in (("gain", cell.gain), ("gain_images", of_images)):
            found = seed_interval(values.to_numpy())
            names |= {gained: found.mean, f"{gained}_half": found.high - found.mean}
        scores = ("frechet", "random_frechet", "frechet_images", "random_frechet_images", "precision", "recall")
        rows.append(names | {name: float(cell[name].mean()) for name in (*scores, "coverage")})
    table = pd.DataFrame(rows)
    figure, panels = plt.subplots(
        1, data.generator.size, figsize=(style.PAGE, 2.8), sharey=True, squeeze=False, layout="constrained"
    )
    heights = {name: -i for i, name in enumerate(data.setting.values)}
    for axes, (generator, here) in zip(panels[0], table.groupby("generator", sort=False), strict=True):
        for i, (verifier, line) in enumerate(here.groupby("verifier", sort=False)):
            look = style.VERIFIERS[verifier] | {"linestyle": "none", "label": style.label(verifier)}
            y = line.setting.map(heights) - 0.2 * (i - (data.verifier.size - 1) / 2)
            axes.errorbar(line.gain, y, xerr=line.gain_half, markersize=4, **look)
            look |= {"fillstyle": style.OPEN, "label": f"{look['label']}, of images"}
            axes.errorbar(line.gain_images, y - 0.4, xerr=line.gain_images_half, markersize=4, **look)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set(title=style.label(generator), xlabel=r"$\log_2$ of gain over random")
    panels[0, 0].set_yticks([*heights.values()], [SETTINGS[name] for name in heights])
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2 * data.verifier.size)
    return figure, table
