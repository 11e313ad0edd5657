"""Whether verifiers rank alike where a U-Net generates the images, pixel by pixel."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

STUDIED = {"generators": ("unet",), "verifiers": ("random", "single_silo", "tilt"), "num_seeds": 1}
FEW = {"verifiers": ("random", "tilt"), "num_generations": 1, "num_steps": 2, "num_kept": 20, "num_scored": 20}
PRESETS = {
    "smoke": SIZES["smoke"] | STUDIED | FEW,
    "quick": SIZES["quick"] | STUDIED | {"num_steps": 100, "num_generations": 2},
    "paper": STUDIED | {"num_generations": 5, "num_steps": 1500},
}
