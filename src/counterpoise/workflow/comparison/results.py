"""The results of a comparison from the files of its runs: predictions pooled over the folds, evaluations and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoise.core.artifacts import Arm, Difference, Evaluation, Predictions, Run, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.comparison.by_tree import tree_score
from counterpoise.workflow.comparison.statistics import accuracy_drops, arm_scores, differences
from counterpoise.workflow.evaluation import evaluate
from counterpoise.workflow.training import RunFolder


def pooled_predictions(folds: Sequence[Predictions]) -> Predictions:
    """The predictions for the held-out images of several folds as those of one split.

    Example:
        >>> parts = [Predictions(np.eye(2)[[i]], np.array([i]), np.array([f"{i}.png"]), np.array(["a", "b"]))
        ...          for i in (0, 1)]
        >>> pooled = pooled_predictions(parts)
        >>> pooled.paths.tolist(), pooled.labels.tolist()
        (['0.png', '1.png'], [0, 1])
    """
    if len(folds) == 1:
        return folds[0]
    logits, labels, paths = (
        np.concatenate([getattr(part, name) for part in folds]) for name in ("logits", "labels", "paths")
    )
    return Predictions(logits, labels, paths, folds[0].classes)


def mean_recall(runs: Sequence[Run]) -> tuple[float | None, ...]:
    """The recall per class on the training images, averaged over runs; None where no run has one."""
    by_class = zip(*(run.train_recall for run in runs), strict=True)
    defined = ([value for value in values if value is not None] for values in by_class)
    return tuple(sum(values) / len(values) if values else None for values in defined)


@dataclass(frozen=True)
class Results:
    """Reads the files of finished runs.

    Attributes:
        folder: the folder of the comparison, which has ``runs``.
        seeds: the seeds.
        folds: the number of folds; 1 for one validation split.
        counts: images per class in the training split, which define the groups.
        tree: the class tree; None if no strategy has one.
    """

    folder: Path
    seeds: tuple[int, ...]
    folds: int
    counts: ClassCounts
    tree: ClassTree | None

    def arm(self, strategy: Strategy, runs: Sequence[Run]) -> Arm:
        """The arm of a strategy from its runs, those of a seed one after another."""
        names = tuple(f"runs/{Path(run.directory).name}" for run in runs)
        seconds = tuple(run.seconds for run in runs)
        failed = [f"{self._title(i)}: {run.error}" for i, run in enumerate(runs) if run.status != "done"]
        if failed:
            return Arm(strategy, "failed", self.seeds, names, seconds, error="; ".join(failed))
        validation = tuple(self._validation(runs[i : i + self.folds]) for i in range(0, len(runs), self.folds))
        test = tuple(self._evaluation(self._read(run, "test"), "test", run.train_recall) for run in runs)
        folders = [RunFolder(run.directory) for run in runs]
        return Arm(
            strategy,
            "done",
            self.seeds,
            names,
            seconds,
            validation,
            test,
            arm_scores(validation, test),
            history=tuple(tuple(files.read_history()) for files in folders),
            weights=tuple(tuple(map(tuple, files.read_weights())) for files in folders),
            by_tree=None if self.tree is None else tree_score(test, self.tree, self.counts),
            selected=tuple(run.selected for run in runs if run.selected),
        )

    def differences(
        self,
        arms: Sequence[Arm],
        *,
        baseline: str,
        metric: str,
        most: float | None,
        units: Mapping[str, int] | None = None,
    ) -> list[Difference]:
        """The differences between the arms; see `counterpoise.workflow.comparison.statistics.differences`."""
        done = [arm for arm in arms if arm.status == "done"]
        predictions = {
            "val": {arm.strategy.name: self._pooled(arm) for arm in done},
            "test": {arm.strategy.name: [self._load(path, "test") for path in arm.directories] for arm in done},
        }
        return differences(
            arms,
            predictions,
            baseline=baseline,
            metric=metric,
            excluded=accuracy_drops(arms, baseline=baseline, most=most),
            train_counts=self.counts,
            units=units,
            folds=self.folds,
        )

    def _pooled(self, arm: Arm) -> list[Predictions]:
        """The validation predictions of an arm, one per seed."""
        parts = [self._load(path, "val") for path in arm.directories]
        return [pooled_predictions(parts[i : i + self.folds]) for i in range(0, len(parts), self.folds)]

    def _validation(self, runs: Sequence[Run]) -> Evaluation:
        """The evaluation of one seed on validation, over its folds."""
        pooled = pooled_predictions([self._read(run, "val") for run in runs])
        return self._evaluation(pooled, "val", mean_recall(runs))

    def _evaluation(self, predictions: Predictions, split: str, recall: tuple[float | None, ...]) -> Evaluation:
        return evaluate(predictions, split=split, train_counts=self.counts, train_recall=recall or None)

    def _read(self, run: Run, split: str) -> Predictions:
        return Predictions.load(Path(run.directory) / f"predictions-{split}.npz")

    def _load(self, path: str, split: str) -> Predictions:
        return Predictions.load(self.folder / path / f"predictions-{split}.npz")

    def _title(self, index: int) -> str:
        """The seed of a run, and its fold if there are several."""
        seed, fold = divmod(index, self.folds)
        return f"seed {self.seeds[seed]}" + (f", fold {fold}" if self.folds > 1 else "")
