"""The monitor of a run: add the sample of each generation, and hear how it stands."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxcollapse import results
from jaxcollapse.pipeline.monitor import log as logs
from jaxcollapse.pipeline.monitor import statistics
from jaxcollapse.pipeline.monitor.log import Log, Settings
from jaxcollapse.pipeline.monitor.verdict import Verdict, judge


class Monitor:
    """Watch a run for collapse; a context that holds the log against other writers.

    .. code-block:: python

        with Monitor("run.jsonl", reference=real, num_kept=1000, workflow="replace") as watch:
            for model in generations:
                print(watch.add(model.sample(1000)))

    A run that was cut off goes on from its log.

    Args:
        path: of the log, made at the first `add`.
        reference: R, real data [m, d].
        num_kept: n, rows that each model is fitted on, where it is known, with the workflow.
        workflow: replace or accumulate.
        false_alarms: the probability that a run without collapse ever alarms.

    Raises:
        ValueError: if an argument is out of range, or the log of another reference, other settings or another version.
        BlockingIOError: on entering, if another process adds to the log.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from jaxcollapse.pipeline.monitor import Monitor
        >>> real = np.random.default_rng(0).normal(size=(200, 2))
        >>> with TemporaryDirectory() as folder, Monitor(Path(folder) / "run.jsonl", reference=real) as watch:
        ...     print([watch.add(real * 0.5**t).level for t in range(4)])
        ['ok', 'alarm', 'alarm', 'alarm']
    """

    def __init__(
        self,
        path: Path | str,
        *,
        reference: Any,
        num_kept: int | None = None,
        workflow: str | None = None,
        false_alarms: float = Settings.false_alarms,
    ):
        self.path, self.settings = Path(path), Settings(num_kept, workflow, false_alarms)
        self._reference = statistics.check_rows("reference", reference)
        self._digest = results.digest(self._reference)
        self._release: Callable[[], None] | None = None
        self.log = self._read()

    def __enter__(self) -> "Monitor":
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(results.lock(self.path.with_name(f"{self.path.name}.lock")))
            except BlockingIOError:
                raise BlockingIOError(f"{self.path}: another process adds to this log") from None
            self.log = self._read()
            self._release = stack.pop_all().close
        return self

    def __exit__(self, *exception: Any) -> None:
        self._release, release = None, self._release
        if release:
            release()

    def verdict(self) -> Verdict:
        """Say how the run stands.

        Raises:
            ValueError: if nothing was added yet.
        """
        if self.log is None:
            raise ValueError(f"{self.path}: there is no log yet, add the sample of generation 0")
        return judge(self.log)

    def add(self, features: Any) -> Verdict:
        """Add the next generation's sample [n, d], the first time generation 0's, and say how the run stands.

        Raises:
            ValueError: if it is not finite, of another width than the reference, too small, or was added before.
            BlockingIOError: if another process adds to the log.
        """
        if self._release is None:
            with self:
                return self.add(features)
        points = statistics.check_rows("features", features)
        if points.shape[1] != self._reference.shape[1]:
            raise ValueError(f"features: {points.shape[1]} columns, and the reference has {self._reference.shape[1]}")
        digest = results.digest(points)
        if self.log is None:
            frame = statistics.frame(self._reference, len(points))
            first = statistics.moments(frame, points)
            if self.settings.num_kept is not None and self.settings.num_kept <= frame.axes.shape[1] + 1:
                raise ValueError(
                    f"num_kept = {self.settings.num_kept}: must be above {frame.axes.shape[1] + 1}, axes and one"
                )
            log = Log(self.settings, self._digest, frame, first, (), ())
        else:
            log = self.log
        if digest in log.digests:
            raise ValueError(f"features: the rows of generation {log.digests.index(digest)} again")
        least = 2 * log.frame.axes.shape[1]
        statistics.check_rows("features", points, max(least, statistics.LEAST_ROWS))
        sample = statistics.measure(log.frame, log.first, points)
        if not log.samples and min(sample.spread_deviation, sample.volume_deviation) < statistics.TINY:
            raise ValueError("features: all rows of generation 0 are equally far from their mean: add columns")
        log = log._replace(samples=(*log.samples, sample), digests=(*log.digests, digest))
        (logs.append if self.log else logs.begin)(self.path, log)
        self.log = log
        return self.verdict()

    def _read(self) -> Log | None:
        found = logs.read(self.path)
        if found:
            logs.require_same(self.path, found, self._digest, self.settings)
        return found
