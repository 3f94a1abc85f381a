"""How to get each number in Python: snippets that run beside the files of the page."""

from __future__ import annotations

from counterpoise.core.artifacts import Arm, Comparison
from counterpoise.workflow.report.page import Code, Prose, Section
from counterpoise.workflow.report.text import without_roots

__all__ = ["artifact_section", "comparison_section"]


def comparison_section(comparison: Comparison) -> Section:
    """From ``comparison.json``, and from the saved predictions with scikit-learn alone."""
    blocks: list[Prose | Code] = [
        Prose("Run these in the folder of this page; every number above is in comparison.json."),
        Code("The table of results", _TABLE.format(metric=comparison.metric)),
        Code("The intervals of the differences", _DIFFERENCES),
    ]
    done = [arm for arm in comparison.arms if arm.status == "done" and arm.directories]
    done.sort(key=lambda arm: arm.strategy.name != comparison.verdict.recommended)
    if done:
        path = f"{_directory(done[0])}/predictions-test.npz"
        blocks.append(Code("The same from the predictions, with scikit-learn", _PREDICTIONS.format(path=path)))
    return Section("python", "How to get each number in Python", tuple(blocks))


def _directory(arm: Arm) -> str:
    """Relative to the page; of an absolute path, the last two parts, as `compare` lays them out."""
    given = arm.directories[0]
    if without_roots(given) == given:
        return given.rstrip("/")
    return "/".join(given.replace("\\", "/").rstrip("/").split("/")[-2:])


def artifact_section(kind: str, body: str) -> Section:
    """How to read one artifact of ours."""
    return Section("python", "How to get each number in Python", (Code(f"Read the {kind}", body),))


_TABLE = """\
from counterpoise.core.artifacts import Comparison

comparison = Comparison.load("comparison.json")
for arm in comparison.arms:
    if arm.status == "done":
        score = arm.scores["test"]["{metric}"]
        print(arm.strategy.name, score.mean, score.sd, score.values)
"""
_DIFFERENCES = """\
from counterpoise.core.artifacts import Comparison

comparison = Comparison.load("comparison.json")
for d in comparison.differences:
    print(d.strategy, d.split, d.metric, d.estimate, d.low, d.high, d.method)
"""
_PREDICTIONS = """\
import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

saved = np.load({path!r}, allow_pickle=False)
labels, predicted = saved["labels"], saved["logits"].argmax(1)
print(balanced_accuracy_score(labels, predicted), accuracy_score(labels, predicted))
print(f1_score(labels, predicted, labels=np.unique(labels), average="macro"))
print(confusion_matrix(labels, predicted, labels=range(len(saved["classes"]))))
"""
