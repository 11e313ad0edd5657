"""The phase diagram of collapse: half-life and final exponent over budget, bias, n, dimension and workflow."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from jaxcollapse.analysis import standard_error
from jaxcollapse.base import Measure, Moments, Record, Run, Sizes
from jaxcollapse.checks import check_fit
from jaxcollapse.experiments.support.ranges import Range
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.record import record_model, record_side_by_side
from jaxcollapse.recursion import run as run_whole
from jaxcollapse.recursion import side_by_side
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import isotropic_target
from jaxcollapse.theory.finite_size import linear_noise
from jaxcollapse.theory.mean_field import fresh_moments, kept_moments
from jaxcollapse.tree import row
from jaxcollapse.workflows import WORKFLOWS

COMPARED = ("replace", "accumulate", "fresh_mix")
FLOOR = 1e-6  # of the trace ratio: float32 follows the spread no further where the mean stops far from the target
QUANTITIES, THEORIES = ("half_life", "exponent"), ("mean_field", "finite_n")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Truth N(0, I) and a silo whose target lies at a distance: how fast the trace decays, simulated and predicted.

    Half-life: the generation at which the mean trace ratio first falls to a half, interpolated in its logarithm; NaN
    where it does not. Exponent: -d log trace / d log t, by least squares over the last half of the generations; under
    replace, where decay is geometric, it is the rate -d log trace / d t. Generations whose mean field leaves less than
    1e-6 of the trace do not count.
    """

    dims: tuple[Annotated[int, Range(1, 20)], ...] = (2, 10)
    """Dimensions."""
    num_kept: tuple[Annotated[int, Range(10, 10**5)], ...] = (20, 60, 200)
    """Samples n kept in each generation."""
    budgets: tuple[Annotated[float, Range(1e-3, 0.9)], ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.8, 0.9)
    """Shares of candidates kept, each at most .9, where the theory of finite n ends."""
    biases: tuple[Annotated[float, Range(0.0, 10.0)], ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    """Distances of the target from the true mean, in standard deviations."""
    fresh_share: Annotated[float, Range(0.01, 0.99)] = 0.2
    """Share of new real samples in the training sets of fresh_mix."""
    num_generations: Annotated[int, Range(4, 10**4)] = 40
    """Generations."""
    num_seeds: Annotated[int, Range(3, 10**4)] = 70
    """Independent simulations of each cell."""


PRESETS = {
    "smoke": {
        "dims": (2,),
        "num_kept": (40,),
        "budgets": (0.1, 0.5),
        "biases": (0.0, 2.0),
        "num_generations": 8,
        "num_seeds": 50,
    },
    "quick": {
        "num_kept": (20, 60),
        "budgets": (0.02, 0.1, 0.35, 0.7, 0.9),
        "biases": (0.0, 1.0, 2.0, 4.0),
        "num_generations": 24,
        "num_seeds": 8,
    },
    "paper": {},  # 19 minutes of one core, 4.5 GB
}


def recursions(config: Config, num_kept: Sequence[int]) -> Sizes:
    """Lay out the sizes of all n and budgets."""
    counts = np.array(num_kept)[:, None]
    num_fresh = np.maximum(np.round(counts * config.fresh_share / (1 - config.fresh_share)), 1).astype(int)
    return sizes(counts, np.array(config.budgets), config.num_generations, num_fresh=num_fresh)


def builder(dim: int, record: Callable[[Moments], Record], dtype: Any, *, exact: bool) -> Callable[..., Run]:
    """Make the builder of all workflows side by side, simulated or in the limit of many candidates.

    The target is the origin, where floating point resolves any spread, and the truth lies at the distance.
    """
    target = isotropic_target(jnp.zeros(dim, dtype))
    workflows = [WORKFLOWS[name](moments_memory()) for name in COMPARED]

    def build(sizes, distance, key) -> Run:
        truth = Moments(jnp.ones((), dtype), jnp.zeros(dim, dtype).at[0].set(distance), jnp.eye(dim, dtype=dtype))

        def fresh(key, sizes) -> Measure:
            return uniform_measure(truth.mean + jax.random.normal(key, (sizes.max_fresh, dim), dtype))

        drawn = (kept_moments(target), fresh_moments(truth)) if exact else (top_of_gaussian(target), fresh)
        collapse = side_by_side(gaussian(), drawn[0], workflows, drawn[1])
        return Run(key, collapse, truth, sizes, record_side_by_side(record(truth)))

    return build


def simulate(config: Config, runner: Runner, dim: int, num_kept: int) -> xr.DataArray:
    """Simulate the trace ratio of all cells with n kept; their places tell them apart."""
    build = builder(dim, lambda truth: record_model({"trace_ratio": trace_ratio}, truth), config.dtype, exact=False)

    def build_cell(budget, bias, seed) -> Run:
        (row_of, at), (column, distance) = budget, bias
        return build(at, distance, jax.random.fold_in(jax.random.fold_in(seed, row_of), column))

    grid, biases = row(recursions(config, [num_kept]), 0), np.array(config.biases)
    axes = {
        "budget": Axis(config.budgets, (np.arange(len(config.budgets)), grid)),
        "bias": Axis(config.biases, (np.arange(len(biases)), biases)),
        "seed": seeds(config.num_seeds, config.seed),
    }
    options = {"dims": {"trace_ratio": ("workflow",)}, "coords": {"workflow": list(COMPARED)}}
    found = runner.sweep(f"d = {dim}, n = {num_kept}", build_cell, axes, **options)
    return found.trace_ratio.astype(float).expand_dims(num_kept=[num_kept])


def predict(config: Config, runner: Runner, dim: int) -> xr.Dataset:
    """Compute the mean field of the trace ratio of all cells, and n times the offset of its mean and its variance."""
    build = builder(dim, lambda truth: lambda key, state, info: state.params, jnp.float64, exact=True)
    target, t = isotropic_target(jnp.zeros(dim)), jnp.arange(1.0, config.num_generations + 1)
    weights = jnp.stack([jnp.ones_like(t), 1 / t])  # of a kept set in the training sets of replace and accumulate
    diagonal = dim + np.flatnonzero(np.equal(*np.triu_indices(dim)))

    def expand(cell):
        at, distance = cell
        _, models = run_whole(*build(at, distance, jax.random.key(0)))
        of_known = jax.tree.map(lambda leaf: leaf[:, : len(weights)], models)
        correct = jax.vmap(linear_noise, (1, 0, None, None))
        found = correct(of_known, weights, target, at.num_kept.astype(float) / at.num_candidates)
        offset = jnp.trace(found.covariance, axis1=-2, axis2=-1) / dim
        variance = found.spread[..., diagonal[:, None], diagonal].sum((-2, -1)) / dim**2
        unknown = ((0, len(COMPARED) - len(weights)), (0, 0))
        corrections = [jnp.pad(each, unknown, constant_values=jnp.nan) for each in (offset, variance)]
        return jnp.trace(models.covariance, axis1=-2, axis2=-1).T / dim, *corrections

    dims = {"num_kept": config.num_kept, "budget": config.budgets, "bias": config.biases, "workflow": COMPARED}
    dims = {name: list(labels) for name, labels in dims.items()} | {"generation": np.arange(len(t) + 1)}
    lengths = [len(labels) for labels in dims.values()]
    cells = jax.tree.map(lambda leaf: jnp.repeat(leaf.ravel(), len(config.biases)), recursions(config, config.num_kept))
    distances = jnp.tile(jnp.array(config.biases), len(cells.num_kept) // len(config.biases))
    found = runner.once(f"d = {dim}, theory", lambda *all: jax.lax.map(expand, all, batch_size=8), cells, distances)
    names = ("mean_field", "offset", "variance")
    return xr.Dataset({k: ([*dims], np.asarray(v).reshape(lengths)) for k, v in zip(names, found, strict=True)}, dims)


def half_life(traces: NDArray, axis: int) -> NDArray:
    """Find when traces first fall to a half, interpolating their logarithms; NaN where they do not."""
    traces = np.moveaxis(traces, axis, 0)
    fallen = traces <= 0.5
    last = np.maximum(fallen.argmax(0), 1)
    before, after = (np.take_along_axis(traces, at[None], 0)[0] for at in (last - 1, last))
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(2 * before) / np.log(before / after)
    return np.where(fallen.any(0), last - 1 + steps, np.nan)


def lever(mean_field: xr.DataArray) -> xr.DataArray:
    """Make the weights of log traces, by generation, in the exponent; NaN for generations that do not count."""
    t = mean_field.generation
    clock = xr.where(mean_field.workflow == "replace", t, np.log(np.maximum(t, 1)))
    last = (mean_field >= FLOOR).sum("generation") - 1
    clock = clock.where((t >= last // 2) & (t <= last))
    centred = clock - clock.mean("generation")
    square = (centred**2).sum("generation")
    return -centred / square.where(square > 0)


def measure(traces: xr.DataArray, exact: xr.Dataset) -> xr.Dataset:
    """Reduce simulations of n kept to half-lives and exponents with standard errors, beside both theories."""
    weights, n = lever(exact.mean_field), exact.num_kept

    def exponent(logs):
        return (weights * logs).sum("generation", min_count=2)

    def log(traces):
        return np.log(traces.where(weights.notnull()))

    count = traces.sizes["seed"]
    others = (traces.sum("seed") - traces) / (count - 1)
    exponents = exponent(log(traces))
    offset, variance = exact.offset / exact.mean_field / n, exact.variance / exact.mean_field**2 / n
    grown = exact.mean_field * np.exp(offset.clip(max=100))  # which diverges where the mean field is unstable
    arrays = {
        "half_life": traces.mean("seed").reduce(half_life, "generation"),
        "half_life_error": (count - 1) * others.reduce(half_life, "generation").reduce(standard_error, "seed"),
        "half_life_mean_field": exact.mean_field.reduce(half_life, "generation"),
        "half_life_finite_n": grown.reduce(half_life, "generation"),
        "exponent": exponents.mean("seed"),
        "exponent_error": exponents.reduce(standard_error, "seed"),
        "exponent_mean_field": exponent(log(exact.mean_field)),
        "exponent_finite_n": exponent(log(exact.mean_field) + offset - variance / 2),
    }
    return xr.Dataset(arrays)


def compare(cells: xr.Dataset, quantity: str, theory: str) -> xr.Dataset:
    """Count the cells that theory predicts to two and to four standard errors, and measure how far off it is.

    The difference is that of exponents, and of the logarithms of half-lives.
    """
    simulated, error, predicted = (cells[quantity + suffix] for suffix in ("", "_error", f"_{theory}"))
    off, over = abs(simulated - predicted) / error, ("dim", "budget", "bias")
    alone = simulated.isnull() != predicted.isnull()
    scale = np.log if quantity == "half_life" else lambda values: values
    found = {f"within_{count}": (off <= count).where(off.notnull()).mean(over) for count in (2, 4)}
    return xr.Dataset(
        {
            "num_compared": off.notnull().sum(over),
            **found,
            "median_difference": abs(scale(simulated) - scale(predicted)).median(over),
            "num_in_one_alone": alone.sum(over).where(predicted.notnull().any(over)),
        }
    )


def run(config: Config, runner: Runner) -> Output:
    """Map both quantities over all cells, and compare them with both theories."""
    check_fit(min(config.num_kept), max(config.dims))
    runner.expect(len(config.dims) * (1 + len(config.num_kept)))
    of_dim = {}
    for dim in config.dims:
        with jax.enable_x64(True):
            exact = predict(config, runner, dim)
        found = [measure(simulate(config, runner, dim, n), exact.sel(num_kept=[n])) for n in config.num_kept]
        of_dim[dim] = xr.concat(found, "num_kept")
    cells = along("dim", of_dim)
    agreement = along("quantity", {q: along("theory", {t: compare(cells, q, t) for t in THEORIES}) for q in QUANTITIES})
    return Output(cells.merge(agreement), {"agreement": agreement.to_dataframe().reset_index().to_dict("records")})
