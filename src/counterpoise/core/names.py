"""The table of aliases and abbreviations of methods, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from counterpoise.core.errors import ArgumentError

AliasKind = Literal["strategy", "weights", "loss", "sampler", "page"]


@dataclass(frozen=True)
class Alias:
    """Names that people search for, and what each kind of lookup resolves them to.

    Attributes:
        listed: abbreviations and other names, separated by commas; case, hyphens, underscores and spaces do not
            matter.
        page: the name that `counterpoise.workflow.explain.explain` explains.
        meaning: one or two sentences, for the glossary.
        strategy, weights, loss, sampler: the name in the catalog, of a weighting scheme, a loss or a sampler; empty
            where there is none.
    """

    listed: str
    page: str
    meaning: str
    strategy: str = ""
    weights: str = ""
    loss: str = ""
    sampler: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names one by one."""
        return tuple(name.strip() for name in self.listed.split(","))


# fmt: off
ALIASES: tuple[Alias, ...] = (
    Alias("INS, inverse number of samples, inverse frequency", "inverse",
          "Class weights proportional to 1/n_c, the inverse of the number of training samples of a class.",
          strategy="weighted-ce", weights="inverse"),
    Alias("ISNS, inverse square root of number of samples, inverse sqrt, sqrt", "inverse_sqrt",
          "Class weights proportional to 1/√n_c: milder than the inverse frequency.",
          strategy="sqrt-weighted-ce", weights="inverse_sqrt"),
    Alias("ENS, effective number, effective number of samples", "effective_number",
          "Class weights proportional to the inverse of the effective number of samples, (1 − β^n_c) / (1 − β).",
          strategy="class-balanced-ce", weights="effective_number"),
    Alias("WCE, weighted cross-entropy, weighted loss", "weighted-ce",
          "Cross-entropy in which each sample counts with the weight of its class.",
          strategy="weighted-ce", loss="cross_entropy"),
    Alias("CE, cross-entropy, softmax cross entropy", "cross_entropy",
          "The negative log-probability of the true class.", strategy="baseline", loss="cross_entropy"),
    Alias("ASL, asymmetric loss", "asymmetric",
          "A sigmoid loss that focuses negatives more than positives and drops the easiest negatives.",
          strategy="asymmetric", loss="asymmetric"),
    Alias("CB, CBCE, class-balanced loss", "class-balanced-ce",
          "Cross-entropy or focal loss weighted by the inverse effective number of samples.",
          strategy="class-balanced-ce", weights="effective_number", loss="class_balanced"),
    Alias("CB focal", "class-balanced-focal",
          "Focal loss weighted by the inverse effective number of samples.",
          strategy="class-balanced-focal", loss="class_balanced"),
    Alias("LA, logit adjustment, logit-adjusted softmax", "logit-adjusted",
          "Cross-entropy of logits to which the log class prior is added in training.",
          strategy="logit-adjusted", loss="logit_adjusted"),
    Alias("post-hoc LA, prior shift, label shift, target shift", "post-hoc-logit-adjusted",
          "The class shares where the model runs differ from those of training; the log prior ratio corrects the "
          "logits.", strategy="post-hoc-logit-adjusted"),
    Alias("VS", "vector-scaling",
          "Vector scaling: additive and multiplicative adjustment of the logits in training.",
          strategy="vector-scaling", loss="vector_scaling"),
    Alias("LAS, MiSLAS", "label_aware_smoothing",
          "Label smoothing that is stronger for frequent classes.", loss="label_aware_smoothing"),
    Alias("BCE, binary cross-entropy, BCEWithLogits", "binary_cross_entropy",
          "Cross-entropy of one sigmoid per class.", loss="binary_cross_entropy"),
    Alias("BER, balanced error, balanced error rate, balanced accuracy, accuracy paradox, geometric mean", "accuracy",
          "Balanced accuracy is the mean recall over the classes, and the balanced error is one minus it. Plain "
          "accuracy is high for a model that always predicts the majority class: the accuracy paradox."),
    Alias("DRW, deferred re-weighting, DRS, deferred re-sampling", "class-balanced-ce-drw",
          "Training starts without class weights, or without re-sampling, and uses them for the last epochs.",
          strategy="class-balanced-ce-drw"),
    Alias("cRT, classifier re-training, decoupling, decoupled training", "decoupled",
          "The features are trained with instance-balanced sampling, and then a new head with class-balanced "
          "sampling.", strategy="decoupled"),
    Alias("LWS, learnable weight scaling, tau normalization, tau-normalisation, τ-norm", "tau-norm",
          "The weight vectors of the head are rescaled after training; τ-normalization divides each by its "
          "norm^τ.", strategy="tau-norm"),
    Alias("oversampling, random oversampling, ROS", "oversample",
          "Samples of the rare classes are repeated.", strategy="oversample", sampler="resample"),
    Alias("SMOTE", "oversample",
          "SMOTE interpolates between feature vectors of a class. Interpolated pixels are no images, so for images "
          "repeat with augmentation (minority-augment), or use mixup."),
    Alias("undersampling, random undersampling, RUS", "undersample",
          "Samples of the frequent classes are left out.", strategy="undersample", sampler="resample"),
    Alias("RFS, repeat factor, repeat-factor sampling", "repeat_factor",
          "Images are repeated by the rarest class that they contain; used for detection with many classes.",
          sampler="repeat_factor"),
    Alias("balanced sampling, CBS, class-aware sampling, weighted random sampler", "class-balanced-sampling",
          "Every class is drawn equally often.", strategy="class-balanced-sampling", sampler="class_balanced"),
    Alias("operating point, threshold moving, threshold tuning, thresholds", "tuned-thresholds",
          "A threshold per class on the predicted probabilities, chosen on validation images.",
          strategy="tuned-thresholds"),
    Alias("class_weight, class weights, cost-sensitive, cost-sensitive learning, balanced weights", "balanced",
          "The weight of each class in the loss; scikit-learn and Keras call the argument class_weight.",
          strategy="weighted-ce", weights="balanced"),
    Alias("sample_weight", "weighted-ce",
          "The weight of each sample in the loss, multiplied with the weight of its class."),
    Alias("pos_weight", "binary_cross_entropy",
          "The factor of the positive term of binary cross-entropy, per class.", loss="binary_cross_entropy"),
    Alias("gamma, γ, focusing parameter, modulating factor", "focal",
          "The focusing parameter of focal loss: cross-entropy is multiplied by (1 − p)^γ.",
          strategy="focal", loss="focal"),
    Alias("alpha, α, alpha-balanced, α-balanced focal loss", "sigmoid-focal",
          "The class weight of focal loss; a number for positives against negatives, a vector for many classes.",
          strategy="sigmoid-focal", loss="sigmoid_focal"),
    Alias("beta, β", "effective_number",
          "The parameter of the effective number of samples; close to 1 it tends to 1/n_c weights."),
    Alias("tau, τ", "logit-adjusted",
          "The strength of logit adjustment, or of the normalization of the head's weights."),
    Alias("margin, label-distribution-aware margin", "ldam",
          "A margin that is subtracted from the logit of the true class.", strategy="ldam", loss="ldam"),
    Alias("long-tailed, long tail, imbalance ratio, imbalance factor, IF", "accuracy",
          "The number of samples of the largest class over that of the smallest."),
    Alias("Dice", "dice",
          "One minus the overlap of predicted and true mask, averaged over the classes.", loss="dice"),
    Alias("single-label ASL, single-label asymmetric loss", "asymmetric_softmax",
          "Label-smoothed cross-entropy with focusing parameters for the class of the image and for the others.",
          loss="asymmetric_softmax"),
    Alias("Jaccard, IoU, intersection over union", "jaccard",
          "The intersection of predicted and true mask over their union.", loss="jaccard"),
)
# fmt: on


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
    if alias is not None:
        raise ArgumentError(
            f"{argument} cannot be {name!r}; `counterpoise explain {name}` says what it is and what to use. Expected "
            f"one of {', '.join(names)}"
        )
    raise ArgumentError(f"{argument} {name!r} is unknown; {did_you_mean(name, names)}")


def did_you_mean(name: str, choices: Iterable[str], *, most: int = 3) -> str:
    """A hint for an unknown name: choices that start with it, or else contain it, then similar ones; if none, all.

    Example:
        >>> did_you_mean("logit", ["focal", "logit-adjusted"])
        'did you mean logit-adjusted?'
    """
    names = tuple(dict.fromkeys(choices))
    keys = {simplified(choice): choice for choice in reversed(names)}
    wanted = simplified(name)
    parts = [key for key in keys if len(wanted) > 2 and wanted in key]
    parts = [key for key in parts if key.startswith(wanted)] or parts
    near = list(dict.fromkeys([*parts, *difflib.get_close_matches(wanted, keys, n=most, cutoff=0.6)]))
    if near:
        return f"did you mean {' or '.join(keys[key] for key in near[:most])}?"
    return f"expected one of {', '.join(names)}"
