"""The one list of strategies: names and numbers; `training.build` turns them into functions."""

from __future__ import annotations

import difflib

from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError

__all__ = ["CATALOG", "strategy_named"]

_CUI = "Cui et al., CVPR 2019"
_LIN = "Lin et al., ICCV 2017"
_MENON = "Menon et al., ICLR 2021"
_KANG = "Kang et al., ICLR 2020"
_CAO = "Cao et al., NeurIPS 2019"
_LDAM_SCALE = 30.0

_STRATEGIES = (
    Strategy("baseline", "cross-entropy, every image once an epoch: what to beat"),
    Strategy("weighted-ce", "each class weighs the inverse of its count", weights="inverse"),
    Strategy("sqrt-weighted-ce", "each class weighs the inverse square root of its count", weights="inverse_sqrt"),
    Strategy(
        "class-balanced-ce",
        "each class weighs the inverse of its effective number of images",
        loss="class_balanced",
        loss_options={"beta": 0.9999},
        reference=_CUI,
    ),
    Strategy(
        "focal",
        "easy images weigh less, whatever their class",
        loss="focal",
        loss_options={"gamma": 2.0},
        reference=_LIN,
    ),
    Strategy(
        "class-balanced-focal",
        "effective-number weights, and easy images weigh less",
        loss="class_balanced",
        loss_options={"beta": 0.9999, "gamma": 1.0},
        reference=_CUI,
    ),
    Strategy(
        "logit-adjusted",
        "the log prior is added to the logits in training, so that the model need not learn it",
        loss="logit_adjusted",
        loss_options={"tau": 1.0},
        reference=_MENON,
    ),
    Strategy(
        "balanced-softmax",
        "the log counts are added to the logits in training (logit adjustment with tau = 1)",
        loss="balanced_softmax",
        reference="Ren et al., NeurIPS 2020",
    ),
    Strategy(
        "vector-scaling",
        "the log prior is added, and the logits of rare classes are scaled down in training",
        loss="vector_scaling",
        loss_options={"gamma": 0.3, "tau": 1.0},
        reference="Kini et al., NeurIPS 2021",
    ),
    Strategy(
        "ldam",
        "rare classes get a larger margin, on a cosine head",
        loss="ldam",
        loss_options={"max_margin": 0.5, "scale": _LDAM_SCALE},
        posthoc="scale_logits",
        posthoc_options={"scale": _LDAM_SCALE},
        head="cosine",
        reference=_CAO,
    ),
    Strategy(
        "sigmoid-focal",
        "one yes or no a class; easy answers weigh less",
        loss="sigmoid_focal",
        loss_options={"alpha": 0.25, "gamma": 2.0, "reduction": "batchmean"},
        scores="sigmoid",
        reference=_LIN,
    ),
    Strategy(
        "asymmetric",
        "one yes or no a class; easy noes weigh far less than easy yeses",
        loss="asymmetric",
        loss_options={"gamma_neg": 4.0, "gamma_pos": 1.0, "clip": 0.05, "reduction": "batchmean"},
        scores="sigmoid",
        reference="Ridnik et al., ICCV 2021",
    ),
    Strategy(
        "class-balanced-sampling",
        "every class is drawn equally often",
        sampler="class_balanced",
        sampler_options={"power": 0.0},
        reference=_KANG,
    ),
    Strategy(
        "sqrt-sampling",
        "a class is drawn as often as the square root of its count says",
        sampler="class_balanced",
        sampler_options={"power": 0.5},
        reference=_KANG,
    ),
    Strategy(
        "oversample",
        "images of the smaller classes are repeated up to the largest class",
        sampler="resample",
        sampler_options={"sampling_strategy": "over"},
    ),
    Strategy(
        "undersample",
        "images of the larger classes are left out down to the smallest class",
        sampler="resample",
        sampler_options={"sampling_strategy": "under"},
    ),
    Strategy(
        "progressive-sampling",
        "images as they come at first, every class equally often at the end",
        sampler="progressive",
        reference=_KANG,
    ),
    Strategy(
        "decoupled",
        "features from the images as they come; for the last fifth a new head on them, every class equally often (cRT)",
        retraining="head",
        retraining_options={"share": 0.2},
        reference=_KANG,
    ),
    Strategy(
        "minority-augment",
        "every class is drawn equally often, and its images are changed the more the more often they repeat",
        sampler="class_balanced",
        sampler_options={"power": 0.0},
        augment="by_repeats",
        augment_options={"half": 4.0},
    ),
    Strategy(
        "mixup",
        "two images and their labels are averaged into one",
        mixing="mixup",
        mixing_options={"alpha": 1.0},
        reference="Zhang et al., ICLR 2018",
    ),
    Strategy(
        "remix",
        "mixup whose label goes to the rarer of two uneven classes",
        mixing="remix",
        mixing_options={"alpha": 1.0, "kappa": 3.0, "tau": 0.5},
        reference="Chou et al., ECCV Workshops 2020",
    ),
    Strategy(
        "cmo",
        "a part of an image of a rare class is pasted on an ordinary image",
        mixing="cmo",
        mixing_options={"alpha": 1.0, "probability": 0.5},
        reference="Park et al., CVPR 2022",
    ),
    Strategy(
        "class-balanced-ce-drw",
        "no weights at first, effective-number weights for the last fifth of the training",
        reweighting="deferred",
        reweighting_options={"start": 0.8, "beta": 0.9999},
        reference=_CAO,
    ),
    Strategy(
        "ldam-drw",
        "larger margins for rare classes, and effective-number weights for the last fifth of the training",
        loss="ldam",
        loss_options={"max_margin": 0.5, "scale": _LDAM_SCALE},
        reweighting="deferred",
        reweighting_options={"start": 0.8, "beta": 0.9999},
        posthoc="scale_logits",
        posthoc_options={"scale": _LDAM_SCALE},
        head="cosine",
        reference=_CAO,
    ),
    Strategy(
        "adaptive-weights",
        "a class weighs more while validation misses it, and less once its false positives exceed a budget",
        reweighting="adaptive",
        reweighting_options={"budget": 0.05},
    ),
    Strategy(
        "hierarchical",
        "one backbone, a head for each node of the class tree, each balanced by its own counts",
        loss="hierarchical",
        loss_options={"balance": "logit-adjusted"},
        head="hierarchical",
    ),
    Strategy(
        "hierarchical-separate",
        "a model for each node of the class tree, trained on that node's images, every child equally often",
        sampler="class_balanced",
        sampler_options={"power": 0.0},
        head="hierarchical",
        separate=True,
    ),
    Strategy(
        "tau-norm",
        "the weight vectors of the baseline's head are brought towards one length, by how much chosen on validation",
        posthoc="tau_normalize",
        reuses="baseline",
        reference=_KANG,
    ),
    Strategy(
        "tuned-thresholds",
        "a threshold for each class on the baseline's probabilities, chosen on validation",
        posthoc="tune_thresholds",
        reuses="baseline",
    ),
    Strategy(
        "post-hoc-logit-adjusted",
        "the log prior is subtracted from the baseline's logits; nothing is trained",
        posthoc="adjust_logits",
        posthoc_options={"tau": 1.0},
        reuses="baseline",
        reference=_MENON,
    ),
)

CATALOG: dict[str, Strategy] = {strategy.name: strategy for strategy in _STRATEGIES}


def strategy_named(name: str) -> Strategy:
    """The strategy of that name; an unknown name gets an `ArgumentError` with the nearest ones.

    Example:
        >>> print(strategy_named("focal"))
        focal: focal(gamma=2.0)
    """
    if name not in CATALOG:
        close = difflib.get_close_matches(name, CATALOG, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the catalog has {', '.join(CATALOG)}"
        raise ArgumentError(f"strategy {name!r} is unknown; {hint}")
    return CATALOG[name]
