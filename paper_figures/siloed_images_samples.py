"""Images that the models of each way to select generate, generation by generation."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style

SHOWN, IMAGES = (0, 1, 2, 5, 10), 6


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw a row for each way to select and a column for each generation, of the first split and generator."""
    generations = sorted({min(t, data.generation.max().item()) for t in SHOWN})
    shown = data.shown.isel(split=0, generator=0, image=slice(IMAGES)).sel(generation=generations)
    figure, panels = plt.subplots(
        shown.verifier.size, len(generations), figsize=(style.PAGE, 0.45 + 0.3 * shown.verifier.size),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for line, images in zip(panels, shown.transpose("verifier", "generation", "image", "pixel"), strict=True):
        for axes, tiles in zip(line, images.to_numpy(), strict=True):
            axes.imshow(strip(tiles), vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        name = style.label(images.verifier.item())
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, generation in zip(panels[0], generations, strict=True):
        axes.set_title(f"$t = {generation}$", fontsize=7)
    figure.suptitle(f"{shown.split.item()}, {style.label(shown.generator.item())}", fontsize=8)
    pixels = shown.assign_coords(pixel=[f"p{i}" for i in range(shown.pixel.size)]).to_dataset("pixel")
    return figure, pixels.to_dataframe().reset_index()


def strip(images: np.ndarray) -> np.ndarray:
    """Lay square images in grey levels or colours, [image, pixel], side by side, as colours."""
    channels = 1 if np.sqrt(images.shape[1]).is_integer() else 3
    size = int(np.sqrt(images.shape[1] / channels))
    tiles = images.reshape(-1, size, size, channels)
    row = (
        np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255).swapaxes(0, 1).reshape(size, -1, channels)
    )
    return np.broadcast_to(row, (*row.shape[:2], 3)).astype(np.uint8)
