import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from tests.workflow.report import samples

from counterpoise.core.artifacts import (
    Evaluation,
    Finding,
    Predictions,
    Run,
    Strategy,
    read_artifact,
)
from counterpoise.core.errors import ArgumentError, ArtifactError, WriteError
from counterpoise.core.explanation import Explanation
from counterpoise.core.files import LOCK, NEW, atomic_write, claim, locked, read_json, replace_files, write_json
from counterpoise.workflow.evaluation import evaluate

STRATEGY = Strategy(
    "s",
    "a strategy",
    loss="focal",
    loss_options={"gamma": 2},
    sampler="class_balanced",
    sampler_options={"within": "cycle"},
)
RUN = Run(
    STRATEGY, 1, "done", "resnet20", {"epochs": 3}, {"torch": "2"}, {}, ("a", "b"), (3, 0), (0, 5), 9, 1.5, (0.5, None)
)
EVALUATION = Evaluation(
    "test",
    0,
    0.95,
    None,
    None,
    None,
    None,
    None,
    None,
    (),
    (),
    ((1, 0), (0, 1)),
    (),
    (Finding("k", "info", "r", ("x",)),),
)


@pytest.mark.parametrize("artifact", [STRATEGY, RUN, EVALUATION], ids=lambda a: type(a).__name__)
def test_json_and_back_is_the_same(artifact, tmp_path):
    artifact.save(tmp_path / "a.json")
    assert type(artifact).load(tmp_path / "a.json") == artifact
    assert read_artifact(tmp_path / "a.json") == artifact


def test_artifacts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        STRATEGY.name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "format version 99; this release reads version 1"),
        ({"artifact": "Run"}, "expected a Strategy, got 'Run'"),
        ({"head": "round"}, r"Strategy.head: expected one of \('linear', 'cosine', 'hierarchical'\), got 'round'"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"posthoc_options": {"tau": "two"}}, "Strategy.posthoc_options.tau: expected float, got 'two'"),
        ({"loss_options": {"gamma": "two"}}, "strategy .s.: `gamma` must be a number; got str"),
        ({"loss": 3}, "Strategy.loss: expected str, got 3"),
    ],
)
def test_a_foreign_or_damaged_artifact_is_refused_by_field(change, message):
    with pytest.raises(ArtifactError, match=message):
        Strategy.from_dict({**STRATEGY.to_dict(), **change})


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400, str(2**53 + 1), "true", '"1"'])
def test_a_number_that_a_float_cannot_hold_is_refused(number, tmp_path):
    RUN.save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    for old, new, field in (
        ('seconds": 1.5', f'seconds": {number}', "seconds"),
        ("  0.5", f"  {number}", "train_recall"),
    ):
        (tmp_path / "bad.json").write_text(text.replace(old, new))
        assert new in (tmp_path / "bad.json").read_text()
        with pytest.raises(ArtifactError, match=rf"bad\.json: Run\.{field}.*: expected .*float"):
            Run.load(tmp_path / "bad.json")


def test_an_evaluation_of_other_classes_is_no_part_of_a_comparison():
    whole = samples.comparison()
    other = samples.evaluation(samples.NAMES[::-1])
    for evaluations in ((other,), (whole.arms[0].test[0], samples.evaluation(samples.NAMES[:2]))):
        with pytest.raises(ArgumentError, match="`arms`: an evaluation of 'baseline' has other classes than `audit`"):
            dataclasses.replace(whole, arms=(dataclasses.replace(whole.arms[0], test=evaluations), *whole.arms[1:]))


@pytest.mark.fault("R4")
def test_nan_and_infinity_are_null_in_json(tmp_path):
    write_json(tmp_path / "n.json", {"a": [float("nan"), float("inf"), 1.0]})
    assert json.loads((tmp_path / "n.json").read_text()) == {"a": [None, None, 1.0]}


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"x\.json cannot be read as JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match=r"y\.json does not exist"):
        Strategy.load(tmp_path / "y.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match=r"deep\.json cannot be read"):
        read_json(tmp_path / "deep.json")
    (tmp_path / "z.json").write_text('{"artifact": "Comparison", "version": 7}')
    with pytest.raises(ArtifactError, match=r"z\.json.*version 7"):
        read_artifact(tmp_path / "z.json")


@pytest.mark.fault("C3")
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "f.json"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(target) as file:
        file.write(b"new")
        raise RuntimeError("half way")
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]
    assert target.read_text() == "old"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    target, link = tmp_path / "f.json", tmp_path / "link"
    target.write_text("old")
    link.hardlink_to(target)
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert link.read_text() == "old", "the old file was written over instead of replaced"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.json", "link"]


@pytest.mark.fault("C2")
def test_a_full_disk_is_an_error_of_ours_that_names_the_file(tmp_path):
    with (
        pytest.raises(ArtifactError, match=r"cannot write .*f\.json: No space left"),
        atomic_write(tmp_path / "f.json"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("D23")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "it has the key 'c' twice; keep one of them"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[1, -Infinity]", "-Infinity is not a JSON number"),
        (b"[" * 10_000 + b"]" * 10_000, "maximum recursion depth"),
        (b"[" + b"1" * 5000 + b"]", "integer string conversion"),
        (b'{"a": [1, 2', r"line 1 column 12 \(char 11\)"),
        (b'{"a": "\xff"}', "position 7: invalid start byte"),
        (b"", "line 1 column 1"),
    ],
    ids=["key twice", "NaN", "infinity", "nesting", "digits", "truncated", "not UTF-8", "empty"],
)
def test_a_json_file_that_cannot_be_trusted_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"f\.json cannot be read as JSON: .*{reason}"):
        read_json(tmp_path / "f.json")


@pytest.mark.fault("D23")
def test_a_json_file_too_large_for_memory_is_not_read(tmp_path):
    with (tmp_path / "f.json").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ArtifactError, match=r"f\.json cannot be read as JSON: it has more than 1,073,741,824 bytes"):
        read_json(tmp_path / "f.json")


@pytest.mark.fault("R9")
def test_a_folder_or_a_name_too_long_is_not_a_json_file(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / ("f" * 300), "File name too long")):
        with pytest.raises(ArtifactError, match=f"cannot be read as JSON: {reason}"):
            read_json(path)


def test_predictions_go_to_disk_without_pickle(tmp_path):
    saved = Predictions(np.eye(2), np.array([0, 1]), np.array(["a/ö.png", "b"]), np.array(["x", "y"]))
    saved.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["classes", "labels", "logits", "paths"]
        assert file["paths"].dtype.kind == "U"
    loaded = Predictions.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(loaded.logits, saved.logits)
    assert loaded.paths.tolist() == ["a/ö.png", "b"]


def test_predictions_of_other_programs_are_read(tmp_path):
    np.savez(tmp_path / "p.npz", logits=np.eye(3), labels=np.array([0, 1, 2], dtype=np.int32))
    assert Predictions.load(tmp_path / "p.npz").classes.tolist() == ["0", "1", "2"]


@pytest.mark.fault("C5")
def test_pickled_predictions_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", logits=np.array([object()]), labels=np.array([0]))
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_predictions_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="row 1 is 2, outside the 2 classes"):
        Predictions(np.eye(2), np.array([0, 2]), np.array(["a", "b"]), np.array(["x", "y"]))
    with pytest.raises(ArgumentError, match=r"need logits \(N, C\)"):
        Predictions(np.eye(2), np.array([0]), np.array(["a"]), np.array(["x", "y"]))
    np.savez(tmp_path / "p.npz", logits=np.eye(2))
    with pytest.raises(ArtifactError, match=r"lacks \['labels'\]"):
        Predictions.load(tmp_path / "p.npz")
    (tmp_path / "q.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ArtifactError, match=r"q\.npz cannot be read"):
        Predictions.load(tmp_path / "q.npz")


@pytest.mark.fault("R9")
def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(ArtifactError, match=f"`out` {tmp_path} cannot be read: Permission denied; check"):
        claim(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, reason in (("x" * 300, "File name too long"), ("file/new", "Not a directory"), ("link", "File exists")):
        with pytest.raises(WriteError, match=rf"cannot write to `out` {tmp_path}/{name}: {reason}; write to another"):
            claim(tmp_path / name)
    assert claim(tmp_path / "new/deep") == tmp_path / "new/deep"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


def test_claim_protects_what_is_there(tmp_path):
    assert claim(tmp_path / "new", resume=False, overwrite=False) == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match=r"holds other files \(thesis.tex\)"):
        claim(tmp_path)
    assert claim(tmp_path, overwrite=True) == tmp_path
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(ArtifactError, match="is a file"):
        claim(tmp_path / "thesis.tex")
    with pytest.raises(ArtifactError, match="exclude each other"):
        claim(tmp_path, resume=True, overwrite=True)


@pytest.mark.fault("C15")
def test_two_writers_of_one_folder_exclude_each_other(tmp_path):
    with locked(tmp_path), pytest.raises(ArtifactError, match="another process is writing"), locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("C15")
def test_the_lock_of_another_process_holds_until_that_process_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from counterpoise.core.files import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(ArtifactError, match="another process is writing"), locked(tmp_path):
                pass
        finally:
            holder.kill()
    assert [p.name for p in tmp_path.iterdir()] == [LOCK]  # left by the killed process: it locks nothing,
    assert claim(tmp_path) == tmp_path  # and is no other file
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_an_error_of_ours(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(ArtifactError, match=r"cannot write to `out` .*Is a directory"), locked(tmp_path):
        pass


@pytest.mark.parametrize("kind", [["Run"], {"a": 1}, None, 1, "x" * 5000])
def test_a_kind_that_is_none_is_refused_in_short(tmp_path, kind):
    write_json(tmp_path / "a.json", {"artifact": kind})
    with pytest.raises(ArtifactError, match=r"a\.json is not a Counterpoise artifact") as caught:
        read_artifact(tmp_path / "a.json")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9007199254740993", "1" + "0" * 400, "true", '"1"'])
def test_a_number_that_no_float_is_is_refused(tmp_path, number):
    value = evaluate(([[2.0, 0.0], [0.0, 1.0]], [0, 1])).to_dict()
    content = json.dumps({**value, "confidence": 123.25}).replace("123.25", number)
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"e\.json: Evaluation.confidence: expected "):
        read_artifact(tmp_path / "e.json")
    (tmp_path / "e.json").write_text(content.replace(f'"confidence": {number}', '"confidence": 1'))
    assert read_artifact(tmp_path / "e.json").confidence == 1.0


def test_columns_without_rows_must_be_those_of_the_objects():
    section = {"title": "a", "charts": {"x": []}}
    page = {
        "artifact": "Explanation",
        "version": 2,
        "name": "a",
        "kind": "loss",
        "summary": "",
        "costs": [],
        "notes": [],
    }
    with pytest.raises(ArtifactError, match=r"sections\[0\].charts: the field 'id' is missing"):
        Explanation.from_dict({**page, "sections": [section]})


@pytest.mark.parametrize("version", [True, 1.0, "1", None, 2])
def test_the_version_is_the_number_itself(tmp_path, version):
    with pytest.raises(ArtifactError, match="format version"):
        Strategy.from_dict({**Strategy("a").to_dict(), "version": version})


@pytest.mark.parametrize(
    "names", [["../x"], ["kept.txt"], [1], [["run.json"]], {"run.json": 1}, "run.json", None, ["run.jsom"]]
)
def test_a_damaged_record_of_a_replacement_moves_and_deletes_nothing(tmp_path, names):
    out, new = tmp_path / "out", tmp_path / "out" / NEW
    new.mkdir(parents=True)
    for file in (tmp_path / "x", out / "kept.txt", out / "run.json", new / "run.json"):
        file.write_text(str(file))
    write_json(new / "moving.json", names)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ArtifactError, match=r"moving\.json is damaged: it must list files of .*; delete "):
        replace_files(out, ["run.json"])
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
