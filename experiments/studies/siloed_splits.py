"""Which verifiers keep quality and diversity where silos of images are more alike: Dirichlet and i.i.d. splits."""

from jaxcollapse.experiments.siloed_images import PRESETS as SIZES
from jaxcollapse.experiments.siloed_images import Config, run

__all__ = ["PRESETS", "Config", "run"]

VERIFIERS = (
    "random",
    "center_matching",
    "single_silo",
    "scheme_i",
    "scheme_ii",
    "recoloured",
    "tilt",
    "pooled",
    "unbiased_silo",
)
STUDIED = {"splits": ("Dirichlet(0.1)", "iid"), "verifiers": VERIFIERS}
PRESETS = {"smoke": STUDIED | SIZES["smoke"], "quick": SIZES["quick"] | STUDIED, "paper": STUDIED}
