"""Moving pictures of a collapse, in the plane and of digits, light and dark: `python docs/pictures/generations.py`.

Three verifiers keep a quarter of the samples of one generator; everything else is the same.
"""

import io
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import jaxcollapse as jc
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.features import fit_pca, project, reconstruct
from jaxcollapse.data.planar import PLANAR, sample_curve
from jaxcollapse.memories import buffer_memory
from jaxcollapse.paper_figures.support.style import label
from jaxcollapse.workflows import accumulate_subsample

VERIFIERS = {"random": "sees nothing", "single_silo": "sees one silo", "kernel_balanced": "hears all silos"}
NUM_GENERATIONS, NUM_KEPT, NUM_SHOWN = 12, 400, 300
MODES = {"light": ("white", "black", "#0072B2"), "dark": ("#131416", "#e6e6e6", "#56B4E9")}


def samples(points: np.ndarray, silos: jc.Measure, num_gaussians: int, name: str) -> np.ndarray:
    """Run the recursion, and draw samples of each generation's model, [t, n, d]."""
    generator = jc.generators.gaussian_mixture(num_gaussians, ridge=1e-4)

    def build(seed, select):
        keep = jc.sample_and_select(generator, select)
        collapse = jc.build_collapse(generator, keep, accumulate_subsample(buffer_memory()))
        first = generator.init(jax.random.fold_in(seed, 0), jc.uniform_measure(points))

        def record(key, state, info):
            return {"points": generator.sample(key, state.params, NUM_SHOWN)}

        return jc.Run(seed, collapse, first, jc.sizes(NUM_KEPT, 0.25, NUM_GENERATIONS), record)

    select = jc.verifier(name, silos, jax.random.key(1))
    runs = jc.sweep(build, {"seed": jc.seeds(1)}, fixed={"select": select}, dims={"points": ("sample", "axis")})
    return runs.points.values[0]


def picture(draw, colours: tuple[str, str, str], generation: int, size: tuple[float, float]) -> Image.Image:
    """Draw one generation under every verifier."""
    paper, ink, colour = colours
    figure, panels = plt.subplots(1, len(VERIFIERS), figsize=size, layout="constrained", facecolor=paper)
    for axes, (name, words) in zip(panels, VERIFIERS.items(), strict=True):
        axes.set(xticks=[], yticks=[], facecolor=paper)
        axes.set_title(f"{label(name)}\n{words}", color=ink, fontsize=9)
        for spine in axes.spines.values():
            spine.set_color(ink)
        draw(axes, name, generation, colour)
    figure.suptitle(f"generation {generation}", color=ink, fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, dpi=90)
    plt.close(figure)
    return Image.open(content).convert("RGB").quantize(48, dither=Image.Dither.NONE)


def save(stem: str, draw, size: tuple[float, float]) -> None:
    """Write the picture in both modes."""
    for mode, colours in MODES.items():
        frames = [picture(draw, colours, t, size) for t in range(NUM_GENERATIONS + 1)]
        durations = [900, *[350] * (NUM_GENERATIONS - 1), 2000]
        path = Path(__file__).with_name(f"{stem}_{mode}.gif")
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def plane() -> None:
    """Eight Gaussians on a circle, four silos of two."""
    points, labels = sample_curve(0, PLANAR["eight_gaussians"], NUM_KEPT, 0.1)
    silos = jc.split(points, labels, "class", num_silos=4)
    clouds = {name: samples(points, silos, 16, name) for name in VERIFIERS}

    def draw(axes, name, generation, colour):
        axes.scatter(*clouds[name][generation].T, s=3, color=colour)
        axes.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal")

    save("plane", draw, (6.6, 2.8))


def digits() -> None:
    """Handwritten digits, ten silos of one digit each."""
    real = load_digits()
    pca = fit_pca(real.points, 16)
    points = np.asarray(project(pca, real.points))
    silos = jc.split(points, real.labels, "exdir", num_silos=10, classes_per_silo=1)
    images = {name: np.asarray(reconstruct(pca, samples(points, silos, 20, name)[:, :25])) for name in VERIFIERS}

    def draw(axes, name, generation, colour):
        framed = np.pad(images[name][generation].reshape(5, 5, *real.shape[:2]), ((0, 0), (0, 0), (1, 1), (1, 1)))
        axes.imshow(np.block([[*row] for row in framed]), cmap="gray", vmin=-1, vmax=1)

    save("digits", draw, (6.6, 3.0))


if __name__ == "__main__":
    plane()
    digits()
