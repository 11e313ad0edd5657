"""Images that the models of each way to select generate, generation by generation."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures import style

SHOWN, IMAGES = (0, 1, 2, 5, 10), 6


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw a row for each way to select and a column for each generation, of the first split and generator."""
    first = table[(table.split == table.split.iloc[0]) & (table.generator == table.generator.iloc[0])]
    verifiers, last = list(dict.fromkeys(first.verifier)), first.generation.max()
    generations = sorted({min(t, last) for t in SHOWN})
    shown = first[first.generation.isin(generations) & (first.image < IMAGES)]
    figure, panels = plt.subplots(
        len(verifiers), len(generations), figsize=(style.PAGE, 0.45 + 0.3 * len(verifiers)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for line, verifier in zip(panels, verifiers, strict=True):
        for axes, generation in zip(line, generations, strict=True):
            axes.imshow(strip(shown[(shown.verifier == verifier) & (shown.generation == generation)]), vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(style.label(verifier), rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, generation in zip(panels[0], generations, strict=True):
        axes.set_title(f"$t = {generation}$", fontsize=7)
    figure.suptitle(f"{first.split.iloc[0]}, {style.label(first.generator.iloc[0])}", fontsize=8)
    return figure, shown


def strip(images: pd.DataFrame) -> np.ndarray:
    """Lay square images in grey levels or colours side by side, as colours."""
    pixels = images.filter(regex=r"^p\d+$").to_numpy()
    channels = 1 if np.sqrt(pixels.shape[1]).is_integer() else 3
    size = int(np.sqrt(pixels.shape[1] / channels))
    tiles = pixels.reshape(-1, size, size, channels)
    row = (
        np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255).swapaxes(0, 1).reshape(size, -1, channels)
    )
    return np.broadcast_to(row, (*row.shape[:2], 3)).astype(np.uint8)


if __name__ == "__main__":
    style.main("siloed_images_samples", draw)
