"""The table of hyperparameters: name, symbol, default, bounds and meaning of each, by method.

Signatures, strategies, explanations and the documentation are held to this table, or read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from counterpoise.core.checks import bounds_text, checked_choice, checked_number
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.names import did_you_mean

Kind = Literal["loss", "weights", "sampler", "posthoc", "augment", "mixing", "reweighting", "retraining"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What a strategy is composed of."""

Value = float | str | bool | None


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a method.

    Attributes:
        name: the keyword in Python and on the command line.
        meaning: one line, without a full stop.
        default: the value that is used where none is given; None where it must be given or is derived from the data.
        symbol: as in the equations; empty where there is none.
        minimum, maximum: inclusive bounds.
        above, below: exclusive bounds.
        choices: the strings that are allowed; empty for numbers. A hyperparameter with bounds and choices takes both.
        per_class: whether a vector ``(C,)`` is taken as well.
    """

    name: str
    meaning: str
    default: Value = None
    symbol: str = ""
    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    per_class: bool = False

    @property
    def limits(self) -> dict[str, float]:
        """The bounds as keywords of `counterpoise.core.checks.checked_number`."""
        return {"minimum": self.minimum, "maximum": self.maximum, "above": self.above, "below": self.below}

    @property
    def bounds(self) -> str:
        """The allowed values in words."""
        if isinstance(self.default, bool):
            return "true or false"
        words = [bounds_text(**self.limits)] if self._takes_numbers else []
        words += [f"one of {', '.join(self.choices)}"] if self.choices else []
        return ", or ".join(word for word in words if word) or "any number"

    def check(self, value: Any) -> Any:
        """Return a number, string or boolean that this hyperparameter allows.

        Raises:
            ArgumentError: a value out of bounds or not among the choices; the name stands in backticks.
            ArgumentTypeError: a value of another type.
        """
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise ArgumentTypeError(f"`{self.name}` must be true or false; got {value!r}")
            return value
        if value is None and self.default is None:
            return None
        if self.choices and (isinstance(value, str) or not self._takes_numbers):
            return checked_choice(self.name, value, self.choices)
        return checked_number(self.name, value, **self.limits)

    @property
    def _takes_numbers(self) -> bool:
        return not self.choices or any(math.isfinite(limit) for limit in self.limits.values())


_BETA = Hyperparameter(
    "beta", "how fast the effective number of samples saturates", 0.9999, "β", minimum=0.0, maximum=1.0
)
_BETA_OR_AUTO = replace(_BETA, choices=("auto",))
_TAU = Hyperparameter("tau", "strength of the adjustment; 1 is the full log prior", 1.0, "τ", minimum=0.0)
_POWER = Hyperparameter("power", "exponent q of the class counts: p(class) ∝ n_c^q", 0.0, "q")
_ALPHA_MIX = Hyperparameter("alpha", "parameter of the Beta(α, α) distribution of mixing shares", 1.0, "α", above=0.0)

# The equations; a preset lists its own hyperparameters first and then those of its equation that it leaves free.
_SCALE = Hyperparameter("scale", "factor of all logits", 1.0, "s", above=0.0)
_MARGIN = Hyperparameter("margin", "margin subtracted from the target's logit", None, "m", per_class=True)
_GAMMA = Hyperparameter(
    "gamma", "focusing parameter: well-classified samples count less", 0.0, "γ", minimum=0.0, per_class=True
)
_POLY = Hyperparameter("poly", "coefficient of the first polynomial term", 0.0, "κ")
_SMOOTHING = Hyperparameter(
    "label_smoothing", "share of the target spread over the classes", 0.0, "ε", minimum=0.0, maximum=1.0, per_class=True
)
_REDUCTION = Hyperparameter(
    "reduction", "how the losses of a batch are combined", "mean", choices=("mean", "batchmean", "sum", "none")
)
_SOFTMAX = (_SCALE, _MARGIN, _GAMMA, _POLY, _SMOOTHING, _REDUCTION)

_POS_WEIGHT = Hyperparameter("pos_weight", "weight of the positives", None, "α⁺", minimum=0.0, per_class=True)
_NEG_WEIGHT = Hyperparameter("neg_weight", "weight of the negatives", None, "α⁻", minimum=0.0, per_class=True)
_GAMMA_POS = Hyperparameter("gamma_pos", "focusing parameter of the positives", 0.0, "γ⁺", minimum=0.0)
_GAMMA_NEG = Hyperparameter("gamma_neg", "focusing parameter of the negatives", 0.0, "γ⁻", minimum=0.0)
_CLIP = Hyperparameter(
    "clip", "probability margin below which negatives count nothing", 0.0, "m", minimum=0.0, below=1.0
)
_DETACH = Hyperparameter("detach_focus", "whether the modulating factor is a constant in the gradient", False)
_WEIGHTED_BCE = (_POS_WEIGHT, _NEG_WEIGHT)
_SIGMOID = (*_WEIGHTED_BCE, _GAMMA_POS, _GAMMA_NEG, _CLIP, _DETACH, _REDUCTION)

_FALSE_POSITIVES = Hyperparameter("alpha", "weight of the false positives", 0.5, "α", minimum=0.0)
_FALSE_NEGATIVES = Hyperparameter("beta", "weight of the false negatives", 0.5, "β", minimum=0.0)
_TVERSKY_GAMMA = Hyperparameter("gamma", "exponent of 1 − Tversky index", 1.0, "γ", above=0.0)
_SMOOTH = Hyperparameter("smooth", "smoothing added to numerator and denominator", 1e-5, "s", minimum=0.0)
_OVERLAP = (
    _SMOOTH,
    Hyperparameter(
        "average", "whether the index is one per class or of all classes", "macro", choices=("macro", "micro")
    ),
    Hyperparameter("batch", "whether the counts are summed over the batch or per image", True),
    Hyperparameter("activation", "what makes probabilities of the logits", "softmax", choices=("softmax", "sigmoid")),
    Hyperparameter("include_background", "whether class 0 enters the loss", True),
    replace(_REDUCTION, choices=("mean", "sum", "none")),
)


def _with(
    base: Iterable[Hyperparameter], *own: Hyperparameter, without: tuple[str, ...] = ()
) -> tuple[Hyperparameter, ...]:
    """A preset's own hyperparameters, then those of its equation that it leaves free."""
    names = {parameter.name for parameter in own} | set(without)
    return (*own, *(parameter for parameter in base if parameter.name not in names))


_LOSSES: dict[str, tuple[Hyperparameter, ...]] = {
    "softmax": _SOFTMAX,
    "cross_entropy": _SOFTMAX,
    "focal": _with(_SOFTMAX, replace(_GAMMA, default=2.0)),
    "class_balanced": _with(_SOFTMAX, _BETA_OR_AUTO, _GAMMA),
    "logit_adjusted": _with(_SOFTMAX, _TAU),
    "balanced_softmax": _SOFTMAX,
    "vector_scaling": _with(
        _SOFTMAX,
        Hyperparameter("gamma", "exponent of the class scale (n_c / n_max)^γ", 0.3, "γ", minimum=0.0),
        _TAU,
    ),
    "ldam": _with(
        _SOFTMAX,
        Hyperparameter("max_margin", "margin of the rarest class", 0.5, "max m", minimum=0.0),
        replace(_SCALE, default=30.0, meaning="factor of the cosine logits"),
        without=("margin",),
    ),
    "poly": _with(
        _SOFTMAX,
        Hyperparameter("epsilon", "coefficient of the first polynomial term", 1.0, "κ"),
        without=("poly",),
    ),
    "label_aware_smoothing": _with(
        _SOFTMAX,
        Hyperparameter("head", "label smoothing of the largest class", 0.4, "ε₁", minimum=0.0, below=1.0),
        Hyperparameter("tail", "label smoothing of the rarest class", 0.1, "ε_K", minimum=0.0, below=1.0),
        without=("label_smoothing",),
    ),
    "hierarchical": (
        Hyperparameter(
            "balance",
            "how each node of the class tree is balanced",
            "plain",
            choices=("plain", "weighted", "logit-adjusted"),
        ),
        _REDUCTION,
    ),
    "sigmoid": _SIGMOID,
    "binary_cross_entropy": _SIGMOID,
    "sigmoid_focal": (
        Hyperparameter("alpha", "weight of the positives; negatives get 1 − α", 0.25, "α", minimum=0.0, maximum=1.0),
        Hyperparameter("gamma", "focusing parameter: easy positives and negatives count less", 2.0, "γ", minimum=0.0),
        *_WEIGHTED_BCE,
        _REDUCTION,
    ),
    "asymmetric": _with(
        _SIGMOID,
        replace(_GAMMA_NEG, default=4.0),
        replace(_GAMMA_POS, default=1.0),
        replace(_CLIP, default=0.05),
        replace(_DETACH, default=True),
    ),
    "asymmetric_softmax": (
        replace(_GAMMA_POS, default=1.0),
        replace(_GAMMA_NEG, default=4.0),
        replace(_SMOOTHING, default=0.1, maximum=1.0, below=math.inf, per_class=False),
        _REDUCTION,
    ),
    "class_balanced_sigmoid": (_BETA_OR_AUTO, replace(_GAMMA, per_class=False), *_WEIGHTED_BCE, _REDUCTION),
    "tversky": (_FALSE_POSITIVES, _FALSE_NEGATIVES, _TVERSKY_GAMMA, *_OVERLAP),
    "dice": _OVERLAP,
    "jaccard": _OVERLAP,
    "focal_tversky": (
        replace(_FALSE_POSITIVES, default=0.3),
        replace(_FALSE_NEGATIVES, default=0.7),
        replace(_TVERSKY_GAMMA, default=0.75),
        *_OVERLAP,
    ),
}

_MAX_WEIGHT = Hyperparameter("max_weight", "upper bound of the weights, applied after normalising", None, above=0.0)
_NORMALIZE = Hyperparameter("normalize", "what has an average of 1", "auto", choices=("auto", "mean", "sample"))
_WEIGHTS: dict[str, tuple[Hyperparameter, ...]] = {
    "uniform": (_MAX_WEIGHT, _NORMALIZE),
    "inverse": (
        Hyperparameter("power", "exponent q of the weights n_c^−q; None is 1", None, "q", minimum=0.0),
        _MAX_WEIGHT,
        _NORMALIZE,
    ),
    "inverse_sqrt": (_MAX_WEIGHT, _NORMALIZE),
    "effective_number": (_BETA_OR_AUTO, _MAX_WEIGHT, _NORMALIZE),
    "median_frequency": (_MAX_WEIGHT, _NORMALIZE),
    "balanced": (_MAX_WEIGHT, _NORMALIZE),
}

_SAMPLERS: dict[str, tuple[Hyperparameter, ...]] = {
    "class_balanced": (
        _POWER,
        Hyperparameter("within", "how the images of a class are drawn", "cycle", choices=("cycle", "uniform")),
    ),
    "progressive": (),
    "repeat_factor": (
        Hyperparameter(
            "repeat_thresh", "share of images below which a class is repeated", 1e-3, "t", above=0.0, maximum=1.0
        ),
        replace(_POWER, default=0.5, meaning="exponent of the repeat factor (t / f_c)^q", minimum=0.0),
    ),
    "resample": (
        Hyperparameter(
            "sampling_strategy",
            "which classes are resampled, or the ratio to the largest class that is resampled to",
            "over",
            above=0.0,
            maximum=1.0,
            choices=("over", "under", "auto", "all", "minority", "not minority", "not majority", "majority"),
        ),
        Hyperparameter(
            "sampling_type",
            "whether the classes are resampled up to the largest or down to the smallest",
            None,
            choices=("over", "under"),
        ),
    ),
}

_POSTHOC: dict[str, tuple[Hyperparameter, ...]] = {
    "adjust_logits": (_TAU,),
    "scale_logits": (replace(_SCALE, default=30.0, meaning="factor of the cosine logits"),),
    "tau_normalize": (),
    "tune_thresholds": (
        Hyperparameter(
            "shrinkage", "number of images at which a class keeps half of its own threshold", 10.0, "k", minimum=0.0
        ),
    ),
}

_PROBABILITY = Hyperparameter("probability", "share of the batches that are mixed", 1.0, minimum=0.0, maximum=1.0)
_MIXING: dict[str, tuple[Hyperparameter, ...]] = {
    "mixup": (_ALPHA_MIX, _PROBABILITY),
    "cutmix": (_ALPHA_MIX, _PROBABILITY),
    "remix": (
        _ALPHA_MIX,
        Hyperparameter(
            "kappa", "ratio of class counts from which the label goes to the rarer class", 3.0, "κ", minimum=1.0
        ),
        Hyperparameter(
            "tau",
            "share of the image up to which the label goes to the rarer class",
            0.5,
            "τ",
            minimum=0.0,
            maximum=1.0,
        ),
        _PROBABILITY,
    ),
    "cmo": (_ALPHA_MIX, _PROBABILITY),
}

_AUGMENT: dict[str, tuple[Hyperparameter, ...]] = {
    "by_rarity": (
        Hyperparameter("low", "strength for the largest class", 0.0, minimum=0.0, maximum=1.0),
        Hyperparameter("high", "strength for the rarest class", 1.0, minimum=0.0, maximum=1.0),
    ),
    "by_repeats": (Hyperparameter("half", "repetitions per epoch at which the strength is one half", 4.0, above=1.0),),
}

_REWEIGHTING: dict[str, tuple[Hyperparameter, ...]] = {
    "deferred": (
        Hyperparameter("start", "share of the epochs without weights", 0.8, minimum=0.0, maximum=1.0),
        _BETA,
    ),
    "adaptive": (
        Hyperparameter("budget", "share of false positives that a class may cost", 0.05, minimum=0.0),
        Hyperparameter("smoothing", "share of the earlier estimate kept at each update", 0.5, minimum=0.0, below=1.0),
        Hyperparameter("eta", "rate at which weights rise with lagging recall", 0.2, "η", minimum=0.0),
        Hyperparameter(
            "eta_fp", "rate at which weights fall with false positives above the budget", 15.0, "η'", minimum=0.0
        ),
        Hyperparameter("max_ratio", "upper bound of largest over smallest weight", 100.0, minimum=1.0),
    ),
}

_RETRAINING: dict[str, tuple[Hyperparameter, ...]] = {
    "head": (
        Hyperparameter("share", "share of the epochs in which a new head is trained", 0.2, above=0.0, below=1.0),
        replace(_POWER, meaning="exponent q of the second stage's sampling p(class) ∝ n_c^q"),
    ),
}

HYPERPARAMETERS: Mapping[Kind, Mapping[str, tuple[Hyperparameter, ...]]] = {
    "loss": _LOSSES,
    "weights": _WEIGHTS,
    "sampler": _SAMPLERS,
    "posthoc": _POSTHOC,
    "augment": _AUGMENT,
    "mixing": _MIXING,
    "reweighting": _REWEIGHTING,
    "retraining": _RETRAINING,
}


def hyperparameters(kind: Kind, method: str) -> dict[str, Hyperparameter]:
    """The hyperparameters of a method by name.

    Raises:
        ArgumentError: no such method; the nearest names are in the message.

    Example:
        >>> hyperparameters("loss", "focal")["gamma"].default
        2.0
    """
    methods = HYPERPARAMETERS[kind]
    if method not in methods:
        raise ArgumentError(f"{kind} {method!r} is unknown; {did_you_mean(method, methods)}")
    return {parameter.name: parameter for parameter in methods[method]}


def defaults(kind: Kind, method: str, *names: str) -> dict[str, Any]:
    """The defaults of the named hyperparameters of a method.

    Example:
        >>> defaults("loss", "focal", "gamma")
        {'gamma': 2.0}
    """
    table = hyperparameters(kind, method)
    return {name: table[name].default for name in names}


def check_options(kind: Kind, method: str, options: Mapping[str, Any]) -> None:
    """Check the options of a method by name and value.

    Raises:
        ArgumentError: an unknown method or option, or a value out of bounds.
        ArgumentTypeError: a value of the wrong type.
    """
    table = hyperparameters(kind, method)
    for name, value in options.items():
        if name not in table:
            hint = did_you_mean(name, table) if table else "it has none"
            raise ArgumentError(f"{kind} {method!r} has no hyperparameter `{name}`; {hint}")
        table[name].check(value)
