"""Where generators of images work: in principal components or in pixels, as they are or with a defect."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxcollapse.base import Generator, Moments
from jaxcollapse.data.features import project, reconstruct
from jaxcollapse.experiments.support.image_silos import ImageComparison, Images, MakeSpace, Space
from jaxcollapse.generators import blend, contaminate, expand, kernel_density
from jaxcollapse.generators.diffusion import diffusion, residual, unet
from jaxcollapse.generators.diffusion.architecture import common_spread
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.measures import as_moments


def in_components(config: ImageComparison, images: Images, generator: Generator) -> Space:
    """Let a generator work in principal components."""

    def decode(components):
        return clip(reconstruct(images.pca, components))

    seen = same if config.features == "pca" else lambda components: images.embed(decode(components))
    return Space(generator, generator, partial(project, images.pca), decode, same, seen)


def in_pixels(images: Images, generator: Generator) -> Space:
    """Let a generator work in pixels."""
    return Space(generator, generator, same, clip, partial(project, images.pca), lambda x: images.embed(clip(x)))


def clip(pixels: jax.Array) -> jax.Array:
    """Bring pixels into their range."""
    return jnp.clip(pixels, -1, 1)


def same(points: jax.Array) -> jax.Array:
    """Leave points as they are."""
    return points


SPACES: dict[str, MakeSpace] = {
    "gaussian_mixture": lambda config, images: in_components(
        config, images, gaussian_mixture(config.num_gaussians, config.num_iterations, ridge=1e-3)
    ),
    "kernel_density": lambda config, images: in_components(
        config,
        images,
        kernel_density(
            max(config.num_train, config.num_kept * (1 + config.num_generations)), lambda m, d: config.bandwidth
        ),
    ),
    "diffusion": lambda config, images: in_components(
        config, images, diffusion(residual(128, 3, common_spread), config.num_steps, 128)
    ),
    "unet": lambda config, images: in_pixels(
        images, diffusion(unet(images.shape, (16, 32, 64)), config.num_steps, 32, 10, sample_chunk=250)
    ),
}


def made_worse(make: MakeSpace, worsen: Callable) -> MakeSpace:
    """Let a generator's candidates be worse than its samples."""

    def made(config: ImageComparison, images: Images) -> Space:
        space = make(config, images)
        return space._replace(generator=worsen(config, space.generator, as_moments(space.encode(images.train.points))))

    return made


DEFECTS: dict[str, Callable[[ImageComparison, Generator, Moments], Generator]] = {
    "noise": lambda config, generator, real: expand(generator, config.noise),
    "junk": lambda config, generator, real: contaminate(
        generator, config.junk_share, real._replace(covariance=9 * real.covariance)
    ),
    "blends": lambda config, generator, real: blend(generator, config.blend_share),
}
SPACES |= {
    f"{name}_with_{defect}": made_worse(make, worsen)
    for name, make in SPACES.items()
    for defect, worsen in DEFECTS.items()
}
