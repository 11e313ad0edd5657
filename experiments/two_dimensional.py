"""Modes that one can watch go: planar shapes, three generators, and what verifiers with part of the shape keep.

Keeping the lowest potentials towards all of the shape loses whole modes, and not for want of rounds: the potentials of
modes that lie apart differ by what it costs to carry the surplus of one to another, by more than potentials within a
mode, and a quarter of the pool is two modes of eight. Exact potentials lose as many.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import numpy as np
import xarray as xr

from jaxcollapse.base import Measure, Run
from jaxcollapse.checks import check_range
from jaxcollapse.data.planar import NUM_SEGMENTS, PLANAR, sample_curve
from jaxcollapse.experiments.support.comparison import Comparison, Verifiers, settings
from jaxcollapse.experiments.support.ranges import Count, NumSeeds, Range, Share
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.generators import diffusion, gaussian_mixture, kernel_density
from jaxcollapse.measures import pooled, uniform_measure
from jaxcollapse.memories import buffer_memory
from jaxcollapse.metrics import mode_entropy, modes_covered, smallest_share
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.silos import class_split, stack_silos
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.tree import stack
from jaxcollapse.verifiers import verifier
from jaxcollapse.workflows import accumulate_subsample

GENERATORS = ("kernel_density", "gaussian_mixture", "diffusion")
RECORDED = ("covered", "smallest_share", "entropy")


@dataclasses.dataclass(frozen=True)
class Config(Comparison):
    """Clouds over generations, and the share of each segment of the true shape."""

    datasets: tuple[Literal[tuple(PLANAR)], ...] = tuple(PLANAR)
    """Shapes."""
    generators: tuple[Literal[GENERATORS], ...] = GENERATORS
    """Generators."""
    verifiers: Verifiers = (
        "random", "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "logistic_ratio",
    )  # fmt: skip
    """Ways to select."""
    num_kept: Annotated[int, Range(4 * NUM_SEGMENTS, 10**6)] = 400
    """Samples n kept in each generation."""
    num_silos: Annotated[int, Range(1, NUM_SEGMENTS)] = 4
    """Silos K, of whole segments each."""
    noise: Annotated[float, Range(0.0, 1e3)] = 0.1
    """Standard deviation of the real data about the shape, and bandwidth of the kernel density."""
    num_gradients: Count = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    num_components: Count = 16
    """Components of the mixture model."""
    num_steps: Count = 1500
    """Training steps of the diffusion model in each generation."""
    num_shown: Count = 200
    """Samples of each model that are kept; the figure shows those of the first seed."""
    num_counted: Count = 2000
    """Samples of each model that are counted."""
    threshold: Share = 0.25
    """Share of its fair share at which a segment counts as covered."""
    num_seeds: NumSeeds = 3
    """Independent data and simulations."""


PRESETS = {
    "smoke": {
        "datasets": ("moons",), "generators": ("kernel_density", "diffusion"), "verifiers": ("single_silo",),
        "num_kept": 32, "num_generations": 2,
        "num_support": 8, "num_rounds": 2, "num_gradients": 10, "num_components": 4, "num_steps": 20, "num_shown": 20,
        "num_counted": 50, "num_seeds": 2,
    },
    "quick": {
        "datasets": ("eight_gaussians",), "generators": ("diffusion",), "num_kept": 200,
        "verifiers": ("random", "single_silo", "federated_sinkhorn"), "num_generations": 6, "num_rounds": 5,
        "num_steps": 500, "num_counted": 1000, "num_seeds": 1,
    },
    "paper": {},
}  # fmt: skip


def generator_of(config: Config, name: str):
    """Make a generator of the size that the configuration asks for."""
    made = {
        "kernel_density": lambda: kernel_density(config.num_kept, config.noise, growth_correction=True),
        "gaussian_mixture": lambda: gaussian_mixture(config.num_components, ridge=1e-4),
        "diffusion": lambda: diffusion(num_steps=config.num_steps),
    }
    return made[name]()


def problem(config: Config, dataset: str) -> tuple[Measure, np.ndarray]:
    """Draw silos of whole segments, [seed, K, m, 2], and find the segments' centres, [seed, 8, 2]."""
    silos, centres = [], []
    for seed in range(config.num_seeds):
        points, labels = sample_curve(seed, PLANAR[dataset], config.num_kept, config.noise)
        silos.append(stack_silos(points, class_split(labels, config.num_silos)))
        centres.append([points[labels == label].mean(axis=0) for label in range(NUM_SEGMENTS)])
    return stack(silos), np.float32(centres)


def simulate(config: Config, runner: Runner, dataset: str, generator_name: str, name: str) -> xr.Dataset:
    """Run one verifier with one generator on one shape."""
    generator = generator_of(config, generator_name)
    budget = 1.0 if name in ("random", "keep_all") else config.budget
    recursion = sizes(config.num_kept, budget, config.num_generations, temperature=1.0)

    def prepare(seed):
        key, silos, _ = seed
        return {"select": verifier(name, silos, jax.random.split(key, 3)[0], **settings(config))}

    def build(seed, select) -> Run:
        key, silos, centres = seed
        _, fit_key, run_key = jax.random.split(key, 3)
        keep = sample_and_select(generator, select)
        collapse = build_collapse(generator, keep, accumulate_subsample(buffer_memory()))
        real = pooled(silos)
        metrics = {
            "covered": modes_covered(centres, config.threshold / NUM_SEGMENTS),
            "smallest_share": smallest_share(centres),
            "entropy": mode_entropy(centres),
        }

        def record(key, state, info):
            samples = uniform_measure(generator.sample(key, state.params, config.num_counted))
            measured = {name: metric(key, samples, real) for name, metric in metrics.items()}
            return measured | {"points": samples.points[: config.num_shown]}

        return Run(run_key, collapse, generator.init(fit_key, real), recursion, record)

    labels, keys = seeds(config.num_seeds, config.seed)
    axes = {"seed": Axis(labels, (keys, *problem(config, dataset)))}
    own = {"dims": {"points": ("sample", "axis")}, "coords": {"axis": ["x", "y"]}}
    return runner.sweep(f"{dataset}, {generator_name}, {name}", build, axes, prepare=prepare, **own)


def run(config: Config, runner: Runner) -> Output:
    """Run every verifier with every generator on every shape."""
    check_range("num_shown", config.num_shown, high=config.num_counted)
    runner.expect(len(config.datasets) * len(config.generators) * len(config.verifiers))

    def of_generator(dataset, generator):
        return along("verifier", {v: simulate(config, runner, dataset, generator, v) for v in config.verifiers})

    def of_dataset(dataset):
        return along("generator", {generator: of_generator(dataset, generator) for generator in config.generators})

    arrays = along("dataset", {dataset: of_dataset(dataset) for dataset in config.datasets})
    positions = (np.arange(400) + 0.5) / 400
    arrays["curve"] = (("dataset", "position", "axis"), np.stack([PLANAR[name](positions) for name in config.datasets]))
    last = arrays[list(RECORDED)].isel(generation=-1, drop=True).mean("seed")
    return Output(arrays, {"last_generation": last.to_dataframe().reset_index().to_dict("records")})
