"""The files of runs, comparisons and augmented datasets."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterpoise.core.artifacts import Run
from counterpoise.core.files import NEW, path_exists, replace_files
from counterpoise.core.lineage import write_lineage
from counterpoise.workflow.training.run_folder import CHECKPOINTS, HISTORY_COLUMNS, RunFolder
from fuzzing.cases import Case
from fuzzing.inputs import NAMES, changed_json, place, place_json, random_of
from fuzzing.readings import decimal_of, difference, own_csv_rows, parsed


def lineage(rng: random.Random, folder: Path) -> Case:
    write_lineage(
        folder / "new.csv",
        [tuple(rng.choice(NAMES).replace("\0", "") for _ in range(5)) for _ in range(rng.randrange(4))],
    )
    data = (folder / "new.csv").read_bytes()
    (folder / "new.csv").unlink()
    path, is_valid = place(rng, folder / "augmented.csv", data, is_text=True)
    return Case(path, is_valid)


def history(rng: random.Random, folder: Path) -> Case:
    row = {key: rng.choice((None, rng.random(), 1e-300, 0.1)) for key in HISTORY_COLUMNS}
    RunFolder(folder).write_history([{**row, "epoch": float(i), "step": 10.0 * i} for i in range(rng.randrange(4))])
    data = (folder / "history.csv").read_bytes()
    (folder / "history.csv").unlink()
    path, is_valid = place(rng, folder / "history.csv", data, is_text=True)
    return Case(path, is_valid)


def check_history(case: Case, rows: list[dict[str, float | None]]) -> str:
    if not path_exists(case.given):  # a strategy that trains nothing has no such file
        return difference([], rows)
    written = own_csv_rows(case.given)
    for texts, numbers_of_row in zip(written, rows, strict=True):
        for key, text in texts.items():
            if not (text.isascii() and "_" not in text and text.strip() == text):
                return f"{text!r} is read as {numbers_of_row[key]}"
        for key, text in texts.items():
            number = numbers_of_row[key]
            if repr(number) != repr(float(decimal_of(text)) if text else None):
                return f"{text!r} became {number}"
    return ""


def files_of(kind: Any, name: str) -> Callable[[random.Random, Path], Case]:
    """Inputs that are artifacts of one kind, with random content, in a file of this name and a file of arrays."""

    def make(rng: random.Random, folder: Path) -> Case:
        value = random_of(kind, rng)
        value.save(folder / name)
        beside = next(folder.glob("*.npz"), None)
        if beside is not None and rng.random() < 0.5:
            data = beside.read_bytes()
            beside.unlink()
            _, is_valid = place(rng, beside, data)
            return Case(folder / name, is_valid, value)
        written = json.loads((folder / name).read_text("utf-8"))
        (folder / name).unlink()
        path, is_valid = place_json(rng, folder / name, written)
        return Case(path, is_valid, value)

    return make


def check_artifact(case: Case, value: Any) -> str:
    if case.is_valid:
        return "" if value == case.expected else f"{case.expected} became {value}"
    with tempfile.TemporaryDirectory() as folder:
        value.save(Path(folder) / "again.json")
        again = json.loads((Path(folder) / "again.json").read_text("utf-8"))
    written = parsed(Path(case.given))
    for name in ("artifact", "version"):
        if type(written.get(name)) is not type(again[name]) or written[name] not in (again[name], 1):
            return f"{name} {written.get(name)!r} is read as {again[name]!r}"
    return difference({key: item for key, item in written.items() if key not in ("version", "arrays")}, again)


def read_run(case: Case) -> Run | None:
    return RunFolder(case.given.parent).read_run() if case.given.name == "run.json" else Run.load(case.given)


def check_run(case: Case, run: Run | None) -> str:
    if run is None:
        return "" if not path_exists(case.given) else "a file is not read"
    written = parsed(case.given)
    return difference({**written, "directory": run.directory}, run.to_dict())


def weights_file(rng: random.Random, folder: Path) -> Case:
    value = {"classes": ["a", "b"], "epochs": [[rng.random(), 1.5] for _ in range(rng.randrange(3))]}
    path, is_valid = place_json(rng, folder / "weights.json", value)
    return Case(path, is_valid)


def check_weights_file(case: Case, weights: list[list[float]]) -> str:
    return difference(parsed(case.given)["epochs"], weights) if path_exists(case.given) else difference([], weights)


def read_in_folder(read: Callable[[RunFolder], Any], name: str) -> Callable[[Case], Any]:
    """The reader of one file of a run; where the input is another path, the folder has no such file."""
    return lambda case: read(RunFolder(case.given.parent if case.given.name == name else case.given.parent / "none"))


def random_tensors(rng: random.Random) -> dict[str, torch.Tensor]:
    shapes = ((), (0,), (3,), (2, 3))
    dtypes = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bfloat16)
    numpy = np.random.default_rng(rng.randrange(2**32))
    return {f"t{i}": torch.tensor(numpy.normal(size=rng.choice(shapes)) * 9).to(rng.choice(dtypes)) for i in range(3)}


def checkpoint(rng: random.Random, folder: Path) -> Case:
    """Two checkpoints, of which one or both are damaged."""
    run, written = RunFolder(folder), []
    for step in range(2):
        content = (
            random_tensors(rng),
            {"step": str(step), "note": rng.choice(NAMES).encode("utf-8", "replace").decode()},
        )
        run.write_checkpoint(*content)
        written.append(content)
    for name in CHECKPOINTS if rng.random() < 0.2 else (rng.choice(CHECKPOINTS),):
        damage_tensors(rng, folder / name)
    return Case(folder, expected=written)


def damage_tensors(rng: random.Random, path: Path) -> bool:
    """Change the header or the bytes of a safetensors file; whether it is as it was."""
    data = path.read_bytes()
    path.unlink()
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.4:
        header = changed_json(rng, json.loads(data[8 : 8 + size]))
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
        return False
    return place(rng, path, data)[1]


def read_checkpoint(case: Case) -> Any:
    loaded: list[Any] = []
    RunFolder(case.given).load_checkpoint(lambda tensors, metadata: loaded.append((tensors, metadata)))
    return loaded


def check_checkpoint(case: Case, loaded: list[Any]) -> str:
    for tensors, metadata in loaded:
        content = {key: value for key, value in metadata.items() if key != "sha256"}
        if not any(content == m and same_tensors(tensors, t) for t, m in case.expected):
            return f"a checkpoint was loaded that was not written: {content} {tensors}"
    return ""


def same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and bits(a[k]) == bits(b[k]) for k in a
    )


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def model(rng: random.Random, folder: Path) -> Case:
    tensors = random_tensors(rng)
    RunFolder(folder).write_tensors("model.safetensors", tensors, {"classes": "2"})
    is_valid = damage_tensors(rng, folder / "model.safetensors")
    return Case(folder / "model.safetensors", is_valid, tensors)


def check_model(case: Case, found: Any) -> str:
    if found is None:
        return "" if not path_exists(case.given) else "a file is not read"
    if case.is_valid:
        return "" if same_tensors(case.expected, found[0]) else "other tensors than were written"
    data = case.given.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", None) or {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if (
            bits(found[0][name]) != data[8 + size + start : 8 + size + end]
            or list(found[0][name].shape) != entry["shape"]
        ):
            return f"the tensor {name} has other values than the file"
    return difference(metadata, found[1]) or ("" if header.keys() == found[0].keys() else "other names of tensors")


MOVED = ("run.json", "history.csv", "runs/*/run.json")


def replacement(rng: random.Random, folder: Path) -> Case:
    """An output folder in which an earlier process was killed while it replaced the files."""
    out = folder / "out"
    (out / NEW).mkdir(parents=True)
    (folder / "outside.txt").write_text("outside")
    for where, text in ((out, "old"), (out / NEW, "new")):
        for name in MOVED[:2]:
            (where / name).write_text(text)
    (out / "kept.txt").write_text("kept")
    names: Any = ["run.json", "history.csv"]
    if rng.random() < 0.4:
        names[rng.randrange(2)] = rng.choice(
            (*NAMES, "../outside.txt", "kept.txt", "/etc/passwd", "../../x", "moving.json")
        )
    place_json(rng, out / NEW / "moving.json", names)
    return Case(out)


def read_replacement(case: Case) -> None:
    replace_files(case.given, MOVED)


def check_replacement(case: Case, found: None) -> str:
    out: Path = case.given
    texts = {name: (out / name).read_text() if (out / name).exists() else None for name in ("run.json", "history.csv")}
    if (out / "kept.txt").read_text() != "kept" or (out.parent / "outside.txt").read_text() != "outside":
        return "a file was changed that is none of the output"
    if {path.name for path in out.parent.iterdir()} != {"out", "outside.txt"}:
        return "a file was written outside of the output folder"
    return "" if set(texts.values()) <= {"old", "new", None} else f"{texts}"
