"""An assessment as a report: numbers, tables and charts, each with what it means."""

from functools import partial

import numpy as np
import pandas as pd

from jaxcollapse.analysis import wilson
from jaxcollapse.measures import as_moments
from jaxcollapse.metrics.moments import effective_number
from jaxcollapse.pipeline.assess import charts
from jaxcollapse.pipeline.assess.bias import NUM_RESAMPLES
from jaxcollapse.pipeline.assess.coverage import NAMES
from jaxcollapse.pipeline.assess.findings import Findings
from jaxcollapse.pipeline.report import Chart, Listing, Quantity
from jaxcollapse.theory.regimes import least_fresh

MEANINGS = {
    "is_incomplete": "one where a class or mode is missing or scarce in the reference, or its mean is off by more than "
    "is accepted (max_bias) and more than chance",
    "effective_size": "rows of the reference, copies counted by (sum c)^2 / sum c^2 over distinct rows",
    "duplicates": "rows of the reference that repeat an earlier one exactly",
    "effective_rank": "exponential of the entropy of the reference's normalised eigenvalues",
    "bias_of_mean": "distance of the reference's mean from the population's, in the population's standard deviations "
    "in that direction, less what chance adds",
    "bias_by_chance": f"largest such distance, as data have it, of {NUM_RESAMPLES} random samples of the reference's "
    "size: below it no bias can be told",
    "trace_ratio": "variance of the reference over that of the population",
    "frechet_distance": "Fréchet distance of the reference's moments from the population's, less what chance adds",
    "frechet_by_chance": f"largest such distance, as data have it, of {NUM_RESAMPLES} random samples",
    "modes_lacking": "classes or modes that are missing or scarce in the reference",
    "log_expansion": "log of what a generation without selection multiplies the variance by; positive: it expands",
    "junk_share": "share of candidates farther out than any real row",
    "best_budget": "share of candidates that are no junk: keep so many, no fewer",
    "multiplier": "what a generation multiplies the covariance by in the end, f kappa_d(alpha) with d all directions "
    "that vary: below one diversity dies out",
    "exponent": "one less the multiplier: under accumulate the variance goes as t to minus this",
    "half_life": "generation at which half of the variance is left, by theory",
    "trace_left": "variance after all generations over that of generation 0, by theory",
    "trace_left_resampled": "variance of resampled data, whatever their shape, at the last generation of the chart",
    "least_fresh": "share of new real data in every training set that keeps half of the variance for ever",
}
BALLS = {
    "precision": "share of its rows inside the balls about {}, each of which reaches to the third neighbour",
    "recall": "share of {} inside such balls about its own",
    "density": "how many balls about {} (fifth neighbour) hold a row of its own, over 5: about 1 in one distribution",
    "coverage": "share of {} whose ball (fifth neighbour) holds a row of its own",
}
OF_SILOS = {name: text.format("rows of the others") for name, text in BALLS.items()} | {
    "precision_by_chance": "what a random sample of as many rows of all has, beside the rest; likewise the others",
    "bias": "distance of means in standard deviations of the union, less what chance adds; from moments alone, which "
    "may travel where data may not",
    "trace_ratio": "variance over that of the union; from moments alone",
    "frechet": "distance of moments from the union's, in squared units of the data; from moments alone",
}
OF_MODES = {
    "status": "missing: none, where a random sample would have five rows or more; scarce: its interval ends below half "
    "of the population's; rare: none, as in a random sample perhaps",
    "reference_low": "to high: Wilson's interval of 95%",
}
OF_COLUMNS = {
    "shift": "of the reference's mean, in standard deviations of the population",
    "spread_ratio": "standard deviation over the population's",
}
OF_VALUE = {
    "coverage_lost": "coverage of the population by the union, less that by the union without it",
    "coverage_lost_by_chance": "the same without as many rows of all parties: a silo is worth what goes beyond it",
    "frechet_gained": "Fréchet distance from the population without it, less that of the union; in squared units",
}


def quantities(found: Findings) -> list[Quantity]:
    """List all numbers."""
    ours, future = found.evidence.parties[0], found.future
    rank = effective_number(as_moments(np.float32(ours.points)).covariance)
    rate, junk = found.expansion.log_trace, np.clip(found.expansion.junk_share, 0, 1)
    decay, left = future.multiplier, [np.exp(curve[-1]) for curve in future.log_trace]
    return [
        _quantity("is_incomplete", found.is_incomplete),
        _quantity("effective_size", ours.effective_size, unit="rows"),
        _quantity("duplicates", ours.num_duplicates, unit="rows"),
        _quantity("effective_rank", float(rank), unit="directions"),
        *_compared(found),
        _quantity("log_expansion", *rate),
        _quantity("junk_share", *junk),
        _quantity("best_budget", 1 - found.junk),
        _quantity("multiplier", *decay),
        _quantity("exponent", 1 - decay.mean, 1 - decay.high, 1 - decay.low),
        _quantity("half_life", *future.half_life, unit="generations"),
        _quantity("trace_left", *left),
        *(_quantity("trace_left_resampled", x.trace, x.low, x.high) for _, x in found.resampled.tail(1).iterrows()),
        *(_quantity("least_fresh", least_fresh(x, 0.5)) for x in (float(decay.mean),) if 0 < x < 1),
    ]


def _compared(found: Findings) -> list[Quantity]:
    """List what compares the reference with a population."""
    if found.bias is None:
        return []
    by, covered = found.bias, found.coverage
    sd, squared = "standard deviations", "squared units of the data"
    listed = [
        _quantity("bias_of_mean", by.mean.value, by.mean.low, by.mean.high, sd),
        _quantity("bias_by_chance", by.mean.noise, unit=sd),
        _quantity("trace_ratio", by.trace_ratio.value, by.trace_ratio.low, by.trace_ratio.high),
        _quantity("frechet_distance", by.frechet.value, by.frechet.low, by.frechet.high, squared),
        _quantity("frechet_by_chance", by.frechet.noise, unit=squared),
        _quantity("modes_lacking", len(found.lacking), unit=f"of {len(found.modes)}"),
    ]
    for name, size in zip(NAMES, (*covered.num_points, *covered.num_points), strict=True):
        value, chance = covered.reference[name]
        ends = [np.nan] * 2 if name == "density" else wilson(value * size, size)
        meaning = f"{BALLS[name].format('rows of the population')}; a random sample of its size has {chance:.2f}"
        listed.append(Quantity(f"{name}_of_reference", float(value), meaning, "", *map(float, ends)))
    return listed


def listings(found: Findings) -> list[Listing]:
    """List all tables."""
    mode = "class" if found.evidence.parties[0].labels is not None else "k-means cell of the population"
    listed = [Listing("modes", f"Shares of rows, by {mode}", found.modes, OF_MODES)]
    if found.bias is not None:
        listed.append(Listing("columns", "Columns whose mean is shifted most", found.evidence.columns, OF_COLUMNS))
    if found.coverage.without is not None:
        listed.append(Listing("silos", "Each party beside the others", found.coverage.silos, OF_SILOS))
        listed.append(Listing("value", "What the union is without each party", found.coverage.without, OF_VALUE))
    listed.append(Listing("forecast", "Variance over that of generation 0, by theory", _curve(found)))
    if found.gains is not None:
        ratio = f"log of the Fréchet distance from the {_truth(found)} over that of random selection: negative where "
        ratio += "selection pays; interval of 95% over seeds of the prediction"
        listed.append(Listing("gains", "Predicted gain over random selection", found.gains, {"log_ratio": ratio}))
    return listed


def drawings(found: Findings) -> list[Chart]:
    """List all charts."""
    rows, setting, drawn = found.evidence.parties[0].num_rows, found.setting, []
    if found.coverage.without is not None:
        caption = (
            "What each party shares with the others: the share of its rows among theirs (precision), and of theirs "
            "among its own (recall, coverage). Black ticks: a random sample of as many rows. Bars: Wilson's intervals "
            f"of 95%, of {found.coverage.num_union:,} points in all."
        )
        drawn.append(Chart("coverage", caption, partial(charts.coverage, found.coverage.silos)))
    caption = (
        f"Shares of classes or modes in the reference (n = {rows:,}, dots) and in the {_truth(found)} (squares). Bars: "
        "Wilson's intervals of 95%."
    )
    drawn.append(Chart("shares", caption, partial(charts.shares, found.modes)))
    caption = (
        f"Variance of the model over that of generation 0, under {setting.workflow} at budget {setting.budget:g}: "
        "Gaussian theory, with two standard deviations over resamples of the rows (band)"
    )
    caption += (
        "; and rows resampled and selected by the same score, whatever their shape (squares, 95% over seeds)."
        if len(found.resampled)
        else "."
    )
    drawn.append(Chart("forecast", caption, partial(charts.forecast, _curve(found), found.resampled)))
    if found.gains is not None:
        caption = (
            f"Predicted Fréchet distance from the {_truth(found)} over that of random selection, at budget "
            f"{setting.budget:g}. Bars: 95% over seeds of the prediction."
        )
        drawn.append(Chart("gain", caption, partial(charts.gain, found.gains)))
    return drawn


def _quantity(name: str, value: float, low: float = np.nan, high: float = np.nan, unit: str = "") -> Quantity:
    return Quantity(name, float(value), MEANINGS[name], unit, float(low), float(high))


def _curve(found: Findings) -> pd.DataFrame:
    mean, low, high = map(np.exp, found.future.log_trace)
    return pd.DataFrame({"generation": np.arange(len(mean)), "trace": mean, "low": low, "high": high})


def _truth(found: Findings) -> str:
    return "population" if found.evidence.population is not None else "union"
