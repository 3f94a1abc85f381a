"""What a training leaves: the finished run, and the files of its folder."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from counterpoise.core.artifacts import LogitTransform, Predictions, Run, Strategy
from counterpoise.core.images import Split
from counterpoise.workflow.evaluation import FittedMethod
from counterpoise.workflow.training.posthoc import final_logit_prior
from counterpoise.workflow.training.recipe import ClassPrior
from counterpoise.workflow.training.run_folder import RunFolder

MAX_TRAIN_LOGITS = 64_000_000
"""The logits of the training images are saved up to this many numbers (512 MB of float64); above it `train` warns."""


def finished_run(
    run: Run,
    strategy: Strategy,
    prior: ClassPrior,
    predictions: dict[Split, Predictions],
    fitted: FittedMethod,
    transforms: tuple[LogitTransform, ...] | None,
) -> Run:
    """The finished run; ``transforms`` are the steps before those that were fitted, if they are recorded."""
    return replace(
        run,
        status="done",
        train_recall=_recall(predictions["train"]) if "train" in predictions else (),
        prior=final_logit_prior(strategy, prior),
        fitted=fitted.parameters,
        transforms=None if transforms is None else (*transforms, *fitted.transforms),
    )


def write_results(folder: RunFolder, run: Run, predictions: dict[Split, Predictions]) -> Run:
    """Write run.json last, with the digests of the results: a run with the status "done" has all its files."""
    for split, part in predictions.items():
        if split == "train" and part.logits.size > MAX_TRAIN_LOGITS:
            warnings.warn(
                f"predictions-train.npz is not written, because its {part.logits.size:,} logits are more than "
                f"{MAX_TRAIN_LOGITS:,}; if you need them, compute them with model.safetensors",
                UserWarning,
                stacklevel=2,
            )
        else:
            folder.write_predictions(split, part)
    run = replace(run, digests=folder.digests())
    folder.write_run(run)
    folder.remove_checkpoint()
    return run


def _recall(predictions: Predictions) -> tuple[float | None, ...]:
    """Recall per class; None for a class without images."""
    labels, classes = predictions.labels, len(predictions.classes)
    hits = np.bincount(labels[predictions.logits.argmax(1) == labels], minlength=classes)
    totals = np.bincount(labels, minlength=classes)
    return tuple(float(h / n) if n else None for h, n in zip(hits, totals, strict=True))
