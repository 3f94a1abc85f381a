"""The catalog of strategies: names and numbers, which `counterpoise.workflow.training` turns into functions."""

from __future__ import annotations

from typing import Any

from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import defaults
from counterpoise.core.names import resolve
from counterpoise.core.text import parsed_number

_CUI = "Cui et al., CVPR 2019"
_LIN = "Lin et al., ICCV 2017"
_MENON = "Menon et al., ICLR 2021"
_KANG = "Kang et al., ICLR 2020"
_CAO = "Cao et al., NeurIPS 2019"

_SUM_OVER_CLASSES: dict[str, Any] = {"reduction": "batchmean"}  # as the papers of the sigmoid losses do

_STRATEGIES = (
    Strategy("baseline", "plain cross-entropy with every image once per epoch; the reference for all others"),
    Strategy("weighted-ce", "cross-entropy with class weights proportional to 1/n_c", weights="inverse"),
    Strategy("sqrt-weighted-ce", "cross-entropy with class weights proportional to 1/√n_c", weights="inverse_sqrt"),
    Strategy(
        "class-balanced-ce",
        "cross-entropy with class weights from the effective number of samples",
        loss="class_balanced",
        loss_options=defaults("loss", "class_balanced", "beta"),
        reference=_CUI,
    ),
    Strategy(
        "focal",
        "focal loss: well-classified images contribute less to the gradient",
        loss="focal",
        loss_options=defaults("loss", "focal", "gamma"),
        reference=_LIN,
    ),
    Strategy(
        "class-balanced-focal",
        "focal loss with class weights from the effective number of samples",
        loss="class_balanced",
        loss_options={**defaults("loss", "class_balanced", "beta"), "gamma": 1.0},
        reference=_CUI,
    ),
    Strategy(
        "logit-adjusted",
        "the log class prior is added to the logits during training",
        loss="logit_adjusted",
        loss_options=defaults("loss", "logit_adjusted", "tau"),
        reference=_MENON,
    ),
    Strategy(
        "balanced-softmax",
        "the log class counts are added to the logits during training; equals logit adjustment with tau=1",
        loss="balanced_softmax",
        reference="Ren et al., NeurIPS 2020",
    ),
    Strategy(
        "vector-scaling",
        "the log class prior is added and the logits of rare classes are scaled down during training",
        loss="vector_scaling",
        loss_options=defaults("loss", "vector_scaling", "gamma", "tau"),
        reference="Kini et al., NeurIPS 2021",
    ),
    Strategy(
        "ldam",
        "label-distribution-aware margins on a cosine head: larger margins for rare classes",
        loss="ldam",
        loss_options=defaults("loss", "ldam", "max_margin", "scale"),
        posthoc="scale_logits",
        posthoc_options=defaults("posthoc", "scale_logits", "scale"),
        head="cosine",
        reference=_CAO,
    ),
    Strategy(
        "sigmoid-focal",
        "focal loss on one sigmoid per class",
        loss="sigmoid_focal",
        loss_options={**defaults("loss", "sigmoid_focal", "alpha", "gamma"), **_SUM_OVER_CLASSES},
        scores="sigmoid",
        reference=_LIN,
    ),
    Strategy(
        "asymmetric",
        "asymmetric loss on one sigmoid per class: easy negatives count far less than easy positives",
        loss="asymmetric",
        loss_options={**defaults("loss", "asymmetric", "gamma_neg", "gamma_pos", "clip"), **_SUM_OVER_CLASSES},
        scores="sigmoid",
        reference="Ridnik et al., ICCV 2021",
    ),
    Strategy(
        "class-balanced-sampling",
        "class-balanced sampling: every class is drawn equally often",
        sampler="class_balanced",
        sampler_options=defaults("sampler", "class_balanced", "power"),
        reference=_KANG,
    ),
    Strategy(
        "sqrt-sampling",
        "a class is drawn in proportion to the square root of its count",
        sampler="class_balanced",
        sampler_options={"power": 0.5},
        reference=_KANG,
    ),
    Strategy(
        "oversample",
        "images of smaller classes are repeated up to the count of the largest class",
        sampler="resample",
        sampler_options={"sampling_strategy": "over"},
    ),
    Strategy(
        "undersample",
        "images of larger classes are left out down to the count of the smallest class",
        sampler="resample",
        sampler_options={"sampling_strategy": "under"},
    ),
    Strategy(
        "progressive-sampling",
        "sampling changes from instance-balanced to class-balanced over the training",
        sampler="progressive",
        reference=_KANG,
    ),
    Strategy(
        "decoupled",
        "classifier re-training (cRT): instance-balanced features, then a new head with class-balanced sampling",
        retraining="head",
        retraining_options=defaults("retraining", "head", "share"),
        reference=_KANG,
    ),
    Strategy(
        "minority-augment",
        "class-balanced sampling with stronger augmentation for images that repeat more often",
        sampler="class_balanced",
        sampler_options=defaults("sampler", "class_balanced", "power"),
        augment="by_repeats",
        augment_options=defaults("augment", "by_repeats", "half"),
    ),
    Strategy(
        "mixup",
        "mixup: convex combinations of two images and their labels",
        mixing="mixup",
        mixing_options=defaults("mixing", "mixup", "alpha"),
        reference="Zhang et al., ICLR 2018",
    ),
    Strategy(
        "remix",
        "mixup whose label goes to the rarer class where the class counts are uneven",
        mixing="remix",
        mixing_options=defaults("mixing", "remix", "alpha", "kappa", "tau"),
        reference="Chou et al., ECCV Workshops 2020",
    ),
    Strategy(
        "cmo",
        "context-rich minority oversampling: a patch of a rare image is pasted on another image",
        mixing="cmo",
        mixing_options={**defaults("mixing", "cmo", "alpha"), "probability": 0.5},
        reference="Park et al., CVPR 2022",
    ),
    Strategy(
        "class-balanced-ce-drw",
        "deferred re-weighting: effective-number class weights for the last fifth of the epochs",
        reweighting="deferred",
        reweighting_options=defaults("reweighting", "deferred", "start", "beta"),
        reference=_CAO,
    ),
    Strategy(
        "ldam-drw",
        "LDAM with deferred re-weighting: effective-number class weights for the last fifth of the epochs",
        loss="ldam",
        loss_options=defaults("loss", "ldam", "max_margin", "scale"),
        reweighting="deferred",
        reweighting_options=defaults("reweighting", "deferred", "start", "beta"),
        posthoc="scale_logits",
        posthoc_options=defaults("posthoc", "scale_logits", "scale"),
        head="cosine",
        reference=_CAO,
    ),
    Strategy(
        "adaptive-weights",
        "class weights that rise with low validation recall and fall once false positives exceed a budget",
        reweighting="adaptive",
        reweighting_options=defaults("reweighting", "adaptive", "budget"),
    ),
    Strategy(
        "hierarchical",
        "one backbone with one head per node of the class tree, each balanced by its own counts",
        loss="hierarchical",
        loss_options={"balance": "logit-adjusted"},
        head="hierarchical",
    ),
    Strategy(
        "hierarchical-separate",
        "one model per node of the class tree, trained on the images of that node, every child equally often",
        sampler="class_balanced",
        sampler_options=defaults("sampler", "class_balanced", "power"),
        head="hierarchical",
        separate=True,
    ),
    Strategy(
        "tau-norm",
        "τ-normalization: the weight vectors of the baseline's head are rescaled; τ is chosen on validation",
        posthoc="tau_normalize",
        reuses="baseline",
        reference=_KANG,
    ),
    Strategy(
        "tuned-thresholds",
        "a threshold per class on the probabilities of the baseline, chosen on validation",
        posthoc="tune_thresholds",
        reuses="baseline",
    ),
    Strategy(
        "post-hoc-logit-adjusted",
        "the log class prior is subtracted from the logits of the baseline; nothing is trained",
        posthoc="adjust_logits",
        posthoc_options=defaults("posthoc", "adjust_logits", "tau"),
        reuses="baseline",
        reference=_MENON,
    ),
)

CATALOG: dict[str, Strategy] = {strategy.name: strategy for strategy in _STRATEGIES}


def strategy_named(text: str) -> Strategy:
    """The strategy of a name or an alias, with its hyperparameters overridden where the text says so.

    Args:
        text: a name of the catalog, an alias such as ``"WCE"``, or either with overrides:
            ``"class-balanced-focal:beta=0.99,gamma=1"``.

    Raises:
        ArgumentError: an unknown name (the nearest ones are in the message), a hyperparameter that the strategy does
            not have, or a value out of bounds.

    Example:
        >>> print(strategy_named("focal"))
        focal: focal(gamma=2.0)
        >>> print(strategy_named("focal:gamma=1"))
        focal:gamma=1: focal(gamma=1.0)
    """
    name, colon, overrides = text.strip().partition(":")
    strategy = CATALOG[resolve(name.strip(), CATALOG, kind="strategy", argument="strategy")]
    if not colon:
        return strategy
    options: dict[str, float | str | bool] = {}
    for part in overrides.split(","):
        key, value = _override(part, text)
        if key in options:
            raise ArgumentError(f"strategy {text!r:.100}: `{key}` is given twice; keep one value")
        options[key] = value
    return strategy.with_options(options)


def as_strategy(strategy: Any, *, argument: str) -> Strategy:
    """The strategy of a name; a `Strategy` stays as it is.

    Raises:
        ArgumentTypeError: it is neither; says how to use a loss of one's own.
        ArgumentError: as `strategy_named`.

    Example:
        >>> as_strategy("focal", argument="strategy") is CATALOG["focal"]
        True
    """
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, str):
        return strategy_named(strategy)
    advice = "`counterpoise explain` lists the names"
    if callable(strategy):
        advice = (
            "a loss of your own needs a training loop of your own, in which the samplers (counterpoise.samplers), "
            "class weights (counterpoise.weights) and corrections (counterpoise.posthoc) work with it; to train here "
            "with a loss of Counterpoise, pass Strategy(name, summary, loss='focal')"
        )
    kind = strategy.__name__ if isinstance(strategy, type) else type(strategy).__name__
    raise ArgumentTypeError(f"`{argument}` must be a name, such as 'focal', or a `Strategy`; got {kind}: {advice}")


def split_strategies(text: str) -> list[str]:
    """The strategies of a comma-separated list; a part ``key=value`` belongs to the strategy before it.

    Example:
        >>> split_strategies("focal:gamma=1,class-balanced-focal:beta=0.99,gamma=1,WCE")
        ['focal:gamma=1', 'class-balanced-focal:beta=0.99,gamma=1', 'WCE']
    """
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if found and ":" in found[-1] and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _override(part: str, text: str) -> tuple[str, float | str | bool]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not (name and equals and value):
        raise ArgumentError(
            f"strategy {text!r:.100}: {part.strip()!r:.100} is no override; write name:key=value,key=value"
        )
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    try:
        return name, parsed_number(value)
    except ValueError:
        return name, value
