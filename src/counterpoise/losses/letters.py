"""The letters of the softmax equation as its callers give them, checked and converted."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.losses.arguments import checked_number, class_vector, number_or_vector
from counterpoise.losses.options import Vector

__all__ = ["softmax_terms"]


def softmax_terms(  # noqa: PLR0913  the equation has this many letters
    logits: Tensor,
    *,
    weight: Vector | None = None,
    offset: Vector | None = None,
    class_scale: Vector | None = None,
    scale: float = 1.0,
    margin: float | Vector | None = None,
    gamma: float | Vector = 0.0,
    poly: float = 0.0,
    label_smoothing: float | Vector = 0.0,
) -> SoftmaxParameters:
    """What `softmax_loss` says of each; only shape, dtype and device of the logits are looked at."""
    return SoftmaxParameters(
        weight=class_vector(weight, "weight", logits, low=0.0),
        offset=class_vector(offset, "offset", logits, masks=True),
        class_scale=class_vector(class_scale, "class_scale", logits, above=0.0),
        scale=checked_number("scale", scale),
        margin=None if margin is None else number_or_vector(margin, "margin", logits),
        gamma=number_or_vector(gamma, "gamma", logits, low=0.0),
        poly=checked_number("poly", poly),
        label_smoothing=number_or_vector(label_smoothing, "label_smoothing", logits, low=0.0, below=1.0),
    )
