"""Rates, differences and lists of names as the verdict writes them."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoise.core.artifacts import Difference

NOTICEABLE = 0.0005
"""Differences that round to 0.0 points are not listed as costs."""


def percent(rate: float | None) -> str:
    """A rate as a percentage, with a second digit where one digit would show 0.0 or 100.0."""
    if rate is None:
        return "undefined"
    digits = 2 if 0 < rate < NOTICEABLE or 1 - NOTICEABLE < rate < 1 else 1
    return f"{100 * rate:.{digits}f} %"


def points_of(d: Difference, *, flip: bool = False) -> str:
    """+10.9 points [9.8, 12.0], or with ``flip`` the size of a loss; whole points where the interval is ten wide."""
    size, low, high = (None if x is None else 100 * (-x if flip else x) for x in (d.estimate, d.low, d.high))
    low, high = (high, low) if flip else (low, high)
    digits = 0 if low is not None and high is not None and high - low >= 10 else 1
    number = _fixed(size or 0.0, digits)
    plus = "" if flip or number.startswith("−") else "+"
    ends = "" if low is None or high is None else f" [{_fixed(low, digits)}, {_fixed(high, digits)}]"
    return f"{plus}{number} points{ends}"


def signed_points(share: float) -> str:
    """Whole points with their sign."""
    number = _fixed(100 * share, 0)
    return number if number.startswith("−") or number == "0" else f"+{number}"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", "−")


def joined(names: Sequence[str], word: str = "and") -> str:
    """Up to five names, the last after ``word``; of more names the first four and the number of the others."""
    shown = [*names[:4], f"{len(names) - 4} more"] if len(names) > 5 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"
