"""Generators. A new one is a module here and a line in `GENERATORS`."""

from jaxcollapse.generators.categorical import categorical
from jaxcollapse.generators.defects import blend, contaminate, expand, jitter
from jaxcollapse.generators.diffusion import diffusion
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.generators.kernel_density import kernel_density
from jaxcollapse.generators.laplace import laplace

GENERATORS = {
    "gaussian": gaussian,
    "gaussian_mixture": gaussian_mixture,
    "laplace": laplace,
    "kernel_density": kernel_density,
    "categorical": categorical,
    "diffusion": diffusion,
    "expand": expand,
    "contaminate": contaminate,
    "jitter": jitter,
    "blend": blend,
}
