"""When selection pays on images: every way to select, with generators that are clean, expand, contract or make junk."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

STUDIED = {
    "generators": (
        "gaussian_mixture", "gaussian_mixture_with_junk", "kernel_density", "gaussian_mixture_with_blends",
    ),
}  # fmt: skip
PRESETS = {
    "smoke": SIZES["smoke"] | STUDIED,
    "quick": SIZES["quick"] | STUDIED,
    "paper": STUDIED | {
        "verifiers": (
            "random", "single_silo", "scheme_i", "scheme_ii", "pooled", "recoloured", "tilt", "balanced", "capped",
            "kernel_balanced", "landmark_balanced",
        ),
        "num_kept": 300, "num_generations": 5, "num_components": 16, "num_gaussians": 5, "num_support": 50,
        "num_rounds": 5, "num_scored": 797, "num_seeds": 8,
    },
}  # fmt: skip
