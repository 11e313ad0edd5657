"""Calibrated gradients, direct and by proxy, against finite differences of the exact transport cost."""

import dataclasses
import functools
import itertools
from typing import Annotated

import jax
import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import carry_out, geodesic
from jaxcollapse.experiments.support.ranges import Count, Dim, Epsilon, Inner, Range, Share
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.measures import uniform_measure
from jaxcollapse.scores import calibrated_gradient
from jaxcollapse.transport.sinkhorn import mean_cost, sinkhorn
from jaxcollapse.tree import expand


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Slope and correlation of predicted with measured derivatives of the cost in the mass of one candidate."""

    num_candidates: Annotated[int, Range(2, 1000)] = 120
    """Candidates N of the pool."""
    num_reference: Annotated[int, Range(2, 1000)] = 90
    """Points M of the silo."""
    num_support: Count = 200
    """Support points S of the proxy."""
    dim: Dim = 5
    """Dimension."""
    taus: tuple[Inner, ...] = (0.25, 0.5, 0.75)
    """Places of the proxies on the geodesic, in (0, 1)."""
    epsilons: tuple[Epsilon, ...] = (0.05, 0.02, 0.005)
    """Regularisations, relative to the mean cost."""
    sizes: tuple[Share, ...] = (0.01, 0.1, 1.0)
    """Changes of a candidate's mass, relative to it: positive and negative, so at most 1."""
    num_probed: Annotated[int, Range(2, 1000)] = 60
    """Candidates whose mass is changed."""
    num_rounds: Count = 30
    """Rounds of the exchange."""
    outlier: Annotated[float, Range(0.0, 1e3)] = 4.0
    """A tenth of the candidates lies this much further out."""


PRESETS = {
    "smoke": {
        "taus": (0.5,), "epsilons": (0.05, 0.02), "sizes": (0.1, 1.0), "num_candidates": 30, "num_reference": 20,
        "num_support": 30, "num_probed": 6, "num_rounds": 5,
    },
    "quick": {"num_candidates": 80, "num_reference": 60, "num_probed": 30, "num_rounds": 20, "sizes": (0.1, 1.0)},
    "paper": {},
}  # fmt: skip


def problem(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pool with a few candidates far out, and a silo of another place and shape."""
    rng = np.random.default_rng(config.seed)
    pool = rng.standard_normal((config.num_candidates, config.dim))
    pool[: config.num_candidates // 10] *= config.outlier
    silo = 1 + rng.standard_normal((config.num_reference, config.dim)) * np.linspace(0.5, 1.5, config.dim)
    return pool, silo


def exact_cost(cost: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Solve the transport problem as a linear program."""
    n, m = cost.shape
    rows = scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m)))
    columns = scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m))
    constraints = scipy.sparse.vstack([rows, columns]).tocsr()[:-1]  # the masses agree, so one is redundant
    masses = np.concatenate([source, target])[:-1]
    return linprog(cost.ravel(), A_eq=constraints, b_eq=masses, method="highs").fun


def finite_differences(config: Config, runner: Runner, pool: np.ndarray, silo: np.ndarray) -> xr.DataArray:
    """Move mass to one candidate from all others and back, and divide the change of the cost."""
    cost = cdist(pool, silo, "sqeuclidean")
    n, m = cost.shape
    target, one = np.full(m, 1 / m), 1 / n

    def cost_with(point, mass):
        masses = np.full(n, (1 - mass) / (n - 1))
        masses[point] = mass
        return exact_cost(cost, masses, target)

    axes = {"size": list(config.sizes), "point": np.linspace(0, n - 1, config.num_probed).round().astype(int)}
    found = []
    for size, point in runner.track("finite differences", list(itertools.product(*axes.values()))):
        up, down = (cost_with(point, one * (1 + sign * size)) for sign in (1, -1))
        found.append((up - down) / (2 * size * one))
    return xr.DataArray(np.reshape(found, (-1, config.num_probed)), axes, list(axes), name="finite_difference")


def predictions(config: Config, runner: Runner, pool: np.ndarray, silo: np.ndarray) -> xr.Dataset:
    """Score the pool against the silo itself, tau = 1, and against proxies on the geodesic to it."""
    source, target = (uniform_measure(config.dtype(points)) for points in (pool, silo))
    support = np.random.default_rng([config.seed, 1]).standard_normal((config.num_support, config.dim)) + 0.5
    unit, key = mean_cost(source, target), jax.random.key(0)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(epsilon, tau):
        reference = target
        if tau < 1:
            proxy = geodesic(epsilon, tau, num_rounds=config.num_rounds, start=config.dtype(support))
            reference = carry_out(proxy, key, source, expand(target))
        potentials = sinkhorn(source, reference, epsilon)
        return -calibrated_gradient(potentials, epsilon, tau)(key, source).value, potentials.error

    axes = {"epsilon": list(config.epsilons), "tau": [1.0, *config.taus], "point": range(len(pool))}
    labels = list(itertools.product(axes["epsilon"], axes["tau"]))
    found = [gradient(relative * unit, tau) for relative, tau in runner.track("predictions", labels)]
    predicted, error = (np.array(x).reshape(len(axes["epsilon"]), -1, *x[0].shape) for x in zip(*found, strict=True))
    return xr.Dataset({"predicted": (list(axes), predicted), "marginal_error": (["epsilon", "tau"], error)}, axes)


def run(config: Config, runner: Runner) -> Output:
    """Compare predicted and measured derivatives at every epsilon, tau and size."""
    check_range("num_probed", config.num_probed, low=2, high=config.num_candidates)
    runner.expect(2)
    pool, silo = problem(config)
    measured = finite_differences(config, runner, pool, silo)
    arrays = xr.merge([predictions(config, runner, pool, silo), measured], join="inner")

    def fit(cell):
        slope, _ = np.polyfit(cell.finite_difference, cell.predicted, 1)
        correlation = np.corrcoef(cell.finite_difference, cell.predicted)[0, 1]
        rank = cell.finite_difference.corr(cell.predicted, method="spearman")
        return pd.Series(
            {"slope": slope, "correlation": correlation, "rank": rank, "marginal_error": cell.marginal_error.max()}
        )

    fits = arrays.to_dataframe().groupby(["epsilon", "tau", "size"]).apply(fit).reset_index()
    return Output(arrays, {"fits": fits.to_dict("records")})
