"""The readers that benchmarks/fuzz.py tests: how the inputs of each are made, read and checked."""

from __future__ import annotations

from typing import Any

from counterpoise.cli.options import read_counts
from counterpoise.core import artifacts
from counterpoise.core.artifacts import Predictions, Run, read_artifact
from counterpoise.core.counts import ClassCounts
from counterpoise.core.lineage import read_lineage
from counterpoise.workflow.augmentation import Augmented, LongTail
from counterpoise.workflow.dataset import load
from counterpoise.workflow.evaluation.tuning import RunTuning
from counterpoise.workflow.training.run_folder import RunFolder
from fuzzing.cases import Case, Reader
from fuzzing.counts import (
    check_counts_json,
    check_counts_text,
    check_counts_values,
    check_label_values,
    counts_json,
    counts_text,
    counts_values,
    label_values,
)
from fuzzing.datasets import check_folder, check_manifest, image_folder, manifest_csv, manifest_parquet, read_folder
from fuzzing.features import check_features, features_file, read_features
from fuzzing.images import check_image, images_of, read_an_image
from fuzzing.predictions import check_predictions, predictions
from fuzzing.readings import difference, own_csv_rows
from fuzzing.runs import (
    check_artifact,
    check_checkpoint,
    check_history,
    check_model,
    check_replacement,
    check_run,
    check_weights_file,
    checkpoint,
    files_of,
    history,
    lineage,
    model,
    read_checkpoint,
    read_in_folder,
    read_replacement,
    read_run,
    replacement,
    weights_file,
)
from fuzzing.strategies import check_strategy, read_strategy, strategy_text
from fuzzing.trees import check_tree, read_tree, tree_csv, tree_json, tree_npz, tree_yaml


def _count(case: Case) -> ClassCounts:
    values, options = case.given
    return ClassCounts(values, **options)


def _count_labels(case: Case) -> ClassCounts:
    labels, options = case.given
    return ClassCounts.from_labels(labels, **options)


def _difference_of_rows(case: Case, rows: list[dict[str, str]]) -> str:
    return difference(own_csv_rows(case.given), rows)


def _artifact(name: str, kind: Any) -> Reader:
    read = kind.load if kind in (Augmented, LongTail, RunTuning) else read_artifact
    return Reader(name, files_of(kind, name), lambda case: read(case.given), check_artifact)


_SCANS: tuple[dict[str, Any], ...] = (
    {},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"subsampling": 0, "quality": 95},
)
_PNG = images_of(("PNG", ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"), ({},)))
_JPEG = images_of(("JPEG", ("RGB", "L", "CMYK"), _SCANS))
_OTHER_IMAGES = images_of(
    ("GIF", ("P", "L"), ({},)),
    ("BMP", ("RGB", "L", "P"), ({},)),
    ("WEBP", ("RGB",), ({"lossless": True},)),
    ("TIFF", ("RGB", "L", "P"), tuple({"compression": kind} for kind in ("raw", "tiff_lzw", "packbits"))),
)
_read_model = read_in_folder(lambda run: run.read_tensors("model.safetensors"), "model.safetensors")
_read_history = read_in_folder(RunFolder.read_history, "history.csv")
_read_weights = read_in_folder(RunFolder.read_weights, "weights.json")

_READERS = (
    Reader("counts.json", counts_json, lambda case: read_counts(case.given), check_counts_json),
    Reader("counts as text", counts_text, lambda case: read_counts(case.given), check_counts_text),
    Reader("ClassCounts", counts_values, _count, check_counts_values),
    Reader("from_labels", label_values, _count_labels, check_label_values),
    Reader("tree.yaml", tree_yaml, read_tree, check_tree),
    Reader("tree.json", tree_json, read_tree, check_tree),
    Reader("tree.csv", tree_csv, read_tree, check_tree),
    Reader("tree.npz", tree_npz, read_tree, check_tree),
    Reader("predictions.npz", predictions, lambda case: Predictions.load(case.given), check_predictions),
    Reader("features.npz", features_file, read_features, check_features),
    Reader("manifest.csv", manifest_csv, lambda case: load(case.given), check_manifest),
    Reader("manifest.parquet", manifest_parquet, lambda case: load(case.given), check_manifest),
    Reader("image folder", image_folder, read_folder, check_folder),
    Reader("PNG", _PNG, read_an_image, check_image),
    Reader("JPEG", _JPEG, read_an_image, check_image),
    Reader("other images", _OTHER_IMAGES, read_an_image, check_image),
    Reader("checkpoint", checkpoint, read_checkpoint, check_checkpoint),
    Reader("model", model, _read_model, check_model),
    Reader("run.json", files_of(Run, "run.json"), read_run, check_run),
    Reader("history.csv", history, _read_history, check_history),
    Reader("weights.json", weights_file, _read_weights, check_weights_file),
    _artifact("comparison.json", artifacts.Comparison),
    _artifact("audit.json", artifacts.AuditResult),
    _artifact("evaluation.json", artifacts.Evaluation),
    _artifact("explanation.json", artifacts.Explanation),
    _artifact("augment.json", Augmented),
    _artifact("longtail.json", LongTail),
    _artifact("tuned.json", RunTuning),
    Reader("augmented.csv", lineage, lambda case: read_lineage(case.given), _difference_of_rows),
    Reader("strategy", strategy_text, read_strategy, check_strategy),
    Reader("replacement", replacement, read_replacement, check_replacement, writes=True),
)
READERS = {reader.name: reader for reader in _READERS}
