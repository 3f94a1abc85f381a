"""The fuzz test: a few inputs of every reader, and proof that it would notice what it looks for."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArtifactError
from counterpoise.workflow.dataset import decoding, load
from counterpoise.workflow.training import run_folder

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import fuzz  # noqa: E402
from fuzzing import READERS  # noqa: E402

INPUTS = 120


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def findings(reader, folder, inputs=INPUTS):
    """The findings of a reader, by index."""
    return {i: o.finding for i, o in fuzz.run_inputs(reader, 1, range(inputs), folder.resolve()) if o.finding}


@pytest.mark.parametrize("name", READERS)
def test_no_input_has_a_finding_and_some_are_accepted_and_refused(name, tmp_path):
    outcomes = [outcome for _, outcome in fuzz.run_inputs(READERS[name], 1, range(INPUTS), tmp_path.resolve())]
    assert [(i, outcome.finding) for i, outcome in enumerate(outcomes) if outcome.finding] == []
    assert 0 < sum(outcome.accepted for outcome in outcomes) < INPUTS


def test_an_input_follows_from_its_seed_and_index(tmp_path):
    made = []
    for seed, index in ((1, 3), (1, 3), (1, 4), (2, 3)):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        READERS["PNG"].make(fuzz.random.Random(f"{seed} PNG {index}"), folder)
        made.append(sorted(fuzz.snapshot(folder).values()))
    assert made[0] == made[1] != made[2] != made[3]


def cast_labels(case):
    labels, options = case.given
    return ClassCounts.from_labels(np.asarray(labels, dtype=np.int64).reshape(-1), **options)


def cast_predictions(case):
    with np.load(case.given) as arrays:
        return Predictions.from_arrays(arrays["logits"].astype(float), arrays["labels"].astype(np.int64))


def one_more(case):
    counts = READERS["counts.json"].read(case)
    return ClassCounts([n + 1 for n in counts.counts.tolist()], counts.names)


def one_less(case):
    data = load(case.given)
    return data._rows(np.arange(len(data) - 1))


def reversed_tree(case):
    tree = READERS["tree.yaml"].read(case)
    return type(tree)(tree.names, tree.parents, tree.leaves[::-1])


def wrong_pixels(case):
    header, pixels = READERS["other images"].read(case)
    return header, pixels ^ 1


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("from_labels", cast_labels),
        ("predictions.npz", cast_predictions),
        ("counts.json", one_more),
        ("manifest.csv", one_less),
        ("tree.yaml", reversed_tree),
        ("other images", wrong_pixels),
    ],
)
def test_a_reader_that_changes_values_is_found(name, read, tmp_path):
    found = findings(dataclasses.replace(READERS[name], read=read), tmp_path)
    assert any(text.startswith("silently changed") for text in found.values())


@pytest.mark.parametrize(
    ("name", "module", "guard", "broken", "text"),
    [
        ("PNG", decoding, "_expect_last_pixel", lambda image, path: None, "without data for its last rows"),
        ("JPEG", decoding, "_expect_last_pixel", lambda image, path: None, "without data for its last rows"),
        ("checkpoint", run_folder, "_check_digest", lambda tensors, metadata: None, "that was not written"),
        ("history.csv", run_folder, "parsed_number", lambda text: float(text) + 1, "became"),
        ("weights.json", run_folder, "exact_float", lambda value, where: float(value or 0), "silently changed"),
    ],
)
def test_a_guard_that_is_removed_is_found(name, module, guard, broken, text, tmp_path, monkeypatch):
    monkeypatch.setattr(module, guard, broken)
    assert any(text in finding for finding in findings(READERS[name], tmp_path, 4 * INPUTS).values())


def hang(case):
    while True:
        pass


def fail(case):
    raise KeyError("x")


def refuse(case):
    raise ArtifactError("no")


def refuse_without_reason(case):
    raise ArtifactError(" ")


def allocate(case):
    raise MemoryError


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (hang, "hang: more than 0.3 s"),
        (fail, "traceback: KeyError at test_fuzz.py"),
        (allocate, "traceback: MemoryError"),
        (refuse, "a valid input is refused: no"),
        (refuse_without_reason, "the error has no message"),
        (lambda case: Path(case.given).write_text("x"), "the input was changed"),
        (lambda case: Path(case.given).unlink(), "the input was changed"),
        (lambda case: (Path(case.given).parents[1] / "elsewhere").write_text("x"), "written elsewhere: open "),
        (lambda case: (Path(case.given).parents[1] / "new").mkdir(), "written elsewhere: os.mkdir "),
        (lambda case: subprocess.run(["true"], check=True), "written elsewhere: subprocess.Popen"),
    ],
)
def test_what_a_reader_must_not_do_is_found(read, text, tmp_path):
    reader = READERS["weights.json"]
    is_valid = read is refuse
    make = lambda rng, folder: dataclasses.replace(_written(folder), is_valid=is_valid)  # noqa: E731
    broken = dataclasses.replace(reader, make=make, read=read, check=lambda case, value: "")
    assert fuzz.run_input(broken, 0, 0, tmp_path.resolve() / "input", limit=0.3).finding.startswith(text)


def _written(folder):
    (folder / "weights.json").write_text("{}")
    return fuzz.Case(folder / "weights.json")


def test_the_table_is_printed_and_findings_with_their_command(monkeypatch, capsys):
    result = fuzz.Result(accepted=3, refused=7, slowest=0.5, peak=12.0)
    result.findings = [(4, "traceback: KeyError at a.py:1 in f: x"), (9, "traceback: KeyError at a.py:1 in f: y")]
    monkeypatch.setattr(fuzz, "run_readers", lambda names, seed, indices: [(name, result) for name in names])
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--inputs", "10", "--seed", "5", "--reader", "image folder"])
    assert fuzz.main() == 1
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].split() == ["image", "folder", "10", "3", "7", "0.50", "12", "2"]
    assert "python benchmarks/fuzz.py --seed 5 --reader 'image folder' --index 4" in shown
    assert shown.count("--index") == 1
    result.findings = []
    assert fuzz.main() == 0


def test_the_readers_run_in_a_process_of_their_own():
    ((name, result),) = fuzz.run_readers(["strategy"], 1, range(5))
    assert (name, result.accepted + result.refused, result.findings) == ("strategy", 5, [])


def test_after_a_crash_the_next_input_is_read(monkeypatch):
    started = []

    def crashing_at_2(tasks, seed, root):
        started.append([(name, list(indices)) for name, indices in tasks])
        for name, indices in list(tasks):
            for index in indices:
                if (name, index) == ("PNG", 2):
                    return
                yield name, index, fuzz.Outcome(True, 0.0), 0.0

    monkeypatch.setattr(fuzz, "_outcomes", crashing_at_2)
    results = dict(fuzz.run_readers(["JPEG", "PNG"], 0, range(4)))
    assert started == [[("JPEG", [0, 1, 2, 3]), ("PNG", [0, 1, 2, 3])], [("PNG", [3])]]
    assert (results["JPEG"].accepted, results["JPEG"].findings) == (4, [])
    assert (results["PNG"].accepted, results["PNG"].refused) == (3, 1)
    assert [index for index, _ in results["PNG"].findings] == [2]
