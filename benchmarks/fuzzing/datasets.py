"""Manifests and folders of images."""

from __future__ import annotations

import io
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import polars
from PIL import Image

from counterpoise.workflow.dataset import load
from counterpoise.workflow.dataset.decoding import read_image
from fuzzing.cases import Case
from fuzzing.images import noise
from fuzzing.inputs import NAMES, csv_text, place
from fuzzing.readings import csv_rows, decoded, parquet_rows, text_of


def small_images(folder: Path) -> None:
    (folder / "images").mkdir()
    for i in range(6):
        Image.new("L", (2, 2), i * 40).save(folder / "images" / f"{i}.png")


def manifest_rows(rng: random.Random) -> list[tuple[str, ...]]:
    labels = rng.sample(("cat", "dog", "007", "NA", " x ", "é", "=1+1", 'x"y', "a,b", "1e5", "null", "true"), 2)
    rows = [(f"images/{i}.png", rng.choice(labels)) for i in rng.sample(range(6), 6)]
    if rng.random() < 0.3:
        return [("path", "label", "split"), *((*row, ("train", "val", "test")[i % 3]) for i, row in enumerate(rows))]
    if rng.random() < 0.3:
        i = rng.randrange(6)
        rows[i] = (
            rng.choice((rows[i][0], *NAMES, "/etc/passwd", "images\\1.png", "images/./1.png", "file://x", "~/x")),
            rng.choice((*NAMES, *labels)),
        )
    return [("path", "label"), *rows]


def manifest_csv(rng: random.Random, folder: Path) -> Case:
    small_images(folder)
    data = csv_text(rng, manifest_rows(rng)).encode("utf-8", "replace")
    return Case(place(rng, folder / "all.csv", data, is_text=True)[0])


def manifest_parquet(rng: random.Random, folder: Path) -> Case:
    small_images(folder)
    header, *rows = manifest_rows(rng)
    columns: dict[str, list[Any]] = {
        name: [row[i].encode("utf-8", "replace").decode() for row in rows] for i, name in enumerate(header)
    }
    if rng.random() < 0.3:
        values = rng.choice(
            ([1.5] * 6, [True, False] * 3, [1, 2] * 3, [None, "a"] * 3, [[1]] * 6, [b"x"] * 6, [2**63] * 6)
        )
        columns[rng.choice(header)] = values
    buffer = io.BytesIO()
    polars.DataFrame(columns, strict=False).write_parquet(
        buffer, compression=rng.choice(("uncompressed", "zstd", "snappy"))
    )
    written = [{name: text_of(values[i]) for name, values in columns.items()} for i in range(len(rows))]
    return Case(place(rng, folder / "all.parquet", buffer.getvalue())[0], expected=written)


def check_manifest(case: Case, data: Any) -> str:
    path: Path = case.given
    is_csv = path.suffix == ".csv"
    rows = csv_rows(decoded(path), ("path", "label")) if is_csv else parquet_rows(path) or case.expected
    if len(rows) != len(data) + len(data.quarantined):
        return f"{len(rows)} rows became {len(data)} images and {len(data.quarantined)} quarantined"
    allowed = {(local(row["path"], path.parent), unicodedata.normalize("NFC", row["label"])) for row in rows}
    for name, label in zip(data.paths, data.labels, strict=True):
        if (name, unicodedata.normalize("NFC", data.classes[label])) not in allowed:
            return f"{name!r} of class {data.classes[label]!r} is in no row of {allowed}"
    known = {unicodedata.normalize("NFC", row["label"]) for row in rows}
    return (
        ""
        if {unicodedata.normalize("NFC", name) for name in data.classes} <= known
        else f"classes {data.classes} of {known}"
    )


def local(name: str, root: Path) -> str:
    """A path in a manifest, relative to its folder."""
    return os.path.relpath(root / name.replace("\\", "/"), root) if "\0" not in name else name


def image_folder(rng: random.Random, folder: Path) -> Case:
    root = folder / "photos"
    classes = rng.sample(
        ("cat", "dog", "train", "Val", ".hidden", "a b", "é", "e\u0301", "x.jpg", "__MACOSX", "\udcff"),
        rng.randrange(1, 4),
    )
    for name in classes:
        place_in = root / rng.choice(("", "", "train", "val", "test")) / name
        place_in.mkdir(parents=True, exist_ok=True)
        for i in range(rng.randrange(4)):
            file = place_in / f"{i}{rng.choice(('.png', '.PNG', '.jpg', '.txt', '', '.eps', '.gif'))}"
            buffer = io.BytesIO()
            noise(rng, "RGB").save(buffer, rng.choice(("PNG", "PNG", "JPEG", "GIF")))
            if rng.random() < 0.6:
                file.write_bytes(buffer.getvalue())
            else:
                place(rng, file, buffer.getvalue())
    root.mkdir(exist_ok=True)
    return Case((root, rng.random() < 0.2))


def read_folder(case: Case) -> Any:
    root, nested = case.given
    return load(root, nested=nested).without_unreadable()


def check_folder(case: Case, data: Any) -> str:
    root = case.given[0]
    total = sum(
        len(files) + sum(Path(start, name).is_symlink() for name in names) for start, names, files in os.walk(root)
    )
    if data.num_files != total:
        return f"{total} files became {data.num_files}"
    for i, path in enumerate(data.paths):
        parts = Path(path).parts[:-1]
        name = data.classes[data.labels[i]]
        of_folders = {unicodedata.normalize("NFC", part) for part in parts} | {
            unicodedata.normalize("NFC", "/".join(parts[k:])) for k in range(2)
        }
        if unicodedata.normalize("NFC", name) not in of_folders:
            return f"{path!r} has the class {name!r}"
        read_image(data.file(i))
    return ""
