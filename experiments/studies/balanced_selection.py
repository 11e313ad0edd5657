"""What balanced selection gains over random selection and over the tilt, under two generators of images."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

STUDIED = {
    "generators": ("gaussian_mixture", "diffusion"),
    "verifiers": ("random", "recoloured", "tilt", "balanced"),
    "seed": 1,
}
PRESETS = {
    "smoke": SIZES["smoke"] | STUDIED | {"num_steps": 20},
    "quick": SIZES["quick"] | STUDIED | {"num_steps": 300},
    "paper": STUDIED | {"num_seeds": 8},
}
