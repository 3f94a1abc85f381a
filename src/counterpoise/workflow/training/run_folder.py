"""The folder of one run: its files and their formats, and the record of what was run and where."""

from __future__ import annotations

import hashlib
import platform
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from counterpoise.core.artifacts import Predictions, Run, Strategy
from counterpoise.core.codec import exact_float
from counterpoise.core.errors import ArtifactError, CounterpoiseError
from counterpoise.core.files import atomic_write, path_exists, read_json, reading, write_json, writing
from counterpoise.core.hyperparameters import KINDS, defaults, hyperparameters
from counterpoise.core.images import SPLITS
from counterpoise.core.tables import read_own_csv, write_csv
from counterpoise.core.text import parsed_number
from counterpoise.metrics import METRICS
from counterpoise.workflow.evaluation import TUNING_FILE
from counterpoise.workflow.training.devices import device_text, used_device
from counterpoise.workflow.training.posthoc import LinearHead
from counterpoise.workflow.training.settings import UNRECORDED
from counterpoise.workflow.training.setup import TrainingSetup

HISTORY_COLUMNS = ("epoch", "step", "loss", "learning_rate", "val_loss", "val_accuracy", "val_balanced_accuracy")
MORE_COLUMNS = tuple(name for metric in METRICS if (name := f"val_{metric}") not in HISTORY_COLUMNS)
"""Columns of history.csv if the epochs are compared by another metric."""
CHECKPOINTS = ("checkpoint.safetensors", "checkpoint-previous.safetensors")
BACKBONE = "backbone.safetensors"
"""The frozen backbone of a head that was trained on its features."""
EVENTS = "tensorboard/events.out.tfevents.*"
RESULTS = ("model.safetensors", *(f"predictions-{split}.npz" for split in SPLITS))
FILES = (*CHECKPOINTS, "run.json", "history.csv", "weights.json", TUNING_FILE, BACKBONE, EVENTS, *RESULTS)
_SCHEDULE = (
    ". The learning rate follows a schedule over all epochs, so the epochs of a longer or shorter training are others "
    "and cannot be added; keep or continue this run with `epochs` {}, or train for {} epochs from the beginning"
)
_PACKAGES = ("counterpoise", "torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn", "pillow")


class RunFolder:
    """Reads and writes the files of a run: run.json, history.csv, predictions, model and checkpoint."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._newest_is_damaged = False

    def write_run(self, run: Run) -> None:
        """Write run.json; it does not record the folder, so that the folder can be moved."""
        replace(run, directory=".").save(self.path / "run.json")

    def read_run(self) -> Run | None:
        """The run recorded in the folder, or None."""
        file = self.path / "run.json"
        return replace(Run.load(file), directory=str(self.path)) if path_exists(file) else None

    def write_history(self, rows: list[dict[str, float | None]]) -> None:
        """Write history.csv: one line per epoch, floats in full precision, undefined numbers empty."""
        # Rows that were read from the file have floats throughout.
        whole = ({**row, **{key: int(row[key] or 0) for key in ("epoch", "step")}} for row in rows)
        columns = (*HISTORY_COLUMNS, *(name for name in MORE_COLUMNS if rows and name in rows[0]))
        write_csv(self.path / "history.csv", columns, ([row[key] for key in columns] for row in whole))

    def read_history(self) -> list[dict[str, float | None]]:
        """The inverse of `write_history`; empty for a strategy that trains nothing."""
        file = self.path / "history.csv"
        if not path_exists(file):
            return []
        rows = read_own_csv(file, HISTORY_COLUMNS, optional=MORE_COLUMNS)
        try:
            return [{key: parsed_number(text) if text else None for key, text in row.items()} for row in rows]
        except ValueError as error:
            raise _damaged(file, error) from error

    def write_weights(self, classes: Sequence[str], epochs: Sequence[Sequence[float]]) -> None:
        """Write weights.json: the class weights of each epoch, for a strategy that changes them."""
        write_json(self.path / "weights.json", {"classes": list(classes), "epochs": [list(row) for row in epochs]})

    def read_weights(self) -> list[list[float]]:
        """The class weights of each epoch; empty if they do not change."""
        file = self.path / "weights.json"
        if not path_exists(file):
            return []
        content = read_json(file)
        epochs = content.get("epochs") if isinstance(content, dict) else None
        if not isinstance(epochs, list) or not all(isinstance(row, list) for row in epochs):
            raise _damaged(file, "`epochs` must be a list of lists of numbers")
        try:
            return [[exact_float(weight, "epochs") for weight in row] for row in epochs]
        except ArtifactError as error:
            raise _damaged(file, error) from error

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """Write predictions-<split>.npz."""
        predictions.save(self.path / f"predictions-{split}.npz")

    def read_predictions(self, split: str) -> Predictions | None:
        """The predictions on a split, or None."""
        file = self.path / f"predictions-{split}.npz"
        return Predictions.load(file) if path_exists(file) else None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write a .safetensors file, which cannot contain code."""
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        with atomic_write(self.path / name) as file:
            file.write(safetensors.torch.save(whole, metadata))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and metadata, or None if there is no such file; a damaged one is an `ArtifactError`."""
        file = self.path / name
        if not path_exists(file):
            return None
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise _damaged(file, error) from error

    def link_model(self, source: RunFolder) -> None:
        """Give this folder the model of another run."""
        for name in ("model.safetensors", BACKBONE):
            if path_exists(source.path / name):
                self.link(name, source)

    def link(self, name: str, source: RunFolder) -> None:
        """Give this folder a file of another one, as a hard link where the file system has them.

        Raises:
            WriteError: the file can be neither linked nor copied.
        """
        own, other = (folder.path / name for folder in (self, source))
        with writing(own):
            self.path.mkdir(parents=True, exist_ok=True)
            own.unlink(missing_ok=True)
            try:
                own.hardlink_to(other)
            except OSError:
                shutil.copyfile(other, own)

    def write_checkpoint(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the checkpoint with its SHA-256; the one before becomes checkpoint-previous.safetensors."""
        newest, previous = (self.path / name for name in CHECKPOINTS)
        if path_exists(newest) and not self._newest_is_damaged:
            with writing(previous):
                newest.replace(previous)
        self.write_tensors(newest.name, tensors, {**metadata, "sha256": tensors_digest(tensors, metadata)})
        self._newest_is_damaged = False

    def load_checkpoint(self, load: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
        """Pass the checkpoint, if there is one, to ``load``; in place of a damaged one the one before, with a warning.

        ``load`` raises ValueError for content that does not belong to this run. Training is deterministic, so that a
        run that continues from the previous checkpoint ends with the same model.
        """
        damage = []
        for name in CHECKPOINTS:
            try:
                saved = self.read_tensors(name)
                if saved is not None:
                    _check_digest(*saved)
                    load(*saved)
                    break
            except (ArtifactError, ValueError) as error:
                damage.append(error if isinstance(error, ArtifactError) else _damaged(self.path / name, error))
        else:
            if damage:
                raise damage[0]
        if damage:
            self._newest_is_damaged = True
            reason = str(damage[0]).partition("; start again")[0]
            warnings.warn(f"{reason}; training continues from {name}, check the disk", UserWarning, stacklevel=2)

    def digests(self) -> dict[str, str]:
        """The SHA-256 of the model and of each file of predictions."""
        found = {}
        for name in RESULTS:
            if path_exists(self.path / name):
                with reading(self.path / name):
                    found[name] = hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        return found

    def check_digests(self, run: Run) -> None:
        """Raise `ArtifactError` if a result of a finished run has changed; earlier versions recorded no digests."""
        current = self.digests() if run.digests else {}
        for name, digest in run.digests.items():
            if current.get(name) != digest:
                change = "was changed or damaged after the run" if name in current else "is missing"
                raise ArtifactError(
                    f"{self.path / name} {change}; delete {self.path} to repeat this run, or start again with "
                    "`overwrite` (--overwrite)"
                )

    def remove_checkpoint(self) -> None:
        """Remove the checkpoints, which a finished run no longer needs."""
        for name in CHECKPOINTS:
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)


def _damaged(file: Path, reason: object) -> ArtifactError:
    return ArtifactError(f"{file} is damaged ({reason}); start again with `overwrite` (--overwrite)")


def tensors_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = MappingProxyType({})) -> str:
    """SHA-256 of names, types, shapes and values of tensors, and of the metadata."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        if tensor.numel():  # torch cannot view an empty tensor as bytes
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Raise ValueError unless a checkpoint has the SHA-256 that was saved with it."""
    content = {key: value for key, value in metadata.items() if key != "sha256"}
    # Earlier versions wrote one entry and no digest; if there are more entries, the name of the digest is damaged.
    expected = tensors_digest(tensors, content) if len(metadata) != 1 else None
    if metadata.get("sha256") != expected:
        raise ValueError("its content does not have the SHA-256 that was saved with it")


def linear_head(tensors: dict[str, Tensor]) -> LinearHead | None:
    """Weight and bias of the linear head in a model's state dict, in double precision; None if it has another head."""
    if not {"head.weight", "head.bias"} <= tensors.keys():
        return None
    weight, bias = (tensors[name].detach().cpu().double().numpy() for name in ("head.weight", "head.bias"))
    return weight, bias


def open_run(setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder) -> Run:
    """The run that the folder records, or a new one if the folder is empty.

    Raises:
        ArtifactError: the folder records a run that would compute something else; the difference is named. Or the
            results of a finished run have changed.
    """
    counts, tree, advice = setup.counts, setup.class_tree(strategy), setup.double_correction_advice(strategy)
    new = Run(
        strategy=replace(strategy, reason=""),
        seed=seed,
        status="running",
        model=setup.settings.model,
        settings=setup.settings_record,
        environment=_environment(used_device(setup.device)),
        data={**setup.data.to_dict(), "content": setup.content},
        classes=counts.names,
        train_counts=tuple(counts.counts.tolist()),
        notes=() if advice is None else (advice,),
        tree={} if tree is None else tree.to_dict(),
    )
    old = folder.read_run()
    if old is None:
        return new
    recorded, asked = _computation(old), _computation(new)
    if "content" not in old.data:  # a run of a version that did not record it
        asked["data"] = {key: value for key, value in new.data.items() if key != "content"}
    for name in asked:
        if recorded[name] != asked[name]:
            raise ArtifactError(
                f"{folder.path} holds another run: its {name} {_difference(recorded[name], asked[name])}; "
                "choose another folder, or start again with `overwrite`"
            )
    if old.status == "done":
        folder.check_digests(old)
    return old


def restarted(run: Run, setup: TrainingSetup, step: int, folder: RunFolder) -> Run:
    """The record of a run that trains from this step on; another device than before is added to its environment."""
    device, before = device_text(used_device(setup.device)), run.environment.get("device", "unknown")
    if step == 0:
        before = device
    elif before.rpartition(": ")[2] != device:
        before += f"; from step {step}: {device}"
    environment = {**run.environment, "device": before}
    return replace(
        run,
        status="running",
        error=None,
        starts=(*run.starts, step),
        environment=environment,
        directory=str(folder.path),
    )


def error_text(error: BaseException) -> str:
    """The text of an error for run.json, on one line; with its class unless it is one of ours."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, CounterpoiseError) else f"{type(error).__name__}: {text}"


def _computation(run: Run) -> dict[str, Any]:
    """All that determines the numbers of a run; descriptive texts, and whether a default is stated, do not."""
    strategy = run.strategy
    values: dict[str, Any] = {
        name: getattr(strategy, name) for name in ("name", "head", "separate", "scores", "reuses")
    }
    for kind in KINDS:
        method, options = strategy.component(kind)
        values[kind] = method
        if method is not None:
            values |= {f"{kind} {k}": v for k, v in defaults(kind, method, *hyperparameters(kind, method)).items()}
            values |= {f"{kind} {k}": v for k, v in options.items()}
    names = ("seed", "data", "classes", "train_counts", "tree")
    settings = {**UNRECORDED, **run.settings}
    if isinstance(file := settings["weights"], dict):
        settings["weights"] = f"SHA-256 {file.get('sha256')}"  # the file may have another name
    return {"strategy": values, "settings": settings, **{name: getattr(run, name) for name in names}}


def _difference(recorded: Any, asked: Any) -> str:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        key = next(k for k in {**recorded, **asked} if recorded.get(k) != asked.get(k))
        reason = _SCHEDULE.format(recorded[key], asked[key]) if key == "epochs" else ""
        return f"has {key} = {recorded.get(key)!r:.60}, and {asked.get(key)!r:.60} was asked for{reason}"
    return f"is {str(recorded)!r:.80}, and {str(asked)!r:.80} was asked for"


def _environment(device: torch.device) -> dict[str, str]:
    """Versions of the packages that influence the numbers, and the machine."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    system = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    return {**versions, **system, "device": device_text(device), "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
