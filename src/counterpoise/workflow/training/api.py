"""The public function `train`, `run_training`, and `run_posthoc` for a strategy that reuses a trained model."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.errors import ArgumentTypeError, ArtifactError, TrainingError
from counterpoise.core.files import NEW, claim, output_folder, path_exists
from counterpoise.core.images import SPLITS, LabeledImages
from counterpoise.workflow.audit import audit, warn_of_errors
from counterpoise.workflow.dataset import as_dataset, check_output
from counterpoise.workflow.dataset.folds import with_validation
from counterpoise.workflow.strategy import CATALOG, as_strategy
from counterpoise.workflow.training.devices import (
    check_device,
    distributed_state,
    training_device,
)
from counterpoise.workflow.training.frozen.runs import WORK, HeadTask, train_heads
from counterpoise.workflow.training.frozen.setup import FrozenSetup, prepared
from counterpoise.workflow.training.loop import Progress
from counterpoise.workflow.training.posthoc import (
    FITTED,
    HeldOut,
    apply_over_folds,
    apply_posthoc,
)
from counterpoise.workflow.training.progress import ProgressReport, as_report
from counterpoise.workflow.training.results import finished_run, write_results
from counterpoise.workflow.training.run_folder import FILES, RunFolder, error_text, linear_head, open_run, restarted
from counterpoise.workflow.training.separate import SeparateTrainer
from counterpoise.workflow.training.settings import Settings
from counterpoise.workflow.training.setup import TrainingSetup, check_strategy
from counterpoise.workflow.training.tracking import Track, check_tracker, tracking
from counterpoise.workflow.training.trainer import Trainer, final_predictions


def train(  # noqa: PLR0913  one argument per decision of the user
    strategy: Strategy | str,
    data: LabeledImages | str | Path,
    *,
    seed: int = 0,
    with_val: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | torch.device = "auto",
    tracker: str | None = None,
    progress: Callable[[int, int], None] | ProgressReport | None = None,
    **settings: Any,
) -> Run:
    """Train a model with one strategy and write the files of the run to ``out``.

    A strategy that only changes logits after training (``reuses``) trains its own base model, then applies the post-hoc
    method, in one folder.

    Under ``accelerate launch`` or ``torchrun`` the processes share every batch: ``batch_size`` is the size of the whole
    batch and must be a multiple of their number.

    Args:
        strategy: a `Strategy`, a name or alias from the catalog, or a name with overrides such as ``"focal:gamma=1"``.
        data: a dataset, or what `counterpoise.load` takes.
        seed: of the initial weights, the order of images and the augmentation.
        with_val: train on the validation images as well, for the model to use after a comparison has chosen the
            strategy. Strategies that fit something on validation images need them and raise an error.
        out: a new or empty folder; None for ``runs/<strategy>-seed<seed>``.
        resume: continue from the last epoch saved in ``out``; from the start if there is none.
        overwrite: replace the run in ``out`` when the new one is done. Until then the old run stays, and the new one is
            in the sub folder ``.counterpoise-new``, where ``resume`` continues it; delete it to keep the old run.
        device: "cpu", "cuda", "cuda:1", "mps", …; "auto" for a GPU if there is one, or what accelerate was told to use
            (the environment variable ACCELERATE_TORCH_DEVICE). A run may be resumed on another device; run.json records
            each.
        tracker: "tensorboard" writes loss, learning rate and the metrics on validation of every epoch to the sub folder
            ``tensorboard`` of the run, for ``tensorboard --logdir``; needs the package tensorboard.
        progress: called after every step with the number of steps done and of all steps; or a `ProgressReport`, which
            also gets the plan, the epochs and the finished run.
        **settings: fields of `Settings`: ``model``, ``epochs``, ``batch_size``, ``learning_rate``, ….

    Returns:
        The `Run`; its `directory` has run.json, history.csv, predictions-val.npz, predictions-test.npz and
        model.safetensors.

    Warns:
        UserWarning: the same image is in two classes or two splits; `counterpoise.audit` lists all findings. A strategy
            of your own compensates the class imbalance more than once; says what to change. Or the logits of the
            training images are too many to save; their recall per class is in the `Run` all the same.

    Raises:
        ArgumentError: an unknown strategy, model or setting, a device that does not exist, an augmentation that is not
            label-preserving, or ``out`` inside the folder of the data.
        ArgumentTypeError: ``strategy`` is neither a name nor a `Strategy`, or stands after the data.
        ArtifactError: ``out`` holds other files or the checkpoint of another run, or cannot be written to.
        TrainingError: the loss became NaN or infinite.

    Example:
        >>> import tempfile
        >>> run = train("logit-adjusted", "digits", epochs=1, out=tempfile.mkdtemp())  # doctest: +SKIP
    """
    _check_order(strategy, data)
    chosen = as_strategy(strategy, argument="strategy")
    checked = Settings.from_options(settings, arguments=inspect.signature(train).parameters)
    used = check_device(checked.precision, device)
    check_tracker(tracker)
    group = distributed_state()
    path = Path(out if out is not None else f"runs/{chosen.folder_name}-seed{seed}")
    # With several processes the first one checks and writes the folder; the others only read it.
    is_first = group.is_main_process
    given = as_dataset(data)
    dataset = with_validation(given) if with_val else given
    check_strategy(chosen, dataset, checked)
    if is_first:
        claim(path, resume=resume, overwrite=overwrite)
    check_output(given, path)
    report = as_report(None if isinstance(progress, ProgressReport) and not is_first else progress, named=False)
    setup = prepared(dataset, checked, device=used, tracker=tracker, out=path, progress=report.features)
    setup.check_head(chosen)
    if is_first:
        warn_of_errors(audit(setup.data), "the training", stacklevel=2)
    if chosen.name not in CATALOG and (advice := setup.double_correction_advice(chosen)):
        warnings.warn(advice, UserWarning, stacklevel=2)
    with output_folder(path, FILES, resume=resume, overwrite=overwrite) if is_first else nullcontext():
        group.wait_for_everyone()
        folder = path / NEW if path_exists(path / NEW) else path
        run = _reported(setup, chosen, seed, RunFolder(folder), report)
        group.wait_for_everyone()
    return replace(run, directory=str(path))


def _check_order(strategy: Any, data: Any) -> None:
    """Raise if the data stand where the strategy belongs."""
    names_strategy = isinstance(data, str) and data.partition(":")[0] in CATALOG and not path_exists(Path(data))
    if isinstance(strategy, LabeledImages) or isinstance(data, Strategy) or (names_strategy and strategy != data):
        raise ArgumentTypeError(
            "`strategy` and `data` are in the wrong order: `strategy` comes first; write train('focal', data)"
        )


def _reported(setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder, report: ProgressReport) -> Run:
    """Train a strategy as the only run, and report its progress."""
    name, s = f"{strategy.name}, seed {seed}", setup.settings
    plan = setup.plan(1, steps=s.steps)
    open_run(setup, strategy, seed, folder)  # refuses the folder of another run before anything is reported
    report.start(plan if s.select_by is None else replace(plan, metric=s.select_by))
    if isinstance(setup, FrozenSetup):
        task = HeadTask(strategy, seed, folder.path)
        (run,) = train_heads(setup, [task], work=folder.path / WORK, progress=report.step)
        if run.error is not None:
            raise TrainingError(run.error)
    else:
        run = run_training(
            setup, strategy, seed=seed, folder=folder,
            progress=lambda done: report.step(name, done, s.steps), on_epoch=lambda row: report.epoch(name, row),
        )  # fmt: skip
    report.finish(name, run, None)
    return run


def run_training(
    setup: TrainingSetup,
    strategy: Strategy,
    *,
    seed: int,
    folder: RunFolder,
    progress: Progress,
    on_epoch: Track = lambda row: None,
) -> Run:
    """Train a strategy, resume its training, or return the finished run: the files in the folder decide.

    ``progress`` is called after every step, and ``on_epoch`` after every epoch with its row of the history.
    """
    run = open_run(setup, strategy, seed, folder)
    if run.status == "done":
        return run
    try:
        return _trained(setup, strategy, seed, folder, run, progress, on_epoch)
    except Exception as error:
        if distributed_state().is_main_process:
            with suppress(ArtifactError):
                folder.write_run(replace(folder.read_run() or run, status="failed", error=error_text(error)))
        raise


def _trained(
    setup: TrainingSetup,
    strategy: Strategy,
    seed: int,
    folder: RunFolder,
    run: Run,
    progress: Progress,
    on_epoch: Track,
) -> Run:
    """Train what remains of a run, and write its files."""
    clock = time.monotonic()
    with training_device(setup.device):
        trainer = (SeparateTrainer if strategy.separate else Trainer).create_or_resume(setup, strategy, seed, folder)
        run = restarted(run, setup, trainer.step, folder)
        writes = distributed_state().is_main_process
        if writes:
            folder.write_run(run)
        with tracking(setup.tracker if writes else None, folder.path, run, epoch=len(trainer.history)) as track:
            while not trainer.finished:
                trainer.run_epoch(progress)
                if writes:
                    trainer.save(folder)
                track(trainer.history[-1])
                on_epoch(trainer.history[-1])
        kept = trainer.keep_epoch()
        predictions, fitted = final_predictions(trainer, SPLITS)
    best_epoch = kept.best_epoch if kept.keeps_best else None
    run = replace(run, best_epoch=best_epoch, notes=(*run.notes, *kept.notes()))
    run = replace(run, steps=trainer.step, seconds=run.seconds + time.monotonic() - clock)
    run = finished_run(run, strategy, trainer.prior, predictions, fitted, trainer.transforms)
    if strategy.sampler == "progressive" and (best_epoch or kept.epoch) < setup.settings.epochs:
        run = replace(run, prior=())  # the sampling of the last epoch, which the prior describes, was not reached
    if writes:
        folder.write_tensors("model.safetensors", trainer.model_state(), {"model": setup.settings.model})
        folder.write_history(trainer.history)
        run = write_results(folder, run, predictions)
    return run


def run_posthoc(
    setup: TrainingSetup, strategy: Strategy, base: Run, *, seed: int, folder: RunFolder, folds: Sequence[Run] = ()
) -> Run:
    """Apply the post-hoc method of a strategy to the predictions of ``base``, the run that it reuses; train nothing.

    ``folds`` are the runs of all folds with this seed, ``base`` among them, if the images are divided into folds.
    """
    run, clock = open_run(setup, strategy, seed, folder), time.monotonic()
    if run.status == "done":
        return run
    source = RunFolder(base.directory)
    raw = {split: saved for split in SPLITS if (saved := source.read_predictions(split)) is not None}
    model = source.read_tensors("model.safetensors")
    prior = setup.class_prior(base.strategy)
    if folds and strategy.posthoc in FITTED:
        predictions, fitted = apply_over_folds(strategy, prior, raw, list(map(_held_out, folds)), folds.index(base))
    else:
        predictions, fitted = apply_posthoc(strategy, prior, raw, None if model is None else linear_head(model[0]))
    run = replace(run, seconds=time.monotonic() - clock, directory=str(folder.path))
    run = finished_run(run, strategy, prior, predictions, fitted, base.transforms)
    if model is not None:
        folder.link_model(source)
    return write_results(folder, run, predictions)


def _held_out(run: Run) -> HeldOut:
    """What the model of a finished run of a fold predicts for the held-out images."""
    folder = RunFolder(run.directory)
    predictions, model = folder.read_predictions("val"), folder.read_tensors("model.safetensors")
    if predictions is None:
        raise ArtifactError(f"{folder.path} has no predictions-val.npz; delete {folder.path} to repeat this run")
    return HeldOut(predictions, None if model is None else linear_head(model[0]))
