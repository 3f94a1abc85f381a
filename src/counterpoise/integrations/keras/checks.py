"""Checks of the arguments and of the predictions of the Keras losses."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import keras
import numpy as np
import torch
from keras import ops
from torch import Tensor

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError

KerasReduction = Literal["sum_over_batch_size", "mean_with_sample_weight", "weighted_mean", "sum", "none"]
FEWEST_PROBABILITIES = 16
"""With fewer values, logits may lie between 0 and 1 by chance."""


def is_traced(z: Any) -> bool:
    """Whether the values cannot be read, because a step is being compiled."""
    backend = keras.backend.backend()
    if backend == "torch":
        return bool(torch.compiler.is_compiling()) or z.device.type == "meta"
    if backend == "jax":
        import jax

        return isinstance(z, jax.core.Tracer)
    return not hasattr(z, "numpy")


def warn_of_probabilities(z: Any, family: str) -> None:
    """Warn if the values are the output of a softmax (rows that sum to 1) or of a sigmoid layer."""
    # Keras converts a tensor of torch in a way that NumPy 2 deprecates.
    values = z.detach().cpu().double().numpy() if isinstance(z, Tensor) else ops.convert_to_numpy(z)
    p = np.asarray(values, dtype=np.float64)
    is_probable = bool(((p > 0) & (p < 1)).all()) and p.size >= FEWEST_PROBABILITIES
    if is_probable and (family == "sigmoid" or np.allclose(p.sum(-1), 1.0, atol=1e-3)):
        warnings.warn(
            f"`y_pred` looks like probabilities (the output of a {family} layer), and `from_logits` is True: pass "
            "`from_logits=False` to the loss, or remove the activation of the last layer",
            UserWarning,
            stacklevel=4,
        )


def serializable(value: Any) -> Any:
    """Numbers, strings and lists of them, which a saved model can hold."""
    if isinstance(value, ClassCounts):
        return value.counts.tolist()
    if isinstance(value, Mapping):
        return [serializable(item) for item in value.values()]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [serializable(item) for item in value]
    return value


def checked_dtype(dtype: str | None) -> str:
    """At least float32, because half precision loses small classes in the sums and large indices in the labels."""
    if dtype is None:
        return "float64" if keras.config.floatx() == "float64" else "float32"
    if dtype not in ("float32", "float64"):
        raise ArgumentError(
            f'`dtype` must be "float32" or "float64", because a loss is computed in at least float32; got {dtype!r}'
        )
    return dtype


def checked_reduction(reduction: str | None, family: str) -> str:
    """The reduction, "none" for None; raises if there is none of that name for the family of losses."""
    reduction = "none" if reduction is None else reduction
    if reduction == "mean":
        raise ArgumentError(
            '`reduction="mean"` is ambiguous: Keras divides by N ("sum_over_batch_size"), counterpoise.losses by the '
            'sum of the weights ("weighted_mean"). Give one of these'
        )
    if reduction not in get_args(KerasReduction):
        choices = ", ".join(map(repr, get_args(KerasReduction)))
        raise ArgumentError(f"`reduction` must be one of {choices}; got {reduction!r}")
    if reduction == "weighted_mean" and family == "sigmoid":
        raise ArgumentError(
            '`reduction="weighted_mean"` is for the softmax family: an element of a sigmoid loss has a positive and a '
            'negative weight. Give "mean_with_sample_weight", which divides by the sample weights'
        )
    return reduction
