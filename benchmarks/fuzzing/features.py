"""Features that the user has computed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.training.frozen.features import Features, load_features
from fuzzing.cases import Case
from fuzzing.inputs import place_npz
from fuzzing.readings import arrays_of

_ARRAYS = ("features.npy", "paths.npy", "labels.npy")
DATA = ImageDataset(
    name="five",
    classes=("a", "b"),
    labels=np.array([0, 1, 0, 1, 0]),
    paths=("train/a/0.png", "train/b/1.png", "train/a/2.png", "val/b/3.png", "test/a/4.png"),
    splits=np.array(["train", "train", "train", "val", "test"]),
    symmetries=frozenset(),
    pixels=np.zeros((5, 2, 2, 3), dtype=np.uint8),
)


def features_file(rng: random.Random, folder: Path) -> Case:
    shape = (5, rng.randrange(1, 5)) if rng.random() < 0.5 else (5, rng.randrange(1, 4), rng.randrange(1, 5))
    order = rng.sample(range(5), 5)
    values = np.array([rng.gauss(0, 3) for _ in range(int(np.prod(shape)))]).reshape(shape)
    arrays = {"features": values.astype(rng.choice(("f2", "f4", "f8", ">f4")))[order]}
    arrays["paths"] = np.array(DATA.paths)[order]
    if rng.random() < 0.5:
        labels = DATA.labels if rng.random() < 0.5 else np.array(DATA.classes)[DATA.labels]
        arrays["labels"] = labels[order]
    path, is_valid = place_npz(rng, folder / "f.npz", **arrays)
    return Case(str(path), is_valid)


def read_features(case: Case) -> Features:
    return load_features(case.given, DATA)


def check_features(case: Case, found: Features) -> str:
    arrays = arrays_of(case.given, _ARRAYS)
    given = arrays["features"]
    if given.dtype.kind != "f":
        return f"{given.dtype} features are accepted"
    names = arrays["paths"].tolist() if "paths" in arrays else list(DATA.paths)
    row_of = {name: row for row, name in enumerate(names)}
    for split, values in found.values.items():
        rows = [row_of[name] for name in DATA.subset(split).paths]
        expected = given[rows].reshape(len(rows), -1, given.shape[-1])
        expected = (expected if split == "train" else expected[:, :1]).astype(
            given.dtype if given.dtype == "f2" else "f4"
        )
        if not np.isfinite(values).all() or not np.array_equal(values, expected):
            return f"the features of {split} are {values!r:.100} and not {expected!r:.100}"
    if "labels" in arrays:
        labels = [arrays["labels"][row_of[name]].item() for name in DATA.paths]
        if any(label not in (c, DATA.classes[c]) for label, c in zip(labels, DATA.labels.tolist(), strict=True)):
            return f"the labels {labels} are accepted"
    return ""
