"""explain: from a name to an `Explanation`. The lessons are put together here, and only here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.core.explanation import Explanation
from counterpoise.workflow.explain import afterwards, changing, dense, drawing, schemes, sigmoid, softmax
from counterpoise.workflow.explain.accuracy import accuracy
from counterpoise.workflow.explain.lesson import Lesson
from counterpoise.workflow.strategy import CATALOG

__all__ = ["explain", "explainable"]

_LOSSES: dict[str, Callable[..., Lesson]] = {**softmax.LESSONS, **sigmoid.LESSONS, **dense.LESSONS}
_METRICS: dict[str, Callable[..., Lesson]] = {"accuracy": accuracy}


def explainable() -> dict[str, tuple[str, ...]]:
    """Every name that `explain` knows, by kind; a loss also goes by its function's and its module's name."""
    return {
        "metrics": tuple(_METRICS),
        "strategies": tuple(CATALOG),
        "weights": tuple(schemes.LESSONS),
        "losses": tuple(name for name in _LOSSES if name.replace("_", "-") not in CATALOG),
    }


def explain(name: str) -> Explanation:
    """What a name of the toolkit does, with curves that come from calling it.

    Args:
        name: a strategy of the catalog, a weight scheme, a loss (``focal``, ``focal_loss``, ``focal-loss`` or
            ``FocalLoss``), or ``accuracy``.

    Returns:
        An `Explanation`: `counterpoise.render` draws it as HTML, Markdown, JSON, SVG or PNG.

    Raises:
        ArgumentError: an unknown name; the nearest ones are in the message.

    Example:
        >>> explanation = explain("focal_loss")
        >>> print(explanation.summary)
        An image that is already right pulls less: the loss is multiplied by (1 − p)^γ.
        >>> [curve.name for curve in explanation.charts[0].curves]
        ['γ = 0', 'γ = 0.5', 'γ = 1', 'γ = 2', 'γ = 5']
    """
    wanted = _plain(name)
    for key, strategy in CATALOG.items():
        if _plain(key) == wanted:
            return _strategy(strategy)
    for kind, lessons in (("loss", _LOSSES), ("class weights", schemes.LESSONS), ("metric", _METRICS)):
        for key, lesson in lessons.items():
            if _plain(key) == wanted:
                return _of(key, kind, lesson())
    raise ArgumentError(f"nothing to explain is called {name!r}; {_hint(name)}")


def _plain(name: str) -> str:
    """``focal_loss``, ``focal-loss``, ``FocalLoss`` and ``focal`` are one."""
    return re.sub(r"[-_\s]", "", name).lower().removesuffix("loss")


def _hint(name: str) -> str:
    names = list(chain.from_iterable(explainable().values()))
    near = difflib.get_close_matches(_plain(name), map(_plain, names), n=3, cutoff=0.5)
    close = [next(known for known in names if _plain(known) == one) for one in near]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names)}"


def _of(name: str, kind: str, lesson: Lesson) -> Explanation:
    return Explanation(name, kind, lesson.summary, lesson.costs, lesson.notes, lesson.sections)


def _strategy(strategy: Strategy) -> Explanation:
    """The lessons of everything that a strategy sets, one after the other."""
    lessons = list(_lessons(strategy))
    summary = strategy.summary[0].upper() + strategy.summary[1:] + "."
    if len(lessons) == 1:
        summary = lessons[0].summary
    parts = {part.title: part for lesson in lessons for part in lesson.sections}
    return Explanation(
        strategy.name,
        "strategy",
        summary,
        tuple(dict.fromkeys(chain.from_iterable(lesson.costs for lesson in lessons))),
        tuple(dict.fromkeys(chain.from_iterable(lesson.notes for lesson in lessons))),
        tuple(parts.values()),
    )


def _lessons(strategy: Strategy) -> Iterator[Lesson]:
    elsewhere = (
        strategy.weights, strategy.sampler, strategy.augment, strategy.mixing, strategy.reweighting,
        strategy.retraining, strategy.posthoc,
    )  # fmt: skip
    if strategy.weights:
        yield softmax.cross_entropy(weights=strategy.weights, weight_options=strategy.weight_options)
        yield _one(schemes.LESSONS, strategy.weights, strategy.weight_options)
    elif strategy.loss != "cross_entropy" or not any(elsewhere):
        yield _one(_LOSSES, strategy.loss, strategy.loss_options)
    for lessons, name, options in (
        (drawing.LESSONS, strategy.sampler, strategy.sampler_options),
        (changing.LESSONS, strategy.augment, strategy.augment_options),
        (changing.LESSONS, strategy.mixing, strategy.mixing_options),
        (changing.LESSONS, strategy.reweighting, strategy.reweighting_options),
        (changing.LESSONS, strategy.retraining, strategy.retraining_options),
        (afterwards.LESSONS, "separate" if strategy.separate else None, {}),
        (afterwards.LESSONS, strategy.posthoc, strategy.posthoc_options),
    ):
        if name:
            yield _one(lessons, name, options)


def _one(lessons: dict[str, Callable[..., Lesson]], name: str, options: Any) -> Lesson:
    if name not in lessons:
        raise ArgumentError(f"{name!r} of a strategy has no lesson; there are {', '.join(lessons)}")
    return lessons[name](**{key: value for key, value in options.items() if key != "reduction"})
