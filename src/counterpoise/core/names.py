"""The table of aliases and abbreviations of methods, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from counterpoise.core.errors import ArgumentError

__all__ = ["ALIASES", "Alias", "did_you_mean", "resolve", "simplified"]

AliasKind = Literal["strategy", "weights", "loss", "sampler", "page"]


@dataclass(frozen=True)
class Alias:
    """Names that people search for, and what each kind of lookup resolves them to.

    Attributes:
        names: abbreviations and other names; case, hyphens, underscores and spaces do not matter.
        meaning: one or two sentences, for the glossary.
        page: the name that `counterpoise.workflow.explain.explain` explains.
        strategy, weights, loss, sampler: the name in the catalog, of a weighting scheme, a loss or a sampler; empty
            where there is none.
    """

    names: tuple[str, ...]
    meaning: str
    page: str
    strategy: str = ""
    weights: str = ""
    loss: str = ""
    sampler: str = ""


ALIASES: tuple[Alias, ...] = (
    Alias(
        ("INS", "inverse number of samples", "inverse frequency", "inverse-frequency"),
        "Class weights proportional to 1/n_c, the inverse of the number of training samples of a class.",
        "inverse",
        strategy="weighted-ce",
        weights="inverse",
    ),
    Alias(
        ("ISNS", "inverse square root of number of samples", "inverse sqrt", "sqrt"),
        "Class weights proportional to 1/√n_c: milder than the inverse frequency.",
        "inverse_sqrt",
        strategy="sqrt-weighted-ce",
        weights="inverse_sqrt",
    ),
    Alias(
        ("ENS", "effective number", "effective number of samples"),
        "Class weights proportional to the inverse of the effective number of samples, (1 − β^n_c) / (1 − β).",
        "effective_number",
        strategy="class-balanced-ce",
        weights="effective_number",
    ),
    Alias(
        ("WCE", "weighted cross-entropy", "weighted cross entropy", "weighted loss"),
        "Cross-entropy in which each sample counts with the weight of its class.",
        "weighted-ce",
        strategy="weighted-ce",
        loss="cross_entropy",
    ),
    Alias(
        ("CE", "cross-entropy", "cross entropy", "softmax cross entropy"),
        "The negative log-probability of the true class.",
        "cross_entropy",
        strategy="baseline",
        loss="cross_entropy",
    ),
    Alias(
        ("ASL", "asymmetric loss"),
        "A sigmoid loss that focuses negatives more than positives and drops the easiest negatives.",
        "asymmetric",
        strategy="asymmetric",
        loss="asymmetric",
    ),
    Alias(
        ("CB", "CB loss", "CBCE", "class-balanced loss", "class-balanced"),
        "Cross-entropy or focal loss weighted by the inverse effective number of samples.",
        "class-balanced-ce",
        strategy="class-balanced-ce",
        loss="class_balanced",
    ),
    Alias(
        ("CB focal",),
        "Focal loss weighted by the inverse effective number of samples.",
        "class-balanced-focal",
        strategy="class-balanced-focal",
        loss="class_balanced",
    ),
    Alias(
        ("LA", "logit adjustment", "logit-adjusted softmax", "logit adjusted softmax"),
        "Cross-entropy of logits to which the log class prior is added in training.",
        "logit-adjusted",
        strategy="logit-adjusted",
        loss="logit_adjusted",
    ),
    Alias(
        ("post-hoc LA", "prior shift", "label shift", "target shift"),
        "The class shares where the model runs differ from those of training; the log prior ratio corrects the logits.",
        "post-hoc-logit-adjusted",
        strategy="post-hoc-logit-adjusted",
    ),
    Alias(
        ("VS", "VS loss"),
        "Vector scaling: additive and multiplicative adjustment of the logits in training.",
        "vector-scaling",
        strategy="vector-scaling",
        loss="vector_scaling",
    ),
    Alias(
        ("LAS", "MiSLAS"),
        "Label smoothing that is stronger for frequent classes.",
        "label_aware_smoothing",
        loss="label_aware_smoothing",
    ),
    Alias(
        ("BCE", "binary cross-entropy", "BCEWithLogits"),
        "Cross-entropy of one sigmoid per class.",
        "binary_cross_entropy",
        loss="binary_cross_entropy",
    ),
    Alias(
        ("BER", "balanced error", "balanced error rate", "balanced accuracy", "accuracy paradox", "geometric mean"),
        "Balanced accuracy is the mean recall over the classes, and the balanced error is one minus it. Plain accuracy "
        "is high for a model that always predicts the majority class: the accuracy paradox.",
        "accuracy",
    ),
    Alias(
        ("DRW", "deferred re-weighting", "deferred reweighting", "DRS", "deferred re-sampling"),
        "Training starts without class weights, or without re-sampling, and uses them for the last epochs.",
        "class-balanced-ce-drw",
        strategy="class-balanced-ce-drw",
    ),
    Alias(
        ("cRT", "classifier re-training", "decoupling", "decoupled training"),
        "The features are trained with instance-balanced sampling, and then a new head with class-balanced sampling.",
        "decoupled",
        strategy="decoupled",
    ),
    Alias(
        ("LWS", "learnable weight scaling", "tau normalization", "tau-normalisation", "τ-norm"),
        "The weight vectors of the head are rescaled after training; τ-normalization divides each by its norm^τ.",
        "tau-norm",
        strategy="tau-norm",
    ),
    Alias(
        ("oversampling", "over-sampling", "random oversampling", "ROS", "SMOTE"),
        "Samples of the rare classes are repeated. SMOTE interpolates between feature vectors instead; interpolated "
        "pixels are no images, so for images use repetition with augmentation, or mixup.",
        "oversample",
        strategy="oversample",
        sampler="resample",
    ),
    Alias(
        ("undersampling", "under-sampling", "random undersampling", "RUS"),
        "Samples of the frequent classes are left out.",
        "undersample",
        strategy="undersample",
        sampler="resample",
    ),
    Alias(
        ("RFS", "repeat factor", "repeat-factor", "repeat-factor sampling"),
        "Images are repeated by the rarest class that they contain; used for detection with many classes.",
        "repeat_factor",
        sampler="repeat_factor",
    ),
    Alias(
        ("balanced sampling", "CBS", "class-aware sampling", "weighted random sampler", "WeightedRandomSampler"),
        "Every class is drawn equally often.",
        "class-balanced-sampling",
        strategy="class-balanced-sampling",
        sampler="class_balanced",
    ),
    Alias(
        ("operating point", "threshold moving", "threshold tuning", "thresholds"),
        "A threshold per class on the predicted probabilities, chosen on validation images.",
        "tuned-thresholds",
        strategy="tuned-thresholds",
    ),
    Alias(
        ("class_weight", "class weights", "cost-sensitive", "cost-sensitive learning", "balanced weights"),
        "The weight of each class in the loss; scikit-learn and Keras call the argument class_weight.",
        "balanced",
        strategy="weighted-ce",
        weights="balanced",
    ),
    Alias(
        ("sample_weight",),
        "The weight of each sample in the loss, multiplied with the weight of its class.",
        "weighted-ce",
    ),
    Alias(
        ("pos_weight",),
        "The factor of the positive term of binary cross-entropy, per class.",
        "binary_cross_entropy",
        loss="binary_cross_entropy",
    ),
    Alias(
        ("gamma", "γ", "focusing parameter", "modulating factor"),
        "The focusing parameter of focal loss: cross-entropy is multiplied by (1 − p)^γ.",
        "focal",
        strategy="focal",
        loss="focal",
    ),
    Alias(
        ("alpha", "α", "alpha-balanced", "α-balanced focal loss"),
        "The class weight of focal loss; a number for positives against negatives, a vector for many classes.",
        "sigmoid-focal",
        strategy="sigmoid-focal",
        loss="sigmoid_focal",
    ),
    Alias(
        ("beta", "β"),
        "The parameter of the effective number of samples; close to 1 it tends to 1/n_c weights.",
        "effective_number",
    ),
    Alias(
        ("tau", "τ"),
        "The strength of logit adjustment, or of the normalization of the head's weights.",
        "logit-adjusted",
    ),
    Alias(
        ("margin", "label-distribution-aware margin"),
        "A margin that is subtracted from the logit of the true class.",
        "ldam",
        strategy="ldam",
        loss="ldam",
    ),
    Alias(
        ("long-tailed", "long tail", "imbalance ratio", "imbalance factor", "IF"),
        "The number of samples of the largest class over that of the smallest.",
        "accuracy",
    ),
    Alias(
        ("Dice",), "One minus the overlap of predicted and true mask, averaged over the classes.", "dice", loss="dice"
    ),
)


def simplified(name: str) -> str:
    """A name without case, separators and the suffix "loss": ``FocalLoss``, ``focal_loss`` and ``focal`` are equal.

    Example:
        >>> simplified("Focal-Loss")
        'focal'
    """
    return re.sub(r"[-_\s]", "", name).casefold().removesuffix("loss")


_BY_NAME = {simplified(name): alias for alias in ALIASES for name in alias.names}


def resolve(name: str, choices: Iterable[str], *, kind: AliasKind, argument: str) -> str:
    """The one of ``choices`` that ``name`` means: itself, another spelling of it, or an alias.

    Args:
        name: as the caller wrote it.
        choices: the names that exist.
        kind: which column of the table of aliases applies.
        argument: what the message calls the name, such as "`scheme`" or "strategy".

    Raises:
        ArgumentError: no such name; the nearest ones are in the message.

    Example:
        >>> resolve("ENS", ["inverse", "effective_number"], kind="weights", argument="`scheme`")
        'effective_number'
    """
    names = tuple(choices)
    if name in names:
        return name
    key = simplified(name)
    for choice in names:
        if simplified(choice) == key:
            return choice
    alias = _BY_NAME.get(key)
    if alias is not None and getattr(alias, kind) in names:
        return str(getattr(alias, kind))
    raise ArgumentError(f"{argument} {name!r} is unknown; {did_you_mean(name, names)}")


def did_you_mean(name: str, choices: Iterable[str], *, most: int = 3) -> str:
    """A hint for an unknown name: the nearest choices, or all of them where none is near.

    Example:
        >>> did_you_mean("logit", ["focal", "logit-adjusted"])
        'did you mean logit-adjusted?'
    """
    names = tuple(dict.fromkeys(choices))
    keys = {simplified(choice): choice for choice in reversed(names)}
    wanted = simplified(name)
    near = difflib.get_close_matches(wanted, keys, n=most, cutoff=0.6)
    near += [key for key in keys if len(wanted) > 2 and key.startswith(wanted) and key not in near]
    if near:
        return f"did you mean {' or '.join(keys[key] for key in near[:most])}?"
    return f"expected one of {', '.join(names)}"
