"""An assessment as a report: numbers, tables and charts, each with what it means."""

from functools import partial

import numpy as np
import pandas as pd

from jaxcollapse.metrics.moments import effective_number
from jaxcollapse.pipeline.assess import charts
from jaxcollapse.pipeline.assess.bias import NUM_RESAMPLES
from jaxcollapse.pipeline.assess.coverage import NAMES, wilson
from jaxcollapse.pipeline.assess.findings import Findings
from jaxcollapse.pipeline.report import Chart, Listing, Quantity
from jaxcollapse.theory.regimes import least_fresh

DEFINITIONS = {
    "precision": "share of its rows inside the balls about rows of the others, each of which reaches to the third neighbour",
    "recall": "share of the others' rows inside such balls about its own",
    "density": "how many balls of the others (fifth neighbour) hold a row of its own, over 5: about 1 in one distribution",
    "coverage": "share of the others' rows whose ball (fifth neighbour) holds a row of its own",
    "by_chance": "what a random sample of as many rows of all parties would have, beside the rest",
    "bias": "distance of means in standard deviations of the union, less what chance adds; from moments alone, which may "
    "travel where data may not",
    "trace_ratio": "variance over that of the union; from moments alone",
    "frechet": "distance of moments from the union's, in squared units of the data; from moments alone",
}


def quantities(found: Findings) -> list[Quantity]:
    """List all numbers."""
    ours, setting, future = found.evidence.parties[0], found.setting, found.future
    whole = found.bias is not None
    listed = [
        Quantity("is_incomplete", float(found.is_incomplete), "one where a class or mode is missing or scarce in the "
                 f"reference, or its mean is off by more than {setting.max_bias:g} standard deviations and chance"),
        Quantity("effective_size", ours.effective_size, "rows of the reference, copies of one row counted by "
                 "(sum c)^2 / sum c^2 over distinct rows", "rows"),
        Quantity("duplicates", ours.num_duplicates, "rows of the reference that repeat an earlier one exactly", "rows"),
        Quantity("effective_rank", float(effective_number(np.cov(ours.points, rowvar=False, ddof=0).reshape(
            ours.points.shape[1], -1))), "exponential of the entropy of the reference's normalised eigenvalues",
            "directions"),
    ]  # fmt: skip
    if whole:
        by = found.bias
        listed += [
            Quantity("bias_of_mean", by.mean.value, "distance of the reference's mean from the population's, in standard "
                     "deviations of the population in that direction, less what chance adds", "standard deviations",
                     by.mean.low, by.mean.high),
            Quantity("bias_by_chance", by.mean.noise, "largest distance, as the data have it, of "
                     f"{NUM_RESAMPLES} random samples of the reference's size: no bias can be told below", "standard deviations"),
            Quantity("trace_ratio", by.trace_ratio.value, "variance of the reference over that of the population", "",
                     by.trace_ratio.low, by.trace_ratio.high),
            Quantity("frechet_distance", by.frechet.value, "Fréchet distance of the reference's moments from the "
                     "population's, less what chance adds", "squared units", by.frechet.low, by.frechet.high),
            Quantity("frechet_by_chance", by.frechet.noise, "largest such distance, as the data have it, of random samples "
                     "of the reference's size", "squared units"),
        ]  # fmt: skip
        sizes = dict(zip(NAMES, (0, 1, 0, 1), strict=True))
        for name in NAMES:
            value = float(found.coverage.reference[name]["reference"])
            low, high = (np.nan, np.nan) if name == "density" else wilson(
                value * found.coverage.num_points[sizes[name]], found.coverage.num_points[sizes[name]])  # fmt: skip
            chance = found.coverage.reference[name]["random sample"]
            listed.append(Quantity(f"{name}_of_reference", value, f"{DEFINITIONS[name].replace('the others', 'the population')}"
                                   f"; a random sample of its size has {chance:.2f}", "", float(low), float(high)))  # fmt: skip
        listed.append(Quantity("modes_lacking", len(found.lacking), f"of {len(found.modes)} modes, those that are missing "
                               "or scarce in the reference", "modes"))  # fmt: skip
    rate, rho = found.expansion.log_trace, found.expansion.junk_share
    listed += [
        Quantity("log_expansion", float(rate.mean), "logarithm of what a generation without selection multiplies the variance "
                 "by: positive where the generator expands", "", float(rate.low), float(rate.high)),
        Quantity("junk_share", float(rho.mean), "share of candidates farther out than any real row", "", float(rho.low),
                 float(rho.high)),
        Quantity("best_budget", 1 - found.junk, "share of candidates that are no junk: keep so many, no fewer"),
        Quantity("multiplier", *_ends(future.multiplier, "what a generation of selection multiplies the covariance by in the "
                 "end, lambda = f kappa_d(alpha), d all directions that vary: below one diversity dies out")),
        Quantity("exponent", *_ends([1 - x for x in (future.multiplier.mean, future.multiplier.high, future.multiplier.low)],
                 "psi = 1 - lambda: under accumulate the variance goes as t^-psi")),
        Quantity("half_life", *_ends(future.half_life, "generation at which half of the variance is left, by theory",
                 "generations")),
        Quantity("trace_left", *_ends([np.exp(x[-1]) for x in future.log_trace], "variance after "
                 f"{setting.num_generations} generations over that of generation 0, by theory")),
    ]  # fmt: skip
    if len(found.resampled):
        last = found.resampled.iloc[-1]
        listed.append(Quantity("trace_left_resampled", last.trace, f"the same after {int(last.generation)} generations, of "
                               "resampled data whatever their shape", "", last.low, last.high))  # fmt: skip
    factor = float(future.multiplier.mean)
    if 0 < factor < 1:
        listed.append(Quantity("least_fresh", least_fresh(factor, 0.5), "share of new real data in every training set that "
                               "keeps half of the variance for ever"))  # fmt: skip
    return listed


def listings(found: Findings) -> list[Listing]:
    """List all tables."""
    future = found.future
    modes_are = "class" if found.evidence.parties[0].labels is not None else "k-means cell of the population"
    listed = [
        Listing("modes", f"Shares of rows, a {modes_are} each", found.modes, {
            "status": "missing: none, where a random sample would have five rows or more; scarce: the interval ends below "
            "half of the population's; rare: none, and a random sample might have none as well",
            "reference_low": "to high: Wilson's interval of 95%",
        }),
    ]  # fmt: skip
    if found.bias is not None:
        listed.append(Listing("columns", "Columns whose mean is shifted most", found.evidence.columns, {
            "shift": "of the reference's mean, in standard deviations of the population",
            "spread_ratio": "standard deviation over the population's",
        }))  # fmt: skip
    if found.coverage.without is not None:
        listed += [
            Listing("silos", "Each party beside the others", found.coverage.silos, DEFINITIONS),
            Listing("value", "What the union is without each party", found.coverage.without, {
                "coverage_lost": "coverage of the population by the union, less that by the union without it",
                "frechet_gained": "Fréchet distance from the population without it, less that of the union; in squared units",
            }),
        ]  # fmt: skip
    listed.append(Listing("forecast", "Variance over that of generation 0, by theory", curve(found)))
    if found.gains is not None:
        listed.append(Listing("gains", "Predicted gain over random selection", found.gains, {
            "log_ratio": f"log of the Fréchet distance from the {_truth(found)} over that of random selection: negative "
            "where selection pays; interval of 95% over seeds of the prediction",
        }))  # fmt: skip
    return listed


def drawings(found: Findings) -> list[Chart]:
    """List all charts."""
    rows = {part.name: part.num_rows for part in found.evidence.parties}
    table, drawn = found.coverage.silos, []
    if found.coverage.without is not None:
        drawn.append(Chart(
            "coverage",
            "What each party shares with the others: share of its rows that lie among theirs (precision), and of theirs "
            "among its own (recall, coverage). Black ticks: a random sample of as many rows. Bars: Wilson's intervals of "
            f"95%, for {found.coverage.num_union:,} points in all.",
            partial(charts.coverage, table),
        ))  # fmt: skip
    drawn.append(Chart(
        "shares",
        f"Shares of modes in the reference (n = {rows['reference']:,}, dots) and in the {_truth(found)} (squares). Bars: "
        "Wilson's intervals of 95%.",
        partial(charts.shares, found.modes),
    ))  # fmt: skip
    drawn.append(Chart(
        "forecast",
        f"Variance of the model over that of generation 0, under {found.setting.workflow} at budget "
        f"{found.setting.budget:g}: Gaussian theory, with two standard deviations of resamples of the rows (band); and data "
        "resampled and selected by the same score, whatever their shape (squares, 95% over 8 seeds).",
        partial(charts.forecast, curve(found), found.resampled),
    ))  # fmt: skip
    if found.gains is not None:
        drawn.append(Chart(
            "gain",
            f"Predicted Fréchet distance from the {_truth(found)} over that of random selection. Bars: 95% over 8 seeds.",
            partial(charts.gain, found.gains),
        ))  # fmt: skip
    return drawn


def curve(found: Findings) -> pd.DataFrame:
    """Tabulate the forecast."""
    mean, low, high = map(np.exp, found.future.log_trace)
    return pd.DataFrame({"generation": np.arange(len(mean)), "trace": mean, "low": low, "high": high})


def _truth(found: Findings) -> str:
    return "population" if found.evidence.population is not None else "union"


def _ends(interval, definition: str, unit: str = "") -> tuple[float, str, str, float, float]:
    value, low, high = map(float, interval)
    return value, definition, unit, low, high
