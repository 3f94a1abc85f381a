"""Numbers and lists as text: percentages, percentage points, ratios, enumerations."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from typing import Any

MISSING = "–"
"""Stands where a number is undefined, for instance the recall of a class without images."""

BALANCED = 1.5
"""Below this imbalance ratio the training images are called nearly balanced."""
_LONGEST = 300
_NUMBER = re.compile(r"[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|inf|nan)")


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage.

    Example:
        >>> percent(0.6519), percent(None)
        ('65.2 %', '–')
    """
    return MISSING if share is None or not math.isfinite(share) else f"{_minus(f'{100 * share:.{digits}f}')} %"


def duration(seconds: float) -> str:
    """Seconds in words of at most two units.

    Example:
        >>> duration(8.42), duration(185), duration(7620)
        ('8.4 s', '3 min 05 s', '2 h 07 min')
    """
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.141), points(-0.334), points(0.0)
        ('+14.1', '−33.4', '0.0')
    """
    if difference is None or not math.isfinite(difference):
        return MISSING
    text = f"{100 * difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else _minus(text)


def metric_name(metric: str) -> str:
    """The name of a metric in a sentence.

    Example:
        >>> metric_name("balanced_accuracy"), metric_name("macro_f1")
        ('balanced accuracy', 'macro F1')
    """
    return metric.replace("_", " ").replace(" f1", " F1")


def ratio(value: float) -> str:
    """An imbalance ratio as ``100:1``; below 10 with one decimal.

    Example:
        >>> ratio(100.0), ratio(1.53)
        ('100:1', '1.5:1')
    """
    return f"{value:.0f}:1" if value >= 9.95 else f"{value:.1f}:1"


def imbalance_headline(value: float | None) -> str:
    """The imbalance ratio of the training images as a heading.

    Example:
        >>> imbalance_headline(100.0), imbalance_headline(1.2), imbalance_headline(None)
        ('Imbalanced 100:1', 'Nearly balanced 1.2:1', 'No training images')
    """
    if value is None or not math.isfinite(value):
        return "No training images"
    kind = "Imbalanced" if value >= BALANCED else "Nearly balanced" if value > 1 else "Balanced"
    return f"{kind} {ratio(value)}"


def constant_prediction(name: str, accuracy: float | None, balanced_accuracy: float | None, split: str) -> str:
    """What always predicting the class ``name``, as quoted by the caller, scores on the images of ``split``.

    Example:
        >>> constant_prediction("'car'", 0.81, 0.1, "test")
        "always predicting 'car' scores 81.0 % accuracy and 10.0 % balanced accuracy on the test images"
    """
    scores = f"{percent(accuracy)} accuracy and {percent(balanced_accuracy)} balanced accuracy"
    return f"always predicting {name} scores {scores} on the {split} images"


def parsed_number(text: str) -> float:
    """The number that a text is; `float` would also take ``1_0``, spaces and the digits of other scripts.

    Raises:
        ValueError: the text is not a number.

    Example:
        >>> parsed_number("1e-3"), parsed_number("-2")
        (0.001, -2.0)
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r:.80} is not a number")
    return float(text)


def number_text(value: float, digits: int = 3) -> str:
    """A number with up to ``digits`` significant digits, without an exponent.

    Example:
        >>> number_text(29.94), number_text(1314.2)
        ('29.9', '1,314')
    """
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else _minus(str(value))
    whole = 0 if value == 0 else math.floor(math.log10(abs(value))) + 1
    text = f"{value:,.{max(0, digits - whole)}f}"
    return _minus(text.rstrip("0").rstrip(".") if "." in text else text)


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names in quotes, separated by commas; from ``most`` on only their number.

    Example:
        >>> listed(["cat", "dog", "fox"], most=2)
        "'cat', 'dog' and 1 more"
    """
    every = list(names)
    shown = ", ".join(map(_quoted, every[:most]))
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def described(function: Any) -> str:
    """A function, a class or a callable object in one line that is the same in every process.

    It is the qualified name; for other objects, that of the class with what `repr` tells, without addresses in memory.

    Example:
        >>> described(percent), described(functools.partial(percent, digits=2))
        ('counterpoise.core.text.percent', 'functools.partial(counterpoise.core.text.percent, digits=2)')
    """
    if isinstance(function, functools.partial):
        options = [f"{name}={value!r}" for name, value in function.keywords.items()]
        return _in_one_line(
            f"functools.partial({', '.join([described(function.func), *map(repr, function.args), *options])})"
        )
    if hasattr(function, "__qualname__"):
        return f"{function.__module__}.{function.__qualname__}"
    kind = type(function)
    return f"{kind.__module__}.{kind.__qualname__}: {_in_one_line(repr(function))}"


def _in_one_line(text: str) -> str:
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text).split())


def _quoted(name: object) -> str:
    text = repr(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "image"), plural(2500, "image"), plural(2, "class", "classes")
        ('1 image', '2,500 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
