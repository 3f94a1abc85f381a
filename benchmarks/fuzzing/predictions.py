"""Saved predictions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from counterpoise.core.artifacts import Predictions
from fuzzing.cases import Case
from fuzzing.inputs import NAMES, place_npz
from fuzzing.readings import arrays_of


def random_logits(rng: random.Random, rows: int, columns: int) -> np.ndarray:
    return np.array([[rng.gauss(0, 1) for _ in range(columns)] for _ in range(rows)]).astype(rng.choice(("f4", "f8")))


def predictions(rng: random.Random, folder: Path) -> Case:
    rows, size = rng.randrange(6), rng.randrange(1, 5)
    classes = np.array(rng.sample([name for name in NAMES if name and "\0" not in name and name != "\udcff"], size))
    labels = np.array([rng.randrange(size) for _ in range(rows)], dtype=rng.choice(("i8", "u1", "i4")))
    paths = np.array([f"{i}.png" for i in range(rows)], dtype="<U9")
    path, is_valid = place_npz(
        rng,
        folder / "p.npz",
        logits=random_logits(rng, rows, size).reshape(rows, size),
        labels=labels,
        classes=classes,
        paths=paths,
    )
    return Case(str(path), is_valid)


def check_predictions(case: Case, found: Predictions) -> str:
    given = {name: array for name, array in arrays_of(case.given).items() if hasattr(found, name)}
    if given["labels"].dtype.kind not in "iu" or given["logits"].dtype.kind not in "iuf":
        return f"{given['labels'].dtype} labels and {given['logits'].dtype} logits are accepted"
    for name, array in given.items():
        read = getattr(found, name)
        if name in ("classes", "paths"):
            if array.dtype.kind not in "Uiu" or [str(x) for x in array.tolist()] != read.tolist():
                return f"{name} {array!r} became {read!r}"
        elif array.shape != read.shape or not all(
            a == b or a != a for a, b in zip(array.ravel().tolist(), read.ravel().tolist(), strict=True)
        ):
            return f"{name} {array!r} became {read!r}"
    if len(set(found.classes.tolist())) < len(found.classes):
        return f"the classes {found.classes} are not distinct"
    return ""
