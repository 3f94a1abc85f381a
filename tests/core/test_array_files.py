"""Artifacts with more than 100 classes: their JSON, the file of arrays beside it, and what happens without it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.workflow.report import samples

from counterpoise.core import codec, files
from counterpoise.core.artifacts import Comparison, ConfusionMatrix, Evaluation, Run, read_artifact
from counterpoise.core.errors import ArtifactError

NAMES = tuple(f"class-{i}" for i in range(101))
EVALUATION = samples.evaluation(NAMES)


def beside(path: Path) -> Path:
    return path.with_name(json.loads(path.read_text())["arrays"]["file"])


def forged(path: Path, content: bytes, **changes: object) -> Path:
    """Replace the file of arrays and the digest that the JSON states."""
    data = json.loads(path.read_text())
    beside(path).write_bytes(content)
    data["arrays"] |= {"sha256": hashlib.sha256(content).hexdigest(), **changes}
    path.write_text(json.dumps(data))
    return path


def packed(**content: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    EVALUATION.save(tmp_path / "e.json")
    return tmp_path / "e.json"


@pytest.fixture
def comparison() -> Comparison:
    whole = samples.comparison(NAMES)
    rng = np.random.default_rng(0)
    numbers = rng.random((2, 3, 101)) * 10.0 ** rng.integers(-300, 300, (2, 3, 101))
    weights = tuple(tuple(map(tuple, epochs)) for epochs in numbers.tolist())
    return replace(whole, arms=(replace(whole.arms[0], weights=weights), *whole.arms[1:]))


def test_up_to_100_classes_one_file_has_all_numbers_as_before(tmp_path: Path):
    small = samples.evaluation(NAMES[:100])
    small.save(tmp_path / "e.json")
    data = json.loads((tmp_path / "e.json").read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]
    assert (data["version"], len(data["classes"]), data["classes"][0]["name"]) == (1, 100, "class-0")
    assert data["confusion"] == np.asarray(small.confusion).tolist()
    assert (tmp_path / "e.json").read_text() == json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def test_with_more_classes_the_matrix_is_in_a_file_of_arrays_that_numpy_reads(saved: Path):
    data = json.loads(saved.read_text())
    assert data["version"] == 2
    assert sorted(p.name for p in saved.parent.iterdir()) == [data["arrays"]["file"], "e.json"]
    assert re.fullmatch(r"e-arrays-[0-9a-f]{12}\.npz", data["arrays"]["file"])
    assert hashlib.sha256(beside(saved).read_bytes()).hexdigest() == data["arrays"]["sha256"]
    assert data["classes"]["recall"] == [score.recall for score in EVALUATION.classes]
    assert data["confusion"] == {"num_classes": 101, "array": "confusion"}
    with np.load(beside(saved), allow_pickle=False) as file:
        labels, predictions, counts = file["confusion"].T
    dense = np.zeros((101, 101), np.int64)
    dense[labels, predictions] = counts
    np.testing.assert_array_equal(dense, np.asarray(EVALUATION.confusion))


def test_every_number_comes_back_bit_for_bit(comparison: Comparison, tmp_path: Path):
    comparison.save(tmp_path / "c.json")
    assert Comparison.load(tmp_path / "c.json") == comparison == read_artifact(tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    assert data["version"] == 2
    assert data["arms"][0]["weights"][1] == {"array": "arms-0-weights-1"}
    assert data["arms"][1]["test"][0]["confusion"]["array"] == "arms-1-test-0-confusion"


@pytest.mark.parametrize("classes", [100, 101])
def test_a_dict_has_all_numbers_itself(classes: int):
    whole = samples.comparison(NAMES[:classes])
    data = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert Comparison.from_dict(data) == whole
    assert data["version"] == data["arms"][0]["test"][0]["version"] == 1 + (classes > 100)


def test_the_content_of_the_json_file_alone_is_not_enough(saved: Path):
    with pytest.raises(ArtifactError, match="arrays are in a file beside the JSON file; read both with `load`"):
        Evaluation.from_dict(json.loads(saved.read_text()))


def test_files_of_earlier_versions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(codec, "MANY_CLASSES", 10**6)  # they had the layout of few classes for all
    EVALUATION.save(tmp_path / "e.json")
    monkeypatch.undo()
    assert json.loads((tmp_path / "e.json").read_text())["version"] == 1
    assert Evaluation.load(tmp_path / "e.json") == EVALUATION


def test_the_same_numbers_are_the_same_files(comparison: Comparison, tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        comparison.save(tmp_path / folder / "c.json")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} for folder in "ab")
    assert first == second
    assert len(first) == 2


@pytest.mark.fault("C5")
def test_without_its_file_of_arrays_a_file_is_refused_and_both_are_named(saved: Path, tmp_path: Path):
    (tmp_path / "moved").mkdir()
    moved = Path(shutil.copy(saved, tmp_path / "moved"))
    with pytest.raises(
        ArtifactError, match=r"moved/e-arrays-\w+\.npz does not exist or .*moved/e\.json needs its .* copy it from"
    ):
        Evaluation.load(moved)
    shutil.copy(beside(saved), moved.parent)
    assert Evaluation.load(moved) == EVALUATION
    moved.rename(moved.with_name("renamed.json"))
    assert Evaluation.load(moved.with_name("renamed.json")) == EVALUATION


@pytest.mark.fault("C5")
def test_a_damaged_or_exchanged_file_of_arrays_is_refused(saved: Path):
    good = beside(saved).read_bytes()
    samples.evaluation(NAMES, seed=1).save(saved.with_name("other.json"))
    other = beside(saved.with_name("other.json")).read_bytes()
    middle = len(good) // 2
    for wrong in (other, good[:-9], b"", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]):
        beside(saved).write_bytes(wrong)
        with pytest.raises(
            ArtifactError, match=r"e-arrays-\w+\.npz cannot be read for .*e\.json: it is damaged or was"
        ):
            Evaluation.load(saved)


CELLS = np.array([[0, 0, 3], [0, 1, 2], [1, 0, 4]])


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(confusion=CELLS[::-1]), r"Evaluation\.confusion: the cells must be sorted"),
        (packed(confusion=CELLS[[0, 0]]), r"Evaluation\.confusion: the cells must be sorted .* each once"),
        (packed(confusion=np.add(CELLS, [0, 101, 0])), r"Evaluation\.confusion: `predictions` must be in 0 \.\. 100"),
        (packed(confusion=CELLS - 1), r"Evaluation\.confusion: `labels` must be in 0 \.\. 100; row 0 is -1"),
        (packed(confusion=CELLS * [1, 1, 0]), r"Evaluation\.confusion: `counts` must be at least 1"),
        (packed(confusion=CELLS / 2), r"Evaluation\.confusion: `labels` must be class indices \(whole numbers\)"),
        (packed(confusion=np.full((3, 3), np.inf)), "expected finite numbers in rows"),
        (packed(confusion=CELLS > 0), "expected finite numbers in rows, got bool"),
        (packed(confusion=CELLS.astype(str)), "expected finite numbers in rows, got <U21"),
        (packed(confusion=CELLS.astype(complex)), "expected finite numbers in rows, got complex"),
        (packed(confusion=CELLS.astype("M8[s]")), "expected finite numbers in rows, got datetime"),
        (packed(confusion=CELLS[0]), r"expected finite numbers in rows, got int64 of shape \(3,\)"),
        (packed(confusion=np.array(3)), r"got int64 of shape \(\)"),
        (packed(confusion=CELLS[:, :2]), r"expected an array \(K, 3\) of labels, predictions, counts, got \(3, 2\)"),
        (packed(confusions=CELLS), "the file of arrays has no array 'confusion'"),
        (packed(confusion=CELLS.astype(object)), "cannot be read for .*: confusion.npy has Python objects"),
        (b"PK\x03\x04 broken", "cannot be read for .*: File is not a zip file"),
        (b"", "cannot be read for .*: File is not a zip file"),
    ],
)
def test_a_forged_file_of_arrays_is_an_error_that_names_the_file(saved: Path, content: bytes, message: str):
    with pytest.raises(ArtifactError, match=message) as raised:
        Evaluation.load(forged(saved, content))
    assert "e.json" in str(raised.value)


@pytest.mark.fault("C5")
def test_arrays_much_larger_than_their_file_are_not_decompressed(saved: Path):
    file = io.BytesIO()
    np.savez_compressed(file, **{f"a{i}": np.zeros((1 << 23) - 16) for i in range(5)})
    with pytest.raises(ArtifactError, match="its arrays are far larger than the file; save them uncompressed"):
        Evaluation.load(forged(saved, file.getvalue()))
    one = io.BytesIO()
    np.savez_compressed(one, confusion=np.zeros(9 << 20))
    with pytest.raises(ArtifactError, match=r"confusion\.npy has 75,.* bytes, far more than the file"):
        Evaluation.load(forged(saved, one.getvalue()))


@pytest.mark.fault("C5")
@pytest.mark.parametrize("name", ["../e.npz", "sub/e.npz", "{folder}/sub/e.npz", "sub/../e.npz", "e.json", "", ".."])
def test_only_a_file_beside_the_json_file_is_read(tmp_path: Path, name: str):
    saved = tmp_path / "folder" / "e.json"
    EVALUATION.save(saved)
    (saved.parent / "sub").mkdir()
    for folder in (tmp_path, saved.parent, saved.parent / "sub"):
        shutil.copy(beside(saved), folder / "e.npz")
    forged(saved, beside(saved).read_bytes(), file=name.format(folder=saved.parent))
    with pytest.raises(ArtifactError, match=r"e\.json: the file of arrays must be an \.npz file beside it; got '"):
        Evaluation.load(saved)


def test_a_fifo_or_a_folder_in_place_of_the_file_of_arrays_is_refused(saved: Path):
    beside(saved).unlink()
    os.mkfifo(beside(saved))
    with pytest.raises(ArtifactError, match="does not exist or is no file"):
        Evaluation.load(saved)
    beside(saved).unlink()
    beside(saved).mkdir()
    with pytest.raises(ArtifactError, match="does not exist or is no file"):
        Evaluation.load(saved)


def test_a_file_of_arrays_too_large_for_memory_is_not_read(saved: Path):
    with beside(saved).open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(ArtifactError, match=r"it has more than 1,073,741,824 bytes"):
        Evaluation.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.update(arrays="e.npz"), r"Evaluation\.arrays: expected an object, got 'e\.npz'"),
        (lambda e: e["arrays"].update(md5="0"), r"Evaluation\.arrays: unknown field 'md5'"),
        (lambda e: e["arrays"].pop("sha256"), r"Evaluation\.arrays: .*sha256"),
        (lambda e: e["arrays"].update(sha256=None), r"Evaluation\.arrays\.sha256: expected str, got None"),
        (lambda e: e.pop("arrays"), "the file of arrays has no array 'confusion'"),
        (
            lambda e: e["confusion"].update(array=["confusion"]),
            r"Evaluation\.confusion: the file of arrays has no array",
        ),
        (
            lambda e: e["confusion"].update(num_classes="9"),
            r"Evaluation\.confusion: `num_classes` must be a whole number",
        ),
        (lambda e: e["confusion"].update(num_classes=102), "`confusion` must be of 101 classes, as `classes`; got 102"),
        (lambda e: e["confusion"].pop("num_classes"), r"Evaluation\.confusion: expected the fields .*num_classes"),
        (lambda e: e.update(confusion=7), r"Evaluation\.confusion: expected a list of rows, got 7"),
        (lambda e: e.update(confusion=[[1, 2], [3]]), r"confusion\[1\]: expected a list of 2 whole numbers"),
        (lambda e: e.update(confusion=[[True]]), r"confusion\[0\]: expected a list of 1 whole numbers"),
        (lambda e: e.update(confusion=[[1.0]]), r"confusion\[0\]: expected a list of 1 whole numbers"),
        (lambda e: e.update(confusion=[[2**70]]), r"Evaluation\.confusion: .*int"),
        (lambda e: e.update(confusion=[[-1]]), r"Evaluation\.confusion: `counts` must be at least"),
        (lambda e: e["classes"].update(colour=[1]), r"Evaluation\.classes: unknown field 'colour'"),
        (lambda e: e["classes"]["recall"].pop(), r"Evaluation\.classes: expected lists of equal length, got .*100"),
        (lambda e: e["classes"].update(recall=0.5), r"Evaluation\.classes\.recall: expected a list, got 0\.5"),
        (lambda e: e["classes"]["support"].__setitem__(7, 1.5), r"classes\.support\[7\]: expected int, got 1\.5"),
        (lambda e: e["classes"]["support"].__setitem__(7, True), r"classes\.support\[7\]: expected int, got True"),
        (lambda e: e["classes"]["recall"].__setitem__(7, "1"), r"classes\.recall\[7\]: expected float, got '1'"),
        (lambda e: e["classes"].pop("support"), r"Evaluation\.classes: .*support"),
        (lambda e: e.update(classes={}), r"Evaluation\.classes: the field 'name' is missing"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_the_file(saved: Path, change, message: str):
    data = json.loads(saved.read_text())
    change(data)
    saved.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=rf"e\.json: .*{message}"):
        Evaluation.load(saved)


def test_infinity_and_inexact_numbers_are_refused_in_columns_too(saved: Path):
    text, first = saved.read_text(), repr(EVALUATION.classes[0].recall_low)
    for number in ("1e999", "-1e999", str(2**53 + 1), "1" + "0" * 400):
        saved.write_text(text.replace(first, number, 1))
        with pytest.raises(ArtifactError, match=r"classes\.recall_low\[\d+\]: expected a number that a float can hold"):
            Evaluation.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": [1.0]}, r"confusion\.counts: expected a list of whole numbers, got \[1\.0\]"),
        ({"labels": [False]}, r"confusion\.labels: expected a list of whole numbers"),
        ({"labels": [[0]]}, r"confusion\.labels: expected a list of whole numbers"),
        ({"labels": [2**70]}, r"Evaluation\.confusion: .*int"),
        ({"more": []}, "expected the fields"),
    ],
)
def test_cells_in_a_dict_are_not_cast(change, message: str):
    data = EVALUATION.to_dict()
    data["confusion"] = {"num_classes": 101, "labels": [0], "predictions": [0], "counts": [1], **change}
    with pytest.raises(ArtifactError, match=message):
        Evaluation.from_dict(data)


@pytest.mark.fault("C3")
@pytest.mark.parametrize("stopped_at", ["e.json", "e-arrays-"])
def test_a_write_that_fails_leaves_the_old_pair(saved: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str):
    replace_file = Path.replace

    def stop(self: Path, target: Path) -> None:
        if Path(target).name.startswith(stopped_at):
            raise OSError(28, "No space left on device")
        replace_file(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(ArtifactError, match="No space left"):
        samples.evaluation(NAMES, seed=1).save(saved)
    monkeypatch.undo()
    assert Evaluation.load(saved) == EVALUATION
    samples.evaluation(NAMES, seed=2).save(saved)
    assert Evaluation.load(saved) == samples.evaluation(NAMES, seed=2)
    assert len(list(saved.parent.iterdir())) == 2, "the file of arrays of the write that failed is still there"


def test_a_kill_between_the_two_files_leaves_the_old_pair(saved: Path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tests.workflow.report import samples\n"
        "move = Path.replace\n"
        "Path.replace = lambda self, to: os._exit(9) if Path(to).name == 'e.json' else move(self, to)\n"
        "samples.evaluation(tuple(f'class-{i}' for i in range(101)), seed=1).save(sys.argv[1])"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    assert subprocess.run([sys.executable, "-c", code, saved], env=environment, check=False).returncode == 9
    assert len(list(saved.parent.glob("e-arrays-*"))) == 2, "the new file of arrays was not written first"
    assert Evaluation.load(saved) == EVALUATION


def test_a_new_file_replaces_only_its_own_file_of_arrays(saved: Path):
    users = saved.with_name("e-arrays-mine.npz")
    users.write_bytes(b"x")
    EVALUATION.save(saved.with_name("e[1].json"))
    samples.evaluation(NAMES[:3]).save(saved)
    names = sorted(p.name for p in saved.parent.iterdir())
    assert names == [users.name, "e.json", beside(saved.with_name("e[1].json")).name, "e[1].json"]
    assert Evaluation.load(saved.with_name("e[1].json")) == EVALUATION


def test_a_replaced_folder_never_lacks_the_arrays_of_its_json_file(saved: Path, monkeypatch: pytest.MonkeyPatch):
    folder, patterns = saved.parent, ("e.json", "e-arrays-*.npz")
    (folder / files.NEW).mkdir()
    new = samples.evaluation(NAMES, seed=1)
    new.save(folder / files.NEW / "e.json")
    seen = []

    def watched(change):
        def run(self: Path, *arguments: object) -> object:
            seen.append(Evaluation.load(saved))
            return change(self, *arguments)

        return run

    monkeypatch.setattr(Path, "replace", watched(Path.replace))
    monkeypatch.setattr(Path, "unlink", watched(Path.unlink))
    files.replace_files(folder, patterns)
    monkeypatch.undo()
    assert len(seen) >= 3
    assert all(e in (EVALUATION, new) for e in seen)
    assert Evaluation.load(saved) == new
    assert len(list(folder.iterdir())) == 2


def test_arrays_are_stored_in_the_smallest_type_that_holds_them(saved: Path):
    with np.load(beside(saved)) as file:
        assert file["confusion"].dtype == np.uint8
    cells = ConfusionMatrix([0, 100], [5, 100], [1, 2**40], 101)
    replace(EVALUATION, confusion=cells).save(saved)
    assert Evaluation.load(saved).confusion == cells


def test_every_member_is_an_array_that_is_named(comparison: Comparison, tmp_path: Path):
    comparison.save(tmp_path / "c.json")
    named = re.findall(r'"array": "([^"]+)"', (tmp_path / "c.json").read_text())
    with zipfile.ZipFile(beside(tmp_path / "c.json")) as archive:
        assert sorted(f"{name}.npy" for name in named) == sorted(archive.namelist())
    assert len(set(named)) == 5 * 2 * 2 + 2


def test_runs_and_comparisons_are_shown_in_one_line():
    whole = samples.comparison(NAMES)
    text = repr(whole)
    assert text.startswith("Comparison(")
    assert f"{len(whole.arms)} strategies × " in text
    assert whole.verdict.headline in text
    run = Run(whole.arms[0].strategy, 3, "done", "resnet20", {}, {}, {}, ("a", "b"), (3, 1), directory="runs/x")
    assert repr(run) == f"Run({whole.arms[0].strategy.name!r}, seed=3, done, resnet20, 'runs/x')"
