"""What `train` and `compare` report while they work: their plan, then steps, epochs and finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from counterpoise.core.artifacts import Run
from counterpoise.core.text import plural


@final
@dataclass(frozen=True)
class WorkPlan:
    """What is to be done.

    Attributes:
        model: name of the architecture.
        image_size: side of the images in pixels.
        device: where the models are trained.
        runs: number of runs, those included that reuse a trained model.
        reusing: number of runs that reuse a trained model.
        epochs: of every training.
        steps: optimiser steps of all trainings together.
        metric: the metric on validation that is reported.
        detail: how the number of trainings comes about, if that needs saying.
        frozen: whether only heads are trained, on the features of ``model``.
        pairs: with ``frozen``, the number of pairs of learning rate and weight decay that every strategy chooses from.
        features: name of the file of features that were computed elsewhere; empty if there is none.
    """

    model: str
    image_size: int
    device: str
    runs: int
    epochs: int
    steps: int
    reusing: int = 0
    metric: str = "balanced_accuracy"
    detail: str = ""
    frozen: bool = False
    pairs: int = 0
    features: str = ""

    def __str__(self) -> str:
        reusing = f" ({plural(self.reusing, 'run reuses', 'runs reuse')} a trained model)" if self.reusing else ""
        model = f"{self.model}{' (frozen)' if self.frozen else ''}, {self.image_size}×{self.image_size} pixels"
        model = f"features in {self.features}" if self.features else model
        chosen = f", learning rate and weight decay chosen from {self.pairs} pairs" if self.pairs > 1 else ""
        detail = f"; {self.detail}" if self.detail else ""
        runs = f"{plural(self.runs, 'run')} × {plural(self.epochs, 'epoch')}{reusing}"
        return f"{model}, on {self.device}: {runs}{chosen}{detail}"


class ProgressReport:
    """Base class of what may be passed as ``progress``: a subclass overrides the methods that it needs.

    The methods are called in the process that called `train` or `compare`, from one thread at a time.

    Example:
        >>> class Losses(ProgressReport):
        ...     def epoch(self, run, row):
        ...         print(f"{run}: {row['loss']:.2f}")
        >>> Losses().epoch("focal, seed 0", {"epoch": 1, "loss": 0.5})
        focal, seed 0: 0.50
    """

    def features(self, done: int, total: int, rate: float) -> None:
        """Take note of images whose features are known, before the plan.

        ``rate`` is the number of images per second that pass through the network, 0 if there are none.
        """

    def start(self, plan: WorkPlan) -> None:
        """Take note of the plan, before the first step."""

    def step(self, run: str, done: int, total: int) -> None:
        """Take note of a step of a run; ``done`` and ``total`` count the steps of all runs."""

    def epoch(self, run: str, row: Mapping[str, float | None]) -> None:
        """Take note of an epoch of a run; ``row`` is its line of history.csv."""

    def finish(self, run: str, result: Run, value: float | None) -> None:
        """Take note of a finished or failed run; ``value`` is its metric on validation, None if there is none."""


class _Calls(ProgressReport):
    """A function that is called after every step, and before the first one if there is something to say."""

    def __init__(self, call: Callable[..., Any], *, named: bool) -> None:
        self._call, self._named = call, named

    def features(self, done: int, total: int, rate: float) -> None:
        self._call(*(("computing features",) if self._named else ()), done, total)

    def start(self, plan: WorkPlan) -> None:
        if self._named and plan.detail:
            self._call(plan.detail, 0, plan.steps)

    def step(self, run: str, done: int, total: int) -> None:
        self._call(*((run,) if self._named else ()), done, total)


def as_report(progress: ProgressReport | Callable[..., Any] | None, *, named: bool) -> ProgressReport:
    """The argument ``progress`` as a report; a function gets the name of the run first if ``named``."""
    if progress is None or isinstance(progress, ProgressReport):
        return progress or ProgressReport()
    return _Calls(progress, named=named)
