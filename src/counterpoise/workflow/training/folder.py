"""The folder of one run: the files in it and their formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from counterpoise.core.artifacts import Predictions, Run
from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import atomic_write, read_json, write_json

__all__ = ["HISTORY", "RunFolder"]

HISTORY = ("epoch", "step", "loss", "learning_rate", "val_loss", "val_accuracy", "val_balanced_accuracy")


class RunFolder:
    """Paths and formats of a run's files: run.json, history.csv, predictions, model, and the checkpoint."""

    NAMES = (
        "run.json",
        "history.csv",
        "weights.json",
        "predictions-train.npz",
        "predictions-val.npz",
        "predictions-test.npz",
        "model.safetensors",
        "checkpoint.safetensors",
    )

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def write_run(self, run: Run) -> None:
        """run.json says where it lies only by lying there."""
        replace(run, directory=".").save(self.path / "run.json")

    def read_run(self) -> Run | None:
        """The run recorded here, or None."""
        file = self.path / "run.json"
        return replace(Run.load(file), directory=str(self.path)) if file.exists() else None

    def write_history(self, rows: list[dict[str, float | None]]) -> None:
        """history.csv: one line an epoch; floats in full, an undefined number empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY)
        writer.writeheader()
        # Read back they are floats, like all else; a whole number is written as one.
        writer.writerows({**row, **{key: int(row[key] or 0) for key in ("epoch", "step")}} for row in rows)
        with atomic_write(self.path / "history.csv") as file:
            file.write(text.getvalue().encode())

    def read_history(self) -> list[dict[str, float | None]]:
        """The inverse of `write_history`; a strategy that trains nothing has none."""
        file = self.path / "history.csv"
        if not file.exists():
            return []
        with file.open(newline="") as lines:
            return [{key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(lines)]

    def write_weights(self, classes: Sequence[str], epochs: Sequence[Sequence[float]]) -> None:
        """weights.json: the class weights of each epoch, where a strategy changes them."""
        write_json(self.path / "weights.json", {"classes": list(classes), "epochs": [list(row) for row in epochs]})

    def read_weights(self) -> list[list[float]]:
        """The class weights of each epoch; none where they are fixed."""
        file = self.path / "weights.json"
        return list(read_json(file)["epochs"]) if file.exists() else []

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """predictions-<split>.npz."""
        predictions.save(self.path / f"predictions-{split}.npz")

    def read_predictions(self, split: str) -> Predictions | None:
        """The predictions on a split, or None where there are none."""
        file = self.path / f"predictions-{split}.npz"
        return Predictions.load(file) if file.exists() else None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """A .safetensors file: no code in it, so none can run when it is read."""
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        with atomic_write(self.path / name) as file:
            file.write(safetensors.torch.save(whole, metadata))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and metadata, or None where there is no such file; a damaged one is an `ArtifactError`."""
        file = self.path / name
        if not file.exists():
            return None
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise ArtifactError(f"{file} is damaged ({error}); start again with `overwrite`") from error

    def clear(self) -> None:
        """Remove our files; what others put here stays."""
        for name in self.NAMES:
            (self.path / name).unlink(missing_ok=True)

    def forget_checkpoint(self) -> None:
        """Once a run is done, its checkpoint is dead weight."""
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)
