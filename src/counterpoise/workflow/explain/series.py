"""Charts and tables of the pages: the example data set, rounding, and loss and gradient curves by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.counts import ClassCounts
from counterpoise.core.explanation import Chart, Curve, ExplanationTable, VerticalLine

COUNTS = ClassCounts([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
"""The class counts of the example, CIFAR-10-LT with imbalance ratio 100: n_c = 5000 · 100^(−c/9)."""
LABELS = np.repeat(np.arange(COUNTS.num_classes), COUNTS.counts)
SELECTED = (0, 4, 9)
"""The largest class of the example, a medium one and the rarest."""
LOGITS = torch.linspace(-5.0, 5.0, 101, dtype=torch.float64)
"""Log odds log(p/(1 − p)) in equal steps: differences along a loss curve are then differences by the logit."""

Loss = Callable[[Tensor], Tensor]


def rounded(values: Iterable[Any]) -> tuple[float, ...]:
    """Six significant digits, which halves the size of a page and is finer than a screen can show."""
    return tuple(float(f"{float(value):.6g}") for value in values)


def chart(
    id: str, titles: tuple[str, str], x: Iterable[Any], curves: Mapping[str, Iterable[Any]],
    lines: Mapping[str, float] | None = None, **flags: Any,
) -> Chart:  # fmt: skip
    """A chart with the titles of its x and y axis; the page adds its title and caption."""
    drawn = (
        Curve(name, tuple(y if math.isfinite(y) else None for y in rounded(values))) for name, values in curves.items()
    )
    vertical = tuple(VerticalLine(name, round(at, 4)) for name, at in (lines or {}).items())
    return Chart(id, "", "", *titles, rounded(x), tuple(drawn), vertical, **flags)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> ExplanationTable:
    """A table with rounded numbers; the page adds its caption and notes."""
    cells = (tuple(cell if isinstance(cell, str) else rounded([cell])[0] for cell in row) for row in rows)
    return ExplanationTable("", tuple(columns), tuple(cells))


def class_name(c: int) -> str:
    """A class of the example, named by its number of images."""
    return f"{COUNTS.counts[c]:,} images"


def class_chart(id: str, y_title: str, curves: Mapping[str, Iterable[Any]], *, y_log: bool = True) -> Chart:
    """One value per class of the example, over the number of training images of the class."""
    titles = ("Training images of the class", y_title)
    return chart(id, titles, COUNTS.counts, curves, x_log=True, y_log=y_log, points=True)


def derivative(loss: Loss, at: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row ``(N,)`` and its derivative, by autograd."""
    z = at.clone().requires_grad_()
    value = loss(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


def loss_charts(
    id: str,
    settings: Mapping[str, Loss],
    *,
    at: Tensor = LOGITS,
    x: Tensor | None = None,
    x_title: str = "Probability of the true class",
    gradient: str = "∂loss/∂z of the true class",
) -> tuple[Chart, Chart]:
    """Charts ``<id>-loss`` and ``<id>-gradient`` of functions ``(N,)`` → ``(N,)``, evaluated at ``at``."""
    across = torch.sigmoid(at) if x is None else x
    pairs = {name: derivative(loss, at) for name, loss in settings.items()}
    return (
        chart(f"{id}-loss", (x_title, "Loss"), across, {name: pair[0] for name, pair in pairs.items()}),
        chart(f"{id}-gradient", (x_title, gradient), across, {name: pair[1] for name, pair in pairs.items()}),
    )


def softmax_charts(
    id: str, settings: Mapping[str, tuple[Callable[..., Tensor], int, Mapping[str, Any]]]
) -> tuple[Chart, Chart]:
    """`loss_charts` of softmax losses over the classes of the example: name → loss, true class, options.

    The wrong classes share the remaining probability equally, so that the true class has probability σ(u).
    """
    classes = COUNTS.num_classes

    def rows_of(loss: Callable[..., Tensor], true: int, options: Mapping[str, Any]) -> Loss:
        one_hot = torch.eye(classes, dtype=LOGITS.dtype)[true]

        def rows(u: Tensor) -> Tensor:
            logits = (u + math.log(classes - 1))[:, None] * one_hot
            return loss(logits, torch.full(u.shape, true), reduction="none", **options)

        return rows

    return loss_charts(id, {name: rows_of(*setting) for name, setting in settings.items()})
