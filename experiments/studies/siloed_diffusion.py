"""Which verifiers keep quality and diversity where a diffusion model generates the images."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

STUDIED = {
    "generators": ("diffusion",),
    "verifiers": (
        "random", "center_matching", "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "recoloured", "tilt",
        "pooled", "unbiased_silo",
    ),
}  # fmt: skip
PRESETS = {
    "smoke": STUDIED | SIZES["smoke"] | {"num_steps": 20},
    "quick": SIZES["quick"] | STUDIED | {"num_steps": 300},
    "paper": STUDIED | {"num_seeds": 5},
}
