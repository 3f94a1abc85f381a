"""The losses of `counterpoise.losses` for Keras: same names, hyperparameters, defaults and formulas.

Each is called as ``loss(y_true, y_pred, sample_weight=None)`` on logits with the classes in the last axis. Arguments
that a docstring does not explain are those of `SoftmaxLoss` or `SigmoidLoss`, and of `EquationLoss`.
"""

from __future__ import annotations

import keras

from counterpoise.integrations.keras.checks import KerasReduction
from counterpoise.integrations.keras.equations import SigmoidFamily, SoftmaxFamily
from counterpoise.losses import presets
from counterpoise.losses.arguments import Vector


class SoftmaxLoss(SoftmaxFamily):
    """The softmax equation with all its hyperparameters; see `counterpoise.losses.softmax_loss`.

    Args:
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor s of all logits, above 0.
        margin: margin m subtracted from the target's logit; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1); a number or ``(C,)``.

    Example:
        >>> loss = SoftmaxLoss(gamma=1.0)
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        0.3466
    """

    def __init__(
        self, *, weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(None, locals())


class CrossEntropyLoss(SoftmaxLoss):
    """Cross-entropy: the softmax equation at its defaults.

    Example:
        >>> loss = CrossEntropyLoss(weight=[1.0, 3.0], reduction="weighted_mean")
        >>> print(f"{float(loss([0, 1], [[0.0, 0.0], [0.0, 0.0]])):.4f}")
        0.6931
    """


class FocalLoss(SoftmaxFamily):
    """Focal loss on a softmax; see `counterpoise.losses.focal_loss`.

    Args:
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        alpha: ``(C,)`` class weights under the paper's name, multiplied with ``weight``.

    Example:
        >>> loss = FocalLoss(gamma=1.0)
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        0.3466
    """

    def __init__(
        self, *, gamma: float | Vector = 2.0, alpha: Vector | None = None, weight: Vector | None = None,
        offset: Vector | None = None, class_scale: Vector | None = None, scale: float = 1.0,
        margin: float | Vector | None = None, poly: float = 0.0, label_smoothing: float | Vector = 0.0,
        from_logits: bool = True, ignore_index: int = -100, reduction: KerasReduction | None = "sum_over_batch_size",
        name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.focal, locals())


class ClassBalancedLoss(SoftmaxFamily):
    """Cross-entropy or focal loss with effective-number weights; see `counterpoise.losses.class_balanced_loss`.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        beta: hyperparameter β of the effective number, in [0, 1], or "auto".
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        empty: "error" refuses classes without images; "exclude" masks them.

    Example:
        >>> loss = ClassBalancedLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([0, 1], [[0.0, 0.0], [0.0, 0.0]])):.4f}")
        0.6931
    """

    def __init__(
        self, *, class_counts: presets.Counts, beta: presets.Beta = 0.9999, gamma: float | Vector = 0.0,
        empty: presets.Empty = "error", weight: Vector | None = None, offset: Vector | None = None,
        class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.class_balanced, locals())


class LogitAdjustedLoss(SoftmaxFamily):
    """Logit-adjusted softmax cross-entropy; see `counterpoise.losses.logit_adjusted_loss`.

    Args:
        prior: ``(C,)`` class shares in training.
        tau: strength τ of the adjustment, at least 0.
        empty: "error" refuses classes without images; "exclude" masks them.

    Example:
        >>> loss = LogitAdjustedLoss(prior=[0.9, 0.1])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self, *, prior: Vector, tau: float = 1.0, empty: presets.Empty = "error", weight: Vector | None = None,
        offset: Vector | None = None, class_scale: Vector | None = None, scale: float = 1.0,
        margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.logit_adjusted, locals())


class BalancedSoftmaxLoss(SoftmaxFamily):
    """Balanced softmax; see `counterpoise.losses.balanced_softmax_loss`.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        empty: "error" refuses classes without images; "exclude" masks them.

    Example:
        >>> loss = BalancedSoftmaxLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self, *, class_counts: presets.Counts, empty: presets.Empty = "error", weight: Vector | None = None,
        offset: Vector | None = None, class_scale: Vector | None = None, scale: float = 1.0,
        margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.balanced_softmax, locals())


class VectorScalingLoss(SoftmaxFamily):
    """Vector scaling: additive and multiplicative adjustment; see `counterpoise.losses.vector_scaling_loss`.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        gamma: exponent γ of the class scale (n_c / n_max)^γ, at least 0.
        tau: strength τ of the additive adjustment, at least 0.
        empty: "error" refuses classes without images; "exclude" masks them.

    Example:
        >>> loss = VectorScalingLoss(class_counts=[90, 10])
        >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
        2.3026
    """

    def __init__(
        self, *, class_counts: presets.Counts, gamma: float = 0.3, tau: float = 1.0, empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, scale: float = 1.0,
        margin: float | Vector | None = None, poly: float = 0.0, label_smoothing: float | Vector = 0.0,
        from_logits: bool = True, ignore_index: int = -100, reduction: KerasReduction | None = "sum_over_batch_size",
        name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.vector_scaling, locals())


class LDAMLoss(SoftmaxFamily):
    """Label-distribution-aware margin loss on cosine logits; see `counterpoise.losses.ldam_loss`.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        max_margin: margin of the rarest class, at least 0.
        scale: factor s of the cosines, above 0.
        empty: "error" refuses classes without images; "exclude" masks them.

    Example:
        >>> loss = LDAMLoss(class_counts=[160, 10], scale=4.0)
        >>> print(f"{float(loss([0], [[0.5, 0.0]])):.4f}")
        0.3133
    """

    def __init__(
        self, *, class_counts: presets.Counts, max_margin: float = 0.5, scale: float = 30.0,
        empty: presets.Empty = "error", weight: Vector | None = None, offset: Vector | None = None,
        class_scale: Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.ldam, locals())


class PolyLoss(SoftmaxFamily):
    """Poly-1 loss; see `counterpoise.losses.poly_loss`.

    Args:
        epsilon: coefficient of the first polynomial term.

    Example:
        >>> loss = PolyLoss()
        >>> print(f"{float(loss([0], [[0.0, 0.0]])):.4f}")
        1.1931
    """

    def __init__(
        self, *, epsilon: float = 1.0, weight: Vector | None = None, offset: Vector | None = None,
        class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
        gamma: float | Vector = 0.0, label_smoothing: float | Vector = 0.0, from_logits: bool = True,
        ignore_index: int = -100, reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(presets.poly, locals())


class SigmoidLoss(SigmoidFamily):
    """The sigmoid equation with all its hyperparameters; see `counterpoise.losses.sigmoid_loss`.

    Args:
        weight: ``(C,)`` weight of each class, at least 0.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        clip: probability margin m, in [0, 1): negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.

    Example:
        >>> loss = SigmoidLoss(pos_weight=3.0)
        >>> print(f"{float(loss([[1.0, 0.0]], [[0.0, 0.0]])):.4f}")
        1.3863
    """

    def __init__(
        self, *, weight: Vector | None = None, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, gamma_pos: float = 0.0, gamma_neg: float = 0.0, clip: float = 0.0,
        detach_focus: bool = False, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(None, locals())


class BinaryCrossEntropyLoss(SigmoidLoss):
    """Binary cross-entropy: the sigmoid equation at its defaults.

    Example:
        >>> loss = BinaryCrossEntropyLoss()
        >>> print(f"{float(loss([[1.0, 0.0]], [[0.0, 0.0]])):.4f}")
        0.6931
    """


class SigmoidFocalLoss(SigmoidFamily):
    """Focal loss on sigmoids; see `counterpoise.losses.sigmoid_focal_loss`.

    Args:
        alpha: weight of the positives, in [0, 1]; negatives get 1 − α. None for no weights.
        gamma: focusing parameter γ of positives and negatives, at least 0.

    Example:
        >>> loss = SigmoidFocalLoss()
        >>> print(f"{float(loss([[1.0]], [[0.0]])):.4f}")
        0.0433
    """

    def __init__(
        self, *, alpha: float | None = 0.25, gamma: float = 2.0, weight: Vector | None = None,
        pos_weight: float | Vector | None = None, neg_weight: float | Vector | None = None, from_logits: bool = True,
        ignore_index: int = -100, reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(presets.sigmoid_focal, locals())


class AsymmetricLoss(SigmoidFamily):
    """Asymmetric loss; see `counterpoise.losses.asymmetric_loss`.

    Args:
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        clip: probability margin m, in [0, 1): negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.

    Example:
        >>> loss = AsymmetricLoss()
        >>> print(f"{float(loss([[1.0]], [[0.0]])):.4f}")
        0.3466
    """

    def __init__(
        self, *, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05, detach_focus: bool = True,
        weight: Vector | None = None, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, from_logits: bool = True, ignore_index: int = -100,
        reduction: KerasReduction | None = "sum_over_batch_size", name: str | None = None, dtype: str | None = None,
    ) -> None:
        super().__init__(presets.asymmetric, locals())


# A model saved with one of these losses finds it by this name.
for _loss in (
    SoftmaxLoss, CrossEntropyLoss, FocalLoss, ClassBalancedLoss, LogitAdjustedLoss, BalancedSoftmaxLoss,
    VectorScalingLoss, LDAMLoss, PolyLoss, SigmoidLoss, BinaryCrossEntropyLoss, SigmoidFocalLoss, AsymmetricLoss,
):
    keras.saving.register_keras_serializable(package="counterpoise")(_loss)
