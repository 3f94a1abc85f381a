"""Numbers and names as a reader sees them. Nothing here knows about HTML or Markdown."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from counterpoise.workflow.report.page import Cell

__all__ = [
    "DASH",
    "count",
    "duration",
    "labels",
    "missing",
    "name_cell",
    "number",
    "percent",
    "points",
    "shown",
    "spaced",
    "value_cell",
    "without_roots",
]

DASH = "–"
NAME_LIMIT = 48
TITLE_LIMIT = 400

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# A POSIX path of two parts or more, or one that starts with a drive; what stands before the last part is hidden.
_ROOTED = re.compile(r"(?<![\w.~/<])(?:/[^\s/'\"<>|:]+)+/(?=[^\s/'\"<>|:])|\b[A-Za-z]:\\(?:[^\s\\'\"<>|]+\\)*")


def number(value: float | None) -> float | None:
    """The value, or None for NaN and infinity as well."""
    return None if value is None or not math.isfinite(value) else float(value)


def missing(reason: str) -> Cell:
    """A dash, with the reason why no number stands there."""
    return Cell(DASH, missing=reason)


def percent(value: float | None, digits: int = 1) -> str:
    """A rate in [0, 1] as a percentage without its sign: ``0.4321`` is ``43.2``."""
    value = number(value)
    return DASH if value is None else f"{100 * value:.{digits}f}".replace("-", "−")


def points(value: float | None, digits: int = 1) -> str:
    """A difference of two rates in percentage points, with its sign: ``+5.1``, ``−0.4``, ``0.0``."""
    value = number(value)
    if value is None:
        return DASH
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def count(value: int | None) -> str:
    """A whole number with thin spaces between thousands, from five digits on."""
    if value is None:
        return DASH
    return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as ``8.4 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    seconds = number(seconds)
    if seconds is None:
        return DASH
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def visible(text: str) -> str:
    """Control characters, direction overrides and lone surrogates as escapes, so that nothing acts unseen."""
    return "".join(_escape(char) if _hidden(char) else char for char in text)


def spaced(text: str) -> str:
    """A number and its per cent sign stay on one line."""
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


def _hidden(char: str) -> bool:
    return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def shown(text: object, limit: int = NAME_LIMIT) -> str:
    """Text on one line of at most ``limit`` characters; the middle gives way, since both ends tell names apart."""
    line = visible(str(text))
    if len(line) <= limit:
        return line
    tail = limit // 4
    return f"{line[: limit - tail - 1]}…{line[-tail:]}"


def labels(names: Sequence[str], limit: int) -> list[str]:
    """Short labels, still distinct after shortening: twins get their number."""
    short = [shown(name, limit) for name in names]
    seen: dict[str, int] = {}
    for i, label in enumerate(short):
        if label in seen:
            short[i] = f"{label} #{i}"
        seen[short[i]] = i
    return short


def name_cell(text: str, *, limit: int = NAME_LIMIT, detail: str = "") -> Cell:
    """A name out of the data: isolated, and with the uncut text beside it where it was shortened."""
    line = shown(text, limit)
    whole = visible(text[:TITLE_LIMIT]) + (f"… ({len(text)} characters)" if len(text) > TITLE_LIMIT else "")
    return Cell(line, full="" if whole == line else whole, name=True, detail=detail)


def value_cell(value: Any) -> Cell:
    """Any setting, short enough to read; a missing one says so."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing("not set")
    if isinstance(value, dict):
        value = ", ".join(f"{key} = {item}" for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(item) for item in _first(value, 20))
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, float):
        value = f"{value:.6g}"
    return name_cell(without_roots(str(value)), limit=160) if str(value) else Cell("none")


def _first(items: Iterable[Any], limit: int) -> list[Any]:
    whole = list(items)
    return whole if len(whole) <= limit else [*whole[:limit], f"… {len(whole) - limit} more"]


def without_roots(text: str) -> str:
    """Absolute paths cut to their last part: a report is passed on, the layout of a disk is nobody's business.

    Example:
        >>> without_roots("cannot read /home/ann/photos/cat/7.jpg")
        'cannot read …/7.jpg'
    """
    return _ROOTED.sub("…/", text)
