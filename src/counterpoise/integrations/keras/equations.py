"""The two equations in `keras.ops`, for whichever backend Keras runs on. Classes are in the last axis.

The same algorithm as `counterpoise.kernels`' eager references (which are held against closed forms): 1 − p is never
formed by subtraction near p = 1, a masked class (−inf) takes no part, and every `where` that leaves a value out also
keeps infinities out of the gradient of what it leaves out. No value is read, so all of it can be traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from counterpoise.core.errors import ArgumentError

__all__ = ["Rows", "sigmoid_rows", "softmax_rows"]

Letters = Mapping[str, Any]  # numbers, and (C,) tensors in the logits' dtype; a letter that is missing is neutral


class Rows(NamedTuple):
    """What the reductions need of each row, (N, …)."""

    loss: Any  # ℓ_i before sample weights; 0 for a row that is ignored
    share: Any  # 1 for a row that counts, 0 for an ignored one; of labels: the share of them that counts
    mass: Any  # W_i = Σ_c w_c t_ic


def softmax_rows(z: Any, target: Any, letters: Letters, ignore_index: int) -> Rows:
    """Σ_c w_c q_c [(1 − p'_c)^γ_c (−log p'_c) + κ (1 − p'_c)^(γ_c+1)], p' = softmax(z'): logits (N, …, C) → (N, …).

    ``target`` is (N, …) or (N, …, 1) indices, of any dtype, or (N, …, C) probabilities.
    """
    t, valid, wrong = _dense_target(target, z, ignore_index)
    z = _transformed(ops.where(ops.expand_dims(valid, -1), z, 0.0), t, letters)
    unmasked = ops.not_equal(z, -float("inf"))  # a NaN is not masked: it must show
    weight = letters.get("weight", 1.0)
    elements = weight * _smoothed(t, unmasked, letters) * _modulated(z, unmasked, letters)
    loss = ops.where(wrong, float("nan"), ops.where(valid, ops.sum(elements, -1), 0.0))
    return Rows(loss, ops.cast(valid, z.dtype), ops.where(valid, ops.sum(weight * t, -1), 0.0))


def _dense_target(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    """t (N, …, C), and per row: does it count, and is its index wrong (which is NaN, as values cannot be read)."""
    if _is_index(target, z, "probabilities"):
        return _one_hot(target, z, ignore_index)
    t = ops.cast(target, z.dtype)
    every = ops.ones_like(t[..., 0], dtype="bool")
    return t, every, ops.logical_not(every)


def _is_index(target: Any, z: Any, dense: str) -> bool:
    """Is the target class indices (N, …) or (N, …, 1), rather than one value for each logit?"""
    shape, logits = tuple(target.shape), tuple(z.shape)
    if len(shape) == len(logits) and shape[-1] == logits[-1]:
        return False
    if len(shape) == len(logits) - 1 or (len(shape) == len(logits) and shape[-1] == 1):
        return True
    rows = logits[:-1]
    raise ArgumentError(
        f"`y_true` must have shape {rows} or {(*rows, 1)} (class indices), or the logits' shape {logits} ({dense}); "
        f"got {shape}"
    )


def _one_hot(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    y = ops.squeeze(target, -1) if len(target.shape) == len(z.shape) else target
    y = ops.cast(y, z.dtype)  # Keras hands labels over in any dtype; whole numbers up to 2^24 are exact
    classes = ops.arange(z.shape[-1], dtype=z.dtype)
    hit = ops.equal(ops.expand_dims(y, -1), classes)
    valid = ops.not_equal(y, float(ignore_index))
    return ops.cast(hit, z.dtype), valid, ops.logical_and(valid, ops.logical_not(ops.any(hit, -1)))


def _transformed(z: Any, t: Any, letters: Letters) -> Any:
    """z' = s · a · (z − m·t) + b."""
    if "margin" in letters:
        z = z - letters["margin"] * t
    if "class_scale" in letters:
        z = z * letters["class_scale"]
    if letters.get("scale", 1.0) != 1.0:
        z = z * letters["scale"]
    return z + letters["offset"] if "offset" in letters else z


def _smoothed(t: Any, unmasked: Any, letters: Letters) -> Any:
    """q = (1 − ε)·t + Σ ε t / C', and 0 for masked classes."""
    if "label_smoothing" in letters:
        epsilon = letters["label_smoothing"]
        present = ops.sum(ops.cast(unmasked, t.dtype), -1, keepdims=True)
        t = (1.0 - epsilon) * t + ops.sum(epsilon * t, -1, keepdims=True) / ops.maximum(present, 1.0)
    return ops.where(unmasked, t, 0.0)


def _modulated(z: Any, unmasked: Any, letters: Letters) -> Any:
    """(1 − p)^γ · (−log p) + κ (1 − p)^(γ+1) of every class; finite, and to be ignored, where the class is masked.

    Everything is relative to the row's largest logit, whose own exponential is the 1 of log1p: what is left is
    Σ exp over the others, exact to the last digits however confident the row.
    """
    zs = ops.where(unmasked, z, 0.0)
    top = ops.equal(ops.arange(z.shape[-1]), ops.expand_dims(ops.cast(ops.argmax(z, -1), "int32"), -1))
    peak = ops.sum(ops.where(top, zs, 0.0), -1, keepdims=True)
    others = ops.logical_and(unmasked, ops.logical_not(top))
    d = ops.where(others, zs - peak, 0.0)  # log(p_c / p_top)
    e = ops.where(others, ops.exp(d), 0.0)
    log_sum = ops.log1p(ops.sum(e, -1, keepdims=True))
    nll = log_sum - d
    gamma, poly = letters.get("gamma", 0.0), letters.get("poly", 0.0)
    if isinstance(gamma, float) and gamma == 0.0 and poly == 0.0:
        return nll
    log_rest = ops.where(top, _log_others(d, others) - log_sum, ops.log1p(-e * ops.exp(-log_sum)))
    loss = _power(log_rest, gamma) * nll
    return loss if poly == 0.0 else loss + poly * _power(log_rest, gamma + 1.0)


def _log_others(d: Any, others: Any) -> Any:
    """log Σ exp d over the classes that are neither the largest nor masked; −inf without any (C = 1)."""
    exist = ops.any(others, -1, keepdims=True)
    # A confident row's sum underflows: it is taken relative to its own largest term.
    low = ops.max(ops.where(others, d, -float("inf")), -1, keepdims=True)
    low = ops.stop_gradient(ops.where(exist, low, 0.0))
    terms = ops.where(others, ops.exp(ops.where(others, d, low) - low), 0.0)
    total = ops.where(exist, ops.sum(terms, -1, keepdims=True), 1.0)
    return ops.where(exist, low + ops.log(total), -float("inf"))


def _power(log_base: Any, exponent: Any) -> Any:
    """base^exponent from log base, with 0^0 = 1 (0 · −inf is NaN, so a zero exponent is set apart)."""
    if isinstance(exponent, float):
        return ops.ones_like(log_base) if exponent == 0.0 else ops.exp(exponent * log_base)
    zero = ops.equal(exponent, 0.0)
    return ops.where(zero, 1.0, ops.exp(ops.where(zero, 1.0, exponent) * log_base))


def sigmoid_rows(z: Any, target: Any, letters: Letters, ignore_index: int) -> Rows:
    """The mean over c of w_c [α⁺ t (1 − p)^γ⁺ (−log p) + α⁻ (1 − t) (p^m)^γ⁻ (−log(1 − p^m))], p = σ(z).

    Logits (N, …, C) and labels of that shape, or class indices; logits (N,), and labels (N,) for logits (N, 1), are
    one class.
    """
    if len(z.shape) == 1:
        z = ops.expand_dims(z, -1)
    if len(target.shape) == len(z.shape) - 1 and z.shape[-1] == 1:
        target = ops.expand_dims(target, -1)
    t, valid, wrong = _dense_labels(target, z, ignore_index)
    z = ops.where(valid, z, 0.0)
    positive = letters.get("pos_weight", 1.0) * t * _positive(z, letters)
    negative = letters.get("neg_weight", 1.0) * (1.0 - t) * _negative(z, letters)
    elements = letters.get("weight", 1.0) * (positive + negative)
    loss = ops.mean(ops.where(wrong, float("nan"), ops.where(valid, elements, 0.0)), -1)
    share = ops.mean(ops.cast(valid, z.dtype), -1)
    return Rows(loss, share, share)


def _dense_labels(target: Any, z: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    """t (N, …, C) with 0 where it does not count; which elements count; which are wrong (and become NaN)."""
    if _is_index(target, z, "labels"):
        t, rows, wrong = _one_hot(target, z, ignore_index)
        rows, wrong = ops.expand_dims(rows, -1), ops.expand_dims(wrong, -1)
        return ops.where(rows, t, 0.0), ops.logical_and(rows, ops.ones_like(t, dtype="bool")), wrong
    t = ops.cast(target, z.dtype)
    valid = ops.not_equal(t, float(ignore_index))
    inside = ops.logical_and(t >= 0.0, t <= 1.0)
    return ops.where(valid, t, 0.0), valid, ops.logical_and(valid, ops.logical_not(inside))


def _positive(z: Any, letters: Letters) -> Any:
    """(1 − p)^γ⁺ (−log p), with 1 − p = σ(−z) through its logarithm: no γ can make the gradient infinite."""
    nll = -ops.log_sigmoid(z)
    return _focused(nll, ops.log_sigmoid(-z), letters.get("gamma_pos", 0.0), letters)


def _negative(z: Any, letters: Letters) -> Any:
    """(p^m)^γ⁻ (−log(1 − p^m)); 0 where p ≤ m."""
    clip = letters.get("clip", 0.0)
    gamma = letters.get("gamma_neg", 0.0)
    if clip == 0.0:
        return _focused(-ops.log_sigmoid(-z), ops.log_sigmoid(z), gamma, letters)
    p = ops.sigmoid(z) - clip
    above = p > 0.0
    nll = ops.where(above, -ops.log(ops.sigmoid(-z) + clip), 0.0)
    # The inner `where` keeps log's gradient finite for the elements that the outer one leaves out.
    log_p = ops.where(above, ops.log(ops.where(above, p, 1.0)), -float("inf"))
    return _focused(nll, log_p, gamma, letters)


def _focused(nll: Any, log_base: Any, gamma: float, letters: Letters) -> Any:
    if gamma == 0.0:
        return nll
    focus = ops.exp(gamma * log_base)
    return (ops.stop_gradient(focus) if letters.get("detach_focus") else focus) * nll
