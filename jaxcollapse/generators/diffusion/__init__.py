"""Denoising diffusion. A new architecture is a module here and a line in `ARCHITECTURES`."""

from jaxcollapse.generators.diffusion.denoiser import diffusion
from jaxcollapse.generators.diffusion.residual import residual
from jaxcollapse.generators.diffusion.samplers import SAMPLERS
from jaxcollapse.generators.diffusion.unet import unet

ARCHITECTURES = {"residual": residual, "unet": unet}
