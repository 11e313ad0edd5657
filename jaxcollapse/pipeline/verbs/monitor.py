"""Watch a run for collapse, one sample a generation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import tyro

from jaxcollapse.pipeline.monitor import Monitor, Verdict
from jaxcollapse.pipeline.monitor import log as logs
from jaxcollapse.pipeline.monitor.charts import Z, charts
from jaxcollapse.pipeline.monitor.log import Log, Settings
from jaxcollapse.pipeline.monitor.verdict import LEVELS, LOSS, MEASURES, changes, gather, levels, thresholds
from jaxcollapse.pipeline.report import Listing, Quantity, Report
from jaxcollapse.pipeline.tables import Reading, read, require_alike, require_unchanged

STATUS = {"ok": 0, "watch": 3, "alarm": 4}
DEFINITIONS = {
    "spread": "variance of an average axis",
    "volume": "geometric mean of the variances of all axes",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """Add a generation's sample to a log, and say whether the run collapses; exit status 0 ok, 3 watch, 4 alarm."""

    log: tyro.conf.Positional[Path]
    """File of the run's log, made with generation 0 and then appended to."""
    reference: Path
    """File of real data, the same for the whole run."""
    add: Path | None = None
    """File of the next generation's sample; the first is generation 0. Without it the log is reported as it stands."""
    num_kept: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Rows that each model is fitted on, where it is known: healthy refits on so few are then no alarm."""
    workflow: Literal["replace", "accumulate"] | None = None
    """Whether a model is fitted on its generation's rows alone or on all so far; with the number kept."""
    false_alarms: float = Settings.false_alarms
    """Probability that a run without collapse ever alarms, in [1e-06, 0.25]."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)


def answer(request: Request, tell: Callable[[str], None]) -> tuple[Report, int]:
    """Add a sample, if one is given, and report on the log; the status is 0, 3 or 4.

    Raises:
        ValueError: if files, numbers or the log are not allowed.
        BlockingIOError: if another process adds to the log.
    """
    if request.reading.standardise:
        raise ValueError("standardise: the monitor measures in the reference's axes, and standardises by itself")
    tell("reading")
    tables = [read(path, request.reading) for path in (request.reference, request.add) if path]
    require_alike(request.reading, *tables)
    given = Settings(request.num_kept, request.workflow, request.false_alarms)
    if request.add is None and (known := logs.read(request.log)):
        given = known.settings
    monitor = Monitor(request.log, reference=tables[0].points, **dataclasses.asdict(given))
    tell("measuring")
    require_unchanged(*tables)
    verdict = monitor.add(tables[1].points) if request.add else monitor.verdict()
    log = monitor.log
    assert log is not None  # there is a verdict
    report = Report(
        verb="monitor",
        verdict=_told(verdict, log),
        quantities=_quantities(verdict, log),
        listings=[_generations(log)],
        charts=charts(log),
        warnings=[
            *verdict.warnings,
            *(f"{table.path}: {table.dropped} rows were left out" for table in tables if table.dropped),
        ],
        settings={
            "log": str(request.log),
            "reference": tables[0].source,
            **({"added": tables[1].source} if request.add else {}),
            "num_kept": given.num_kept or "not known",
            "workflow": given.workflow or "not known",
            "false_alarms": given.false_alarms,
            **request.reading.settings,
            "axes": f"{log.frame.axes.shape[1]} of {log.frame.axes.shape[0]} columns",
        },
        extra={
            "level": verdict.level,
            "since": verdict.since,
            "mechanism": verdict.mechanism or None,
            "advice": verdict.advice,
            "family": verdict.trend.family if verdict.trend else None,
        },
    )
    return report, STATUS[verdict.level]


def _told(verdict: Verdict, log: Log) -> str:
    a, generation = log.settings.false_alarms, verdict.generation
    if not generation:
        return "Generation 0 is in the log: later ones are compared with it."
    lost = " and ".join(f"{name} {100 * (1 - share):.1f}%" for name, share in verdict.losses.items())
    since = {
        "ok": "no departure from generation 0 that its samples' noise does not explain.",
        "watch": f"it has departed from generation 0, first seen at generation {verdict.since}; {verdict.mechanism} "
        "explains it best so far.",
        "alarm": f"it departs from generation 0 by more than a healthy run does, first seen at generation "
        f"{verdict.since}; {verdict.mechanism} explains it best.",
    }[verdict.level]
    return (
        f"{verdict.level.capitalize()} at generation {generation}: {since} Of generation 0's diversity there is left: "
        f"{lost}. A run that does not collapse alarms at any time with a probability of at most {a:g}. {verdict.advice}"
    )


def _quantities(verdict: Verdict, log: Log) -> list[Quantity]:
    a = log.settings.false_alarms
    found = [Quantity("generation", verdict.generation, "generation of the last sample, the first is 0")]
    if not verdict.generation:
        return found
    for name in MEASURES:
        change, error = changes(log, name)
        value, low, high = (100 * float(np.exp(change[-1] + z * error[-1])) for z in (0, -Z, Z))
        found.append(Quantity(f"{name}_left", value, f"{DEFINITIONS[name]}, of generation 0's", "%", low, high))
    found.append(
        Quantity(
            "p", verdict.p, "chance of as much evidence at any time so far, had the model stayed that of generation 0"
        )
    )
    if log.settings.num_kept:
        found.append(Quantity("p_refit", verdict.p_refit, "the same, had the model only been refitted as is known"))
    for name, value in thresholds(a).items():
        found.append(Quantity(f"{name}_threshold", value, f"evidence that the level {name} needs"))
    if verdict.trend:
        trend = verdict.trend
        law = "exp(-exponent t)" if trend.family == "exponential" else "t^(-exponent)"
        found += [
            Quantity("exponent", trend.exponent, f"of the spread, which falls as {law}", "", *trend.interval),
            Quantity(
                "exponent_always", trend.exponent, "the same, in an interval that holds at all generations at once",
                "", *trend.uniform,
            ),
            Quantity(
                "half_life", trend.half_life, "until half of generation 0's spread is lost at this rate", "generations",
                *trend.half_life_interval,
            ),
        ]  # fmt: skip
    return found


def _generations(log: Log) -> Listing:
    samples, same, refit = log.samples, gather(log, refits=False), gather(log, refits=True)
    frame = pd.DataFrame(
        {
            "generation": np.arange(len(samples)),
            "rows": [each.rows for each in samples],
            **{f"{name}_left": 100 * np.exp(np.append(0, changes(log, name)[0])) for name in MEASURES},
            "tail": [100 * each.tail for each in samples],
            "copies": [100 * each.copies for each in samples],
            "log10_evidence": np.append(0, same.together) / np.log(10),
            "log10_evidence_refit": np.append(0, refit.together) / np.log(10),
            "level": [LEVELS[level] for level in levels(log, same, refit)],
        }
    )
    return Listing(
        "generations",
        "The log, by generation",
        frame,
        {
            "spread_left": f"{DEFINITIONS['spread']}, % of generation 0's",
            "volume_left": f"{DEFINITIONS['volume']}, % of generation 0's; of either {LOSS:.0%} less is tested for",
            "tail": "rows beyond the distance that holds 95% of generation 0, %",
            "copies": "rows that equal an earlier one, %",
            "log10_evidence": "evidence against one and the same model, in powers of ten",
            "log10_evidence_refit": "against healthy refits; the same where the number kept is not known",
            "level": "highest so far",
        },
    )
