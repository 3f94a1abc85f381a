"""The losses as modules: arguments stored once (vectors as buffers), the function called in forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self, Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.losses import presets
from counterpoise.losses.arguments import SoftmaxOptions, SoftmaxPresetOptions, Vector, vector_tensor
from counterpoise.losses.softmax import softmax_loss

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LogitAdjustedLoss",
    "SoftmaxLoss",
]


class _StoredLoss(nn.Module):
    """Keeps the options of one equation: vectors as buffers that move and persist, the rest as plain values."""

    def __init__(self, equation: Callable[..., Tensor], options: dict[str, Any]) -> None:
        super().__init__()
        self.equation = equation
        self.options: dict[str, Any] = {}
        self.vectors: tuple[str, ...] = ()
        for name, value in options.items():
            if value is None or isinstance(value, (str, bool, int, float)):
                self.options[name] = value
            else:
                self.vectors += (name,)
                self.register_buffer(name, vector_tensor(value, name).detach().clone())

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        sample_weight: Vector | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """The loss; ``sample_weight`` and ``normalizer`` belong to a batch and are given here."""
        vectors = {name: getattr(self, name) for name in self.vectors}
        batch = {"sample_weight": sample_weight, "normalizer": normalizer}
        given = {name: value for name, value in batch.items() if value is not None}
        return self.equation(logits, target, **{**self.options, **vectors, **given})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as asked, but keep the vectors' precision: a weight of 1e-8 is 0 in half precision."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before.to(after.device)
        return self

    def extra_repr(self) -> str:
        shown = {name: value for name, value in self.options.items() if value is not None}
        vectors = [f"{name}={tuple(getattr(self, name).shape)}" for name in self.vectors]
        return ", ".join([*(f"{name}={value!r}" for name, value in shown.items()), *vectors])


class SoftmaxLoss(_StoredLoss):
    """`softmax_loss` as a module, same keywords.

    Example:
        >>> SoftmaxLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(self, **options: Unpack[SoftmaxOptions]) -> None:
        super().__init__(softmax_loss, dict(options))


class CrossEntropyLoss(_StoredLoss):
    """`cross_entropy` as a module, same keywords.

    Example:
        >>> CrossEntropyLoss(weight=[1.0, 3.0])(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(self, **options: Unpack[SoftmaxOptions]) -> None:
        super().__init__(softmax_loss, dict(options))


class FocalLoss(_StoredLoss):
    """`focal_loss` as a module, same keywords.

    Example:
        >>> FocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(
        self,
        *,
        gamma: float | Vector = 2.0,
        alpha: Vector | None = None,
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.focal(gamma=gamma, alpha=alpha)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class ClassBalancedLoss(_StoredLoss):
    """`class_balanced_loss` as a module, same keywords.

    Example:
        >>> ClassBalancedLoss(class_counts=[90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        beta: float = 0.9999,
        gamma: float | Vector = 0.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.class_balanced(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class LogitAdjustedLoss(_StoredLoss):
    """`logit_adjusted_loss` as a module, same keywords.

    Example:
        >>> LogitAdjustedLoss(prior=[0.9, 0.1])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self,
        *,
        prior: Vector,
        tau: float = 1.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.logit_adjusted(prior=prior, tau=tau, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class BalancedSoftmaxLoss(_StoredLoss):
    """`balanced_softmax_loss` as a module, same keywords.

    Example:
        >>> BalancedSoftmaxLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.balanced_softmax(class_counts=class_counts, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))
