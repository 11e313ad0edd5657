r"""What a log says: a level with a bounded probability of a false alarm, the mechanism, the rate, and what to expect.

The evidence :math:`E^a` is against samples of one model, :math:`E^b` against a model that healthy refits let walk (the
same where the number of rows that it is fitted on is not known). With a the probability of a false alarm,

- *alarm*: :math:`\max_t E^b_t \ge 2 / a`, or at any t spread or volume more than 5% below generation 0, by a test at
  :math:`a / (4 t (t + 1))`, which sum up to a / 2;
- *watch*: :math:`\max_t E^a_t \ge 1 / (4 a)`, of probability 4 a where nothing changes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Int

from jaxcollapse.pipeline.monitor import evidence
from jaxcollapse.pipeline.monitor.log import Log, Settings
from jaxcollapse.theory.closed_forms import replace_log_det

LEVELS = ("ok", "watch", "alarm")
MEASURES = ("spread", "volume")
LOSS = 0.05  # of variance
LEAST_DEVIATION = 0.1  # of generation 0's, where a sample has none
COMING = 10  # generations of a forecast
INDEPENDENT_COPIES = 0.4  # a sample with replacement from as many rows has a share 1 / e of copies
FAMILIES = {"replace": "exponential", "accumulate": "power law"}
NAMED = 20  # evidence that modes are lost, beyond a change of mean and covariance
ADVICE = {
    "": "Go on.",
    "sampling noise": "Fit on more rows a generation, or accumulate data instead of replacing them.",
    "variance loss": "Select less strictly, sample at full temperature, and add real data to each generation.",
    "mean drift": "Check what selection prefers against the reference, and add real data to each generation.",
    "lost modes": "Look up the cells that lost rows, and sample or keep rows by cell.",
    "junk": "Look at the rows farthest from the reference, and filter them before the next fit.",
}


class Trend(NamedTuple):
    r"""How spread is lost: as :math:`e^{-\beta t}`, or as :math:`e^{-\beta (1/2 + \dots + 1/(t + 1))} \sim t^{-\beta}`.

    Attributes:
        family: exponential or power law.
        exponent: :math:`\beta`.
        interval: of 95%, at this generation.
        uniform: of 95%, at all generations at once.
        half_life: generations until half of the variance is lost; infinite where none is.
        half_life_interval: of 95%, at this generation.
    """

    family: str
    exponent: float
    interval: tuple[float, float]
    uniform: tuple[float, float]
    half_life: float
    half_life_interval: tuple[float, float]


class Verdict(NamedTuple):
    """What a log says.

    Attributes:
        generation: t of the last sample.
        level: ok, watch or alarm; a level once reached stays.
        since: generation at which the level was reached.
        mechanism: a key of `ADVICE`, empty where the level is ok.
        advice: what to do next.
        p: the chance of as much evidence at any time, had the model stayed that of generation 0.
        p_refit: the same, had it only been refitted; NaN where the number of rows kept is not known.
        losses: share of variance lost since generation 0, of spread and volume.
        trend: of the spread, from generation 2 on.
        warnings: what makes the verdict doubtful.
    """

    generation: int
    level: str
    since: int
    mechanism: str
    advice: str
    p: float
    p_refit: float
    losses: Mapping[str, float]
    trend: Trend | None
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        cause = f", {'' if self.level == 'alarm' else 'perhaps '}{self.mechanism}" if self.mechanism else ""
        lost = ", ".join(f"{name} {0 - share:+.1%}" for name, share in self.losses.items())
        return f"generation {self.generation}: {self.level}{cause}; {lost}; p = {self.p:.2g}. {self.advice}"


class Evidence(NamedTuple):
    r"""Log evidence after generations 1..t.

    Attributes:
        statistics: :math:`\log E` of each, [t].
        together: of their average, [t].
    """

    statistics: Mapping[str, Float[np.ndarray, " t"]]
    together: Float[np.ndarray, " t"]


def judge(log: Log) -> Verdict:
    """Say what a log says."""
    settings, samples = log.settings, log.samples
    first, last = samples[0], samples[-1]
    same, refit = gather(log, refits=False), gather(log, refits=True)
    reached = levels(log, same, refit)
    level = int(reached[-1])
    mechanism = _mechanism(log, refit) if level else ""
    return Verdict(
        generation=len(samples) - 1,
        level=LEVELS[level],
        since=int(np.argmax(reached == level)),
        mechanism=mechanism,
        advice=ADVICE[mechanism],
        p=_p(same),
        p_refit=_p(refit) if settings.num_kept else np.nan,
        losses={name: 1 - float(np.exp(getattr(last, name) - getattr(first, name))) for name in MEASURES},
        trend=trend(log) if len(samples) > 2 else None,
        warnings=tuple(_warnings(log)),
    )


def walk(settings: Settings, num_generations: int, *, refits: bool) -> Float[np.ndarray, " t"]:
    """Compute the steps of the model's walk that the null of refits allows, where they are known."""
    if refits and settings.num_kept:
        return evidence.steps(settings.workflow, settings.num_kept, num_generations)
    return np.zeros(num_generations)


def gather(log: Log, *, refits: bool) -> Evidence:
    """Compute the evidence of each statistic and of all, against one model or against healthy refits.

    Under refits, whose second-order drifts of tail and cells are not known, these two are left out. Deviations are then
    those of the generation before, and the drift of the volume by sampling noise is no loss.
    """
    settings, samples, moments = log.settings, log.samples, log.first
    refits = refits and settings.num_kept is not None
    first, later, k = samples[0], samples[1:], len(moments.mean)
    if not later:
        return Evidence({}, np.zeros(0))
    steps = walk(settings, len(later), refits=refits)
    taus = evidence.scales(first.rows, walk(settings, evidence.MOST, refits=refits))
    rows = np.array([each.rows for each in samples], float)

    def found(differences, relative=1.0, *, one_sided=True):
        relative = np.broadcast_to(relative, len(later))  # variance of a row, in units of generation 0's
        covariances = evidence.covariance(np.append(rows[:1], rows[1:] / relative), steps * relative)
        differences = np.reshape(differences, (len(later), -1))
        return evidence.log_evidence(differences, covariances, taus, one_sided=one_sided)

    def loss(name):
        values, deviations = (np.array([getattr(each, name + end) for each in samples]) for end in ("", "_deviation"))
        relative = np.maximum(deviations[:-1] / deviations[0], LEAST_DEVIATION) ** 2 if refits else 1.0
        return (values[0] - values[1:]) / deviations[0], relative

    spread, of_spread = loss("spread")
    volume, of_volume = loss("volume")
    if refits:
        drift = settings.num_kept * replace_log_det(settings.num_kept, 1, k)[1] / k
        volume += drift * np.cumsum(steps) / first.volume_deviation
    root = np.linalg.cholesky(moments.covariance * first.rows / (first.rows - k - 2))
    roots = 2 * np.sqrt(first.cells / first.rows)
    tangent = np.linalg.qr(np.column_stack([roots, np.eye(len(roots))]))[0][:, 1:]

    def by_cell(counts):
        return found([(2 * np.sqrt(each / sum(each)) - roots) @ tangent for each in counts], one_sided=False)

    statistics = {
        "spread": found(spread, of_spread),
        "volume": found(volume, of_volume),
        "growth": found(-spread, of_spread),
        "mean": found([np.linalg.solve(root, each.mean - first.mean) for each in later], one_sided=False),
        "modes": by_cell([each.moved for each in later]),
    }
    if not refits:
        tail = 2 * np.arcsin(np.sqrt([each.tail for each in samples]))
        statistics |= {
            "tail": found(tail[0] - tail[1:]),
            "far": found(tail[1:] - tail[0]),
            "cells": by_cell([each.cells for each in later]),
        }
    return Evidence(statistics, evidence.average(np.stack([*statistics.values()], axis=-1)))


def changes(log: Log, name: str) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """List log ratios of spread or volume to generation 0, for generations 1..t, with standard errors."""
    first, later = log.samples[0], log.samples[1:]
    errors = np.sqrt([1 / first.rows + 1 / each.rows for each in later]) * getattr(first, f"{name}_deviation")
    return np.array([getattr(each, name) - getattr(first, name) for each in later]), errors


def thresholds(a: float) -> dict[str, float]:
    """List the evidence that levels need."""
    return {"watch": 1 / (4 * a), "alarm": 2 / a}


def levels(log: Log, same: Evidence, refit: Evidence) -> Int[np.ndarray, " t1"]:
    """Find the highest level up to each generation 0..t, as an index of `LEVELS`."""
    a, t = log.settings.false_alarms, np.arange(1, len(log.samples))
    needed = thresholds(a)
    critical = -scipy.stats.norm.ppf(a / (4 * t * (t + 1)))
    lost = [(np.log(1 - LOSS) - change) / error for change, error in (changes(log, name) for name in MEASURES)]
    alarm = (refit.together >= np.log(needed["alarm"])) | (np.max(lost, axis=0) >= critical)
    reached = np.where(alarm, 2, same.together >= np.log(needed["watch"]))
    return np.maximum.accumulate(np.append(0, reached))


def _mechanism(log: Log, refit: Evidence) -> str:
    """Name the departure of the last generation, by the evidence for each."""
    if log.settings.num_kept and refit.together.max() < np.log(thresholds(log.settings.false_alarms)["watch"]):
        return "sampling noise"
    last = {name: found[-1] for name, found in refit.statistics.items()}
    if last["modes"] >= np.log(NAMED):
        return "lost modes"
    named = {
        "variance loss": max(last["spread"], last["volume"]),
        "mean drift": last["mean"],
        "junk": last["growth"],
    }
    return max(named, key=lambda name: named[name])


def trend(log: Log) -> Trend:
    """Fit the rate at which spread is lost since generation 0."""
    differences, covariances, sigma = _spread(log)
    workflow = workflow_of(log)
    shape = evidence.progress(workflow, np.arange(1, len(log.samples)))
    beta, information, _ = evidence.slope(differences, covariances, shape)
    fixed = scipy.stats.norm.ppf(0.975) / np.sqrt(information)
    taus = evidence.scales(log.samples[0].rows, walk(log.settings, evidence.MOST, refits=True))
    line = (1 + [*FAMILIES].index(workflow)) * len(evidence.ONSETS)  # of `shapes`, from generation 0 on
    uniform = evidence.uniform_radius(information, taus[line, 1], 0.05)

    def around(radius):
        return float(sigma * (beta - radius)), float(sigma * (beta + radius))

    low, high = around(fixed)
    return Trend(
        FAMILIES[workflow], float(sigma * beta), (low, high), around(uniform),
        half_life(workflow, float(sigma * beta)), (half_life(workflow, high), half_life(workflow, low)),
    )  # fmt: skip


def half_life(workflow: str, beta: float) -> float:
    r"""Solve :math:`\beta \sum_{k \le t} w_k = \ln 2` for t: infinite where nothing is lost."""
    if beta <= 0:
        return np.inf
    needed = np.log(2) / beta
    if workflow == "replace":
        return needed
    with np.errstate(over="ignore"):
        return float(np.exp(needed + 1 - np.euler_gamma) - 1.5)  # of harmonic numbers, to a hundredth from t = 3 on


def forecast(log: Log, coming: int = COMING) -> Float[np.ndarray, "coming 3"]:
    """Predict the spread of the coming samples, as a share of generation 0's, with the ends of 95% bands."""
    differences, covariances, sigma = _spread(log, coming)
    shape = evidence.progress(workflow_of(log), np.arange(1, len(log.samples) + coming))
    expected, deviation = evidence.predict(differences, covariances, shape)
    radius = scipy.stats.norm.ppf([0.5, 0.975, 0.025])
    return np.exp(-sigma * (expected[:, None] + radius * deviation[:, None]))


def _spread(log: Log, coming: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """List losses of spread in units of one row's deviation, their covariances with those that come, and the unit."""
    samples, sigma = log.samples, log.samples[0].spread_deviation
    rows = np.array([each.rows for each in samples] + coming * [samples[-1].rows], float)
    steps = walk(log.settings, len(rows) - 1, refits=True)
    return -changes(log, "spread")[0] / sigma, evidence.covariance(rows, steps), sigma


def workflow_of(log: Log) -> str:
    """Choose how spread is lost: by the workflow, or where it is not known by the fit."""
    if log.settings.workflow:
        return log.settings.workflow
    differences, covariances, _ = _spread(log)
    shapes = {name: evidence.progress(name, np.arange(1, len(log.samples))) for name in FAMILIES}
    return min(FAMILIES, key=lambda name: evidence.slope(differences, covariances, shapes[name])[2])


def _p(found: Evidence) -> float:
    return float(np.exp(-found.together.max(initial=0.0)))


def _warnings(log: Log) -> list[str]:
    d, k = log.frame.axes.shape
    found = []
    if k < d:
        found.append(
            f"Only the {k} leading principal axes of {d} columns are watched: the others depend on these, or have too "
            "few rows, ten an axis."
        )
    copied = [t for t, each in enumerate(log.samples) if each.copies > INDEPENDENT_COPIES]
    if copied:
        found.append(
            f"Of generation {copied[-1]} {log.samples[copied[-1]].copies:.0%} of the rows are copies of others: where "
            "they were not drawn independently the probability of a false alarm is not what is stated."
        )
    return found
