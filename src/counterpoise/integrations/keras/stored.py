"""What every Keras loss of ours is: an equation, its letters, and a reduction that says what it divides by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import keras
import numpy as np
from keras import ops

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.integrations.keras.equations import Letters, Rows, sigmoid_rows
from counterpoise.integrations.keras.letters import HostKeywords, KerasReduction, checked_letters, plain

__all__ = ["EquationLoss"]

Equation = Callable[[Any, Any, Letters, int], Rows]
_HOST = frozenset(HostKeywords.__annotations__)
_REDUCTIONS = get_args(KerasReduction)
_OF_A_BATCH = {
    "sample_weight": "belongs to a batch: give it to `fit`, or when calling the loss",
    "normalizer": 'is not an option in Keras; choose the denominator with `reduction` ("sum" divides by nothing)',
    "impl": "is not an option in Keras: its backend compiles the one form there is",
}


class EquationLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras is not typed
    """Base of the losses: called as ``loss(y_true, y_pred, sample_weight=None)``, classes in the last axis.

    What the ``reduction`` makes of the rows' losses ℓ_i, sample weights u_i (Keras puts its mask and, in `fit`, the
    class weights into them) and W_i = Σ_c w_c t_ic, over the rows that are not ignored:

    ===========================  ==================  ===========================================================
    ``sum_over_batch_size``      Σ u_i ℓ_i / N       Keras's default: weights are not in the denominator
    ``mean_with_sample_weight``  Σ u_i ℓ_i / Σ u_i   Keras's; class weights of the loss are not in the denominator
    ``weighted_mean``            Σ u_i ℓ_i / Σ u_i W_i   the "mean" of `counterpoise.losses` and torch (softmax only)
    ``sum``, ``none``            Σ u_i ℓ_i, u_i ℓ_i
    ===========================  ==================  ===========================================================

    A row of the sigmoid family is the mean over its classes, as Keras's own binary losses have it.
    """

    def __init__(
        self,
        equation: Equation,
        letters: Mapping[str, Any],
        own: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        """``letters`` set by the equation's preset and caller; ``own`` and ``options`` what rebuilds the loss."""
        _refuse_unknown(type(self).__name__, options, equation)
        super().__init__(name=options.get("name"), dtype=_checked_dtype(options.get("dtype")))
        self.reduction = _checked_reduction(options.get("reduction", "sum_over_batch_size"), equation)
        self.from_logits = bool(options.get("from_logits", True))
        self.ignore_index = int(options.get("ignore_index", -100))
        self.equation = equation
        self.letters, self.num_classes = checked_letters({k: v for k, v in letters.items() if k not in _HOST})
        self.config = {k: plain(v) for k, v in {**own, **options}.items() if k not in _HOST}

    def get_config(self) -> dict[str, Any]:
        """What `from_config` and a saved model need: numbers, strings and plain lists."""
        host = {"from_logits": self.from_logits, "ignore_index": self.ignore_index, "dtype": self.dtype}
        return {"name": self.name, "reduction": self.reduction, **host, **self.config}

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss; a scalar, or one value for each row for ``reduction="none"``."""
        with keras.name_scope(self.name):
            rows = self._rows(y_true, y_pred)
            counted = _row_weights(rows, y_pred, None)
            u = counted if sample_weight is None else _row_weights(rows, y_pred, sample_weight)
            return _reduced(rows, u, counted, self.reduction)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """ℓ_i of each row, before weights and reduction."""
        return self._rows(y_true, y_pred).loss

    def _rows(self, y_true: Any, y_pred: Any) -> Rows:
        z = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if self.num_classes not in (None, z.shape[-1]):
            names = [name for name, value in self.letters.items() if isinstance(value, np.ndarray)]
            raise ArgumentError(
                f"`{names[0]}` has {self.num_classes} values, one per class; `y_pred` has shape {tuple(z.shape)}, "
                f"{z.shape[-1]} classes in its last axis (where a loss takes `prior`, `class_counts` or `alpha`, its "
                "letters come from those)"
            )
        z = z if self.from_logits else _logits(z, self.equation)
        letters = {
            name: ops.convert_to_tensor(value, dtype=self.dtype) if isinstance(value, np.ndarray) else value
            for name, value in self.letters.items()
        }
        return self.equation(z, ops.convert_to_tensor(y_true), letters, self.ignore_index)


class _RowWeights(keras.losses.Loss):  # type: ignore[misc]  # Keras is not typed
    """Keras's own weight of each row, from its mask and the sample weights: the loss of rows that are all 1."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.ones_like(y_true)


def _row_weights(rows: Rows, y_pred: Any, sample_weight: Any) -> Any:
    """(N, …); weights (N,) of rows (N, …) weigh whole images."""
    rank = len(rows.loss.shape)
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, dtype=rows.loss.dtype)
        if len(sample_weight.shape) == 1 and rank > 1:
            sample_weight = ops.reshape(sample_weight, (-1, *[1] * (rank - 1)))
    weights = _RowWeights(reduction="none", dtype=rows.loss.dtype)(rows.share, y_pred, sample_weight)
    return ops.reshape(weights, ops.shape(rows.loss))


def _reduced(rows: Rows, u: Any, counted: Any, reduction: str) -> Any:
    weighted = u * rows.loss
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return ops.sum(weighted)
    weights = {
        "sum_over_batch_size": counted * rows.share,
        "mean_with_sample_weight": u * rows.share,
        "weighted_mean": u * rows.mass,
    }
    denominator = ops.sum(weights[reduction])
    # 0 with a live graph where nothing counts; the inner `where` keeps the gradient finite.
    empty = ops.equal(denominator, 0.0)
    return ops.sum(weighted) * ops.where(empty, 0.0, 1.0 / ops.where(empty, 1.0, denominator))


def _logits(p: Any, equation: Equation) -> Any:
    """Probabilities to logits. They have lost what logits know of values within 1e-7 of 1, and below 1e-38."""
    info = np.finfo(keras.backend.standardize_dtype(p.dtype))
    p = ops.maximum(p, float(info.tiny))  # a 0 is a very small probability, not a masked class
    if equation is not sigmoid_rows:
        return ops.log(p)
    p = ops.minimum(p, 1.0 - float(info.epsneg))
    return ops.log(p) - ops.log1p(-p)


def _refuse_unknown(loss: str, options: Mapping[str, Any], equation: Equation) -> None:
    for name, reason in _OF_A_BATCH.items():
        if name in options:
            raise ArgumentError(f"`{name}` {reason}")
    softmax = {"weight", "offset", "class_scale", "scale", "margin", "gamma", "poly", "label_smoothing"}
    sigmoid = {"weight", "pos_weight", "neg_weight", "gamma_pos", "gamma_neg", "clip", "detach_focus"}
    known = _HOST | (sigmoid if equation is sigmoid_rows else softmax)
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ArgumentTypeError(f"`{unknown[0]}` is not a keyword of {loss}; besides its own it takes {sorted(known)}")


def _checked_dtype(dtype: str | None) -> str:
    """At least float32: half precision would lose small classes in the sums, and large indices in the labels."""
    if dtype is None:
        return "float64" if keras.config.floatx() == "float64" else "float32"
    if dtype not in ("float32", "float64"):
        raise ArgumentError(
            f'`dtype` must be "float32" or "float64": a loss is computed in at least float32; got {dtype!r}'
        )
    return dtype


def _checked_reduction(reduction: str | None, equation: Equation) -> str:
    reduction = "none" if reduction is None else reduction
    if reduction == "mean":
        raise ArgumentError(
            '`reduction="mean"` means two things: Keras divides by N ("sum_over_batch_size"), counterpoise.losses by '
            'the summed weights ("weighted_mean"). Name one of these'
        )
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"`reduction` must be one of {', '.join(map(repr, _REDUCTIONS))}; got {reduction!r}")
    if reduction == "weighted_mean" and equation is sigmoid_rows:
        raise ArgumentError(
            '`reduction="weighted_mean"` is of the softmax family: every element of a sigmoid loss has positives\' and '
            'negatives\' weights. "mean_with_sample_weight" divides by the sample weights'
        )
    return reduction
