"""Curves of the losses: loss and gradient over the probability of the true class, per class or hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import losses
from counterpoise.core.explanation import Chart
from counterpoise.core.text import percent, plural
from counterpoise.hierarchy import from_paths, leaf_log_probabilities
from counterpoise.weights import class_weights
from counterpoise.workflow.explain.by_class import effective_numbers
from counterpoise.workflow.explain.page import Content
from counterpoise.workflow.explain.series import (
    COUNTS,
    SELECTED,
    chart,
    class_chart,
    class_name,
    loss_charts,
    softmax_charts,
    table,
)
from counterpoise.workflow.explain.worked import focal_example, prior_and_boundary, prior_and_loss

_PRIOR = COUNTS.prior()
_RAREST = COUNTS.num_classes - 1
Loss = Callable[..., Tensor]


def _per_class(id: str, loss: Loss, **options: Any) -> tuple[Chart, Chart]:
    return softmax_charts(id, {class_name(c): (loss, c, options) for c in SELECTED})


def softmax(**_: Any) -> Content:
    """The softmax loss with one hyperparameter set at a time."""
    settings: dict[str, dict[str, Any]] = {
        "cross-entropy": {},
        "weight 2": {"weight": [2.0] * COUNTS.num_classes},
        "gamma 2": {"gamma": 2.0},
        "poly 1": {"poly": 1.0},
        "margin 2": {"margin": 2.0},
        "label_smoothing 0.2": {"label_smoothing": 0.2},
    }
    curves = {name: (losses.softmax_loss, 0, options) for name, options in settings.items()}
    return Content("softmax", softmax_charts("hyperparameters", curves))


def weighted_cross_entropy(scheme: Any, options: Mapping[str, Any], page: str = "weighted_cross_entropy") -> Content:
    """Cross-entropy without weights and with those of a scheme."""
    weight = class_weights(COUNTS, scheme, **options)
    settings: dict[str, tuple[Loss, int, Any]] = {"unweighted": (losses.cross_entropy, 0, {})}
    for c in SELECTED:
        settings[f"{class_name(c)}, weight {weight[c]:.2g}"] = (losses.cross_entropy, c, {"weight": weight})
    return Content(page, softmax_charts("ce", settings), values={"scheme": scheme})


def cross_entropy(**_: Any) -> Content:
    """Cross-entropy, with inverse class weights for comparison."""
    return weighted_cross_entropy("inverse", {}, "cross_entropy") | prior_and_loss()


def focal(*, gamma: float, **_: Any) -> Content:
    """Focal loss for several γ, and the derivation of its α."""
    gammas = sorted({0.0, 0.5, 1.0, 2.0, 5.0, gamma})
    settings = {f"γ = {g:g}": (losses.focal_loss, 0, {"gamma": g}) for g in gammas}
    return Content("focal", softmax_charts("focal", settings)) | focal_example(gamma)


def class_balanced(*, beta: float, gamma: float, **_: Any) -> Content:
    """Class-balanced cross-entropy or focal loss per class."""
    options = {"class_counts": COUNTS, "beta": beta, "gamma": gamma}
    return Content("class_balanced", _per_class("cb", losses.class_balanced_loss, **options)) | effective_numbers()


def logit_adjusted(*, tau: float, **_: Any) -> Content:
    """Logit adjustment per class, and for several τ."""
    taus = sorted({0.0, 0.5, 1.0, 1.5, tau})
    by_tau = {f"τ = {t:g}": (losses.logit_adjusted_loss, _RAREST, {"prior": _PRIOR, "tau": t}) for t in taus}
    by_class = _per_class("la", losses.logit_adjusted_loss, prior=_PRIOR, tau=tau)
    return Content("logit_adjusted", by_class + softmax_charts("la-tau", by_tau)) | prior_and_boundary()


def balanced_softmax(**_: Any) -> Content:
    """Balanced softmax per class."""
    by_class = _per_class("bs", losses.balanced_softmax_loss, class_counts=COUNTS)
    return Content("balanced_softmax", by_class) | prior_and_boundary(likelihood=False)


def vector_scaling(*, gamma: float, tau: float, **_: Any) -> Content:
    """Vector scaling per class, and for several γ."""
    loss, options = losses.vector_scaling_loss, {"class_counts": COUNTS, "tau": tau}
    by_gamma = {f"γ = {g:g}": (loss, _RAREST, {**options, "gamma": g}) for g in sorted({0.0, 0.15, 0.3, gamma})}
    charts = _per_class("vs", loss, **options, gamma=gamma) + softmax_charts("vs-gamma", by_gamma)
    return Content("vector_scaling", charts)


def ldam(*, max_margin: float, scale: float, **_: Any) -> Content:
    """LDAM over the cosine of the true class, and the margin of each class."""
    cosines = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64)
    options: dict[str, Any] = {"class_counts": COUNTS, "max_margin": max_margin, "scale": scale, "reduction": "none"}

    def rows_of(true: int) -> Callable[[Tensor], Tensor]:
        one_hot = torch.eye(COUNTS.num_classes, dtype=cosines.dtype)[true]
        return lambda x: losses.ldam_loss(x[:, None] * one_hot, torch.full(x.shape, true), **options)

    charts = loss_charts(
        "ldam", {class_name(c): rows_of(c) for c in SELECTED}, at=cosines, x=cosines,
        x_title="Cosine of image and true class", gradient="∂loss/∂cosine of the true class",
    )  # fmt: skip
    margins = class_chart("margins", "Margin", {"margin": _ldam_margins(max_margin)}, y_log=False)
    return Content("ldam", (*charts, margins))


def _ldam_margins(max_margin: float) -> list[float]:
    """The margin of each class, from the loss: with scale 1 and equal cosines, exp(loss) − 1 = (C − 1) e^m."""
    equal, others = torch.zeros(1, COUNTS.num_classes, dtype=torch.float64), COUNTS.num_classes - 1

    def margin(c: int) -> float:
        loss = losses.ldam_loss(equal, torch.tensor([c]), class_counts=COUNTS, max_margin=max_margin, scale=1.0)
        return float(torch.log((loss.exp() - 1) / others))

    return [margin(c) for c in range(COUNTS.num_classes)]


def poly(*, epsilon: float, **_: Any) -> Content:
    """PolyLoss for several ε."""
    epsilons = sorted({0.0, -1.0, 1.0, 3.0, epsilon}, key=lambda e: (e != 0, e))
    settings = {f"ε = {e:g}".replace("-", "−"): (losses.poly_loss, 0, {"epsilon": e}) for e in epsilons}
    return Content("poly", softmax_charts("poly", settings))


def label_aware_smoothing(*, head: float, tail: float, **_: Any) -> Content:
    """Label-aware smoothing per class."""
    charts = _per_class("las", losses.label_aware_smoothing_loss, class_counts=COUNTS, head=head, tail=tail)
    return Content("label_aware_smoothing", charts)


_Settings = Mapping[str, tuple[Loss, Mapping[str, Any]]]


def _sigmoid_charts(id: str, settings: _Settings, negative: _Settings | None = None) -> tuple[Chart, ...]:
    """Loss and gradient of a positive, then of a negative, which may have settings of its own."""

    def rows_of(loss: Loss, options: Mapping[str, Any], label: float) -> Callable[[Tensor], Tensor]:
        def rows(z: Tensor) -> Tensor:
            target = torch.full((len(z), 1), label, dtype=z.dtype)
            return loss(z[:, None], target, reduction="none", **options)[:, 0]

        return rows

    return tuple(
        drawn
        for side, label, chosen in (("positive", 1.0, settings), ("negative", 0.0, negative or settings))
        for drawn in loss_charts(
            f"{id}-{side}",
            {name: rows_of(*setting, label) for name, setting in chosen.items()},
            x_title="Probability of the positive class",
            gradient="∂loss/∂z",
        )
    )


def sigmoid(**_: Any) -> Content:
    """The sigmoid loss with one hyperparameter set at a time."""
    settings: dict[str, dict[str, Any]] = {
        "cross-entropy": {},
        "pos_weight 3": {"pos_weight": 3.0},
        "neg_weight ½": {"neg_weight": 0.5},
        "gamma_pos = gamma_neg = 2": {"gamma_pos": 2.0, "gamma_neg": 2.0},
        "clip 0.2": {"clip": 0.2},
    }
    curves = {name: (losses.sigmoid_loss, options) for name, options in settings.items()}
    return Content("sigmoid", _sigmoid_charts("hyperparameters", curves))


def binary_cross_entropy(**_: Any) -> Content:
    """Binary cross-entropy for several positive weights."""
    settings = {f"pos_weight {w:g}": (losses.binary_cross_entropy, {"pos_weight": w}) for w in (1.0, 3.0, 10.0)}
    return Content("binary_cross_entropy", _sigmoid_charts("bce", settings))


def sigmoid_focal(*, alpha: float | None, gamma: float, **_: Any) -> Content:
    """Sigmoid focal loss for several γ without α, and with it."""
    loss, gammas = losses.sigmoid_focal_loss, sorted({0.0, 0.5, 1.0, 2.0, 5.0, gamma})
    settings: dict[str, Any] = {f"γ = {g:g}": (loss, {"alpha": None, "gamma": g}) for g in gammas}
    if alpha is not None:
        settings[f"γ = {gamma:g}, α = {alpha:g}"] = (loss, {"alpha": alpha, "gamma": gamma})
    return Content("sigmoid_focal", _sigmoid_charts("sigmoid-focal", settings)) | focal_example(gamma)


def asymmetric(*, gamma_neg: float, gamma_pos: float, clip: float, **_: Any) -> Content:
    """Asymmetric loss of a positive for several γ⁺, and of a negative for two clips; the full derivative."""
    focus = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "detach_focus": False}
    plain = {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0, "detach_focus": False}
    positive = {
        f"γ⁺ = {g:g}": (losses.asymmetric_loss, {**focus, "gamma_pos": g, "clip": clip})
        for g in sorted({0.0, 1.0, 2.0, 4.0, gamma_pos})
    }
    negative = {
        "cross-entropy": (losses.asymmetric_loss, plain),
        "focusing, clip 0": (losses.asymmetric_loss, {**focus, "clip": 0.0}),
        f"focusing, clip {clip:g}": (losses.asymmetric_loss, {**focus, "clip": clip}),
        "focusing, clip 0.2": (losses.asymmetric_loss, {**focus, "clip": 0.2}),
    }
    return Content("asymmetric", _sigmoid_charts("asymmetric", positive, negative))


def asymmetric_softmax(*, gamma_pos: float, gamma_neg: float, label_smoothing: float, **_: Any) -> Content:
    """Asymmetric loss of one class per row without focusing, with each of the two, and with both."""
    settings = {
        "cross-entropy, smoothed": (0.0, 0.0),
        f"γ⁺ = {gamma_pos:g}": (gamma_pos, 0.0),
        f"γ⁻ = {gamma_neg:g}": (0.0, gamma_neg),
        f"γ⁺ = {gamma_pos:g}, γ⁻ = {gamma_neg:g}": (gamma_pos, gamma_neg),
    }
    loss = losses.asymmetric_softmax_loss
    curves = {
        name: (loss, 0, {"gamma_pos": pos, "gamma_neg": neg, "label_smoothing": label_smoothing})
        for name, (pos, neg) in settings.items()
    }
    return Content("asymmetric_softmax", softmax_charts("asymmetric-softmax", curves))


def class_balanced_sigmoid(*, beta: float, gamma: float, **_: Any) -> Content:
    """Class-balanced sigmoid loss of one image per class, with all other logits at −3."""
    options: dict[str, Any] = {"class_counts": COUNTS, "beta": beta, "gamma": gamma, "reduction": "none"}

    def rows_of(c: int) -> Callable[[Tensor], Tensor]:
        def rows(z: Tensor) -> Tensor:
            one_hot = torch.eye(COUNTS.num_classes, dtype=z.dtype)[c]
            logits, target = z[:, None] * one_hot - 3.0 * (1.0 - one_hot), torch.full(z.shape, c)
            return losses.class_balanced_sigmoid_loss(logits, target, **options).sum(1)

        return rows

    return Content("class_balanced_sigmoid", loss_charts("cbs", {class_name(c): rows_of(c) for c in SELECTED}))


_OBJECT, _BACKGROUND = 100, 900
"""Pixels of the example mask."""
_BACKGROUND_LOGIT = math.log(0.9 / 0.1)


def _overlap(page: str, settings: Mapping[str, Loss]) -> Content:
    """The loss of one mask as the probability of the object's pixels grows; the background has p = 0.1."""
    pixels = _OBJECT + _BACKGROUND
    target = (torch.arange(pixels) < _OBJECT).long()[None, None]

    def rows_of(loss: Loss) -> Callable[[Tensor], Tensor]:
        def one(value: Tensor) -> Tensor:
            second = torch.where(target[0, 0] == 1, value, -_BACKGROUND_LOGIT)
            logits = torch.stack([torch.zeros_like(second), second])[None, :, None]
            return loss(logits, target, weight=[0.0, 1.0])

        return lambda u: torch.stack([one(value) for value in u])

    charts = loss_charts(
        page.replace("_", "-"),
        {name: rows_of(loss) for name, loss in settings.items()},
        x_title="Probability of the object, on its own pixels",
        gradient="∂loss/∂z of the object's pixels together",
    )
    return Content(page, charts, values={"object": _OBJECT, "background": _BACKGROUND})


def _tversky(alpha: float, beta: float, gamma: float) -> Loss:
    return partial(losses.tversky_loss, alpha=alpha, beta=beta, gamma=gamma)


def tversky(*, alpha: float, beta: float, **_: Any) -> Content:
    """Tversky loss for three pairs of α and β."""
    pairs = dict.fromkeys(((alpha, beta), (0.7, 0.3), (0.3, 0.7)))
    return _overlap("tversky", {f"α = {a:g}, β = {b:g}": _tversky(a, b, 1.0) for a, b in pairs})


def dice(**_: Any) -> Content:
    """Dice loss beside cross-entropy."""
    settings: dict[str, Loss] = {"Dice": losses.dice_loss}
    return _overlap("dice", {**settings, "cross-entropy, mean of the object's pixels": losses.cross_entropy})


def jaccard(**_: Any) -> Content:
    """Jaccard loss beside Dice loss."""
    return _overlap("jaccard", {"Jaccard": losses.jaccard_loss, "Dice": losses.dice_loss})


def focal_tversky(*, alpha: float, beta: float, gamma: float, **_: Any) -> Content:
    """Focal Tversky loss for several exponents."""
    gammas = sorted({1.0, 0.75, 0.5, gamma}, key=lambda g: (g != 1, -g))
    return _overlap("focal_tversky", {f"γ = {g:g}": _tversky(alpha, beta, g) for g in gammas})


_TREE = from_paths(["animal/dog", "animal/cat", "vehicle/car", "vehicle/truck"])
_TREE_COUNTS = {"animal/dog": 400, "animal/cat": 100, "vehicle/car": 4500, "vehicle/truck": 50}
_TRUCK = 3


def hierarchical(*, balance: Any, **_: Any) -> Content:
    """Hierarchical loss of an image of a truck, for each kind of balancing."""
    path = torch.zeros(_TREE.num_edges, dtype=torch.float64)
    path[torch.from_numpy(_TREE.paths[_TRUCK])] = 1.0

    def rows_of(kind: Any) -> Callable[[Tensor], Tensor]:
        loss = losses.HierarchicalLoss(tree=_TREE, class_counts=_TREE_COUNTS, balance=kind, reduction="none")
        return lambda u: loss(u[:, None] * path, torch.full(u.shape, _TRUCK))

    charts = loss_charts(
        "hierarchical",
        {kind: rows_of(kind) for kind in dict.fromkeys(("plain", "weighted", balance))},
        x_title="Probability of the right branch, at each node",
        gradient="∂loss/∂z of the right branches",
    )
    return Content("hierarchical", charts) | _accumulation()


_NODES = (("animal or vehicle", 0.95), ("car or truck", 0.9), ("pickup or lorry", 0.8))
"""The decisions on the path of an image of a pickup, each with an invented accuracy."""


def _accumulation() -> Content:
    """The share of images that reach their class, over the accuracy of each node and for a worked path."""
    accuracy = np.linspace(0.5, 0.995, 100)
    curves = {f"{plural(n, 'level')}": _reached([accuracy] * n) for n in (1, 2, 3, 5)}
    titles = ("Accuracy of every node on the path", "Images that reach their class")
    reached = [float(_reached([np.array([a]) for _, a in _NODES[:n]])[0]) for n in range(1, len(_NODES) + 1)]
    rows = [(f"{i}: {name}", a, r) for i, ((name, a), r) in enumerate(zip(_NODES, reached, strict=True), 1)]
    columns = ("Level and decision", "accuracy of the node", "images still right")
    values = {"reached": percent(reached[-1]), "product": " · ".join(f"{a:g}" for _, a in _NODES)}
    return Content(
        charts=(chart("accumulation", titles, accuracy, curves),), tables={"path": table(columns, rows)}, values=values
    )


def _reached(accuracies: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Probability of the right leaf of a tree with one decision per level, from those of the decisions, ``(N,)`` each.

    Example:
        >>> _reached([np.array([0.9]), np.array([0.8])]).round(4)
        array([0.72])
    """
    depth = len(accuracies)
    last = "right/" * (depth - 1)
    tree = from_paths([f"{last}right", *("right/" * level + "wrong" for level in range(depth))])
    logits = np.zeros((len(accuracies[0]), tree.num_edges))
    for edge, accuracy in zip(tree.paths[0][::-1], accuracies, strict=True):  # paths lead from the leaf to the root
        logits[:, edge] = np.log(accuracy / (1 - accuracy))
    shares: NDArray[np.float64] = np.exp(leaf_log_probabilities(logits, tree)[:, 0])
    return shares


_FUNCTIONS: tuple[Callable[..., Content], ...] = (
    softmax, cross_entropy, focal, class_balanced, logit_adjusted, balanced_softmax, vector_scaling, ldam, poly,
    label_aware_smoothing, sigmoid, binary_cross_entropy, sigmoid_focal, asymmetric, asymmetric_softmax,
    class_balanced_sigmoid, tversky,
    dice, jaccard, focal_tversky, hierarchical,
)  # fmt: skip
LOSS_PAGES = {function.__name__: function for function in _FUNCTIONS}
"""The content of each loss; a function has the name of its loss."""
