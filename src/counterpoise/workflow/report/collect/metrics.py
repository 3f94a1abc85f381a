"""What each metric is called, and the sentence that defines it."""

from __future__ import annotations

__all__ = ["DEFINITIONS", "METRICS", "definitions", "metric_title"]

METRICS: dict[str, tuple[str, str]] = {
    "balanced_accuracy": (
        "Balanced accuracy",
        "The mean of the classes' recalls: every class counts the same, however few images it has. "
        "A class without images in the split counts in no average.",
    ),
    "accuracy": ("Accuracy", "The share of images whose prediction is right; large classes dominate it."),
    "macro_f1": (
        "Macro F1",
        "The mean over classes of F1, the harmonic mean of recall and precision: it falls when images of other "
        "classes are given to a rare one.",
    ),
    "geometric_mean": (
        "Geometric mean",
        "The geometric mean of the classes' recalls; 0 as soon as one class is never recognised.",
    ),
    "many": ("Many", "Mean recall of the classes with many training images (more than 100)."),
    "medium": ("Medium", "Mean recall of the classes with a medium number of training images (20 to 100)."),
    "few": ("Few", "Mean recall of the classes with few training images (fewer than 20)."),
    "few_false_positives": (
        "Rare-class false positives",
        "Images wrongly given to one of the rare classes, as a share of all images of the other classes: "
        "the price of preferring rare classes.",
    ),
    "medium_false_positives": (
        "Medium-class false positives",
        "The same for the classes with a medium number of training images.",
    ),
    "expected_calibration_error": (
        "Calibration error",
        "Expected calibration error: the mean distance between how sure the predictions are and how often they are "
        "right, over bins of confidence, weighted by their images. 0 is perfect.",
    ),
}
DEFINITIONS: dict[str, str] = {
    "Recall of a class": "The share of its images that are recognised as such.",
    "Precision of a class": "The share of the images given to it that belong to it.",
    "Wilson interval": "A 95\u00a0% interval for a rate that holds for few images and for rates near 0 and 1.",
    "± over seeds": "The sample standard deviation over seeds: the same training from another random start.",
    "Difference and its interval": (
        "Strategy minus baseline, from the same images. The 95\u00a0% interval comes from a paired bootstrap that "
        "draws the images of every class anew; where it excludes 0, chance in the choice of images does not "
        "explain the difference."
    ),
    "Gap": "Recall on the training images minus recall on the validation images: large where a class is memorised.",
    "Imbalance ratio": "Training images of the largest class divided by those of the smallest that has any.",
}


def metric_title(metric: str) -> str:
    """The metric's name in words."""
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ").capitalize()


def definitions() -> tuple[tuple[str, str], ...]:
    """Every metric and term with its sentence."""
    return (*METRICS.values(), *DEFINITIONS.items())
