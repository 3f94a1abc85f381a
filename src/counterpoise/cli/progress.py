"""The progress of train and compare on stderr: a bar on a terminal, elsewhere a line per epoch or run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from counterpoise.cli.output import print_note, progress_bar
from counterpoise.core.artifacts import Run
from counterpoise.core.text import duration, metric_name, percent, plural
from counterpoise.workflow.training.progress import ProgressReport, WorkPlan

WARM_UP_STEPS, MEASURED_STEPS, MEASURED_SECONDS = 2, 10, 2.0
"""The time is estimated after this many steps and seconds; the first steps take longer than the others."""

SHORT_SECONDS = 10.0
"""The time left is not shown where the whole work is estimated to take less than this."""

FEATURE_SECONDS = 10.0
"""Off a terminal, seconds between the lines on the features that are being computed."""


class TrainingProgress(ProgressReport):
    """Prints the plan and the estimated time; then shows a bar, or prints a line per epoch, of several runs per run."""

    def __init__(self, bar: Callable[[str, int, int], None], *, is_terminal: bool) -> None:
        self._bar, self._is_terminal = bar, is_terminal
        self._plan: WorkPlan | None = None
        self._latest: dict[str, str] = {}
        self._done = self._trained = self._finished = 0
        self._total = 1
        self._start = self._epoch_start = time.monotonic()
        self._is_estimated = False

    def start(self, plan: WorkPlan) -> None:
        self._plan = plan
        self._done = self._trained = self._finished = 0  # finetuning has a plan of its own
        self._is_estimated = False
        self._start = self._epoch_start = time.monotonic()
        print_note(str(plan))

    def features(self, done: int, total: int, rate: float) -> None:
        speed = f"{rate:.0f} images/s" if rate > 0 else "computed before, none to compute"
        left = f", about {duration((total - done) / rate)} left" if done < total and rate > 0 else ""
        self._bar(f"features: {speed}", done, total)
        now = time.monotonic()
        if not self._is_terminal and (done == total or now - self._epoch_start >= FEATURE_SECONDS):
            self._epoch_start = now
            print_note(f"features of {done:,} of {plural(total, 'image')}: {speed}{left}")

    def step(self, run: str, done: int, total: int) -> None:
        # A jump means steps that an earlier process did, or that early stopping saved: they took no time.
        self._trained += done == self._done + 1
        self._done, self._total = done, total
        if self._trained == WARM_UP_STEPS:
            self._start = time.monotonic()
        elapsed = time.monotonic() - self._start
        if self._trained >= WARM_UP_STEPS + MEASURED_STEPS and elapsed >= MEASURED_SECONDS:
            self._estimate()
        self._bar(f"{run}{self._latest.get(run, '')}", done, total)

    def epoch(self, run: str, row: Mapping[str, float | None]) -> None:
        value, loss = row.get(f"val_{self._metric}"), row["loss"] or 0.0
        self._latest[run] = f", loss {loss:.3f}" + ("" if value is None else f", validation {percent(value)}")
        if self._is_terminal or self._plan is None or self._plan.runs > 1:
            return
        now = time.monotonic()
        seconds, self._epoch_start = now - self._epoch_start, now
        parts = [f"loss {loss:.4f}", *self._value(value), duration(seconds)]
        print_note(f"epoch {row['epoch']:.0f} of {self._plan.epochs}: {', '.join(parts)}{self._left()}")

    def finish(self, run: str, result: Run, value: float | None) -> None:
        self._finished += 1
        self._latest.pop(run, None)
        if self._is_terminal or self._plan is None or self._plan.runs == 1:
            return
        outcome = f"failed: {result.error}"
        if result.status == "done":
            outcome = ", ".join([*self._value(value), duration(result.seconds)])
        print_note(f"{run} ({self._finished} of {self._plan.runs} runs): {outcome}{self._left()}")

    @property
    def _metric(self) -> str:
        return "balanced_accuracy" if self._plan is None else self._plan.metric

    def _value(self, value: float | None) -> list[str]:
        return [] if value is None else [f"validation {metric_name(self._metric)} {percent(value)}"]

    def _seconds_left(self) -> float | None:
        """The seconds that the remaining steps take at the measured speed; None before it is measured or if short."""
        steps = self._trained - WARM_UP_STEPS
        if steps < 1:
            return None
        per_step, remaining = (time.monotonic() - self._start) / steps, self._total - self._done
        return None if (self._trained + remaining) * per_step < SHORT_SECONDS else remaining * per_step

    def _left(self) -> str:
        seconds = self._seconds_left() if self._done < self._total else None
        self._is_estimated |= seconds is not None
        return "" if seconds is None else f"; about {duration(seconds)} left"

    def _estimate(self) -> None:
        if not self._is_estimated and (seconds := self._seconds_left()) is not None:
            self._is_estimated = True
            print_note(f"about {duration(seconds)} left, estimated from the first {self._trained} steps")


@contextmanager
def training_progress(start: str) -> Iterator[TrainingProgress]:
    """The progress of train or compare; a bar is shown from ``start`` on if stderr is a terminal."""
    with progress_bar(start) as bar:
        yield TrainingProgress(bar, is_terminal=Console(stderr=True).is_terminal)
