"""The same on 60,000 images of clothes: Fashion-MNIST [xiao2017] in ten silos, a quarter of 40,000 candidates kept."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

STUDIED = {
    "generators": ("gaussian_mixture", "gaussian_mixture_with_junk"),
    "verifiers": (
        "random", "single_silo", "scheme_i", "scheme_ii", "recoloured", "tilt", "kernel_balanced", "landmark_balanced",
    ),
    "labeller": "convolutional",
}  # fmt: skip
PRESETS = {
    "smoke": STUDIED | SIZES["smoke"] | {"labeller_steps": 20},
    "quick": SIZES["quick"] | STUDIED | {"labeller_steps": 300},
    "paper": STUDIED | {
        "dataset": "fashion_mnist", "num_train": 60_000, "num_test": 10_000, "num_kept": 10_000, "num_scored": 5_000,
        "labeller_steps": 3000, "num_seeds": 2,
    },
}  # fmt: skip
