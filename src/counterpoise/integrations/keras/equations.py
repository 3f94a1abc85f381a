"""The softmax and the sigmoid equation in `keras.ops`, and the base class of the losses, which checks and reduces.

Classes are in the last axis. The algorithm is that of `counterpoise.kernels.reference`: 1 − p is never computed by
subtraction near p = 1, a masked class (logit −inf) takes no part, and every `where` that drops a value also keeps
infinities out of its gradient. In a traced step no value is read on the host.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops
from torch import Tensor

from counterpoise.core.errors import ArgumentError
from counterpoise.integrations.keras.checks import (
    checked_dtype,
    checked_reduction,
    is_traced,
    serializable,
    warn_of_probabilities,
)
from counterpoise.losses import presets
from counterpoise.losses.arguments import SIGMOID, SOFTMAX, checked_arguments

Parameters = Mapping[str, Any]
"""Hyperparameters: numbers, and ``(C,)`` tensors in the dtype of the logits; missing ones are neutral."""


class Rows(NamedTuple):
    """The loss of each row (N, …) and what the reductions divide by."""

    loss: Any  # ℓ_i before sample weights; 0 for an ignored row
    share: Any  # 1, or 0 for an ignored row; in the sigmoid family the share of labels that are not ignored
    mass: Any  # W_i = Σ_c w_c t_ic


def softmax_rows(z: Any, target: Any, parameters: Parameters, ignore_index: int) -> Rows:
    """Σ_c w_c q_c [(1 − p'_c)^γ_c (−log p'_c) + κ (1 − p'_c)^(γ_c+1)], p' = softmax(z'): logits (N, …, C) → (N, …).

    ``target`` is (N, …) or (N, …, 1) indices, of any dtype, or (N, …, C) probabilities.
    """
    t, valid, wrong = _dense_target(target, z, ignore_index)
    z = _transformed(ops.where(ops.expand_dims(valid, -1), z, 0.0), t, parameters)
    unmasked = ops.not_equal(z, -float("inf"))  # a NaN is not masked: it must show
    weight = parameters.get("weight", 1.0)
    elements = weight * _smoothed(t, unmasked, parameters) * _modulated(z, unmasked, parameters)
    hidden = ops.any(ops.logical_and(t > 0.0, ops.logical_not(unmasked)), -1)  # the target is a masked class
    loss = ops.where(hidden, float("inf"), ops.sum(elements, -1))
    loss = ops.where(wrong, float("nan"), ops.where(valid, loss, 0.0))
    return Rows(loss, ops.cast(valid, z.dtype), ops.where(valid, ops.sum(weight * t, -1), 0.0))


def _dense_target(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    """t (N, …, C), which rows are not ignored, and which have an index out of range; their loss is NaN."""
    if _is_index(target, z, "probabilities"):
        return _one_hot(target, z, ignore_index)
    t = ops.cast(target, z.dtype)
    every = ops.ones_like(t[..., 0], dtype="bool")
    return t, every, ops.logical_not(every)


def _is_index(target: Any, z: Any, alternative: str) -> bool:
    """Whether the target is class indices (N, …) or (N, …, 1), and not one value per logit."""
    shape, logits = tuple(target.shape), tuple(z.shape)
    if len(shape) == len(logits) and shape[-1] == logits[-1]:
        return False
    if len(shape) == len(logits) - 1 or (len(shape) == len(logits) and shape[-1] == 1):
        return True
    rows = logits[:-1]
    raise ArgumentError(
        f"`y_true` must have shape {rows} or {(*rows, 1)} (class indices), or the logits' shape {logits} "
        f"({alternative}); got {shape}"
    )


def _one_hot(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    y = ops.squeeze(target, -1) if len(target.shape) == len(z.shape) else target
    y = ops.cast(y, z.dtype)  # Keras passes labels in any dtype; integers up to 2^24 are exact
    classes = ops.arange(z.shape[-1], dtype=z.dtype)
    hit = ops.equal(ops.expand_dims(y, -1), classes)
    valid = ops.not_equal(y, float(ignore_index))
    return ops.cast(hit, z.dtype), valid, ops.logical_and(valid, ops.logical_not(ops.any(hit, -1)))


def _transformed(z: Any, t: Any, parameters: Parameters) -> Any:
    """z' = s · a · (z − m·t) + b up to a number per row, which the softmax does not depend on.

    The maximum of z is subtracted first: where |z| is large, z + b would lose the digits of b. The `where` around the
    difference keeps TensorFlow, which moves constants in a sum, from computing (z + b) − max z in a graph.
    """
    if "class_scale" not in parameters and ("offset" in parameters or "margin" in parameters):
        can_win = z if "offset" not in parameters else ops.where(parameters["offset"] > -float("inf"), z, -float("inf"))
        top = ops.stop_gradient(ops.max(can_win, -1, keepdims=True))
        z = ops.where(ops.equal(top, -float("inf")), z, z - top)
    if "margin" in parameters:
        z = z - parameters["margin"] * t
    if "class_scale" in parameters:
        z = z * parameters["class_scale"]
    if parameters.get("scale", 1.0) != 1.0:
        z = z * parameters["scale"]
    return z + parameters["offset"] if "offset" in parameters else z


def _smoothed(t: Any, unmasked: Any, parameters: Parameters) -> Any:
    """q = (1 − ε)·t + Σ ε t / C', and 0 for masked classes."""
    if "label_smoothing" in parameters:
        epsilon = parameters["label_smoothing"]
        present = ops.sum(ops.cast(unmasked, t.dtype), -1, keepdims=True)
        t = (1.0 - epsilon) * t + ops.sum(epsilon * t, -1, keepdims=True) / ops.maximum(present, 1.0)
    return ops.where(unmasked, t, 0.0)


def _modulated(z: Any, unmasked: Any, parameters: Parameters) -> Any:
    """(1 − p)^γ · (−log p) + κ (1 − p)^(γ+1) of every class; finite, but not to be used, where the class is masked.

    Logits are relative to the largest of the row, whose exponential is the 1 of log1p. The sum over the other classes
    is therefore accurate even for a confident row.
    """
    zs = ops.where(unmasked, z, 0.0)
    top = ops.equal(ops.arange(z.shape[-1]), ops.expand_dims(ops.cast(ops.argmax(z, -1), "int32"), -1))
    peak = ops.sum(ops.where(top, zs, 0.0), -1, keepdims=True)
    others = ops.logical_and(unmasked, ops.logical_not(top))
    d = ops.where(others, zs - peak, 0.0)  # log(p_c / p_top)
    e = ops.where(others, ops.exp(d), 0.0)
    log_sum = ops.log1p(ops.sum(e, -1, keepdims=True))
    nll = log_sum - d
    gamma, poly = parameters.get("gamma", 0.0), parameters.get("poly", 0.0)
    if isinstance(gamma, float) and gamma == 0.0 and poly == 0.0:
        return nll
    log_rest = ops.where(top, _log_others(d, others) - log_sum, ops.log1p(-e * ops.exp(-log_sum)))
    loss = _power(log_rest, gamma) * nll
    return loss if poly == 0.0 else loss + poly * _power(log_rest, gamma + 1.0)


def _log_others(d: Any, others: Any) -> Any:
    """log Σ exp d over the classes that are neither the largest nor masked; −inf if there is none (C = 1)."""
    exist = ops.any(others, -1, keepdims=True)
    # The sum of a confident row underflows, so it is computed relative to its own largest term.
    low = ops.max(ops.where(others, d, -float("inf")), -1, keepdims=True)
    low = ops.stop_gradient(ops.where(exist, low, 0.0))
    terms = ops.where(others, ops.exp(ops.where(others, d, low) - low), 0.0)
    total = ops.where(exist, ops.sum(terms, -1, keepdims=True), 1.0)
    return ops.where(exist, low + ops.log(total), -float("inf"))


def _power(log_base: Any, exponent: Any) -> Any:
    """base^exponent from log base, with 0^0 = 1; 0 · −inf is NaN, so that a zero exponent is a special case."""
    if isinstance(exponent, float):
        return ops.ones_like(log_base) if exponent == 0.0 else ops.exp(exponent * log_base)
    zero = ops.equal(exponent, 0.0)
    return ops.where(zero, 1.0, ops.exp(ops.where(zero, 1.0, exponent) * log_base))


def sigmoid_rows(z: Any, target: Any, parameters: Parameters, ignore_index: int) -> Rows:
    """The mean over c of w_c [α⁺ t (1 − p)^γ⁺ (−log p) + α⁻ (1 − t) (p^m)^γ⁻ (−log(1 − p^m))], p = σ(z).

    Logits are (N, …, C), with labels of that shape or class indices; (N,) logits, and (N,) labels for (N, 1) logits,
    are a single class.
    """
    if len(z.shape) == 1:
        z = ops.expand_dims(z, -1)
    if len(target.shape) == len(z.shape) - 1 and z.shape[-1] == 1:
        target = ops.expand_dims(target, -1)
    t, valid, wrong = _dense_labels(target, z, ignore_index)
    z = ops.where(valid, z, 0.0)
    positive = parameters.get("pos_weight", 1.0) * t * _positive(z, parameters)
    negative = parameters.get("neg_weight", 1.0) * (1.0 - t) * _negative(z, parameters)
    elements = parameters.get("weight", 1.0) * (positive + negative)
    loss = ops.mean(ops.where(wrong, float("nan"), ops.where(valid, elements, 0.0)), -1)
    share = ops.mean(ops.cast(valid, z.dtype), -1)
    return Rows(loss, share, share)


def _dense_labels(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    """t (N, …, C) with 0 for ignored elements, which elements are not ignored, and which are invalid (loss NaN)."""
    if _is_index(target, z, "labels"):
        t, rows, wrong = _one_hot(target, z, ignore_index)
        rows, wrong = ops.expand_dims(rows, -1), ops.expand_dims(wrong, -1)
        return ops.where(rows, t, 0.0), ops.logical_and(rows, ops.ones_like(t, dtype="bool")), wrong
    t = ops.cast(target, z.dtype)
    valid = ops.not_equal(t, float(ignore_index))
    inside = ops.logical_and(t >= 0.0, t <= 1.0)
    return ops.where(valid, t, 0.0), valid, ops.logical_and(valid, ops.logical_not(inside))


def _positive(z: Any, parameters: Parameters) -> Any:
    """(1 − p)^γ⁺ (−log p), with 1 − p = σ(−z) from its logarithm, so that the gradient is finite for every γ."""
    nll = -ops.log_sigmoid(z)
    return _focused(nll, ops.log_sigmoid(-z), parameters.get("gamma_pos", 0.0), parameters)


def _negative(z: Any, parameters: Parameters) -> Any:
    """(p^m)^γ⁻ (−log(1 − p^m)); 0 where p ≤ m."""
    clip = parameters.get("clip", 0.0)
    gamma = parameters.get("gamma_neg", 0.0)
    if clip == 0.0:
        return _focused(-ops.log_sigmoid(-z), ops.log_sigmoid(z), gamma, parameters)
    p = ops.sigmoid(z) - clip
    above = p > 0.0
    nll = ops.where(above, -ops.log(ops.sigmoid(-z) + clip), 0.0)
    # The inner `where` keeps the gradient of log finite for the elements that the outer one drops.
    log_p = ops.where(above, ops.log(ops.where(above, p, 1.0)), -float("inf"))
    return _focused(nll, log_p, gamma, parameters)


def _focused(nll: Any, log_base: Any, gamma: float, parameters: Parameters) -> Any:
    if gamma == 0.0:
        return nll
    focus = ops.exp(gamma * log_base)
    return (ops.stop_gradient(focus) if parameters.get("detach_focus") else focus) * nll


class EquationLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras is not typed
    """Base class of the losses, called as ``loss(y_true, y_pred, sample_weight=None)`` with classes in the last axis.

    Every loss takes these arguments besides its hyperparameters:

    Args:
        from_logits: whether ``y_pred`` are logits; otherwise they are probabilities, the output of a softmax or
            sigmoid layer. In eager mode the first batch that looks like probabilities instead of logits gives a
            `UserWarning`.
        ignore_index: rows, or labels of the sigmoid family, with this target are left out.
        reduction: see the table; None is "none".
        name: name of the loss; None for one derived from the class.
        dtype: "float32" or "float64"; None is float32, or float64 if that is Keras's ``floatx``.

    The reductions of the row losses ℓ_i, with sample weights u_i (which include Keras's mask and, in `fit`, the class
    weights) and W_i = Σ_c w_c t_ic:

    ===========================  ====================  ===========================================================
    ``sum_over_batch_size``      Σ u_i ℓ_i / N         Keras's default: weights are not in the denominator
    ``mean_with_sample_weight``  Σ u_i ℓ_i / Σ u_i     Keras's; class weights of the loss are not in the denominator
    ``weighted_mean``            Σ u_i ℓ_i / Σ u_i W_i  "mean" of `counterpoise.losses` and torch (softmax only)
    ``sum``, ``none``            Σ u_i ℓ_i, u_i ℓ_i
    ===========================  ====================  ===========================================================

    A row of the sigmoid family is the mean over its classes, as in Keras's own binary losses.
    """

    family: Literal["softmax", "sigmoid"]

    def __init__(self, preset: Callable[..., dict[str, Any]] | None, arguments: Mapping[str, Any]) -> None:
        """Combine the hyperparameters of ``preset`` with the others in ``arguments``: ``locals()`` of a subclass."""
        given = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        super().__init__(name=given.pop("name"), dtype=checked_dtype(given.pop("dtype")))
        self.reduction = checked_reduction(given.pop("reduction"), self.family)
        self.from_logits, self.ignore_index = bool(given.pop("from_logits")), int(given.pop("ignore_index"))
        self._is_checked = not self.from_logits
        self.config = {name: serializable(value) for name, value in given.items()}
        own = {name: given.pop(name) for name in inspect.signature(preset).parameters} if preset else {}
        softmax = self.family == "softmax"
        combine, table = (presets.combined, SOFTMAX) if softmax else (presets.combined_sigmoid, SIGMOID)
        self.parameters: dict[str, Any] = {}
        for name, value in checked_arguments(combine(preset(**own) if preset else {}, given), table).items():
            if isinstance(value, Tensor):
                self.parameters[name] = value.detach().cpu().double().numpy()
            elif value is not None and value != table[name].default:  # a missing hyperparameter is neutral
                self.parameters[name] = value

    def get_config(self) -> dict[str, Any]:
        """The arguments as numbers, strings and lists, for `from_config` and saved models."""
        common = {"from_logits": self.from_logits, "ignore_index": self.ignore_index, "dtype": self.dtype}
        return {"name": self.name, "reduction": self.reduction, **common, **self.config}

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch.

        Args:
            y_true: ``(N, …)`` or ``(N, …, 1)`` class indices, or ``(N, …, C)`` probabilities or labels.
            y_pred: ``(N, …, C)`` logits.
            sample_weight: weight of each row, ``(N, …)``, or of each image, ``(N,)``.

        Returns:
            A scalar, or one value per row for ``reduction="none"``.
        """
        with keras.name_scope(self.name):
            rows = self._rows(y_true, y_pred)
            counted = _row_weights(rows, y_pred, None)
            u = counted if sample_weight is None else _row_weights(rows, y_pred, sample_weight)
            return _reduced(rows, u, counted, self.reduction)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss ℓ_i of each row, before weights and reduction."""
        return self._rows(y_true, y_pred).loss

    def _rows(self, y_true: Any, y_pred: Any) -> Rows:
        z = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        parameters = {}
        for name, value in self.parameters.items():
            is_vector = isinstance(value, np.ndarray)
            if is_vector and len(value) != z.shape[-1]:
                raise ArgumentError(
                    f"`{name}` has {len(value)} values, one per class; `y_pred` has shape {tuple(z.shape)}, "
                    f"{z.shape[-1]} classes in its last axis (where a loss takes `prior`, `class_counts` or `alpha`, "
                    "it comes from those)"
                )
            parameters[name] = ops.convert_to_tensor(value, dtype=self.dtype) if is_vector else value
        if not self._is_checked and not is_traced(z):
            self._is_checked = True
            warn_of_probabilities(z, self.family)
        z = z if self.from_logits else _logits(z, self.family)
        equation = softmax_rows if self.family == "softmax" else sigmoid_rows
        return equation(z, ops.convert_to_tensor(y_true), parameters, self.ignore_index)


class SoftmaxFamily(EquationLoss):
    """Base class of the losses of the softmax equation."""

    family = "softmax"


class SigmoidFamily(EquationLoss):
    """Base class of the losses of the sigmoid equation."""

    family = "sigmoid"


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
    # Without any row the loss is 0 and still differentiable; the inner `where` keeps the gradient finite.
    empty = ops.equal(denominator, 0.0)
    return ops.sum(weighted) * ops.where(empty, 0.0, 1.0 / ops.where(empty, 1.0, denominator))


def _logits(p: Any, family: str) -> Any:
    """Probabilities to logits; probabilities lose the digits of logits within 1e-7 of 1 and below 1e-38."""
    info = np.finfo(keras.backend.standardize_dtype(p.dtype))
    p = ops.maximum(p, float(info.tiny))  # a 0 is a very small probability, not a masked class
    if family == "softmax":
        return ops.log(p)
    p = ops.minimum(p, 1.0 - float(info.epsneg))
    return ops.log(p) - ops.log1p(-p)
