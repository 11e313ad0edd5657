"""Progress on a terminal, and as lines with the time of day elsewhere.

One thread works and tells; the other waits, shows, and hears the signals.
"""

import contextlib
import io
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_LINES = 2.0
SECONDS_TO_STOP = 5.0


class Lasting(io.TextIOBase):
    """A stream that may be lost: what cannot be written any more is dropped."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            if self.stream is not None:
                self.stream.write(text)
                self.stream.flush()
        except (OSError, ValueError):
            self._lose()
        return len(text)

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def _lose(self) -> None:
        """Send what is left in the stream's buffer nowhere: at exit it would be an error again."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        self.stream = None


class Display:
    """What is done, how fast, and how long it still takes.

    Attributes:
        stopped: set when the work is to stop; what tells the display anything is interrupted then.
        num_parts: that the current experiment has said it consists of.
        num_finished: of them.
    """

    def __init__(self, stream: TextIO | None = None, num_experiments: int = 1):
        self.console = Console(file=stream or Lasting(None), highlight=False, soft_wrap=True)
        self.stopped = threading.Event()
        self.num_experiments, self.number, self.name = num_experiments, 0, ""
        self.num_parts = self.num_finished = 0
        self._part, self._lines = None, deque()
        self._started = self._shown = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def begin(self, name: str) -> None:
        """Go on to the next experiment."""
        self.number, self.name, self._part = self.number + 1, name, Part("between parts")
        self.num_parts = self.num_finished = 0

    def part(self, name: str, unit: str = "") -> None:
        """Go on to the next part of the experiment."""
        self._check()
        self._part = Part(name, unit)

    def update(self, done: int, total: int, doing: str = "running") -> None:
        """Tell how far the part is.

        Raises:
            KeyboardInterrupt: if the work is to stop.
        """
        self._check()
        self._part.update(done, total, doing)

    def finish(self) -> None:
        """Tell that the part is finished."""
        self.num_finished += 1
        self.say(f"  {self._part.summary()}")
        self._part = Part("between parts")

    def say(self, line: str) -> None:
        """Show a line that stays."""
        self._lines.append(line)

    def tick(self) -> None:
        """Show what has changed."""
        while self._lines:
            self._print(self._lines.popleft())
        if self.console.is_terminal and self._part:
            self._live.update(self._rows(), refresh=True)
            self._live.start()
        elif self._part and time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._print(f"{self._overall()}: {self._part.status()}")

    def close(self) -> None:
        """Show what is left."""
        self._part = None
        self._live.stop()
        self.tick()

    def _check(self) -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt

    def _print(self, line: str) -> None:
        self._shown = time.monotonic()
        stamp = "" if self.console.is_terminal else time.strftime("%H:%M:%S ")
        self.console.print(Text(stamp + line))

    def _fraction(self) -> float:
        """Estimate the share of all work that is done, parts and experiments alike."""
        part = self._part.fraction if self._part else 0
        within = (self.num_finished + part) / max(self.num_parts, self.num_finished + 1)
        return (max(self.number - 1, 0) + within) / self.num_experiments

    def _overall(self) -> str:
        if not self.num_parts:
            return self.name
        fraction, elapsed = self._fraction(), time.monotonic() - self._started
        which = f" ({self.number} of {self.num_experiments})" if self.num_experiments > 1 else ""
        left = f", about {clock(elapsed * (1 / fraction - 1))} left" if fraction > 0 else ""
        return f"{self.name}{which}, {fraction:.0%}{left}"

    def _rows(self) -> Group:
        overall = Table.grid(padding=(0, 1))
        overall.add_row(ProgressBar(1.0, self._fraction(), width=16), self._overall())
        self._spinner.update(text=Text(self._part.status()))
        return Group(overall, self._spinner)


class Part:
    """One part of an experiment: how much of it is done, and since when."""

    def __init__(self, name: str, unit: str = ""):
        self.name, self.unit, self.started = name, unit, time.monotonic()
        self.done, self.total, self.doing, self.since, self.first = 0, 0, "working", self.started, 0
        self.first_use = 0.0  # seconds of tracing and compiling

    def update(self, done: int, total: int, doing: str) -> None:
        if doing != self.doing:
            now = time.monotonic()
            self.first_use += now - self.since if self.doing in ("tracing", "compiling") else 0
            self.since, self.first = now, done
        self.done, self.total, self.doing = done, total, doing

    @property
    def fraction(self) -> float:
        return self.done / self.total if self.total else 0.0

    def status(self) -> str:
        elapsed = time.monotonic() - self.since
        if not self.total and self.doing in ("running", "working"):
            return f"{self.name}, {clock(elapsed)}"
        if self.doing != "running":
            return f"{self.name}, {self.doing}, {clock(elapsed)}"
        resumed = f", resumed at {self.first}" if self.first else ""
        rate = f", {(self.done - self.first) / elapsed:.3g}/s" if self.done > self.first else f", {clock(elapsed)}"
        return f"{self.name}, {self.done} of {self.total} {self.unit}{rate}{resumed}"

    def summary(self) -> str:
        resumed = f", resumed at {self.first}" if self.first else ""
        count = f"{self.total} {self.unit}, " if self.unit else ""
        first_use = f", after {self.first_use:.1f} s of tracing and compiling" if self.first_use else ""
        return f"{self.name}: {count}{time.monotonic() - self.started - self.first_use:.1f} s{first_use}{resumed}"


def clock(seconds: float) -> str:
    """Write a time as 12 s, 3 min 20 s or 2 h 5 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def attend(
    work: Callable[[], None], display: Display, left: str = "what is finished is kept, and the same command continues"
) -> int:
    """Do work in a thread of its own, show it, and stop it at the first signal: after the current chunk, or at once if
    that takes long or the signal is repeated.

    Args:
        work: to do.
        display: shows it.
        left: what an interruption leaves, in words.

    Returns:
        Zero, or 128 and the number of the signal.

    Raises:
        Exception: what the work raised.
    """
    errors, signals, done = [], [], threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  what it is, the caller sees
            errors.append(error)
        finally:
            done.set()

    def stop(number, frame) -> None:
        signals.append((number, time.monotonic()))
        display.stopped.set()

    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM) if here}
    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.1):
            display.tick()
            if len(signals) > 1 or (signals and time.monotonic() - signals[0][1] > SECONDS_TO_STOP):
                break
        display.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if done.is_set() and not errors:
        return 0
    if errors and not isinstance(errors[0], KeyboardInterrupt):
        raise errors[0]
    status = 128 + (signals[0][0] if signals else signal.SIGINT)
    display.say(f"{display.name}: interrupted; {left}")
    display.tick()
    if not done.is_set():
        os._exit(status)
    return status
