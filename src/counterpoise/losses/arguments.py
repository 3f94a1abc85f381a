"""The public edge of the losses: every argument is checked and converted here, once, with a message that names it.

Checks that have to read values run on CPU tensors only: on an accelerator reading a value waits for the device, and
inside `torch.compile` it breaks the graph. `checks("always")` runs them everywhere, `checks("never")` nowhere.
"""

from __future__ import annotations

import math
import warnings
from types import TracebackType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.kernels.autograd import in_transform
from counterpoise.kernels.reduction import accumulation_dtype, row_mass, valid_rows
from counterpoise.losses.options import Vector

__all__ = [
    "check_sums",
    "check_values",
    "checked_choice",
    "checked_index_target",
    "checked_inplace",
    "checked_logits",
    "checked_normalizer",
    "checked_number",
    "checked_row_vector",
    "checked_target",
    "checked_tensor",
    "checks",
    "class_counts_of",
    "class_vector",
    "number_or_vector",
    "row_shape",
    "values_readable",
    "vector_tensor",
    "warn_if_massless",
]


class checks:
    """When values are checked: "auto" (CPU tensors outside `torch.compile`), "always" (waits for the device), "never".

    "always" also refuses logits that are NaN or +inf. "never" lets soft targets through that do not sum to 1.
    Call it to set the mode, or use it as a context manager.

    Example:
        >>> with checks("never"):
        ...     pass
    """

    mode: Literal["auto", "always", "never"] = "auto"

    def __init__(self, mode: Literal["auto", "always", "never"]) -> None:
        checked_choice("mode", mode, ("auto", "always", "never"))
        self.previous = checks.mode
        checks.mode = mode

    def __enter__(self) -> checks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        checks.mode = self.previous


def values_readable(tensor: Tensor) -> bool:
    """May a check read values of this tensor? Never while compiling or inside a functorch transform."""
    if torch.compiler.is_compiling() or checks.mode == "never" or in_transform():
        return False
    return tensor.device.type == "cpu" or checks.mode == "always"


def checked_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"`{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}")


def checked_number(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
    above: float = -math.inf,
) -> float:
    """A finite number in [low, high], under ``below`` and over ``above``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ArgumentTypeError(f"`{name}` must be a number; got {type(value).__name__}")
    number = float(value)
    if not (-math.inf < number < math.inf and low <= number <= high and above < number < below):
        bounds = {"at least": low, "above": above, "at most": high, "below": below}
        wanted = [f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound)]
        raise ArgumentError(f"`{name}` must be {' and '.join(wanted or ['finite'])}; got {number:g}")
    return number


def checked_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        foreign = type(value).__module__.partition(".")[0] in ("jax", "jaxlib", "keras", "tensorflow")
        hint = "; for Keras see counterpoise.integrations.keras" if foreign else ""
        raise ArgumentTypeError(f"`{name}` must be a torch tensor; got {type(value).__name__}{hint}")


def checked_logits(logits: Tensor) -> Tensor:
    checked_tensor("logits", logits)
    if not logits.is_floating_point():
        raise ArgumentTypeError(f"`logits` must be floating point; got {logits.dtype}")
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


def checked_target(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Index targets as int64, probabilities as they are."""
    checked_tensor("target", target)
    if target.is_floating_point():
        return _checked_probabilities(target, logits)
    rows = row_shape(logits)
    if target.shape != rows:
        raise ArgumentError(_wrong_index_shape(target, logits, rows))
    return checked_index_target(target, logits, ignore_index)


def checked_index_target(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Class indices of the right shape as int64, within 0 .. C−1."""
    if target.is_complex():
        raise ArgumentTypeError(f"`target` must be class indices or probabilities; got {target.dtype}")
    if target.device != logits.device:
        raise ArgumentError(f"`target` must be on the logits' device {logits.device}; it is on {target.device}")
    target = target.to(torch.int64)
    if values_readable(target):
        _check_range(target, logits.shape[1], ignore_index)
    return target


def row_shape(logits: Tensor) -> tuple[int, ...]:
    return (logits.shape[0], *logits.shape[2:])


def _wrong_index_shape(target: Tensor, logits: Tensor, rows: tuple[int, ...]) -> str:
    message = (
        f"`target` of class indices must have shape {rows} for logits of shape {tuple(logits.shape)}; "
        f"got {tuple(target.shape)}"
    )
    if target.shape == logits.shape:
        message += ". It looks one-hot: pass target.argmax(1), or target.float() for probabilities"
    elif target.numel() == math.prod(rows):
        message += f". Did you mean target.reshape({rows})?"
    return message


def _check_range(target: Tensor, num_classes: int, ignore_index: int) -> None:
    wrong = ((target < 0) | (target >= num_classes)) & (target != ignore_index)
    if wrong.any():
        where = tuple(torch.nonzero(wrong)[0].tolist())
        row = where[0] if len(where) == 1 else where
        raise ArgumentError(
            f"`target` must be in 0 .. {num_classes - 1} (C = {num_classes}) or {ignore_index} (`ignore_index`); "
            f"row {row} is {target[where].item()}"
        )


def _checked_probabilities(target: Tensor, logits: Tensor) -> Tensor:
    if target.shape != logits.shape:
        if target.shape == row_shape(logits):
            raise ArgumentTypeError(
                f"`target` of shape {tuple(target.shape)} must hold class indices of an integer dtype; got "
                f"{target.dtype}. Pass target.long(), or probabilities of shape {tuple(logits.shape)}"
            )
        raise ArgumentError(
            f"`target` of probabilities must have the logits' shape {tuple(logits.shape)}; got {tuple(target.shape)}"
        )
    if target.device != logits.device:
        raise ArgumentError(f"`target` must be on the logits' device {logits.device}; it is on {target.device}")
    if values_readable(target):
        check_sums(target.detach())
    return target


def check_sums(target: Tensor) -> None:
    tolerance = 1e-3 if target.dtype in (torch.float32, torch.float64) else 2e-2
    negative = (target < 0).any(1) | torch.isnan(target).any(1)
    off = (target.sum(1, dtype=torch.float64) - 1).abs() > tolerance
    if bool(negative.any()) or bool(off.any()):
        bad = negative if bool(negative.any()) else off
        where = tuple(torch.nonzero(bad)[0].tolist())
        row = target.movedim(1, -1)[where]
        raise ArgumentError(
            "`target` of probabilities must be at least 0 and sum to 1 over the classes; row "
            f"{where[0] if len(where) == 1 else where} has minimum {row.min():.4g} and sum {row.sum():.4g}. "
            '`checks("never")` lets it pass; for independent labels use the sigmoid losses'
        )


def class_vector(
    value: Vector | None,
    name: str,
    logits: Tensor,
    *,
    low: float | None = None,
    above: float | None = None,
    masks: bool = False,
) -> Tensor | None:
    """A (C,) tensor on the logits' device in the dtype of accumulation; ``masks`` allows −inf."""
    if value is None:
        return None
    given = vector_tensor(value, name)
    size = logits.shape[1]
    if given.shape != (size,):
        raise ArgumentError(
            f"`{name}` must have one value for each of the {size} classes; got shape {tuple(given.shape)}"
            + _origin(name)
        )
    if values_readable(given):
        check_values(given, name, low=low, above=above, masks=masks)
    return given.to(device=logits.device, dtype=accumulation_dtype(logits))


def _origin(name: str) -> str:
    """Letters that a named loss makes from its own arguments: the shape was theirs."""
    made = name in ("weight", "offset", "margin", "class_scale")
    return " (where a loss takes `prior`, `class_counts` or `alpha`, it comes from those)" if made else ""


def vector_tensor(value: Vector, name: str) -> Tensor:
    """Any vector as a tensor of at least float32."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            hint = "; counts.prior() is one" if hasattr(value, "prior") else ""
            raise ArgumentTypeError(
                f"`{name}` must be a vector of numbers; got {type(value).__name__}{hint}"
            ) from error
    if value.is_complex():
        raise ArgumentTypeError(f"`{name}` must be real; got {value.dtype}")
    return value if value.dtype in (torch.float32, torch.float64) else value.to(torch.float32)


def check_values(
    vector: Tensor, name: str, *, low: float | None = None, above: float | None = None, masks: bool = False
) -> None:
    """Refuse values that are not finite or out of bounds, naming the first class of them."""
    vector = vector.detach()
    good = torch.isfinite(vector) | ((vector == -torch.inf) if masks else False)
    good = good if low is None else good & (vector >= low)
    good = good if above is None else good & (vector > above)
    if not good.all():
        i = int((~good).nonzero()[0])
        wanted = "finite"
        wanted = wanted if low is None else f"finite and at least {low:g}"
        wanted = wanted if above is None else f"finite and above {above:g}"
        raise ArgumentError(f"`{name}` must be {wanted}; class {i} has {vector[i].item():g}")


def number_or_vector(
    value: float | Vector, name: str, logits: Tensor, *, low: float = -math.inf, below: float = math.inf
) -> float | Tensor:
    """A number within bounds, or a (C,) tensor of such numbers."""
    if isinstance(value, (int, float)):
        return checked_number(name, value, low=low, below=below)
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim == 0:
        return checked_number(name, value.item(), low=low, below=below)
    vector = class_vector(value, name, logits, low=None if low == -math.inf else low)
    assert vector is not None
    if below < math.inf and values_readable(vector) and bool((vector >= below).any()):
        i = int((vector >= below).nonzero()[0])
        raise ArgumentError(f"`{name}` must be below {below:g}; class {i} has {vector[i].item():g}")
    return vector


def checked_row_vector(sample_weight: Vector | None, logits: Tensor) -> Tensor | None:
    """u as (N, …) in the dtype of accumulation; (N,) weighs whole images."""
    if sample_weight is None:
        return None
    u = vector_tensor(sample_weight, "sample_weight")
    rows = row_shape(logits)
    if u.shape == rows[:1]:
        u = u.reshape(-1, *[1] * (len(rows) - 1)).expand(rows)
    if u.shape != rows:
        raise ArgumentError(f"`sample_weight` must have shape {rows} or {rows[:1]}; got {tuple(u.shape)}")
    if values_readable(u):
        good = torch.isfinite(u) & (u >= 0)
        if not good.all():
            where = tuple((~good).nonzero()[0].tolist())
            raise ArgumentError(
                f"`sample_weight` must be finite and at least 0; row {where[0] if len(where) == 1 else where} "
                f"has {u[where].item():g}"
            )
    return u.to(device=logits.device, dtype=accumulation_dtype(logits))


def checked_inplace(inplace: bool, logits: Tensor, impl: str) -> bool:
    """May, and shall, the gradient take the logits' memory? Nothing to do where there will be none."""
    if not inplace or not (torch.is_grad_enabled() and logits.requires_grad):
        return False
    reason = None
    if impl == "reference":
        reason = 'impl="reference" saves the logits'
    elif logits.is_leaf:
        reason = "they are a leaf, such as a parameter, and their values would be lost"
    elif logits._is_view():
        reason = "they are a view, and what they are a view of would change"
    elif not (logits.is_contiguous() or logits.movedim(1, -1).is_contiguous()):
        reason = "they are not contiguous"
    if reason is not None:
        raise ArgumentError(f"`inplace` must be False for these logits: {reason}")
    return True


def checked_normalizer(normalizer: float | Tensor | None, reduction: str, logits: Tensor) -> float | Tensor | None:
    if normalizer is None:
        return None
    if reduction not in ("mean", "batchmean"):
        raise ArgumentError(
            f'`normalizer` replaces the denominator of "mean" and "batchmean"; `reduction` is {reduction!r}'
        )
    if not isinstance(normalizer, Tensor):
        return checked_number("normalizer", normalizer, low=0.0)
    if normalizer.numel() != 1:
        raise ArgumentError(f"`normalizer` must be one number; got shape {tuple(normalizer.shape)}")
    normalizer = normalizer.reshape(())
    if values_readable(normalizer):
        checked_number("normalizer", normalizer.item(), low=0.0)
    return normalizer.to(logits.device)


def class_counts_of(counts: CountsLike | Tensor) -> ClassCounts:
    """Any form of class counts, a tensor included."""
    return ClassCounts(np.asarray(counts.tolist()) if isinstance(counts, Tensor) else counts)


def warn_if_massless(target: Tensor, ignore_index: int, weight: Tensor | None, sample_weight: Tensor | None) -> None:
    """Say which classes have weight 0 when every target of the batch does: the loss is then 0."""
    if weight is None or not values_readable(weight) or bool((weight != 0).all()):
        return
    if row_mass(target, valid_rows(target, ignore_index), weight, sample_weight, weight.dtype).sum().item() != 0:
        return
    if target.is_floating_point():
        present = target.movedim(1, -1).flatten(0, -2).sum(0).nonzero()
    else:
        present = target[valid_rows(target, ignore_index)]
    classes = sorted(set(present.flatten().tolist()))
    if classes and all(weight[c].item() == 0 for c in classes):
        warnings.warn(
            f"`weight` is 0 for every class in this batch (classes {classes}): the loss is 0 and teaches nothing",
            stacklevel=4,
        )
