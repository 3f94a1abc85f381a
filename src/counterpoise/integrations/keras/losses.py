"""The named losses for Keras: the presets of `counterpoise.losses`, same names, keywords and defaults.

Each is called as Keras calls a loss, ``loss(y_true, y_pred, sample_weight=None)``, on logits (``from_logits=True``)
with the classes in the last axis. Besides its own keywords each takes the other letters of its equation, and
``from_logits``, ``ignore_index``, ``reduction`` (see `EquationLoss`), ``name`` and ``dtype``. The papers are named in
`counterpoise.losses`; the formulas stand there, once.
"""

from __future__ import annotations

from typing import Any

import keras
from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.integrations.keras.equations import sigmoid_rows, softmax_rows
from counterpoise.integrations.keras.letters import (
    ScaledKeywords,
    SigmoidKeywords,
    SigmoidPresetKeywords,
    SoftmaxKeywords,
    SoftmaxPresetKeywords,
)
from counterpoise.integrations.keras.stored import EquationLoss
from counterpoise.losses import presets
from counterpoise.losses.arguments import Vector

__all__ = [
    "AsymmetricLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "PolyLoss",
    "SigmoidFocalLoss",
    "SigmoidLoss",
    "SoftmaxLoss",
    "VectorScalingLoss",
]

_saved = keras.saving.register_keras_serializable(package="counterpoise")


class _Softmax(EquationLoss):
    def __init__(self, preset: dict[str, Any], own: dict[str, Any], options: Any) -> None:
        letters = presets.combined(preset, options)
        super().__init__(softmax_rows, letters, own, options)


class _Sigmoid(EquationLoss):
    def __init__(self, preset: dict[str, Any], own: dict[str, Any], options: Any) -> None:
        letters = presets.combined_sigmoid(preset, options)
        super().__init__(sigmoid_rows, letters, own, options)


@_saved
class SoftmaxLoss(_Softmax):
    """`counterpoise.losses.softmax_loss` for Keras, same keywords. The whole equation.

    Example:
        >>> loss = SoftmaxLoss(gamma=1.0)
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        0.3466
    """

    def __init__(self, **options: Unpack[SoftmaxKeywords]) -> None:
        super().__init__({}, {}, options)


@_saved
class CrossEntropyLoss(_Softmax):
    """`counterpoise.losses.cross_entropy` for Keras, same keywords.

    Example:
        >>> loss = CrossEntropyLoss(weight=[1.0, 3.0], reduction="weighted_mean")
        >>> print(f"{float(loss([0, 1], [[0.0, 0.0], [0.0, 0.0]])):.4f}")
        0.6931
    """

    def __init__(self, **options: Unpack[SoftmaxKeywords]) -> None:
        super().__init__({}, {}, options)


@_saved
class FocalLoss(_Softmax):
    """`counterpoise.losses.focal_loss` for Keras, same keywords.

    Example:
        >>> loss = FocalLoss(gamma=1.0)
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        0.3466
    """

    def __init__(
        self,
        *,
        gamma: float | Vector = 2.0,
        alpha: Vector | None = None,
        **options: Unpack[SoftmaxPresetKeywords],
    ) -> None:
        own: dict[str, Any] = {"gamma": gamma, "alpha": alpha}
        super().__init__(presets.focal(**own), own, options)


@_saved
class ClassBalancedLoss(_Softmax):
    """`counterpoise.losses.class_balanced_loss` for Keras, same keywords.

    Example:
        >>> loss = ClassBalancedLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([0, 1], [[0.0, 0.0], [0.0, 0.0]])):.4f}")
        0.6931
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        beta: float = 0.9999,
        gamma: float | Vector = 0.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetKeywords],
    ) -> None:
        own: dict[str, Any] = {"class_counts": class_counts, "beta": beta, "gamma": gamma, "empty": empty}
        super().__init__(presets.class_balanced(**own), own, options)


@_saved
class LogitAdjustedLoss(_Softmax):
    """`counterpoise.losses.logit_adjusted_loss` for Keras, same keywords.

    Example:
        >>> loss = LogitAdjustedLoss(prior=[0.9, 0.1])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self,
        *,
        prior: Vector,
        tau: float = 1.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxKeywords],
    ) -> None:
        own: dict[str, Any] = {"prior": prior, "tau": tau, "empty": empty}
        super().__init__(presets.logit_adjusted(**own), own, options)


@_saved
class BalancedSoftmaxLoss(_Softmax):
    """`counterpoise.losses.balanced_softmax_loss` for Keras, same keywords.

    Example:
        >>> loss = BalancedSoftmaxLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxKeywords],
    ) -> None:
        own: dict[str, Any] = {"class_counts": class_counts, "empty": empty}
        super().__init__(presets.balanced_softmax(**own), own, options)


@_saved
class VectorScalingLoss(_Softmax):
    """`counterpoise.losses.vector_scaling_loss` for Keras, same keywords.

    Example:
        >>> loss = VectorScalingLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        gamma: float = 0.3,
        tau: float = 1.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetKeywords],
    ) -> None:
        own: dict[str, Any] = {"class_counts": class_counts, "gamma": gamma, "tau": tau, "empty": empty}
        super().__init__(presets.vector_scaling(**own), own, options)


@_saved
class LDAMLoss(_Softmax):
    """`counterpoise.losses.ldam_loss` for Keras, same keywords. Its logits are cosines.

    Example:
        >>> loss = LDAMLoss(class_counts=[160, 10], scale=4.0)
        >>> print(f"{float(loss([0], [[0.5, 0.0]])):.4f}")
        0.3133
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        max_margin: float = 0.5,
        scale: float = 30.0,
        empty: presets.Empty = "error",
        **options: Unpack[ScaledKeywords],
    ) -> None:
        own: dict[str, Any] = {"class_counts": class_counts, "max_margin": max_margin, "scale": scale, "empty": empty}
        super().__init__(presets.ldam(**own), own, options)


@_saved
class PolyLoss(_Softmax):
    """`counterpoise.losses.poly_loss` for Keras, same keywords.

    Example:
        >>> loss = PolyLoss()
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        1.1931
    """

    def __init__(
        self,
        *,
        epsilon: float = 1.0,
        **options: Unpack[SoftmaxKeywords],
    ) -> None:
        own: dict[str, Any] = {"epsilon": epsilon}
        super().__init__(presets.poly(**own), own, options)


@_saved
class SigmoidLoss(_Sigmoid):
    """`counterpoise.losses.sigmoid_loss` for Keras, same keywords. The whole equation.

    Example:
        >>> loss = SigmoidLoss(pos_weight=3.0)
        >>> print(f"{float(loss([[1.0, 0.0]], [[0.0, 0.0]])):.4f}")
        1.3863
    """

    def __init__(self, **options: Unpack[SigmoidKeywords]) -> None:
        super().__init__({}, {}, options)


@_saved
class BinaryCrossEntropyLoss(_Sigmoid):
    """`counterpoise.losses.binary_cross_entropy` for Keras, same keywords.

    Example:
        >>> loss = BinaryCrossEntropyLoss()
        >>> print(f"{float(loss([[1.0, 0.0]], [[0.0, 0.0]])):.4f}")
        0.6931
    """

    def __init__(self, **options: Unpack[SigmoidKeywords]) -> None:
        super().__init__({}, {}, options)


@_saved
class SigmoidFocalLoss(_Sigmoid):
    """`counterpoise.losses.sigmoid_focal_loss` for Keras, same keywords.

    Example:
        >>> loss = SigmoidFocalLoss()
        >>> print(f"{float(loss([[1.0]], [[0.0]])):.4f}")
        0.0433
    """

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        **options: Unpack[SigmoidPresetKeywords],
    ) -> None:
        own: dict[str, Any] = {"alpha": alpha, "gamma": gamma}
        super().__init__(presets.sigmoid_focal(**own), own, options)


@_saved
class AsymmetricLoss(_Sigmoid):
    """`counterpoise.losses.asymmetric_loss` for Keras, same keywords.

    Example:
        >>> loss = AsymmetricLoss()
        >>> print(f"{float(loss([[1.0]], [[0.0]])):.4f}")
        0.3466
    """

    def __init__(
        self,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        detach_focus: bool = True,
        **options: Unpack[SigmoidPresetKeywords],
    ) -> None:
        own: dict[str, Any] = {
            "gamma_neg": gamma_neg,
            "gamma_pos": gamma_pos,
            "clip": clip,
            "detach_focus": detach_focus,
        }
        super().__init__(presets.asymmetric(**own), own, options)
