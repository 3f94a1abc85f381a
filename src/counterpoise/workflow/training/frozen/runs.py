"""Train the heads of many runs on frozen features, and write the folder of each run."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.files import path_exists, read_json, write_json, writing
from counterpoise.core.images import Split
from counterpoise.workflow.training.frozen.arms import Arm
from counterpoise.workflow.training.frozen.features import link_backbone, save_backbone
from counterpoise.workflow.training.frozen.heads import HeadStack, TrainedHead
from counterpoise.workflow.training.frozen.selection import Choice, chosen_pairs, inner_setup, selection_arms
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.results import finished_run, write_results
from counterpoise.workflow.training.run_folder import RunFolder, open_run, restarted

CHECKPOINT_SECONDS = 20.0
"""At the end of an epoch the state of all heads is saved if the last time is this long ago."""
WORK = "heads"
"""Name of the folder of checkpoints, which is removed when all heads are trained."""
SMALL_PRODUCT = 50_000_000
"""Multiplications of a matrix product below which one thread is used."""
FLOAT32 = 4
COPIES = 5
"""Of each trained number: its value, its gradient, two moments, and a temporary one."""

Progress = Callable[[str, int, int], None]
"""Called with a description of what is trained, the steps of heads done, and the number of all of them."""


@dataclass(frozen=True)
class HeadTask:
    """One run: a strategy with a seed, and its folder."""

    strategy: Strategy
    seed: int
    folder: Path


def train_heads(
    setup: FrozenSetup,
    tasks: Sequence[HeadTask],
    *,
    work: Path,
    progress: Progress,
) -> list[Run]:
    """Train the heads of all tasks whose run is not done, and write their run folders.

    All heads are trained again if one of them is not done: every head then has the same weights as in a training that
    was not interrupted.

    Args:
        setup: the features and the settings, shared by all tasks.
        tasks: the runs.
        work: folder for checkpoints and for what was chosen; it is removed at the end.
        progress: called after every step.

    Returns:
        The run of every task; one whose head diverged has the status "failed" and the error.
    """
    opened = [open_run(setup, task.strategy, task.seed, RunFolder(task.folder)) for task in tasks]
    if all(run.status == "done" for run in opened):
        return opened
    save_backbone(work, setup.features)
    choices = _choices(setup, tasks, work=work, progress=progress)
    runs: list[Run] = []
    for part in _parts(setup, tasks):
        clock = time.monotonic()
        stack = HeadStack(setup, [_arm(task, choices[task.strategy.name]) for task in part])
        _train(stack, work, partial(progress, _TITLES[False]))
        seconds = (time.monotonic() - clock) / len(part)
        runs += _write_runs(stack, part, opened[len(runs) : len(runs) + len(part)], seconds, work)
    if path_exists(work):
        with writing(work):
            shutil.rmtree(work)
    return runs


_TITLES = {True: "choosing learning rates", False: "training heads"}


def _arm(task: HeadTask, choice: Choice) -> Arm:
    return Arm(task.strategy, task.seed, choice.learning_rate, choice.weight_decay)


def _choices(setup: FrozenSetup, tasks: Sequence[HeadTask], *, work: Path, progress: Progress) -> dict[str, Choice]:
    """The learning rate and the weight decay of every strategy, chosen within the training images, with one seed."""
    strategies = list({task.strategy.name: task.strategy for task in tasks}.values())
    pairs = setup.settings.pairs
    if len(pairs) == 1:
        return {strategy.name: Choice(*pairs[0], ()) for strategy in strategies}
    inner, file = inner_setup(setup), work / "choices.json"
    arms = selection_arms(strategies, pairs)
    key = _key(inner, arms)
    if path_exists(file) and (saved := read_json(file)).get("key") == key:
        return {name: Choice(*values) for name, values in saved["choices"].items()}
    chosen: dict[str, Choice] = {}
    for part in _parts(inner, arms, together=len(pairs)):
        stack = HeadStack(inner, part, validate=False)
        _train(stack, work, partial(progress, _TITLES[True]))
        chosen |= chosen_pairs(stack, metric=str(setup.settings.select_by))
    values = {name: (choice.learning_rate, choice.weight_decay, choice.scores) for name, choice in chosen.items()}
    write_json(file, {"key": key, "choices": values})
    return chosen


def _train(stack: HeadStack, work: Path, progress: Callable[[int, int], None]) -> None:
    """Train a stack to its end, from its last checkpoint if there is one."""
    steps = stack.setup.settings.steps * len(stack.arms)
    folder = RunFolder(work / _key(stack.setup, stack.arms)[:16])
    folder.load_checkpoint(stack.load_state_dict)
    done, saved = stack.epoch * stack.setup.settings.steps_per_epoch * len(stack.arms), time.monotonic()

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, steps)

    while not stack.finished:
        with _few_threads(stack):
            stack.run_epoch(count)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            tensors, metadata = stack.state_dict()
            folder.write_checkpoint(tensors, metadata)
            saved = time.monotonic()


@contextmanager
def _few_threads(stack: HeadStack) -> Iterator[None]:
    """One thread for products so small that more threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if stack.largest_product > SMALL_PRODUCT else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_runs(
    stack: HeadStack, tasks: Sequence[HeadTask], opened: Sequence[Run], seconds: float, work: Path
) -> list[Run]:
    """Write the folders of the runs that are not done; ``seconds`` is the share of each in the time of the stack."""
    outputs = {split: stack.outputs(split) for split in stack.setup.splits}
    position = {id(head.arm): i for i, head in enumerate(stack.heads)}
    runs = []
    for arm, task, run in zip(stack.arms, tasks, opened, strict=True):
        if run.status == "done":
            runs.append(run)
            continue
        i = position[id(arm)]
        folder, raw = RunFolder(task.folder), {split: logits[i] for split, logits in outputs.items()}
        started = restarted(run, stack.setup, 0, folder)
        started = replace(started, seconds=run.seconds + seconds, steps=stack.setup.settings.steps)
        runs.append(_write_run(started, stack.heads[i], raw, folder, work))
    return runs


def _write_run(run: Run, head: TrainedHead, raw: dict[Split, Any], folder: RunFolder, work: Path) -> Run:
    """Write the files of one run; a head that diverged leaves a failed run."""
    setup = head.setup
    run = replace(run, selected={"learning_rate": head.arm.learning_rate, "weight_decay": head.arm.weight_decay})
    folder.write_run(run)
    folder.write_history(head.history)
    if head.class_weight_history:
        folder.write_weights(setup.counts.names, head.class_weight_history)
    if head.error is not None:
        run = replace(run, status="failed", error=head.error)
        folder.write_run(run)
        return run
    predictions, fitted = head.final_predictions(raw)
    run = finished_run(run, run.strategy, head.prior, predictions, fitted, head.transforms)
    folder.write_tensors("model.safetensors", head.model_state(), {"model": setup.settings.model})
    link_backbone(folder.path, work)
    return write_results(folder, run, predictions)


def _parts(setup: FrozenSetup, items: Sequence[Any], *, together: int = 1) -> Iterator[Sequence[Any]]:
    """Divide heads into stacks that fit in memory, ``cache_gib``; ``together`` heads are not separated."""
    numbers = COPIES * (setup.width + 1) * _outputs(setup, items) * FLOAT32
    fitting = max(1, int(setup.settings.cache_gib * 2**30 / numbers) // together) * together
    for start in range(0, len(items), fitting):
        yield items[start : start + fitting]


def _outputs(setup: FrozenSetup, items: Sequence[Any]) -> int:
    """The largest number of outputs of a head."""
    trees = [tree for item in items if (tree := setup.class_tree(item.strategy)) is not None]
    return max([setup.counts.num_classes, *(tree.num_edges for tree in trees[:1])])


def _key(setup: FrozenSetup, arms: Sequence[Arm]) -> str:
    """Digest of all that determines the weights of the heads."""
    record = {
        "settings": setup.settings.to_dict(),
        "features": setup.features.source,
        "data": setup.data.to_dict(),
        "content": setup.content,
        "arms": [(arm.strategy.to_dict(), arm.seed, arm.learning_rate, arm.weight_decay) for arm in arms],
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()
