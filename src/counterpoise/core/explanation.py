"""Explanation: how a loss, a weighting, a sampler or a correction behaves, as text and named series of numbers."""

from __future__ import annotations

from dataclasses import dataclass

from counterpoise.core.codec import Artifact

__all__ = ["Curve", "Explanation", "Panel", "Part", "Rule", "Sheet"]


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a value for each of the panel's ``x``, None where there is none."""

    name: str
    y: tuple[float | None, ...]


@dataclass(frozen=True)
class Rule:
    """A vertical line at ``x``: a decision boundary, a threshold."""

    name: str
    x: float


@dataclass(frozen=True)
class Panel:
    """Curves over one axis. ``points`` says that only the values at ``x`` exist, as for classes with counts."""

    id: str
    title: str
    caption: str
    x_title: str
    y_title: str
    x: tuple[float, ...]
    curves: tuple[Curve, ...]
    rules: tuple[Rule, ...] = ()
    x_log: bool = False
    y_log: bool = False
    points: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: a word or a number a cell; the first cell of a row is its heading."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A heading with what belongs under it; ``code`` is Python that runs as it stands."""

    title: str
    paragraphs: tuple[str, ...] = ()
    equation: str = ""
    panels: tuple[Panel, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    code: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Explanation(Artifact):
    """What one name of the toolkit does: a sentence, what it costs, what to keep in mind, and the parts."""

    name: str
    kind: str
    summary: str
    costs: tuple[str, ...]
    notes: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of all parts, in reading order."""
        return tuple(panel for part in self.parts for panel in part.panels)
