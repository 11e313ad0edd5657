"""False alarms and delays of the monitor beside fixed thresholds and a library of drift detectors, in the same runs.

The library is frouros, which is optional: its column stays empty where it is not installed.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxcollapse.pipeline.monitor import statistics
from jaxcollapse.pipeline.monitor.log import Log, Settings
from jaxcollapse.pipeline.monitor.verdict import Verdict, changes, forecast, gather, judge, levels, trend
from jaxcollapse.theory.exponents import psi_finite

try:
    from frouros.detectors.data_drift import KSTest
except ImportError:
    KSTest = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is run."""

    healthy: int = 500
    """Runs of each scenario without collapse."""
    collapsing: int = 100
    """Runs of each scenario with collapse."""
    library: int = 30
    """Runs that the library sees, the first of each scenario."""
    num_generations: int = 20
    """T."""
    seed: int = 0
    """Of the first run; others follow."""


class Gaussian(NamedTuple):
    """A model that is refitted: a normal law with the mean and covariance of its training set."""

    mean: np.ndarray
    covariance: np.ndarray

    def draw(self, rng, num):
        root = np.linalg.cholesky(self.covariance)
        return self.mean + rng.standard_normal((num, len(self.mean))) @ root.T


def standard(rng, num, dim=16):
    return rng.standard_normal((num, dim))


def modes(distance, dim=32, num_modes=8):
    """Make a mixture with random centres at one distance from the origin, in standard deviations; weights by call."""
    centres = np.random.default_rng(7).standard_normal((num_modes, dim))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(rng, num, first=1.0):
        weights = np.array([first] + (num_modes - 1) * [1.0])
        which = rng.choice(num_modes, num, p=weights / weights.sum())
        return centres[which] + rng.standard_normal((num, dim))

    return draw


def still(draw, num=1000):
    """Draw all samples from one law."""

    def run(rng, num_generations):
        yield draw(rng, 1000)
        for _ in range(num_generations + 1):
            yield draw(rng, num)

    return run


def misfitted(rng, num_generations):
    """Draw all samples from one law that is wider than the reference, and off."""
    yield standard(rng, 1000)
    for _ in range(num_generations + 1):
        yield 2 * standard(rng, 1000) + 0.5


def bootstrap(rng, num_generations):
    rows = standard(rng, 1000)
    yield rows
    for _ in range(num_generations + 1):
        yield rows[rng.integers(1000, size=1000)]


def fading(distance, share=0.92):
    """Lose a share of the weight of one mode in each generation."""
    draw = modes(distance)

    def run(rng, num_generations):
        yield draw(rng, 1000)
        for t in range(num_generations + 1):
            yield draw(rng, 1000, share**t)

    return run


def refitted(keep=lambda rng, x, t: x, candidates=1000, *, accumulate=False, num=1000, fitted=False):
    """Refit a normal law on what is kept of each generation's candidates.

    With `fitted` the sample that is watched is the training set itself, else another one.
    """

    def run(rng, num_generations, dim=16):
        yield standard(rng, num)
        model, memory = Gaussian(np.zeros(dim), np.eye(dim)), [standard(rng, num)]
        for t in range(num_generations + 1):
            kept = keep(rng, model.draw(rng, candidates), t)
            yield kept if fitted else model.draw(rng, num)
            memory = [*memory, kept] if accumulate else [kept]
            rows = np.concatenate(memory)
            model = Gaussian(rows.mean(axis=0), np.cov(rows.T, ddof=0))

    return run


def central(num=1000, onset=0):
    """Keep the rows nearest to the origin; all but as many of the first before the onset."""

    def keep(rng, x, t):
        return x[np.argsort((x**2).sum(axis=1))[:num]] if t >= onset else x[:num]

    return keep


def with_junk(rng, x, t, share=0.01, scale=3.0):
    far = rng.uniform(size=len(x)) < share
    return np.where(far[:, None], scale * rng.standard_normal(x.shape), x)


def drifting(rng, x, t, step=0.1):
    return x + step * np.eye(x.shape[1])[0]


def sliding(rng, num_generations):
    """Move one mean of a law that stays the same otherwise."""
    yield standard(rng, 1000)
    for t in range(num_generations + 1):
        yield drifting(rng, standard(rng, 1000), t, 0.03 * t)


class Scenario(NamedTuple):
    """Runs of one kind.

    Attributes:
        name: in the table.
        run: samples of a run, the reference first, then generations 0..T.
        workflow: where it is known.
        num_kept: n, where the workflow is known.
        mechanism: the right name, where nothing else is.
        exponent: of the spread, where it is known.
    """

    name: str
    run: Callable[[np.random.Generator, int], Iterator[np.ndarray]]
    workflow: str | None = None
    num_kept: int | None = None
    mechanism: str = ""
    exponent: float | None = None


def selected(workflow, candidates, num=1000, dim=16):
    """Compute the exponent of keeping the most central candidates."""
    psi = psi_finite(dim, num / candidates, num)
    return psi if workflow == "accumulate" else -np.log((1 - psi) * (1 - 1 / num))


def keeping(candidates, workflow):
    run = refitted(central(), candidates, accumulate=workflow == "accumulate")
    name = f"keep {1000 / candidates:.0%}, {workflow}"
    return Scenario(name, run, workflow, 1000, "variance loss", selected(workflow, candidates))


HEALTHY = (
    Scenario("Gaussian, 16 columns", still(standard)),
    Scenario("mixture of 8, 32 columns", still(modes(4.0))),
    Scenario("Student t, 5 degrees", still(lambda rng, num: rng.standard_t(5, (num, 16)))),
    Scenario("accumulate, refitted", refitted(accumulate=True), "accumulate", 1000),
    Scenario("bootstrap of 1000 rows", bootstrap),
    Scenario("a model that fits badly", misfitted),
    Scenario("200 rows", still(standard, 200)),
    Scenario("640 rows, 64 columns", still(lambda rng, num: standard(rng, num, 64), 640)),
    Scenario("rounded to integers", still(lambda rng, num: np.round(standard(rng, num)))),
    Scenario("exponential columns", still(lambda rng, num: rng.exponential(size=(num, 16)))),
    Scenario("Student t, 3 degrees", still(lambda rng, num: rng.standard_t(3, (num, 16)))),
    Scenario("log-normal columns", still(lambda rng, num: np.exp(standard(rng, num)))),
)
COLLAPSING = (
    keeping(1111, "accumulate"),
    keeping(1031, "accumulate"),
    keeping(1031, "replace"),
    Scenario("keep 90% from 10 on", refitted(central(onset=10), 1111), "replace", 1000, "variance loss"),
    Scenario("replace, n = 1000", refitted(), "replace", 1000, "sampling noise", -np.log(1 - 1 / 1000)),
    Scenario("the same, the sample is fitted", refitted(fitted=True), "replace", 1000, "sampling noise"),
    Scenario(
        "replace, n = 200", refitted(candidates=200, num=200), "replace", 200, "sampling noise", -np.log(1 - 1 / 200)
    ),
    Scenario("a mode of 8 fades", fading(6.0), mechanism="lost modes"),
    Scenario("a close mode of 8 fades", fading(3.0), mechanism="lost modes"),
    Scenario("junk 1%, replace", refitted(with_junk), "replace", 1000, "junk"),
    Scenario("mean drifts 0.1, replace", refitted(drifting), "replace", 1000, "mean drift"),
    Scenario("mean drifts 0.03", sliding, mechanism="mean drift"),
)


class Run(NamedTuple):
    """What one run gave: the first generation at which each detector spoke, infinite where none did, and its log."""

    first: dict[str, float]
    log: Log
    verdict: Verdict


def first(flags) -> float:
    """Find the first generation, from 1 on, that is flagged."""
    return 1.0 + np.argmax(flags) if np.any(flags) else np.inf


def library(samples) -> float:
    """Test each column of each generation against generation 0, at 5% divided by the number of columns."""
    for t, sample in enumerate(samples[1:], 1):
        for known, new in zip(samples[0].T, sample.T, strict=True):
            test = KSTest()
            test.fit(X=known)
            if test.compare(X=new)[0].p_value < 0.05 / sample.shape[1]:
                return float(t)
    return np.inf


def watched(scenario: Scenario, seed: int, settings: Benchmark, *, with_library: bool) -> Run:
    """Make a run, and let each detector see it."""
    reference, *samples = scenario.run(np.random.default_rng([settings.seed, seed]), settings.num_generations)
    within = statistics.frame(reference, len(samples[0]))
    start = statistics.moments(within, samples[0])
    measured = tuple(statistics.measure(within, start, sample) for sample in samples)
    log = Log(Settings(scenario.num_kept, scenario.workflow), "", within, start, measured, ())
    variance = np.array([(sample.var(axis=0) / reference.var(axis=0)).mean() for sample in samples])
    z = [change / error for change, error in (changes(log, name) for name in ("spread", "volume"))]
    tail = 2 * np.arcsin(np.sqrt([each.tail for each in measured]))
    z += [(tail[1:] - tail[0]) / np.sqrt([1 / each.rows + 1 / measured[0].rows for each in measured[1:]])]
    reached = levels(log, gather(log, refits=False), gather(log, refits=True))[1:]
    found = {
        "10% less variance": first(variance[1:] < 0.9 * variance[0]),
        "3 sigma, any of 3": first(np.max(np.abs(z), axis=0) > 3),
        "KS, a column": library(samples) if with_library else np.nan,
        "watch": first(reached >= 1),
        "alarm": first(reached >= 2),
    }
    return Run(found, log, judge(log))


def told(times, num_generations: int, *, share: bool) -> str:
    """Write the share of runs in which a detector spoke, or the median generation with it."""
    times = np.array([time for time in times if not np.isnan(time)])
    if not times.size:
        return ""
    spoke = np.isfinite(times).mean()
    if share:
        return f"{100 * spoke:.1f}"
    median = np.median(times)
    return (f"{median:.0f}" if np.isfinite(median) else f"over {num_generations}") + f" ({100 * spoke:.0f}%)"


def truncated(log: Log, generation: int) -> Log:
    return log._replace(samples=log.samples[: generation + 1])


def coverage(scenario: Scenario, runs: list[Run], num_generations: int) -> list[str]:
    """Write how often intervals hold: of the exponent at the end and at all generations, and of the forecast."""
    half, at_end, at_all, ahead = num_generations // 2, [], [], []
    for run in runs:
        trends = [trend(truncated(run.log, t)) for t in range(2, num_generations + 1)]
        inside = [[low <= scenario.exponent <= high for low, high in (t.interval, t.uniform)] for t in trends]
        at_end.append(inside[-1][0])
        at_all.append(all(uniform for _, uniform in inside))
        band = forecast(truncated(run.log, half), num_generations - half)
        truth = np.exp(changes(run.log, "spread")[0][half:])
        ahead.append(((band[:, 1] <= truth) & (truth <= band[:, 2])).mean())
    exponents = np.mean([run.verdict.trend.exponent for run in runs])
    return [
        f"{scenario.exponent:.4f}",
        f"{exponents:.4f}",
        *(f"{100 * np.mean(x):.0f}" for x in (at_end, at_all, ahead)),
    ]


def main() -> None:
    """Print the tables."""
    settings, console = tyro.cli(Benchmark), Console(width=140)
    if KSTest is None:
        console.print("frouros is not installed: its column stays empty")

    def runs(scenario, number):
        return [
            watched(scenario, seed, settings, with_library=KSTest is not None and seed < settings.library)
            for seed in range(number)
        ]

    def rows(found, *, share):
        times = [[run.first[name] for run in found] for name in found[0].first]
        return [told(each, settings.num_generations, share=share) for each in times]

    names = ("10% less variance", "3 sigma, any of 3", "KS, a column", "watch", "alarm")
    seen = f"{settings.num_generations} generations, seed {settings.seed}, KS in the first {settings.library} runs"
    false = Table("scenario", *names, title=f"false alarms, % of {settings.healthy} runs without collapse of {seen}")
    for scenario in HEALTHY:
        false.add_row(scenario.name, *rows(runs(scenario, settings.healthy), share=True))
    console.print(false)
    delay = Table(
        "scenario", *names, "named right, %",
        title=f"median generation of the first alarm (share of {settings.collapsing} runs that alarm), {seen}",
    )  # fmt: skip
    exponents = Table(
        "scenario", "exponent", "mean estimate", "in its interval, %", "at all generations, %", "forecast, %",
        title=f"95% intervals that hold, % of {settings.collapsing} runs",
    )  # fmt: skip
    for scenario in COLLAPSING:
        found = runs(scenario, settings.collapsing)
        alarmed = [run.verdict.mechanism == scenario.mechanism for run in found if run.verdict.level == "alarm"]
        delay.add_row(scenario.name, *rows(found, share=False), f"{100 * np.mean(alarmed):.0f}" if alarmed else "")
        if scenario.exponent is not None:
            exponents.add_row(scenario.name, *coverage(scenario, found, settings.num_generations))
    console.print(delay)
    console.print(exponents)


if __name__ == "__main__":
    main()
