"""Scheme II round by round: the federated barycenter against a central one and against the Gaussian fixed point."""

import dataclasses
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import barycenter, rounds
from jaxcollapse.experiments.support.distances import exact_distance
from jaxcollapse.experiments.support.ranges import Count, Dim, Epsilon, NumSeeds, NumSilos, Range, Step
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.measures import as_moments, uniform_measure, union
from jaxcollapse.transport.bures import bures_barycenter, bures_distance


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Distances of whole measures, relative to the spread of the barycenter."""

    num_silos: NumSilos = 4
    """Silos K, each a sample of a Gaussian of its own."""
    num_points: Annotated[int, Range(2, 10**4)] = 300
    """Points of every silo and of the support, so that distances are exact assignments."""
    dim: Dim = 2
    """Dimension."""
    steps: tuple[Step, ...] = (0.5, 1.0)
    """Shares of the way that points move in a round, in (0, 1]."""
    epsilons: tuple[Epsilon, ...] = (0.02, 0.005)
    """Regularisations, relative to the variance of all silos together."""
    num_rounds: Count = 40
    """Rounds of the exchange."""
    num_seeds: NumSeeds = 5
    """Independent problems."""


PRESETS = {
    "smoke": {"num_points": 40, "num_rounds": 5, "num_seeds": 2},
    "quick": {"num_points": 150, "num_rounds": 20, "num_seeds": 3},
    "paper": {},
}


def problem(config: Config, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the silos [K, m, d] and two initial supports [2, m, d]."""
    rng = np.random.default_rng([config.seed, seed])
    shape = (config.num_silos, config.num_points, config.dim)
    roots = rng.standard_normal((config.num_silos, config.dim, config.dim)) + np.eye(config.dim)
    silos = 2 * rng.standard_normal((config.num_silos, 1, config.dim)) + rng.standard_normal(shape) @ roots
    return silos, silos.mean(axis=(0, 1)) + rng.standard_normal((2, *shape[1:]))


def central_barycenter(silos: np.ndarray, support: np.ndarray, num_steps: int = 100) -> np.ndarray:
    """Move each point to the mean of the points assigned to it until nothing changes: all data in one place."""
    for _ in range(num_steps):
        images = [silo[linear_sum_assignment(cdist(support, silo, "sqeuclidean"))[1]] for silo in silos]
        moved = np.mean(images, axis=0)
        if np.allclose(moved, support):
            break
        support = moved
    return support


def run(config: Config, runner: Runner) -> Output:
    """Follow the exchange at every epsilon, step and seed."""
    check_range("num_points", config.num_points, low=config.dim + 1)
    runner.expect(1)

    @jax.jit
    def exchange(silos, support, epsilon, step):
        silos = uniform_measure(silos)
        moments = as_moments(silos)
        unit = 2 * jnp.trace(union(moments).covariance)
        agreed = barycenter(support, epsilon * unit, step, num_rounds=config.num_rounds)
        supports = jnp.concatenate([support[None], rounds(agreed, jax.random.key(0), None, silos).support])
        fixed_point, _ = bures_barycenter(moments, jnp.full(config.num_silos, 1 / config.num_silos), 50)
        found = as_moments(uniform_measure(supports))
        distances = jax.vmap(bures_distance, in_axes=(0, None))(found, fixed_point)
        return supports, distances, jnp.sqrt(jnp.trace(fixed_point.covariance))

    axes = {"seed": range(config.num_seeds), "epsilon": list(config.epsilons), "step": list(config.steps)}
    found, floor = [], {}
    for seed, epsilon, step in runner.track("exchanges", list(itertools.product(*axes.values()))):
        silos, (start, other) = problem(config, seed)
        arguments = (silos, start, epsilon, step)
        supports, to_gaussian, unit = map(np.asarray, exchange(*map(config.dtype, arguments)))
        central = central_barycenter(silos, start)
        floor[seed] = exact_distance(central, central_barycenter(silos, other)) / unit
        found.append(([exact_distance(support, central) / unit for support in supports], to_gaussian / unit))
    axes |= {"oracle": ["to_central", "to_gaussian"], "round": range(config.num_rounds + 1)}
    distances = xr.DataArray(np.reshape(found, [len(axis) for axis in axes.values()]), axes, list(axes))
    arrays = distances.to_dataset("oracle").assign(floor=("seed", list(floor.values())))
    last = arrays.isel(round=-1, drop=True).mean("seed").to_dataframe()
    return Output(arrays, {"last_round": last.reset_index().to_dict("records")})
