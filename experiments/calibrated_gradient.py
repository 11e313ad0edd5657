"""Calibrated gradients, direct and by proxy, against finite differences of the exact transport cost."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from experiments.common import Output, Runner, Settings, main
from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import carry_out, geodesic
from jaxcollapse.measures import uniform_measure
from jaxcollapse.scores import calibrated_gradient
from jaxcollapse.transport.sinkhorn import mean_cost, sinkhorn
from jaxcollapse.tree import expand

NAME = "calibrated_gradient"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Slope and correlation of predicted with measured derivatives of the cost in the mass of one candidate."""

    num_candidates: int = 120
    """Candidates N of the pool."""
    num_reference: int = 90
    """Points M of the silo."""
    num_support: int = 200
    """Support points S of the proxy."""
    dim: int = 5
    """Dimension."""
    taus: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Places of the proxies on the geodesic, in (0, 1)."""
    epsilons: tuple[float, ...] = (0.05, 0.02, 0.005)
    """Regularisations, relative to the mean cost."""
    sizes: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Changes of a candidate's mass, relative to it: positive and negative, so at most 1."""
    num_probed: int = 60
    """Candidates whose mass is changed."""
    num_rounds: int = 30
    """Rounds of the exchange."""
    num_plans: int = 20
    """Plans made on the way to the potentials that are scored."""
    outlier: float = 4.0
    """A tenth of the candidates lies this much further out."""


PRESETS = {
    "smoke": {"num_candidates": 30, "num_reference": 20, "num_support": 30, "num_probed": 6, "num_rounds": 5},
    "quick": {"num_candidates": 80, "num_reference": 60, "num_probed": 30, "num_rounds": 20, "sizes": (0.1, 1.0)},
    "paper": {},
}


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


def finite_differences(config: Config, runner: Runner, pool: np.ndarray, silo: np.ndarray) -> pd.DataFrame:
    """Move mass to one candidate from all others and back, and divide the change of the cost."""
    cost = cdist(pool, silo, "sqeuclidean")
    n, m = cost.shape
    target, one = np.full(m, 1 / m), 1 / n

    def cost_with(point, mass):
        masses = np.full(n, (1 - mass) / (n - 1))
        masses[point] = mass
        return exact_cost(cost, masses, target)

    probed = np.linspace(0, n - 1, config.num_probed).round().astype(int)
    rows = []
    for size, point in runner.track("finite differences", [(s, p) for s in config.sizes for p in probed]):
        up, down = (cost_with(point, one * (1 + sign * size)) for sign in (1, -1))
        rows.append((size, point, (up - down) / (2 * size * one)))
    return pd.DataFrame(rows, columns=["size", "point", "finite_difference"])


def predictions(config: Config, runner: Runner, pool: np.ndarray, silo: np.ndarray) -> pd.DataFrame:
    """Score the pool against the silo itself, tau = 1, and against proxies on the geodesic to it."""
    source, target = (uniform_measure(np.float32(points)) for points in (pool, silo))
    support = np.random.default_rng([config.seed, 1]).standard_normal((config.num_support, config.dim)) + 0.5
    unit, key = mean_cost(source, target), jax.random.key(0)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(epsilon, tau):
        reference = target
        if tau < 1:
            proxy = geodesic(epsilon, tau, num_rounds=config.num_rounds, start=jnp.float32(support))
            reference = carry_out(proxy, key, source, expand(target))
        potentials = sinkhorn(source, reference, epsilon, num_outer=config.num_plans)
        return -calibrated_gradient(potentials, epsilon, tau)(key, source), potentials.error

    frames = []
    for relative, tau in runner.track("predictions", [(e, t) for e in config.epsilons for t in (1.0, *config.taus)]):
        predicted, error = gradient(relative * unit, tau)
        labels = {"epsilon": relative, "tau": tau, "marginal_error": float(error)}
        frames.append(pd.DataFrame({"point": range(len(pool)), "predicted": np.asarray(predicted)}).assign(**labels))
    return pd.concat(frames)


def run(config: Config, runner: Runner) -> Output:
    """Compare predicted and measured derivatives at every epsilon, tau and size."""
    check_range("num_candidates", config.num_candidates, low=2)
    check_range("num_probed", config.num_probed, low=2, high=config.num_candidates)
    for size in config.sizes:
        check_range("sizes", size, low=1e-6, high=1)
    for tau in config.taus:
        check_range("taus", tau, low=1e-3, high=1 - 1e-3)
    pool, silo = problem(config)
    measured = finite_differences(config, runner, pool, silo)
    table = predictions(config, runner, pool, silo).merge(measured, on="point")
    keys = ["epsilon", "tau", "size"]
    table = table[[*keys, "point", "predicted", "finite_difference", "marginal_error"]]

    def fit(cell):
        slope, _ = np.polyfit(cell.finite_difference, cell.predicted, 1)
        correlation = np.corrcoef(cell.finite_difference, cell.predicted)[0, 1]
        rank = cell.finite_difference.corr(cell.predicted, method="spearman")
        return pd.Series(
            {"slope": slope, "correlation": correlation, "rank": rank, "marginal_error": cell.marginal_error.max()}
        )

    fits = table.groupby(keys)[table.columns[3:].tolist()].apply(fit).reset_index()
    arrays = xr.Dataset.from_dataframe(table.set_index([*keys, "point"]))
    return Output(arrays, table, {"fits": fits.to_dict("records")})


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
