"""Scheme I on its geodesic: distances to both ends, round by round, and potentials that scale with tau."""

import dataclasses
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse.exchanges import geodesic, rounds
from jaxcollapse.experiments.support.distances import exact_distance
from jaxcollapse.experiments.support.ranges import Count, Dim, Epsilon, Inner, NumSeeds, Range
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.measures import uniform_measure
from jaxcollapse.transport.sinkhorn import mean_cost, sinkhorn
from jaxcollapse.tree import expand


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """W(P, xi) + W(xi, Q) against W(P, Q), exact distances between as many points, and f_tau against tau f."""

    num_points: Annotated[int, Range(2, 10**4)] = 300
    """Points of pool, silo and support alike, so that distances are exact assignments."""
    dim: Dim = 2
    """Dimension."""
    taus: tuple[Inner, ...] = (0.25, 0.5, 0.75)
    """Places on the geodesic, in (0, 1)."""
    epsilon: Epsilon = 0.005
    """Regularisation, relative to the mean cost between pool and silo."""
    num_rounds: Count = 30
    """Rounds of the exchange."""
    num_seeds: NumSeeds = 5
    """Independent problems."""


PRESETS = {
    "smoke": {"num_points": 40, "num_rounds": 5, "num_seeds": 2},
    "quick": {"num_points": 150, "num_rounds": 20, "num_seeds": 3},
    "paper": {},
}


def problem(config: Config, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a pool, a silo of another place and shape, and the initial support between them."""
    rng = np.random.default_rng([config.seed, seed])
    shape = (config.num_points, config.dim)
    pool = rng.standard_normal(shape)
    silo = 3 + rng.standard_normal(shape) * np.linspace(0.5, 2, config.dim)
    return pool, silo, 1.5 + rng.standard_normal(shape)


def run(config: Config, runner: Runner) -> Output:
    """Follow the exchange at every tau and seed."""
    runner.expect(1)

    @jax.jit
    def exchange(pool, silo, support, tau):
        pool, silo = uniform_measure(pool), uniform_measure(silo)
        epsilon = config.epsilon * mean_cost(pool, silo)
        agreed = geodesic(epsilon, tau, num_rounds=config.num_rounds, start=support)
        supports = rounds(agreed, jax.random.key(0), pool, expand(silo)).support
        near, far = (sinkhorn(pool, end, epsilon) for end in (uniform_measure(supports[-1]), silo))
        return jnp.concatenate([support[None], supports]), near.f - near.f.mean(), far.f - far.f.mean()

    axes = {"seed": range(config.num_seeds), "tau": list(config.taus), "round": range(config.num_rounds + 1)}
    names = ("to_pool", "to_silo", "excess", "potential_slope", "potential_correlation")
    found = []
    for seed, tau in runner.track("exchanges", list(itertools.product(axes["seed"], axes["tau"]))):
        pool, silo, start = problem(config, seed)
        supports, near, far = map(np.asarray, exchange(*map(config.dtype, (pool, silo, start)), config.dtype(tau)))
        to_ends = np.array([[exact_distance(support, end) for support in supports] for end in (pool, silo)])
        before, after = to_ends / exact_distance(pool, silo)
        found.append((before, after, before + after - 1, near @ far / (far @ far), np.corrcoef(near, far)[0, 1]))
    columns = [np.array(x).reshape(config.num_seeds, -1, *np.shape(x[0])) for x in zip(*found, strict=True)]
    arrays = xr.Dataset({name: (list(axes)[: x.ndim], x) for name, x in zip(names, columns, strict=True)}, axes)
    last = arrays.isel(round=-1, drop=True).mean("seed").to_dataframe()
    return Output(arrays, {"last_round": last.reset_index().to_dict("records")})
