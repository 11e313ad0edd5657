"""Forecasts of `jaxcollapse assess` beside what happens: over silos, budgets, generators and workflows."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import pandas as pd
import scipy
import sklearn.decomposition
import tyro

import jaxcollapse as jc
from jaxcollapse.base import Moments
from jaxcollapse.data.digits import load_digits
from jaxcollapse.gain import measure_expansion, surrogate
from jaxcollapse.generators import gaussian, gaussian_mixture, kernel_density
from jaxcollapse.metrics.moments import effective_number
from jaxcollapse.pipeline.assess.assess import NUM_FORECASTS, factors_of
from jaxcollapse.pipeline.assess.bias import bias, moments_of
from jaxcollapse.pipeline.assess.evidence import gather
from jaxcollapse.pipeline.assess.forecast import Future, forecast
from jaxcollapse.pipeline.assess.gain import by_distance

WORKFLOWS = ("replace", "accumulate")
METHODS = ("mean field", "d all", "d effective rank", "d of energies", "resampled")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is forecast, and how often it is let happen."""

    num_kept: int = 300
    """Candidates kept in each generation."""
    budgets: tuple[float, ...] = (0.75, 0.5, 0.25)
    """Shares of candidates kept."""
    num_generations: int = 8
    """Generations."""
    seeds: int = 4
    """Runs of each."""
    draws: int = 24
    """Independent data sets whose intervals are counted."""
    num_rows: int = 800
    """Rows that the first model is fitted to."""


def cases(config: Benchmark) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Make references and what first models are fitted to."""
    rng, dim = np.random.default_rng(0), 8
    spread = 2.0 ** -np.arange(dim)
    for shift in (0, 1, 2):
        start, reference = (rng.standard_normal((n, dim)) for n in (config.num_rows, 200))
        reference[:, 0] += shift
        yield f"Gaussian, b = {shift}", reference * spread**0.5, start * spread**0.5
    images = load_digits()
    points = sklearn.decomposition.PCA(16).fit_transform(np.asarray(images.points))
    order = rng.permutation(len(points))
    start, rest = points[order[: config.num_rows]], order[config.num_rows :]
    labels = np.asarray(images.labels)[rest]
    for name, classes in (("all classes", range(10)), ("three classes", (0, 1, 2)), ("one class", (3,))):
        yield f"digits, {name}", points[rest[np.isin(labels, list(classes))]], start


def happened(config: Benchmark, generator, reference: Moments, workflow: str, start: np.ndarray) -> np.ndarray:
    """Simulate, and take logarithms of traces over that of generation 0, [budget, seed, generation]."""
    runs = jc.simulate(
        generator, by_distance(reference), workflow, np.float32(start), num_kept=config.num_kept,
        budget=list(config.budgets), num_generations=config.num_generations, seeds=config.seeds,
    )  # fmt: skip
    traces = np.log(runs.trace_ratio.transpose("budget", "seed", "generation").to_numpy())
    return traces - traces[..., :1]


def told(
    config: Benchmark, start: Moments, reference: Moments, factors: np.ndarray, workflow: str, budget: float
) -> Future:
    return forecast(
        start, reference, factors, workflow=workflow, num_kept=config.num_kept, budget=budget,
        num_generations=config.num_generations,
    )  # fmt: skip


def by_dimension(config: Benchmark, dim: float, factor: float, workflow: str, budget: float) -> float:
    """Evaluate growth of f kappa_d(alpha), d a real number."""
    chi2 = scipy.stats.chi2
    rate = factor * chi2.cdf(chi2.ppf(budget, dim), dim + 2) / budget
    return float(np.log(jc.theory.regimes.growth(workflow, rate, config.num_generations)))


def grid(config: Benchmark) -> pd.DataFrame:
    """Compare every setting: logarithms of the traces after T generations."""
    generators = {
        "gaussian": gaussian(), "gaussian_mixture": gaussian_mixture(5),
        "kernel_density": kernel_density((config.num_generations + 1) * max(config.num_kept, config.num_rows)),
    }  # fmt: skip
    rows = []
    for case, reference, start in cases(config):
        weights = [np.ones(len(start))], [np.ones(len(reference))]
        ours, known = moments_of(start, weights[0]), moments_of(reference, weights[1])
        one = Moments(*(leaf[0] for leaf in known))
        scale = np.linalg.inv(one.covariance)
        energy = np.einsum("ni,ij,nj->n", start - start.mean(0), scale, start - start.mean(0))
        dims = {
            "d all": start.shape[1],
            "d effective rank": float(effective_number(np.cov(start, rowvar=False))),
            "d of energies": 2 * energy.mean() ** 2 / energy.var(),
        }
        for name, generator in generators.items():
            expansion = measure_expansion(generator, np.float32(start), num_samples=1000, seeds=4)
            factor = factors_of(expansion.log_trace, np.random.default_rng(0))[:1]
            stand_in = surrogate(expansion, max(len(start), (config.num_generations + 1) * config.num_kept))
            for workflow in WORKFLOWS:
                real = happened(config, generator, one, workflow, start)
                # Under replace copies of rows die out.
                copies = happened(config, stand_in, one, workflow, start) if workflow == "accumulate" else None
                for i, budget in enumerate(config.budgets):
                    future = told(config, *(jax.tree.map(lambda x: np.repeat(x, 2, 0), m) for m in (ours, known)),
                                  np.repeat(factor, 2), workflow, budget)  # fmt: skip
                    rows.append(
                        {
                            "data": case, "generator": name, "workflow": workflow, "budget": budget,
                            "factor": factor[0], "happened": real[i, :, -1].mean(),
                            "mean field": future.log_trace.mean[-1],
                            **{k: by_dimension(config, dim, factor[0], workflow, budget) for k, dim in dims.items()},
                            "resampled": np.nan if copies is None else copies[i, :, -1].mean(),
                            "half-life": half(real[i].mean(axis=0)), "half-life told": float(future.half_life.mean),
                        }
                    )  # fmt: skip
                print(rows[-1]["data"], name, workflow, flush=True)
    return pd.DataFrame(rows)


def half(log_traces: np.ndarray) -> float:
    """Interpolate the generation at which half is left; NaN where more is left in the end."""
    below = np.flatnonzero(log_traces <= np.log(0.5))
    if not below.size:
        return np.nan
    t = below[0]
    return t - 1 + (log_traces[t - 1] + np.log(2)) / (log_traces[t - 1] - log_traces[t])


def intervals(config: Benchmark) -> pd.DataFrame:
    """Count how often intervals hold what happened, over independent draws of a biased Gaussian problem."""
    dim, rows, lives = 4, [], []
    for draw in range(config.draws):
        rng = np.random.default_rng(draw)
        start, reference = rng.standard_normal((400, dim)), 0.9 * rng.standard_normal((120, dim))
        reference[:, 0] += 1
        apart = bias(gather(reference, (), start), rng)
        pair = (jax.tree.map(lambda x: x[: 1 + NUM_FORECASTS], m) for m in (apart.population, apart.reference))
        pair = tuple(pair)
        one = jax.tree.map(lambda x: x[0], apart.reference)
        for workflow in WORKFLOWS:
            real = happened(config, gaussian(), one, workflow, start).mean(axis=1)
            for i, budget in enumerate(config.budgets):
                future = told(config, *pair, np.ones(1 + NUM_FORECASTS), workflow, budget)
                mean, low, high = (curve[-1] for curve in future.log_trace)
                rows.append((draw, workflow, budget, mean, low, high, real[i, -1]))
        lives.append((apart.mean.low <= 1 <= apart.mean.high, apart.trace_ratio.low <= 0.81 <= apart.trace_ratio.high))
    table = pd.DataFrame(rows, columns=["draw", "workflow", "budget", "mean", "low", "high", "happened"])
    table["this reference"] = table.happened.between(table.low, table.high)
    other = table.groupby(["workflow", "budget"]).happened.transform(lambda x: np.roll(x, 1))
    table["another reference"] = other.between(table.low, table.high)
    table["half width"] = (table.high - table.low) / 2
    table["error"] = table["mean"] - table.happened
    by = table.groupby(["workflow", "budget"])[["this reference", "another reference", "half width", "error"]].mean()
    print("Intervals of 95% that hold the bias of the mean and the trace ratio: "
          f"{', '.join(f'{x:.2f}' for x in np.mean(lives, axis=0))} of {config.draws}")  # fmt: skip
    return by.reset_index()


def main(config: Benchmark) -> None:
    """Print all tables."""
    found = grid(config)
    print(found.round(2).to_string())
    errors = found[list(METHODS)].sub(found.happened, axis=0).abs()
    by = [found.data.str.split(",").str[0], found.generator]
    print("\nMean absolute error of log (trace after T / trace of generation 0)")
    print(errors.groupby(by).mean().round(2).to_string())
    print(errors.groupby([found.data, found.workflow]).mean().round(2).to_string())
    print(intervals(config).round(3).to_string())


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
