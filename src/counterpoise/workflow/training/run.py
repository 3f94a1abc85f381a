"""train: one strategy, one seed, one model; leaves a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.files import claim, locked
from counterpoise.core.images import LabeledImages
from counterpoise.workflow.dataset import load
from counterpoise.workflow.strategy import CATALOG, strategy_named
from counterpoise.workflow.training.environment import processes
from counterpoise.workflow.training.fit import fit
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.job import Job, check_strategy
from counterpoise.workflow.training.settings import Settings

__all__ = ["train"]


def train(
    strategy: Strategy | str,
    data: LabeledImages | str | Path,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Run:
    """Train a model with one strategy and leave the files of the run in ``out``.

    A strategy that only corrects scores (``reuses``) trains what it builds on first, in the same folder.

    Under ``accelerate launch`` or ``torchrun`` the processes share every batch: ``batch_size`` must be a multiple of
    their number, and stays the size of the whole batch.

    Args:
        strategy: a `Strategy`, or a name from the catalog.
        data: a dataset, or what `counterpoise.load` takes.
        seed: of the initial weights, the order of images and the augmentation.
        out: a new or empty folder; default ``runs/<strategy>-seed<seed>``.
        resume: go on from the last epoch saved in ``out``; from the start where there is none.
        overwrite: replace the run in ``out``.
        progress: called with the steps done and all steps.
        **settings: fields of `Settings`: ``model``, ``epochs``, ``batch_size``, ``learning_rate``, ….

    Returns:
        The `Run`; its `directory` has run.json, history.csv, predictions-val.npz, predictions-test.npz and
        model.safetensors.

    Warns:
        UserWarning: a strategy of your own compensates the class imbalance more than once; says what to change.

    Raises:
        ArgumentError: an unknown strategy, model or setting, or an augmentation that the data forbid.
        ArtifactError: ``out`` holds other files, or the checkpoint is of another run.
        TrainingError: the loss became NaN or infinite.

    Example:
        >>> import tempfile
        >>> run = train("logit-adjusted", "digits", epochs=1, out=tempfile.mkdtemp())  # doctest: +SKIP
    """
    chosen = strategy_named(strategy) if isinstance(strategy, str) else strategy
    checked = Settings.of(settings)
    group = processes()
    where = Path(out if out is not None else f"runs/{chosen.folder_name}-seed{seed}")
    # With several processes the first one guards and writes the folder; the others only read in it.
    first = group.is_main_process
    dataset = load(data) if isinstance(data, str | Path) else data
    check_strategy(chosen, dataset, checked)
    if first:
        claim(where, resume=resume, overwrite=overwrite)
    job = Job.prepare(dataset, checked)
    if chosen.name not in CATALOG:
        for advice in job.doubts(chosen):
            warnings.warn(advice, UserWarning, stacklevel=2)
    with locked(where) if first else nullcontext():
        files = RunFolder(where)
        if overwrite and first:
            files.clear()
        group.wait_for_everyone()
        tell = progress or (lambda done, total: None)
        return fit(job, chosen, seed=seed, folder=files, progress=lambda done: tell(done, job.settings.steps))
