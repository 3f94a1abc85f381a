"""Evaluation metrics with confidence intervals: NumPy arrays in, numbers out.

A class without images in ``labels`` has NaN as its own value and is left out of averages. Arguments come in
scikit-learn's order: ``(labels, predictions)`` or ``(labels, logits)``.
"""

from counterpoise.metrics.averages import accuracy, balanced_accuracy, geometric_mean, macro_f1, shot_accuracy
from counterpoise.metrics.bootstrap import Bootstrap, bootstrap_calibration, bootstrap_differences, paired_bootstrap
from counterpoise.metrics.calibration import (
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
    softmax,
)
from counterpoise.metrics.hierarchical import (
    error_by_level,
    hierarchical_f1,
    hierarchical_precision,
    hierarchical_recall,
    level_accuracy,
    mean_tree_distance,
)
from counterpoise.metrics.ranking import average_precision
from counterpoise.metrics.rates import Rates, per_class_f1, per_class_precision, per_class_recall, wilson_interval
from counterpoise.metrics.tally import (
    METRICS,
    Metric,
    Tally,
    confusion_matrix,
    group_false_positives,
    group_recall,
    tally,
)

__all__ = [
    "METRICS",
    "Bootstrap",
    "Metric",
    "Rates",
    "Tally",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "bootstrap_calibration",
    "bootstrap_differences",
    "classwise_calibration_error",
    "confusion_matrix",
    "error_by_level",
    "expected_calibration_error",
    "geometric_mean",
    "group_false_positives",
    "group_recall",
    "hierarchical_f1",
    "hierarchical_precision",
    "hierarchical_recall",
    "level_accuracy",
    "macro_f1",
    "mean_tree_distance",
    "paired_bootstrap",
    "per_class_f1",
    "per_class_precision",
    "per_class_recall",
    "reliability",
    "shot_accuracy",
    "softmax",
    "tally",
    "wilson_interval",
]
