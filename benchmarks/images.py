"""Speed of diffusion: images a second in training and in sampling. `make bench` prints it."""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.recursion import seconds
from jaxcollapse.generators.diffusion import diffusion, residual, unet
from jaxcollapse.generators.diffusion.architecture import Architecture
from jaxcollapse.measures import uniform_measure


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is timed, and how often."""

    num_steps: int = 10
    """Steps of Adam in a run."""
    num_samples: int = 64
    """Images sampled in a run; features, a hundred times as many."""
    num_sample_steps: int = 10
    """Steps of the sampler, of two evaluations each."""
    sample_chunk: int = 64
    """Points whose velocities are computed at a time."""
    repeats: int = 3
    """Runs; the median is printed."""


def cases() -> dict[str, tuple[Architecture, int, int, int]]:
    """List the networks, each with the dimension of its points, its batch and how many to sample for each image."""
    return {
        "residual (128, 3), 32 features": (residual(128, 3), 32, 256, 100),
        "U-Net (16, 64), 8 x 8 x 1": (unet((8, 8, 1), (16, 64)), 64, 64, 1),
        "U-Net (16, 32, 64), 32 x 32 x 3": (unet((32, 32, 3), (16, 32, 64)), 3072, 16, 1),
    }


def images_table(config: Benchmark) -> Table:
    """Time the fit and the draws of every network, on noise."""
    table = Table(
        "network", "weights", "batch", "trained/s", "sampled/s",
        title=f"points a second, {config.num_sample_steps} steps of two evaluations a sample, on "
        f"{jax.devices()[0].device_kind}",
    )  # fmt: skip
    key = jax.random.key(0)
    for name, (architecture, dim, batch, many) in cases().items():
        model = diffusion(
            architecture, config.num_steps, batch, config.num_sample_steps, sample_chunk=config.sample_chunk * many
        )
        data = uniform_measure(jnp.asarray(np.random.default_rng(0).standard_normal((1000, dim)), jnp.float32))
        num_samples = config.num_samples * many

        def train(model=model, data=data):
            return jax.block_until_ready(model.init(key, data))

        params = train()

        def draw(model=model, params=params, num_samples=num_samples):
            return jax.block_until_ready(model.sample(key, params, num_samples))

        rates = []
        for call, count in ((train, batch * config.num_steps), (draw, num_samples)):
            call()
            rates.append(f"{count / statistics.median(seconds(call) for _ in range(config.repeats)):,.0f}")
        size = sum(leaf.size for leaf in jax.tree.leaves(params.network))
        table.add_row(name, f"{size:,}", str(batch), *rates)
    return table


def main() -> None:
    """Print the table."""
    Console(width=110).print(images_table(tyro.cli(Benchmark)))


if __name__ == "__main__":
    main()
