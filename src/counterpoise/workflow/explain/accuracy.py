"""Why accuracy misleads: 99:1, 90:10 and 80:20, by our own metrics on labels and answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoise import metrics
from counterpoise.core.explanation import Chart, ExplanationSection
from counterpoise.workflow.explain.lesson import Lesson, curve, rounded, sheet

__all__ = ["accuracy", "scored"]

RATIOS = ((99, 1), (90, 10), (80, 20))
IMAGES = 10_000
MODELS = {
    "always the frequent class": (1.0, 0.0),
    "right for 90 % of each class": (0.9, 0.9),
    "right for 99 % and 50 %": (0.99, 0.5),
}
"""Recall of the frequent and of the rare class."""


def scored(share: float, recall: tuple[float, float]) -> tuple[float, float, float]:
    """Accuracy, balanced error and F1 of the rare class, where a ``share`` of 10,000 images is of the frequent one."""
    head = round(IMAGES * share)
    labels: NDArray[np.int64] = np.repeat([0, 1], [head, IMAGES - head])
    said = labels.copy()
    said[: head - round(head * recall[0])] = 1
    missed = (IMAGES - head) - round((IMAGES - head) * recall[1])
    said[head : head + missed] = 0
    f1 = float(metrics.per_class_f1(labels, said)[1])
    return metrics.accuracy(labels, said), 1.0 - metrics.balanced_accuracy(labels, said), f1


def accuracy() -> Lesson:
    """The page of `explain accuracy`."""
    shares = np.arange(0.5, 0.995, 0.01)
    table = {name: np.array([scored(float(share), recall) for share in shares]) for name, recall in MODELS.items()}
    rows = [
        (f"{head} : {rare}", name, *scored(head / 100, recall))
        for head, rare in RATIOS
        for name, recall in MODELS.items()
    ]
    return Lesson(
        "Accuracy counts images, so the frequent class decides it: at 99 : 1 a constant answer is right 99 "
        "times in 100.",
        (
            "Balanced accuracy treats all classes alike, also one with three test images: look at its interval, and at "
            "recall class by class.",
        ),
        (
            "Balanced error is 1 minus the mean recall of the classes: ½ for any constant answer of two classes.",
            "If the test data are as skewed as the world, accuracy is what will be seen there. Say which you "
            "want first.",
        ),
        (
            ExplanationSection(
                "Accuracy beside balanced error",
                (
                    "The same three models on test data of three ratios. Only the ratio changes, not what a "
                    "model can do.",
                ),
                "accuracy       = Σ_c π_c recall_c\nbalanced error = 1 − (1/C) Σ_c recall_c",
                (
                    _panel("accuracy", "Accuracy", "The constant answer overtakes both.", shares, table, 0),
                    _panel(
                        "balanced-error", "Balanced error", "What a model can do does not change.", shares, table, 1
                    ),
                ),
                (
                    sheet(
                        f"{IMAGES:,} images",
                        ("Classes", "Model", "accuracy", "balanced error", "F1 of the rare class"),
                        rows,
                        "F1 depends on the ratio as well: the same false alarms weigh more where the class is rarer.",
                    ),
                ),
                code="import numpy as np\n\nfrom counterpoise import metrics\n\n"
                "labels, said = np.repeat([0, 1], [99, 1]), np.zeros(100, dtype=int)\n"
                "print(metrics.accuracy(labels, said), 1 - metrics.balanced_accuracy(labels, said))\n",
            ),
        ),
    )


def _panel(
    id: str, title: str, caption: str, shares: NDArray[np.float64], table: dict[str, NDArray[np.float64]], column: int
) -> Chart:
    curves = tuple(curve(name, values[:, column]) for name, values in table.items())
    return Chart(id, title, caption, "Share of the frequent class", title, rounded(shares), curves)
