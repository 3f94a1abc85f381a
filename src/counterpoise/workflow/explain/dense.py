"""Lessons of losses that look at more than one label at a time: overlap of masks, and the nodes of a class tree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from counterpoise import losses
from counterpoise.core.explanation import Chart, ExplanationSection
from counterpoise.hierarchy import from_paths
from counterpoise.workflow.explain.curves import loss_panels
from counterpoise.workflow.explain.lesson import Lesson

__all__ = ["LESSONS"]

_OBJECT, _GROUND = 100, 900
_GROUND_LOGIT = math.log(0.9 / 0.1)


def _overlap_panels(id: str, settings: dict[str, Callable[..., Tensor]]) -> tuple[Chart, ...]:
    """The loss of one mask, as the probability given to the object's pixels grows."""

    def of(loss: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        def rows(u: Tensor) -> Tensor:
            target = torch.zeros(1, 1, _OBJECT + _GROUND, dtype=torch.int64)
            target[..., :_OBJECT] = 1
            inside = torch.arange(_OBJECT + _GROUND) < _OBJECT

            def one(value: Tensor) -> Tensor:
                second = torch.where(inside, value, -_GROUND_LOGIT)
                logits = torch.stack([torch.zeros_like(second), second])[None, :, None]
                return loss(logits, target, weight=[0.0, 1.0])

            return torch.stack([one(value) for value in u])

        return rows

    return loss_panels(
        id,
        {name: of(loss) for name, loss in settings.items()},
        x_title="Probability of the object, on its own pixels",
        about=f"{_OBJECT} pixels of an object, {_GROUND} of background that are given to the object with p = 0.1.",
        derivative="∂loss/∂z of the object's pixels together",
    )


_OVERLAP = (
    "TI_c = (TP_c + s)/(TP_c + α FP_c + β FN_c + s)\nloss = mean_c (1 − TI_c)^γ,   counts are sums of probabilities"
)
_SMALL = "A small object's score jumps with single pixels: gradients are noisy where a class has few pixels in a batch."
_CODE = (
    "import torch\n\nfrom counterpoise.losses import {0}\n\n"
    "logits, masks = torch.zeros(2, 3, 8, 8), torch.randint(3, (2, 8, 8))\nloss = {0}()(logits, masks)\n"
)


def tversky(*, alpha: float = 0.5, beta: float = 0.5) -> Lesson:
    """α against β."""
    pairs = ((alpha, beta), (0.7, 0.3), (0.3, 0.7))
    settings = {f"α = {a:g}, β = {b:g}": _tversky(a, b, 1.0) for a, b in dict.fromkeys(pairs)}
    return Lesson(
        "One minus the overlap of mask and prediction, in which false positives weigh α and misses β.",
        (_SMALL, "β above α finds more of the object and paints over its border."),
        ("Counts are pooled over the batch; classes absent from it are left out of the mean.",),
        (
            ExplanationSection(
                "Loss and gradient",
                (
                    "Background that is rightly left alone adds nothing: only the overlap counts, however "
                    "large the image.",
                ),
                _OVERLAP,
                _overlap_panels("tversky", settings),
                code=_CODE.format("TverskyLoss"),
                reference="Salehi et al., Tversky loss function for image segmentation, MLMI 2017 (arXiv:1706.05721)",
            ),
        ),
    )


def _tversky(alpha: float, beta: float, gamma: float) -> Callable[..., Tensor]:
    def loss(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        return losses.tversky_loss(logits, target, alpha=alpha, beta=beta, gamma=gamma, **options)

    return loss


def dice() -> Lesson:
    """α = β = ½."""
    settings: dict[str, Callable[..., Tensor]] = {
        "Dice": losses.dice_loss,
        "cross-entropy, mean of the object's pixels": losses.cross_entropy,
    }
    return Lesson(
        "One minus the Dice score of mask and prediction: false positives and misses weigh the same.",
        (_SMALL, "It says little about how sure the model is: probabilities are driven to 0 and 1."),
        ("Often summed with cross-entropy, which keeps the gradient alive where the overlap is 0.",),
        (
            ExplanationSection(
                "Loss and gradient",
                ("Where nearly nothing of the object is found cross-entropy pulls hardest, Dice hardly at all.",),
                "loss = 1 − 2 TP/(2 TP + FP + FN),   counts are sums of probabilities",
                _overlap_panels("dice", settings),
                code=_CODE.format("DiceLoss"),
                reference="Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797)",
            ),
        ),
    )


def focal_tversky(*, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75) -> Lesson:
    """The exponent."""
    settings = {
        f"γ = {g:g}": _tversky(alpha, beta, g) for g in sorted({1.0, 0.75, 0.5, gamma}, key=lambda g: (g != 1, -g))
    }
    return Lesson(
        "The Tversky loss of each class to a power: below 1 it keeps pulling on classes that are nearly right.",
        (
            _SMALL,
            "γ below 1 looks at what is easy; a power above 1 would look at what is hard. Papers disagree on which.",
        ),
        ("The paper writes 1/γ: its 4/3 is ¾ here.",),
        (
            ExplanationSection(
                "Loss and gradient",
                (f"α = {alpha:g}, β = {beta:g}: misses weigh more.",),
                _OVERLAP,
                _overlap_panels("focal-tversky", settings),
                code=_CODE.format("FocalTverskyLoss"),
                reference="Abraham and Khan, A Novel Focal Tversky Loss, ISBI 2019 (arXiv:1810.07842)",
            ),
        ),
    )


_TREE = from_paths(["animal/dog", "animal/cat", "vehicle/car", "vehicle/truck"])
_IMAGES = {"animal/dog": 400, "animal/cat": 100, "vehicle/car": 4500, "vehicle/truck": 50}
_RARE = 3


def hierarchical(*, balance: Any = "logit-adjusted") -> Lesson:
    """One softmax a node."""

    def of(kind: Any) -> Callable[[Tensor], Tensor]:
        loss = losses.HierarchicalLoss(tree=_TREE, class_counts=_IMAGES, balance=kind, reduction="none")
        path = torch.zeros(_TREE.num_edges, dtype=torch.float64)
        path[torch.from_numpy(_TREE.paths[_RARE])] = 1.0

        def rows(u: Tensor) -> Tensor:
            value: Tensor = loss(u[:, None] * path, torch.full(u.shape, _RARE))
            return value

        return rows

    kinds = dict.fromkeys(("plain", "weighted", balance))
    panels = loss_panels(
        "hierarchical",
        {kind: of(kind) for kind in kinds},
        x_title="Probability of the right branch, at each node",
        about="An image of a truck: vehicle or animal, then car or truck. 5,050 images, 50 of them trucks.",
        derivative="∂loss/∂z of the right branches",
    )
    return Lesson(
        "One head for each node of the class tree: is it an animal or a vehicle, then which; each balanced "
        "by its counts.",
        (
            "It needs a class tree, and the tree has to be right: an image that is sent down the wrong branch is lost. "
            "With a tree that says nothing about looks it gains nothing.",
        ),
        ("A rare class shares what its branch has learnt; only its own node has to live on its few images.",),
        (
            ExplanationSection(
                "Loss and gradient",
                ("The loss of an image is the sum over the nodes on its path, a softmax among that node's children.",),
                "loss = Σ_nodes on the path −log softmax(z_children + log(n_child/n_node))_right\n"
                "log p(leaf) = Σ_nodes on the path log p(child | node)",
                panels,
                code="import torch\n\nfrom counterpoise.hierarchy import from_paths\n"
                "from counterpoise.losses import HierarchicalLoss\n\n"
                'tree = from_paths(["animal/dog", "animal/cat", "car"])\n'
                'criterion = HierarchicalLoss(tree=tree, class_counts=[400, 100, 4500], balance="logit-adjusted")\n'
                "loss = criterion(torch.zeros(2, tree.num_edges), torch.tensor([0, 2]))\n",
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "tversky": tversky,
    "dice": dice,
    "focal_tversky": focal_tversky,
    "hierarchical": hierarchical,
}
