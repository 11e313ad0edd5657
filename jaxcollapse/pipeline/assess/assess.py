"""How complete reference data are, and what a verifier that knows them would do, in one report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxcollapse.analysis import Interval, seed_interval
from jaxcollapse.arguments import generator_of
from jaxcollapse.base import Generator, Measure, Moments
from jaxcollapse.checks import check_budget, check_count, check_names, check_range
from jaxcollapse.gain import Expansion, measure_expansion
from jaxcollapse.generators import gaussian_mixture
from jaxcollapse.pipeline.assess import gain
from jaxcollapse.pipeline.assess.bias import NUM_RESAMPLES, bias
from jaxcollapse.pipeline.assess.coverage import coverage, shares
from jaxcollapse.pipeline.assess.evidence import Evidence, gather
from jaxcollapse.pipeline.assess.findings import Findings, Setting
from jaxcollapse.pipeline.assess.forecast import Future, forecast
from jaxcollapse.pipeline.assess.present import drawings, listings, quantities
from jaxcollapse.pipeline.assess.verdict import verdict
from jaxcollapse.pipeline.report import Report
from jaxcollapse.verifiers import VERIFIERS

NUM_FORECASTS = 50  # resamples, whose standard deviation makes the interval
RIDGE = 1e-2  # of a reference whose covariance is singular, in units of its mean variance
WORKFLOWS = ("replace", "accumulate", "accumulate_subsample")
AGREEMENT = 0.4  # of logarithms of traces, to which theory and resampled data have to agree


def assess(
    reference: Any,
    silos: Mapping[str, Any] | Sequence[Any] = (),
    population: Any = None,
    candidates: Any = None,
    *,
    num_kept: int = 1000,
    budget: float = 0.25,
    num_generations: int = 10,
    workflow: str = "accumulate",
    verifiers: Sequence[str] = ("single_silo", "kernel_balanced"),
    generator: Generator | str | None = None,
    num_modes: int = 10,
    max_bias: float = 0.25,
    seed: int = 0,
    tell: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Tell how complete a reference is, and what a verifier that knows it would do to a generator.

    Args:
        reference: what the verifier knows, an array [n, d] or a `Table`.
        silos: of the other parties, by name or in order; with the reference they are the union.
        population: a sample of what should be covered; the union stands for it where it is None.
        candidates: today's pool of synthetic samples, which shows what the generator does to data.
        num_kept: n, candidates kept in each generation.
        budget: n / N, the share of candidates that is kept.
        num_generations: T that the forecast is for.
        workflow: replace, accumulate or accumulate_subsample.
        verifiers: names of `VERIFIERS`, whose gains over random selection are predicted.
        generator: whose effect on data is measured where there are no candidates; by default ten Gaussians, mixed.
        num_modes: cells that stand for classes where there are no labels.
        max_bias: of the mean, in standard deviations of the population, that is accepted.
        seed: of everything random.
        tell: what is going on is told to.

    Returns:
        A report. Its quantity `is_incomplete` is one where a class or mode is missing or scarce, or where the mean is
        off by more than `max_bias` and more than chance.

    Raises:
        ValueError: if an argument is not allowed, or tables do not fit together.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.pipeline.assess import assess
        >>> population = np.random.default_rng(0).normal(size=(100, 2))
        >>> half = population[population[:, 0] > 0]
        >>> report = assess(half, population=population, generator="gaussian")  # doctest: +SKIP
        >>> report.find("is_incomplete").value  # doctest: +SKIP
        1.0
    """
    num_kept = check_count("num_kept", num_kept, low=2)
    num_generations = check_count("num_generations", num_generations, low=1)
    check_budget(budget)
    check_names("workflow", [workflow], WORKFLOWS)
    check_names("verifier", verifiers, VERIFIERS)
    check_count("num_modes", num_modes, low=2)
    check_range("max_bias", max_bias, low=0)
    setting = Setting(num_kept, budget, num_generations, workflow, max_bias)
    rng = np.random.default_rng(check_count("seed", seed))
    tell("reading rows and columns")
    evidence = gather(reference, silos, population, candidates, seed)
    tell("comparing moments")
    apart = bias(evidence, rng)
    tell("measuring coverage")
    covered, modes = coverage(evidence, rng), shares(evidence, num_modes, seed)
    tell("measuring what the generator does to data")
    data, weights = _whole(evidence)
    if evidence.candidates is None:
        made = gaussian_mixture(10) if generator is None else generator_of(generator)
        sample = data[rng.choice(len(data), min(len(data), gain.MAX_DRAWN), p=weights / weights.sum())]
        expansion = measure_expansion(made, np.float32(sample), num_samples=gain.MAX_DRAWN, key=seed)
        pool = gain.pool_of(made, sample, gain.MAX_DRAWN, seed)
    else:
        pool = evidence.candidates.points
        expansion = gain.expansion_of_candidates(pool, data, weights, rng)
    junk = float(expansion.junk_share.mean) if expansion.junk_share.low > 0 else 0.0
    tell("forecasting")
    target, note = _regular(apart.reference)
    start, known = (jax.tree.map(lambda x: x[: 1 + NUM_FORECASTS], m) for m in (apart.population, target))
    future = forecast(
        start, known, factors_of(expansion.log_trace, rng), workflow=workflow, num_kept=num_kept,
        budget=min(1.0, budget / (1 - junk)), num_generations=num_generations,
    )  # fmt: skip
    tell("predicting gains")
    short, kept = min(num_generations, gain.MAX_GENERATIONS), min(num_kept, gain.MAX_KEPT)
    nearest = gain.by_distance(jax.tree.map(lambda x: x[0], target))
    try:
        gained, traces, wrong = gain.gains(
            {"mahalanobis": nearest} | {name: name for name in verifiers},
            pool[rng.permutation(len(pool))[: max(2, round(kept / budget))]],
            [part.points[rng.permutation(len(part.points))[: gain.MAX_SILO]] for part in evidence.parties],
            Measure(np.float32(data), np.float32(weights)),
            expansion,
            num_kept=kept, budget=budget, num_generations=short, workflow=workflow, key=seed,
        )  # fmt: skip
    except ValueError as error:
        gained, traces, wrong = None, {}, [f"Gains are not predicted: {error}."]
    # Under replace copies of rows die out, and new junk is in the traces of rows: neither can be compared with theory.
    comparable = workflow != "replace" and not junk
    resampled = _resampled(traces.get("mahalanobis") if comparable else None)
    compared = evidence.population is not None or len(evidence.parties) > 1
    found = Findings(
        setting, evidence, apart if compared else None, covered, modes, expansion, junk, future, resampled, gained
    )
    doubts = (*_missing_population(evidence), *note, *_confounded(expansion), *_disagreement(future, resampled), *wrong)
    settings = {
        **setting._asdict(), "num_modes": num_modes, "seed": seed, "resamples": NUM_RESAMPLES,
        "rows": {part.name: part.num_rows for part in evidence.parts}, "columns_used": data.shape[1],
        "predictions": f"{gain.NUM_SEEDS} seeds, n = {kept}, {short} generations, {gain.MAX_SILO} rows a party at most",
    }  # fmt: skip
    return Report(
        "assess",
        verdict(found),
        quantities(found),
        listings(found),
        drawings(found),
        (*evidence.notes, *doubts),
        settings,
    )


def _whole(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Put together what the population is known by, with masses."""
    masses = [np.full(len(part.points), part.num_rows / len(part.points)) for part in evidence.truth]
    return np.concatenate([part.points for part in evidence.truth]), np.concatenate(masses)


def factors_of(rate: Interval, rng: np.random.Generator) -> np.ndarray:
    """Draw what a generation multiplies a covariance by; a rate that may be zero, or is not known, counts as zero.

    All samples may be junk, which leaves no rate.
    """
    mean = float(rate.mean) if rate.low * rate.high > 0 else 0.0
    error = np.nan_to_num((rate.high - rate.low) / (2 * 1.96))
    return np.exp(np.append(mean, rng.normal(mean, error, NUM_FORECASTS)))


def _regular(reference: Moments) -> tuple[Moments, list[str]]:
    """Add a ridge where the covariance is singular to rounding."""
    mean_variance = np.trace(reference.covariance[0]) / reference.mean.shape[-1]
    if np.linalg.eigvalsh(reference.covariance[0])[0] > 1e-6 * mean_variance:
        return reference, []
    ridge = RIDGE * mean_variance * np.eye(reference.mean.shape[-1])
    note = (
        "The reference's covariance is singular, with too few rows or columns that follow from others: "
        f"{RIDGE:.0%} of its mean variance is added in every direction, and the forecast depends on that."
    )
    return reference._replace(covariance=reference.covariance + ridge), [note]


def _missing_population(evidence: Evidence) -> list[str]:
    if evidence.population is not None:
        return []
    if len(evidence.parties) == 1:
        return ["Nothing says what should be covered: name other parties' files, or a sample of the population."]
    return [
        "The union of all parties stands for the population, of which there is no sample: what nobody has goes unseen."
    ]


def _confounded(expansion: Expansion) -> list[str]:
    """Say where a broad generator may be taken for one that makes junk, or nothing is known of it."""
    if not np.isfinite(expansion.log_trace).all():
        return ["Nearly all samples of the generator are junk: the forecast is that of one that does not expand."]
    if expansion.junk_share.low <= 0.01 or expansion.log_trace.low <= 0:
        return []
    return [
        "The generator expands and makes junk, and the two are told apart by the farthest real row alone: of a "
        "generator whose noise is broad in many directions much is counted as junk, and too little is then forecast."
    ]


def _resampled(log_traces: np.ndarray | None) -> pd.DataFrame:
    if log_traces is None:
        return pd.DataFrame(columns=["generation", "trace", "low", "high"])
    mean, low, high = map(np.exp, seed_interval(log_traces))
    return pd.DataFrame({"generation": np.arange(len(mean)), "trace": mean, "low": low, "high": high})


def _disagreement(future: Future, resampled: pd.DataFrame) -> list[str]:
    """Say where the data's shape defeats the Gaussian theory, as far as resampling them shows it."""
    if not len(resampled):
        return []
    last = resampled.iloc[-1]
    told, low, high = (curve[int(last.generation)] for curve in future.log_trace)
    apart = np.log(last.trace) - told
    if abs(apart) <= AGREEMENT or (low <= np.log(last.high) and np.log(last.low) <= high):
        return []
    return [
        f"Theory and data disagree: it leaves {np.exp(told):.2g} of the variance after {int(last.generation)} "
        f"generations, and rows resampled and selected {last.trace:.2g}. Trust theory for a generator that smooths its "
        "data, as Gaussians and mixtures of few do, and rows for one that copies them."
    ]
