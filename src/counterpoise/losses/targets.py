"""Checks of logits, targets and sample weights: shapes, dtypes, devices, and values where they can be read."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.kernels.reduction import accumulation_dtype, class_view, row_mass, valid_rows
from counterpoise.losses.arguments import (
    Vector,
    check_ignore_index,
    checked_element_weight,
    checks,
    shape_of,
    values_readable,
    vector_tensor,
)

_FEW_CLASSES = 32


def check_tensor(name: str, value: object) -> None:
    """Raise ArgumentTypeError unless the value is a torch tensor."""
    if not isinstance(value, Tensor):
        foreign = type(value).__module__.partition(".")[0] in ("jax", "jaxlib", "keras", "tensorflow")
        hint = "; for Keras see counterpoise.integrations.keras" if foreign else ""
        raise ArgumentTypeError(f"`{name}` must be a torch tensor; got {type(value).__name__}{hint}")


def checked_logits(logits: Tensor) -> Tensor:
    """Return floating-point logits ``(N, C, …)``; in the mode "always" of `checks` without NaN and +inf."""
    check_tensor("logits", logits)
    _check_floating(logits)
    if logits.dim() < 2 or logits.shape[1] == 0:
        raise ArgumentError(
            f"`logits` must have shape (N, C) or (N, C, ...) with C of at least 1; got {tuple(logits.shape)}"
        )
    if checks.mode == "always" and values_readable(logits):
        bad = torch.isnan(logits) | (logits == torch.inf)
        if bad.any():
            where = tuple(torch.nonzero(bad)[0].tolist())
            raise ArgumentError(f"`logits` must not be NaN or +inf; the value at {where} is {logits[where].item()}")
    return logits


def _check_floating(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise ArgumentTypeError(
            f"`logits` must be floating point; got {logits.dtype}. The logits come first: loss(logits, target)"
        )


def checked_target(
    target: Tensor, logits: Tensor, ignore_index: int, for_labels: str = "use the sigmoid losses"
) -> Tensor:
    """Return index targets ``(N, …)`` as int64, and probabilities ``(N, C, …)`` unchanged.

    ``for_labels`` says in the message of a sum other than 1 what takes independent labels.
    """
    check_ignore_index(ignore_index)
    check_tensor("target", target)
    if target.is_floating_point():
        return _checked_probabilities(target, logits, for_labels)
    batch_shape = _batch_shape(logits)
    if target.shape != batch_shape:
        raise ArgumentError(_wrong_index_shape(target, logits, batch_shape))
    return checked_index_target(target, logits, ignore_index)


def check_unmasked(target: Tensor, ignore_index: int, *logits: Tensor | None) -> None:
    """Refuse a target that is a masked class or has mass on one: −inf in logits ``(N, C, …)`` or an offset ``(C,)``."""
    for values in logits:
        if values is None or not values_readable(values):
            continue
        few = values.numel() <= _FEW_CLASSES * target.numel()
        if few and values.numel() and bool(values.detach().amin() > -torch.inf):
            continue  # nothing is masked, which is found faster than the logits of the targets
        bad = _on_masked_class(target, values.detach(), ignore_index)
        if bad.any():
            where = tuple(torch.nonzero(bad)[0].tolist())
            raise ArgumentError(
                f"`target` must not be a class that is masked (its logit or `offset` is -inf); row {_row(where)} "
                f"{_masked_class(target, values.detach(), where)}. Set its target to {ignore_index} (`ignore_index`) "
                "to leave the row out, or do not mask the class"
            )


def checked_index_target(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Return class indices of the right shape as int64; refuse those outside 0 … C − 1."""
    if target.is_complex():
        raise ArgumentTypeError(f"`target` must be class indices or probabilities; got {target.dtype}")
    _check_device(target, logits)
    target = target.to(torch.int64)
    if values_readable(target):
        classes = logits.shape[1]
        if not target.numel() or _within(target, 0, classes - 1):
            return target
        wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
        if wrong.any():
            where = tuple(torch.nonzero(wrong)[0].tolist())
            raise ArgumentError(
                f"`target` must be in 0 .. {classes - 1} (C = {classes}) or {ignore_index} (`ignore_index`); "
                f"row {_row(where)} is {target[where].item()}"
            )
    return target


def checked_multilabel_target(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Return multi-hot labels of the logits' shape unchanged, and class indices ``(N, …)`` as int64."""
    check_ignore_index(ignore_index)
    check_tensor("target", target)
    if target.shape != logits.shape:
        return _checked_indices(target, logits, ignore_index)
    _check_device(target, logits)
    if values_readable(target) and target.numel():
        _check_labels(target.detach(), ignore_index)
    return target


def with_batch_dimension(logits: Tensor, target: Tensor) -> tuple[bool, Tensor, Tensor]:
    """Return whether logits ``(C,)`` have no batch dimension, and both tensors with one: the logits of one row."""
    check_tensor("logits", logits)
    check_tensor("target", target)
    _check_floating(logits)
    if logits.dim() != 1:
        return False, logits, target
    if target.dim() != 0 and not (target.is_floating_point() and target.shape == logits.shape):
        raise ArgumentError(
            f"`target` must be one class index of shape (), or probabilities of shape {tuple(logits.shape)}, for "
            f"logits of shape {tuple(logits.shape)}; got {target.dtype} of shape {tuple(target.shape)}"
        )
    return True, logits.unsqueeze(0), target.unsqueeze(0)


def with_class_dimension(
    logits: Tensor, target: Tensor, *per_class: float | Vector | None
) -> tuple[torch.Size, Tensor, Tensor]:
    """Return the logits' shape, and both tensors with dimensions of batch and classes.

    Logits ``()`` are one row of one class. Logits ``(N,)`` are one class, or one row where the target is a class index
    or an argument of ``per_class`` has one value for each of them.
    """
    check_tensor("logits", logits)
    check_tensor("target", target)
    if logits.dim() > 1:
        return logits.shape, logits, target
    if logits.dim() == 0:
        return logits.shape, logits.reshape(1, 1), target.reshape(1, 1) if target.dim() == 0 else target
    if target.dim() == 0 or (len(logits) > 1 and any(shape_of(value) == logits.shape for value in per_class)):
        return logits.shape, logits.unsqueeze(0), target.unsqueeze(0)
    return logits.shape, logits.unsqueeze(1), target.unsqueeze(1) if target.shape == logits.shape else target


def element_weight(weight: Vector | None, logits: Tensor) -> Tensor | None:
    """Return a weight that is no vector ``(C,)`` in the shape of the logits, broadcast as in torch; otherwise None."""
    shape = shape_of(weight)
    if weight is None or (len(shape) == 1 and (shape != (1,) or logits.shape[1] == 1)):
        return None
    values = checked_element_weight(weight).to(device=logits.device, dtype=accumulation_dtype(logits))
    try:
        return values.expand(logits.shape)
    except RuntimeError as error:
        raise ArgumentError(
            f"`weight` must have shape (C,), or one that broadcasts to the logits' {tuple(logits.shape)}; "
            f"got {tuple(values.shape)}"
        ) from error


def checked_row_vector(sample_weight: Vector | None, logits: Tensor) -> Tensor | None:
    """Return the sample weights as ``(N, …)`` in the dtype of accumulation; ``(N,)`` weighs whole images."""
    if sample_weight is None:
        return None
    u = vector_tensor(sample_weight, "sample_weight")
    batch_shape = _batch_shape(logits)
    if batch_shape == (1,) and u.dim() == 0:
        u = u.reshape(1)
    if u.shape == batch_shape[:1]:
        u = u.reshape(-1, *[1] * (len(batch_shape) - 1)).expand(batch_shape)
    if u.shape != batch_shape:
        raise ArgumentError(f"`sample_weight` must have shape {batch_shape} or {batch_shape[:1]}; got {tuple(u.shape)}")
    if values_readable(u):
        good = torch.isfinite(u) & (u >= 0)
        if not good.all():
            where = tuple((~good).nonzero()[0].tolist())
            raise ArgumentError(
                f"`sample_weight` must be finite and at least 0; row {_row(where)} has {u[where].item():g}"
            )
    return u.to(device=logits.device, dtype=accumulation_dtype(logits))


def weight_of_target(target: Tensor, logits: Tensor, weight: Tensor, ignore_index: int) -> Tensor:
    """Return Σ_c w_c t_ic of each row, ``(N, …)``: the weight of the class that the row belongs to."""
    target = checked_multilabel_target(target, logits, ignore_index)
    dtype = accumulation_dtype(logits)
    if target.dim() == logits.dim():
        target = target.to(dtype)
        if values_readable(target):
            _check_sums(target)
    return row_mass(target, valid_rows(target, ignore_index), weight, None, dtype)


def warn_if_no_weight(target: Tensor, ignore_index: int, weight: Tensor | None, sample_weight: Tensor | None) -> None:
    """Warn if every target of the batch has class weight 0, in which case the loss is 0."""
    if weight is None or not values_readable(weight) or bool((weight != 0).all()):
        return
    valid = valid_rows(target, ignore_index)
    if row_mass(target, valid, weight, sample_weight, weight.dtype).sum().item() != 0:
        return
    soft = target.is_floating_point()
    present = target.movedim(1, -1).flatten(0, -2).sum(0).nonzero() if soft else target[valid]
    classes = sorted(set(present.flatten().tolist()))
    if classes and all(weight[c].item() == 0 for c in classes):
        warnings.warn(
            f"`weight` is 0 for every class in this batch (classes {classes}), so the loss is 0 and the batch has no "
            "gradient. Give these classes a weight above 0 or leave them out of the data",
            stacklevel=4,
        )


def _on_masked_class(target: Tensor, values: Tensor, ignore_index: int) -> Tensor:
    """Mask ``(N, …)`` of the rows whose target is, or has mass on, a class of −inf."""
    if target.is_floating_point():
        return ((target > 0) & class_view(values == -torch.inf, target.dim())).any(1)
    valid = valid_rows(target, ignore_index)
    y = torch.where(valid, target, 0)
    own = values[y] if values.dim() == 1 else values.gather(1, y.unsqueeze(1)).squeeze(1)
    return valid & (own == -torch.inf)


def _masked_class(target: Tensor, values: Tensor, where: tuple[int, ...]) -> str:
    """The words for what the target of a row of `_on_masked_class` is."""
    if not target.is_floating_point():
        return f"is class {target[where].item()}"
    t = target.movedim(1, -1)[where]
    masked = (values if values.dim() == 1 else values.movedim(1, -1)[where]) == -torch.inf
    c = int(((t > 0) & masked).nonzero()[0])
    return f"has {t[c].item():.4g} on class {c}"


def _batch_shape(logits: Tensor) -> tuple[int, ...]:
    return (logits.shape[0], *logits.shape[2:])


def _row(where: tuple[int, ...]) -> int | tuple[int, ...]:
    return where[0] if len(where) == 1 else where


def _check_device(target: Tensor, logits: Tensor) -> None:
    if target.device != logits.device:
        raise ArgumentError(f"`target` must be on the logits' device {logits.device}; it is on {target.device}")


def _wrong_index_shape(target: Tensor, logits: Tensor, batch_shape: tuple[int, ...]) -> str:
    message = (
        f"`target` of class indices must have shape {batch_shape} for logits of shape {tuple(logits.shape)}; "
        f"got {tuple(target.shape)}"
    )
    if target.shape == logits.shape:
        message += ". It looks one-hot: pass target.argmax(1), or target.float() for probabilities"
    elif target.numel() == math.prod(batch_shape):
        message += f". Did you mean target.reshape({batch_shape})?"
    return message


def _checked_probabilities(target: Tensor, logits: Tensor, for_labels: str) -> Tensor:
    if target.shape == _batch_shape(logits):
        raise ArgumentTypeError(
            f"`target` of shape {tuple(target.shape)} must hold class indices of an integer dtype; got "
            f"{target.dtype}. Pass target.long(), or probabilities of shape {tuple(logits.shape)}"
        )
    if target.shape != logits.shape:
        raise ArgumentError(
            f"`target` of probabilities must have the logits' shape {tuple(logits.shape)}; got {tuple(target.shape)}"
        )
    _check_device(target, logits)
    if values_readable(target):
        _check_sums(target.detach(), for_labels)
    return target


def _check_sums(target: Tensor, for_labels: str = "use the sigmoid losses") -> None:
    """Refuse rows that are not probabilities: negative, NaN, or with another sum than 1."""
    tolerance = 1e-3 if target.dtype in (torch.float32, torch.float64) else 2e-2
    negative = (target < 0).any(1) | torch.isnan(target).any(1)
    off = (target.sum(1, dtype=torch.float64) - 1).abs() > tolerance
    if bool(negative.any()) or bool(off.any()):
        where = tuple(torch.nonzero(negative if bool(negative.any()) else off)[0].tolist())
        row = target.movedim(1, -1)[where]
        raise ArgumentError(
            "`target` of probabilities must be at least 0 and sum to 1 over the classes; "
            f"row {_row(where)} has minimum {row.min():.4g} and sum {row.sum():.4g}. "
            f'`checks("never")` allows it; for independent labels {for_labels}'
        )


def _checked_indices(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    batch_shape = _batch_shape(logits)
    if target.shape != batch_shape:
        raise ArgumentError(
            f"`target` must have the logits' shape {tuple(logits.shape)} (labels), or {batch_shape} (class indices); "
            f"got {tuple(target.shape)}"
        )
    if target.is_floating_point():
        raise ArgumentTypeError(
            f"`target` of class indices must have an integer dtype; got {target.dtype}. Pass "
            + ("target.long(), or " if logits.shape[1] > 1 else "")
            + f"labels of the logits' shape {tuple(logits.shape)}"
        )
    return checked_index_target(target, logits, ignore_index)


def _check_labels(target: Tensor, ignore_index: int) -> None:
    if target.dtype == torch.bool or _within(target, 0, 1):
        return
    wrong = ~((target >= 0) & (target <= 1)) & (target != ignore_index)
    if wrong.any():
        where = tuple(torch.nonzero(wrong)[0].tolist())
        raise ArgumentError(
            f"`target` of labels must be in [0, 1] or {ignore_index} (`ignore_index`); the label at {where} is "
            f"{target[where].item():g}"
        )


def _within(target: Tensor, low: int, high: int) -> bool:
    """Whether all values are in [low, high], from the extremes, which is faster than comparisons."""
    least, most = target.aminmax()
    return bool(least >= low) and bool(most <= high)
