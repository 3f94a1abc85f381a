"""Lessons of the sigmoid family: one yes or no a class, so that positives and negatives have curves of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from counterpoise import losses
from counterpoise.core.explanation import Chart, ExplanationSection
from counterpoise.workflow.explain import focusing
from counterpoise.workflow.explain.curves import loss_panels
from counterpoise.workflow.explain.lesson import COUNTS, PICKED, Lesson, images

__all__ = ["LESSONS"]

_P = "Probability of the positive class"


def _panels(id: str, settings: Mapping[str, tuple[Callable[..., Tensor], dict[str, Any]]]) -> tuple[Chart, ...]:
    """Loss and gradient of a positive, then of a negative."""

    def of(loss: Callable[..., Tensor], options: dict[str, Any], label: float) -> Callable[[Tensor], Tensor]:
        def rows(z: Tensor) -> Tensor:
            target = torch.full((len(z), 1), label, dtype=z.dtype)
            return loss(z[:, None], target, reduction="none", **options)[:, 0]

        return rows

    sides = {"positive": 1.0, "negative": 0.0}
    return tuple(
        panel
        for side, label in sides.items()
        for panel in loss_panels(
            f"{id}-{side}",
            {name: of(*setting, label) for name, setting in settings.items()},
            x_title=_P,
            about=f"The class is {'' if label else 'not '}there.",
            derivative="∂loss/∂z",
            whose=f" of a {side}",
        )
    )


def _code(call: str) -> str:
    return (
        f"import torch\n\nfrom counterpoise.losses import {call.partition('(')[0]}\n\n"
        f"criterion = {call}\n"
        "labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])\n"
        "loss = criterion(torch.zeros(2, 3), labels)\n"
    )


def sigmoid() -> Lesson:
    """The equation itself."""
    one = losses.sigmoid_loss
    settings = {
        "cross-entropy": (one, {}),
        "pos_weight 3": (one, {"pos_weight": 3.0}),
        "neg_weight ½": (one, {"neg_weight": 0.5}),
        "both gammas 2": (one, {"gamma_pos": 2.0, "gamma_neg": 2.0}),
        "clip 0.2": (one, {"clip": 0.2}),
    }
    return Lesson(
        "One equation of which every loss of the sigmoid family is a case: positives and negatives are set apart.",
        ("C classes are C questions: with few classes present in an image the noes outnumber the yeses C − 1 to 1.",),
        ("Classes do not compete, so an image may have several, or none.",),
        (
            ExplanationSection(
                "The equation",
                ("pos_weight lifts the curve of the positives, gamma bends it, clip leaves easy negatives out.",),
                "loss = u · Σ_c w_c [ α⁺ t_c (1−p_c)^γ⁺ (−log p_c) + α⁻ (1−t_c) (p^m_c)^γ⁻ (−log(1−p^m_c)) ]\n"
                "p = σ(z),   p^m = max(p − m, 0)",
                _panels("letters", settings),
                code=_code("SigmoidLoss(pos_weight=3.0, gamma_neg=2.0)"),
            ),
        ),
    )


def binary_cross_entropy() -> Lesson:
    """BCE with pos_weight."""
    settings = {f"pos_weight {w:g}": (losses.binary_cross_entropy, {"pos_weight": w}) for w in (1.0, 3.0, 10.0)}
    return Lesson(
        "One yes or no a class; pos_weight says how many noes a yes counts for.",
        (
            "pos_weight = negatives/positives turns probabilities into those of equally frequent answers: "
            "thresholds move.",
        ),
        ("weights.pos_weight computes it from the counts, capped where a class has a handful of positives.",),
        (
            ExplanationSection(
                "Loss and gradient",
                ("The weight changes the curve of the positives alone; negatives of all three settings coincide.",),
                "loss = −α⁺ t log p − (1−t) log(1−p),   p = σ(z)\n∂loss/∂z = p − 1 times α⁺ for a positive, "
                "p for a negative",
                _panels("bce", settings),
                code=_code("BinaryCrossEntropyLoss(pos_weight=3.0)"),
            ),
        ),
    )


def sigmoid_focal(*, alpha: float | None = 0.25, gamma: float = 2.0) -> Lesson:
    """Focal loss of the paper."""
    one = losses.sigmoid_focal_loss
    settings: dict[str, Any] = {
        f"γ = {g:g}": (one, {"alpha": None, "gamma": g}) for g in sorted({0.0, 0.5, 1.0, 2.0, 5.0, gamma})
    }
    settings |= {} if alpha is None else {f"γ = {gamma:g}, α = {alpha:g}": (one, {"alpha": alpha, "gamma": gamma})}
    return Lesson(
        "Answers that are already right weigh less, by (1 − p)^γ for a yes and p^γ for a no.",
        (
            "Two numbers that belong together. With the α of inverse counts the rare positives are "
            "over-weighted, since "
            "γ holds back the easy noes already.",
        ),
        (
            "RetinaNet divides by the number of positives (normalizer=) and starts the last bias at −log(99), so that "
            "training does not begin with a flood of noes.",
        ),
        (
            ExplanationSection(
                "Loss and gradient",
                ("Without α, so that the curves start from cross-entropy; the last one is the paper's setting.",),
                "loss = −α (1−p)^γ log p for a positive,   −(1−α) p^γ log(1−p) for a negative,   p = σ(z)",
                _panels("sigmoid-focal", settings),
                code=_code(f"SigmoidFocalLoss(alpha={alpha}, gamma={gamma})"),
                reference="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002)",
            ),
            *focusing.parts(gamma),
        ),
    )


def asymmetric(*, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05) -> Lesson:
    """ASL."""
    one, focus = losses.asymmetric_loss, {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos}
    settings = {
        "cross-entropy": (one, {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0, "detach_focus": False}),
        "focus alone": (one, {**focus, "clip": 0.0, "detach_focus": False}),
        f"with clip {clip:g}": (one, {**focus, "clip": clip, "detach_focus": False}),
        "clip 0.2": (one, {**focus, "clip": 0.2, "detach_focus": False}),
    }
    return Lesson(
        "Easy noes weigh far less than easy yeses, and those below a margin nothing at all.",
        (
            "A no that is given p near 1 pulls less again, as it is taken for a label that was forgotten: "
            "hard, true noes too.",
        ),
        (
            "The paper's recipe holds the focus constant in the gradient (detach_focus=True, the default); the curves "
            "here show the full derivative, so that they are the slope of the loss drawn beside them.",
            "The paper sums over images and classes: reduction='sum'.",
        ),
        (
            ExplanationSection(
                "Loss and gradient",
                (
                    f"γ⁻ = {gamma_neg:g}, γ⁺ = {gamma_pos:g}. The margin shifts the curve of the negatives to "
                    "the right.",
                ),
                "loss = −(1−p)^γ⁺ log p for a positive,   −(p^m)^γ⁻ log(1−p^m) for a negative\n"
                "p = σ(z),   p^m = max(p − m, 0)",
                _panels("asymmetric", settings),
                code=_code(f"AsymmetricLoss(gamma_neg={gamma_neg}, gamma_pos={gamma_pos}, clip={clip})"),
                reference="Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021 (arXiv:2009.14119)",
            ),
        ),
    )


def class_balanced_sigmoid(*, beta: float = 0.9999, gamma: float = 0.0) -> Lesson:
    """Cui's one-vs-rest form."""

    def of(c: int) -> Callable[[Tensor], Tensor]:
        def rows(z: Tensor) -> Tensor:
            spike = torch.zeros(COUNTS.num_classes, dtype=z.dtype)
            spike[c] = 1.0
            logits, target = z[:, None] * spike - 3.0 * (1.0 - spike), torch.full(z.shape, c)
            options: dict[str, Any] = {"class_counts": COUNTS, "beta": beta, "gamma": gamma, "reduction": "none"}
            return losses.class_balanced_sigmoid_loss(logits, target, **options).sum(1)

        return rows

    panels = loss_panels(
        "cbs",
        {images(c): of(c) for c in PICKED},
        x_title="Probability of the true class",
        about="One image of each class, ten questions; the nine other logits are −3.",
    )
    return Lesson(
        "One yes or no a class; all answers about an image weigh the inverse effective number of its class.",
        (
            "The noes of a rare image are weighted up with its one yes; rare images are learnt by heart, as "
            "with all weights.",
        ),
        ("The last bias starts at −log(C − 1) in the paper, else C − 1 noes an image dominate the first steps.",),
        (
            ExplanationSection(
                "Loss and gradient",
                ("The whole row of an image is multiplied by the weight of its class.",),
                "loss = w_y Σ_c −t_c log p_c − (1−t_c) log(1−p_c),   w_c ∝ (1 − β)/(1 − β^n_c),   p = σ(z)",
                panels,
                code="import torch\n\nfrom counterpoise.losses import ClassBalancedSigmoidLoss\n\n"
                f"criterion = ClassBalancedSigmoidLoss(class_counts=[900, 90, 10], beta={beta}, gamma={gamma})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 "
                "(arXiv:1901.05555)",
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "sigmoid": sigmoid,
    "binary_cross_entropy": binary_cross_entropy,
    "sigmoid_focal": sigmoid_focal,
    "asymmetric": asymmetric,
    "class_balanced_sigmoid": class_balanced_sigmoid,
}
