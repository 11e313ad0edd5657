"""Images that the models of each way to select generate, generation by generation."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

SHOWN, IMAGES = (1, 2, 5, 10), 6


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw real images and the first model's, then a row for each way to select and a column for each generation.

    All of the first split and generator, and of the first seed.
    """
    generations = sorted({min(t, data.generation.max().item()) for t in SHOWN})
    shown = data.shown.isel(split=0, generator=0, image=slice(IMAGES)).sel(generation=[0, *generations])
    real = {"real images": data.real_images.isel(image=slice(IMAGES))}
    first = real | {"first model": shown.isel(verifier=0).sel(generation=0)}
    rows = {style.label(v): shown.sel(verifier=v, generation=generations) for v in shown.verifier.to_numpy()}
    figure, (head, *panels) = plt.subplots(
        1 + len(rows), len(generations), figsize=(style.PAGE, 0.6 + 0.3 * (1 + len(rows))), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes in (*head, *np.ravel(panels)):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, (name, images) in zip(head, first.items(), strict=False):
        axes.imshow(strip(images.transpose("image", "pixel").to_numpy()), vmin=0, vmax=255)
        axes.set_title(name, fontsize=7)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes, tiles in zip(line, images.transpose("generation", "image", "pixel").to_numpy(), strict=True):
            axes.imshow(strip(tiles), vmin=0, vmax=255)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, generation in zip(panels[0], generations, strict=True):
        axes.set_title(f"$t = {generation}$", fontsize=7)
    figure.suptitle(f"{shown.split.item()}, {style.label(shown.generator.item())}", fontsize=8)
    of_real = (pixels(images).assign(verifier=name) for name, images in real.items())
    return figure, pd.concat([pixels(shown), *of_real])


def pixels(images: xr.DataArray) -> pd.DataFrame:
    """Lay out images, a row each."""
    named = images.assign_coords(pixel=[f"p{i}" for i in range(images.pixel.size)])
    return named.to_dataset("pixel").to_dataframe().reset_index()


def strip(images: np.ndarray) -> np.ndarray:
    """Lay square images in grey levels or colours, [image, pixel], side by side, as colours."""
    channels = 1 if np.sqrt(images.shape[1]).is_integer() else 3
    size = int(np.sqrt(images.shape[1] / channels))
    tiles = images.reshape(-1, size, size, channels)
    row = (
        np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255).swapaxes(0, 1).reshape(size, -1, channels)
    )
    return np.broadcast_to(row, (*row.shape[:2], 3)).astype(np.uint8)
