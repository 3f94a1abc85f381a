"""Numbers, names and metric titles as the text and the table cells of a report, in any output format."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from counterpoise.core.counts import GROUPS
from counterpoise.core.text import MISSING, percent
from counterpoise.core.text import duration as spent
from counterpoise.workflow.report.page import Cell

NAME_LENGTH = 48
TITLE_LENGTH = 400
JSON_EXPORT = "in the JSON export (`counterpoise report DIR --to report.json`)"
"""Where the numbers are that a page omits."""
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}

METRIC_DEFINITIONS: dict[str, tuple[str, str]] = {
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of the per-class recalls. Every class has the same influence, however few images it has. Classes without "
        "images in the split are not included.",
    ),
    "accuracy": ("Accuracy", "Share of the images that are classified correctly. Frequent classes dominate it."),
    "macro_f1": (
        "Macro F1",
        "Mean over classes of the F1 score, the harmonic mean of precision and recall. It falls if images of other "
        "classes are predicted as a rare class.",
    ),
    "geometric_mean": (
        "Geometric mean",
        "Geometric mean of the per-class recalls. It is 0 as soon as the recall of one class is 0.",
    ),
    "worst_recall": (
        "Worst recall",
        "The smallest of the per-class recalls. Classes without images in the split are not included.",
    ),
    "many": ("Many-shot recall", f"Mean recall of the many-shot classes ({GROUPS['many']})."),
    "medium": ("Medium-shot recall", f"Mean recall of the medium-shot classes ({GROUPS['medium']})."),
    "few": ("Few-shot recall", f"Mean recall of the few-shot classes ({GROUPS['few']})."),
    "few_false_positives": (
        "Few-shot false positives",
        "Images of other classes that are predicted as a few-shot class, as a share of all images of the other "
        "classes. It rises if a model favours rare classes.",
    ),
    "medium_false_positives": (
        "Medium-shot false positives",
        "Images of other classes that are predicted as a medium-shot class, as a share of all images of the other "
        "classes.",
    ),
    "expected_calibration_error": (
        "Expected calibration error",
        "Mean absolute difference between confidence (the highest predicted probability) and accuracy over bins of "
        "confidence, weighted by the number of images per bin. 0 is perfect calibration.",
    ),
}
"""Title and definition of every metric, by its name in the JSON."""

GLOSSARY: dict[str, str] = {
    "Recall (per class)": "Share of the images of a class that are predicted as this class.",
    "Precision (per class)": "Share of the images predicted as a class that belong to this class.",
    "Wilson interval": "Confidence interval of a proportion, at the level that the figure states. It remains valid for "
    "few images and for proportions near 0 and 1.",
    "± (standard deviation over seeds)": "Sample standard deviation over the seeds. Each seed repeats the same "
    "training with other random numbers.",
    "Difference and its interval": "Score of the strategy minus score of the baseline on the same images. The "
    "confidence interval comes from a paired bootstrap that resamples the images of each class. If it excludes 0, the "
    "difference is significant; if it includes 0, the difference is within the noise.",
    "Gap (overfitting)": "Recall on the training images minus recall on the validation or test images that the title "
    "of the figure names. A large gap means that the model overfits the class.",
    "Imbalance ratio": "Number of training images of the largest class divided by that of the smallest class that has "
    "any.",
}
"""The other terms of a report with their definitions."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# A POSIX path with two components or more, or a path that starts with a drive; all but its last component is removed.
_ABSOLUTE = re.compile(r"(?<![\w.~/<])(?:/[^\s/'\"<>|:]+)+/(?=[^\s/'\"<>|:])|\b[A-Za-z]:\\(?:[^\s\\'\"<>|]+\\)*")
# Code without characters that mean something in HTML or in a Markdown table, so that it needs no escaping there.
_CODE = re.compile(r"`([^`<>&|\n]+)`")
_ANY_CODE = re.compile(r"`([^`\n]+)`")


def metric_title(metric: str) -> str:
    """The title of a metric in tables and figures."""
    return (
        METRIC_DEFINITIONS[metric][0]
        if metric in METRIC_DEFINITIONS
        else one_line(metric.replace("_", " ").capitalize())
    )


def finite(value: float | None) -> float | None:
    """The value, or None if it is None, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


def percent_number(share: float | None, digits: int = 1) -> str:
    """A share as a percentage without the sign, for columns and figures whose title says "%"."""
    return percent(share, digits).removesuffix(" %")


def duration(seconds: float | None) -> str:
    """Seconds as ``8.4 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    seconds = finite(seconds)
    return MISSING if seconds is None else spent(seconds)


def _escape_invisible(text: str) -> str:
    """Control characters, direction overrides and lone surrogates become visible escapes."""

    def is_invisible(char: str) -> bool:
        return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")

    escaped = (c.encode("unicode_escape", "backslashreplace").decode("ascii") if is_invisible(c) else c for c in text)
    return "".join(escaped)


def one_line(text: object, limit: int = NAME_LENGTH) -> str:
    """Text on one line of at most ``limit`` characters; the middle is cut, since both ends distinguish names."""
    line = _escape_invisible(str(text))
    if len(line) <= limit:
        return line
    tail = limit // 3
    return f"{line[: limit - tail - 1]}…{line[-tail:]}"


def clean_message(text: str, limit: int = 600) -> str:
    """A message of another module on one line, without absolute paths, with "5 %" unbreakable."""
    return re.sub(r"(?<=\d) %", "\u00a0%", one_line(without_absolute_paths(text), limit))


def short_labels(names: Sequence[str], limit: int) -> list[str]:
    """Names of at most about ``limit`` characters that are still distinct: equal ones get their index."""
    short = [one_line(name, limit) for name in names]
    used: set[str] = set()
    for i, label in enumerate(short):
        short[i] = f"{label} #{i}" if label in used else label
        used.add(short[i])
    return short


def code_spans(text: str, *, unescaped: bool = True) -> list[tuple[bool, str]]:
    """The text in pieces, each with whether it stood in backticks, that is, whether it is code.

    With ``unescaped`` code that would need escaping in HTML or in a Markdown table stays text, with its backticks.
    """
    pattern = _CODE if unescaped else _ANY_CODE
    return [(i % 2 == 1, piece) for i, piece in enumerate(pattern.split(text)) if piece]


def without_absolute_paths(text: str) -> str:
    """Absolute paths cut to their last component, because a report may be passed on to others.

    Example:
        >>> without_absolute_paths("cannot read /home/ann/photos/cat/7.jpg")
        'cannot read …/7.jpg'
    """
    return _ABSOLUTE.sub("…/", text)


def missing_cell(reason: str) -> Cell:
    """A dash with the reason why there is no number."""
    return Cell(MISSING, missing_reason=reason)


def number_cell(value: int) -> Cell:
    """A whole number."""
    return Cell(f"{value:,}")


def percent_cell(share: float | None, reason: str, *, detail: str = "", sign: bool = False) -> Cell:
    """A percentage, with its sign if no heading has it, or a dash with the reason."""
    if finite(share) is None:
        return missing_cell(reason)
    return Cell(percent(share).replace(" ", "\u00a0") if sign else percent_number(share), detail=detail)


def interval_cell(share: float | None, low: float | None, high: float | None, reason: str) -> Cell:
    """A percentage with its confidence interval."""
    ends = "" if finite(low) is None or finite(high) is None else f"{percent_number(low, 0)}–{percent_number(high, 0)}"
    return percent_cell(share, reason, detail=ends)


def name_cell(text: str, *, limit: int = NAME_LENGTH) -> Cell:
    """A name from the data, with the complete text beside it if it is shortened."""
    line = one_line(text, limit)
    full = _escape_invisible(text[:TITLE_LENGTH])
    full += f"… ({len(text)} characters)" if len(text) > TITLE_LENGTH else ""
    return Cell(line, full="" if full == line else full, is_name=True)


def path_cell(path: str, *, limit: int = NAME_LENGTH) -> Cell:
    """The path of a file in a dataset."""
    return name_cell(without_absolute_paths(path), limit=limit)


def file_cell(path: str, *, limit: int = NAME_LENGTH) -> Cell:
    """The name of a file, with its path in the dataset beside it."""
    whole, name = path_cell(path), name_cell(path.rpartition("/")[2], limit=limit)
    return replace(name, full=whole.full or whole.text)


def value_cell(value: Any) -> Cell:
    """The value of a setting."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing_cell("not set")
    if isinstance(value, dict):
        value = ", ".join(f"{key} = {item}" for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        items = [str(item) for item in value]
        value = ", ".join([*items[:20], f"… {len(items) - 20} more"] if len(items) > 20 else items)
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, float):
        value = f"{value:.6g}"
    return name_cell(without_absolute_paths(str(value)), limit=160) if str(value) else Cell("none")
