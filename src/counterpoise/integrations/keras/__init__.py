"""Keras 3: class weights for `fit`, sample weights for the data that `fit(class_weight=)` refuses, and the losses.

Keras chooses its backend (torch, JAX or TensorFlow) when it is first imported, from KERAS_BACKEND; importing this
module imports Keras.
"""

from counterpoise.core.errors import MissingExtraError, install_command

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name == "keras":
        raise MissingExtraError(f"Keras 3 is not installed; {install_command('keras')}") from error
    raise MissingExtraError(
        f"Keras cannot load its backend: there is no module {error.name!r}. Install it, or choose another with "
        "KERAS_BACKEND=torch (or jax, or tensorflow) in the environment before Keras is first imported"
    ) from error

from counterpoise.integrations.keras.losses import (
    AsymmetricLoss,
    BalancedSoftmaxLoss,
    BinaryCrossEntropyLoss,
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PolyLoss,
    SigmoidFocalLoss,
    SigmoidLoss,
    SoftmaxLoss,
    VectorScalingLoss,
)
from counterpoise.integrations.keras.weighting import class_weight, sample_weight, with_sample_weight

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
    "class_weight",
    "sample_weight",
    "with_sample_weight",
]
