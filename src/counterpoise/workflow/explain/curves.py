"""Loss and gradient against the probability of the true class: by calling our losses, and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from counterpoise.core.explanation import Chart
from counterpoise.workflow.explain.lesson import curve, rounded

__all__ = ["U", "loss_panels", "slope", "softmax_panels", "true_class_logits"]

U = torch.linspace(-5.0, 5.0, 101, dtype=torch.float64)
"""log p/(1 − p) in equal steps: differences along a loss curve are then differences of the logit."""

Loss = Callable[[Tensor], Tensor]


def slope(loss: Loss, at: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row ``(N,)`` and its derivative, by autograd."""
    z = at.clone().requires_grad_()
    value = loss(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


def loss_panels(
    id: str,
    settings: Mapping[str, Loss],
    *,
    at: Tensor = U,
    x: Tensor | None = None,
    x_title: str = "Probability of the true class",
    about: str = "",
    derivative: str = "∂loss/∂z of the true class",
    whose: str = "",
) -> tuple[Chart, Chart]:
    """Two panels: loss and gradient of every setting, each a function of what is varied, ``(N,)`` → ``(N,)``."""
    across = rounded(torch.sigmoid(at) if x is None else x)
    pairs = {name: slope(loss, at) for name, loss in settings.items()}
    values = tuple(curve(name, value) for name, (value, _) in pairs.items())
    slopes = tuple(curve(name, gradient) for name, (_, gradient) in pairs.items())
    return (
        Chart(f"{id}-loss", f"Loss{whose}", about, x_title, "Loss", across, values),
        Chart(f"{id}-gradient", f"Gradient{whose}", f"{_PULL} By autograd.", x_title, derivative, across, slopes),
    )


_PULL = "How hard one image pulls at the logit: up below zero, down above it."


def true_class_logits(u: Tensor, true: int, classes: int) -> Tensor:
    """``(N, C)``: the other classes share what is left evenly, so that the true class has probability σ(u)."""
    spike = torch.zeros(classes, dtype=u.dtype)
    spike[true] = 1.0
    return (u + math.log(classes - 1))[:, None] * spike


def softmax_panels(
    id: str, settings: Mapping[str, tuple[Callable[..., Tensor], int, dict[str, Any]]], *, classes: int, about: str
) -> tuple[Chart, Chart]:
    """`loss_panels` of losses on a softmax: name → loss, true class, options."""

    def of(loss: Callable[..., Tensor], true: int, options: dict[str, Any]) -> Loss:
        def rows(u: Tensor) -> Tensor:
            target = torch.full(u.shape, true)
            return loss(true_class_logits(u, true, classes), target, reduction="none", **options)

        return rows

    return loss_panels(id, {name: of(*setting) for name, setting in settings.items()}, about=about)
