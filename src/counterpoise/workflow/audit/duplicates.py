"""What it means that images have the same content."""

from __future__ import annotations

from counterpoise.core.artifacts import Finding
from counterpoise.core.duplicates import duplicates
from counterpoise.core.images import LabeledImages

__all__ = ["duplicate_findings"]


def duplicate_findings(data: LabeledImages) -> list[Finding]:
    """What duplicates mean: an error where they contradict each other or leak between splits, else for information."""
    findings: list[Finding] = []
    repeated = 0
    for group in duplicates(data):
        paths = tuple(data.paths[i] for i in group)
        classes = sorted({data.classes[data.labels[i]] for i in group})
        splits = sorted({str(data.splits[i]) for i in group})
        if len(classes) > 1:
            reason = f"{_listed(paths)} are the same image, labelled {' and '.join(map(repr, classes))}"
            findings.append(Finding("same-image-two-classes", "error", reason, paths))
        if len(splits) > 1:
            reason = f"{_listed(paths)} are the same image, in {' and '.join(splits)}"
            findings.append(Finding("same-image-two-splits", "error", reason, paths))
        repeated += len(group) - 1 if len(classes) == len(splits) == 1 else 0
    if repeated:
        reason = f"{repeated} images repeat" if repeated > 1 else "1 image repeats"
        reason += f" another one of {'their' if repeated > 1 else 'its'} class and split"
        findings.append(Finding("repeated-images", "info", reason))
    return findings


def _listed(paths: tuple[str, ...]) -> str:
    return " and ".join(map(repr, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
