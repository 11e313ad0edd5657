"""Figures of a log: diversity with its forecast, evidence, and cells."""

import matplotlib.pyplot as plt
import numpy as np
import scipy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcollapse.paper_figures.support import style
from jaxcollapse.pipeline.monitor.log import Log
from jaxcollapse.pipeline.monitor.verdict import (
    COMING,
    FAMILIES,
    LOSS,
    MEASURES,
    changes,
    forecast,
    gather,
    thresholds,
    workflow_of,
)
from jaxcollapse.pipeline.report import Chart
from jaxcollapse.theory.closed_forms import CLOSED_FORMS

Z = scipy.stats.norm.ppf(0.975)
MOST, LEAST = 1e9, 1e-3  # evidence that is drawn
LOOKS = dict(zip(MEASURES, style.SERIES, strict=False))


def charts(log: Log) -> list[Chart]:
    """Make all that a log has generations enough for."""
    return [diversity(log), evidence(log), cells(log)] if len(log.samples) > 1 else []


def diversity(log: Log) -> Chart:
    """Show spread and volume as shares of generation 0's, and the spread that is to come."""
    last = len(log.samples) - 1
    times = np.arange(1, last + 1)

    def draw() -> Figure:
        figure, axes = plt.subplots(figsize=(style.PAGE, 2.8), layout="constrained")
        axes.axhline(100, color=style.BLACK, linewidth=0.6)
        axes.axhline(100 * (1 - LOSS), **style.THEORY, label=f"{LOSS:.0%} less")
        for shift, (name, look) in zip((-0.08, 0.08), LOOKS.items(), strict=True):
            change, error = changes(log, name)
            middle, low, high = (100 * np.exp(change + z * error) for z in (0, -Z, Z))
            axes.errorbar(times + shift, middle, (middle - low, high - middle), markersize=3, label=name, **look)
        if last > 1:
            ahead, (middle, high, low) = np.arange(last + 1, last + COMING + 1), 100 * forecast(log).T
            axes.fill_between(ahead, low, high, color=style.BLUE, alpha=0.2, linewidth=0, label="spread to come")
            axes.plot(ahead, middle, color=style.BLUE, linestyle=style.DOTTED)
        if log.settings.workflow:
            law = CLOSED_FORMS[log.settings.workflow](log.settings.num_kept, last + COMING)
            if log.settings.workflow == "accumulate":  # generation 0 is fitted on rows already
                law = CLOSED_FORMS["accumulate"](log.settings.num_kept, last + COMING + 1)[1:]
            axes.plot(100 * law / law[0], color=style.GREEN, linestyle=style.DASH_DOT, label="sampling noise alone")
        axes.set(xlabel="generation", ylabel="variance, % of generation 0", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        return figure

    to_come = (
        f" The shaded band holds 95% of the spreads of samples to come, if losses go on as the {_family(log)} fitted."
        if last > 1
        else ""
    )
    noise = ", and the dash-dotted line what sampling noise alone is expected to leave of the spread" * bool(
        log.settings.workflow
    )
    caption = (
        f"Diversity by generation, {_rows(log)}: spread, the variance of an average axis, and volume, the geometric "
        "mean of variances. Bars are 95% intervals of the ratio to generation 0; the dashed line across is the loss "
        f"that an alarm tests for{noise}.{to_come}"
    )
    return Chart("diversity", caption, draw)


def evidence(log: Log) -> Chart:
    """Show the evidence for a departure, beside what levels need."""
    needed = thresholds(log.settings.false_alarms)
    known = log.settings.num_kept is not None

    def draw() -> Figure:
        figure, axes = plt.subplots(figsize=(style.PAGE, 2.4), layout="constrained")
        kinds = {"against one model": False} | ({"against healthy refits": True} if known else {})
        for (name, refits), look in zip(kinds.items(), style.SERIES, strict=False):
            logs = np.append(0, gather(log, refits=refits).together)
            axes.plot(np.exp(np.clip(logs, np.log(LEAST), np.log(MOST))), markersize=3, label=name, **look)
        for (name, value), dash in zip(needed.items(), (style.DOTTED, style.DASHED), strict=True):
            axes.axhline(value, color=style.BLACK, linestyle=dash, linewidth=0.8, label=f"{name}: {value:g}")
        axes.set(xlabel="generation", ylabel="evidence E", yscale="log", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        return figure

    judged = "against healthy refits" if known else "against one model"
    caption = (
        f"Evidence by generation, {_rows(log)}, drawn from {LEAST:g} to {MOST:g}. The level is watch once that "
        f"against one model has passed {needed['watch']:g}, and alarm once that {judged} has passed "
        f"{needed['alarm']:g} (or a loss above {LOSS:.0%} is significant)."
    )
    return Chart("evidence", caption, draw)


def cells(log: Log) -> Chart:
    """Show the share of rows in each cell of the reference, at the start and now."""

    def draw() -> Figure:
        figure, axes = plt.subplots(figsize=(style.PAGE, 2.4), layout="constrained")
        order = np.argsort(-log.samples[0].cells)
        sides = {"generation 0": log.samples[0], f"generation {len(log.samples) - 1}": log.samples[-1]}
        looks = ({"color": "0.45", "marker": "o", "fillstyle": "none"}, {"color": style.RED, "marker": "v"})
        for shift, (name, sample), look in zip((-0.12, 0.12), sides.items(), looks, strict=True):
            ends = [
                scipy.stats.binomtest(int(count), sample.rows).proportion_ci(method="wilson")
                for count in sample.cells[order]
            ]
            share, low, high = sample.cells[order] / sample.rows, *np.transpose(ends)
            errors = 100 * np.maximum([share - low, high - share], 0)
            axes.errorbar(
                np.arange(1, len(order) + 1) + shift,
                100 * share,
                errors,
                linestyle="none",
                markersize=4,
                label=name,
                **look,
            )
        axes.set(xlabel="cell", ylabel="share of rows, %", ylim=(0, None), xticks=np.arange(1, len(order) + 1))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        return figure

    caption = (
        f"Rows by cell, {_rows(log)}: {len(log.frame.cells)} clusters of the reference, the largest at generation 0 "
        "first. Bars are 95% intervals (Wilson)."
    )
    return Chart("cells", caption, draw)


def _rows(log: Log) -> str:
    counts = [each.rows for each in log.samples]
    few, many = min(counts), max(counts)
    return f"{many:,} rows each" if few == many else f"{few:,} to {many:,} rows each"


def _family(log: Log) -> str:
    return FAMILIES[workflow_of(log)]
