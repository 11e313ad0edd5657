"""Modes that one can watch go: planar shapes, three generators, and what verifiers with part of the shape keep.

Keeping the lowest potentials towards all of the shape loses whole modes, and not for want of rounds: the potentials of
modes that lie apart differ by what it costs to carry the surplus of one to another, by more than potentials within a
mode, and a quarter of the pool is two modes of eight. Exact potentials lose as many.
"""

import dataclasses
import itertools

import jax
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from experiments.methods import Comparison, methods
from jaxcollapse.base import Measure
from jaxcollapse.batches import sampled
from jaxcollapse.data.planar import NUM_SEGMENTS, PLANAR, sample_curve
from jaxcollapse.generators.diffusion import diffusion
from jaxcollapse.generators.gaussian_mixture import gaussian_mixture
from jaxcollapse.generators.kernel_density import kernel_density
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.memories import buffer_memory
from jaxcollapse.metrics.modes import mode_entropy, modes_covered, smallest_share
from jaxcollapse.silos import class_split, stack_silos
from jaxcollapse.sweep import Trajectory
from jaxcollapse.trajectory import build_collapse
from jaxcollapse.validation import check_names, check_range, make_controls
from jaxcollapse.workflows import accumulate_subsample

NAME = "two_dimensional"
METHODS = {
    "random": "random",
    "single silo": "single silo",
    "Scheme I": "Scheme I",
    "Scheme II": "Scheme II",
    "mixture": "mixture",
    "ratio": "logistic ratio",
}
GENERATORS = ("kernel_density", "gaussian_mixture", "diffusion")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Clouds over generations, and the share of each segment of the true shape."""

    datasets: tuple[str, ...] = tuple(PLANAR)
    """Shapes."""
    generators: tuple[str, ...] = GENERATORS
    """Generators."""
    methods: tuple[str, ...] = tuple(METHODS)
    """What verifiers are shown."""
    num_kept: int = 400
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 10
    """Generations after the fit to real data."""
    num_silos: int = 4
    """Silos K, of whole segments each."""
    noise: float = 0.1
    """Standard deviation of the real data about the shape, and bandwidth of the kernel density."""
    epsilon: float = 0.02
    """Regularisation, relative to the mean cost of the real data with themselves."""
    num_support: int = 100
    """Support points S of the schemes' references."""
    num_rounds: int = 8
    """Rounds of the schemes; the mixture reference takes four times as many of its own."""
    num_gradients: int = 300
    """Gradients that the logistic fit asks of each silo in a generation."""
    num_components: int = 16
    """Components of the mixture model."""
    num_steps: int = 1500
    """Training steps of the diffusion model in each generation."""
    num_shown: int = 200
    """Samples of each model that are kept for the figure, of the first seed."""
    num_counted: int = 2000
    """Samples of each model that are counted."""
    threshold: float = 0.25
    """Share of its fair share at which a segment counts as covered."""
    num_seeds: int = 3
    """Independent data and simulations."""


PRESETS = {
    "smoke": {
        "datasets": ("moons",), "generators": ("kernel_density", "diffusion"), "methods": ("single silo",),
        "num_kept": 32, "num_generations": 2,
        "num_support": 8, "num_rounds": 2, "num_gradients": 10, "num_components": 4, "num_steps": 20, "num_shown": 20,
        "num_counted": 50, "num_seeds": 2,
    },
    "quick": {
        "datasets": ("eight_gaussians",), "generators": ("diffusion",), "num_kept": 200,
        "num_support": 50, "num_rounds": 5, "num_gradients": 150,
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
    return jax.tree.map(lambda *leaves: np.stack(leaves), *silos), np.float32(centres)


def simulation(config: Config, generator_name: str, method_name: str):
    """Make the builder of one method's trajectories."""
    generator, name = generator_of(config, generator_name), METHODS[method_name]
    controls = make_controls(config.num_kept, 1.0 if method_name == "random" else config.budget, temperature=1.0)
    exchange = Comparison(
        num_kept=config.num_kept, budget=config.budget, num_silos=config.num_silos, epsilon=config.epsilon,
        num_support=config.num_support, num_rounds=config.num_rounds, num_gradients=config.num_gradients,
    )  # fmt: skip

    def build(seed) -> Trajectory:
        key, silos, centres = seed
        setup_key, fit_key, run_key = jax.random.split(key, 3)
        method = methods(exchange, silos.weights.shape[-1], union(jax.vmap(as_moments)(silos)))[name]
        batch_fn = sampled(
            generator, method.select, method.reference_fn, method.setup(setup_key, silos), int(controls.num_candidates)
        )
        memory = buffer_memory(config.num_kept * config.num_generations, config.num_kept)
        collapse = build_collapse(generator, batch_fn, accumulate_subsample(memory))
        real = Measure(silos.points.reshape(-1, 2), silos.weights.reshape(-1))
        start = generator.init(fit_key, real)

        metrics = {
            "covered": modes_covered(centres, config.threshold / NUM_SEGMENTS),
            "smallest_share": smallest_share(centres),
            "entropy": mode_entropy(centres),
        }

        def record(key, state, info):
            samples = uniform_measure(generator.sample(key, state.params, config.num_counted))
            measured = {name: metric(key, samples, real) for name, metric in metrics.items()}
            return measured | {"points": samples.points[: config.num_shown]}

        return Trajectory(run_key, collapse, start, controls, record)

    return build


def run(config: Config, parts: Parts) -> Output:
    """Run every method with every generator on every shape."""
    check_names("datasets", config.datasets, PLANAR)
    check_names("generators", config.generators, GENERATORS)
    check_names("methods", config.methods, METHODS)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_silos", config.num_silos, low=1, high=NUM_SEGMENTS)
    check_range("num_kept", config.num_kept, low=4 * NUM_SEGMENTS)
    check_range("num_shown", config.num_shown, low=1, high=config.num_counted)
    check_range("epsilon", config.epsilon, low=1e-6)
    check_range("noise", config.noise, low=0)
    check_range("num_seeds", config.num_seeds, low=1)
    seeds, generations = np.arange(config.num_seeds), np.arange(config.num_generations + 1)
    labels = list(itertools.product(config.datasets, config.generators, config.methods))
    counted, shown = [], []
    for dataset, generator, method in labels:
        silos, centres = problem(config, dataset)
        lanes = {"seed": (lane_keys(config.key, seeds), silos, centres)}
        build = simulation(config, generator, method)
        history = parts.sweep(f"{dataset}, {generator}, {method}", build, lanes, config.num_generations)
        points = history.pop("points")
        named = {"dataset": dataset, "generator": generator, "method": method}
        coords = {"seed": seeds, "generation": generations}
        counted.append(frame(history, tuple(coords), coords).to_dataframe().reset_index().assign(**named))
        for generation, first in zip(generations, points[0], strict=True):
            cloud = pd.DataFrame(first, columns=["x", "y"])
            shown.append(cloud.assign(**named, seed=0, generation=generation))
    coverage = pd.concat(counted)
    keys = ["dataset", "generator", "method", "seed", "generation"]
    coverage = coverage[[*keys, "covered", "smallest_share", "entropy"]]
    table = coverage.merge(pd.concat(shown), on=keys, how="left")
    last = coverage[coverage.generation == config.num_generations]
    summary = last.groupby(keys[:3], sort=False)[["covered", "smallest_share", "entropy"]].mean().reset_index()
    arrays = xr.Dataset.from_dataframe(coverage.set_index(keys))
    return Output(arrays, table, {"last_generation": summary.to_dict("records")})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
