"""The list of wrong lines fits the code: each line is in its file once, and its tests exist."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "mutants.py"
SPEC = importlib.util.spec_from_file_location("mutants", SCRIPT)
mutants = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize("edit", mutants.EDITS, ids=str)
def test_each_line_is_in_its_file_once_and_its_tests_exist(edit):
    source = (ROOT / edit.path).read_text("utf-8")
    assert source.count(edit.old) == 1
    compile(source.replace(edit.old, edit.new), edit.path, "exec")
    assert edit.new not in (edit.old, "")
    assert edit.tests.split()
    assert all((ROOT / path.partition("::")[0]).exists() for path in edit.tests.split())


def test_the_edits_are_distinct_and_the_list_is_printed():
    assert len({(edit.file, edit.old) for edit in mutants.EDITS}) == len(mutants.EDITS) >= 40
    command = [sys.executable, SCRIPT, "--list", "--only", "verdict.py"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == sum("verdict.py" in str(edit) for edit in mutants.EDITS) > 0


@pytest.fixture
def repository(tmp_path):
    """One module and its tests, of which the second always fails."""
    (tmp_path / mutants.SOURCE).mkdir(parents=True)
    (tmp_path / mutants.SOURCE / "__init__.py").touch()
    (tmp_path / mutants.SOURCE / "m.py").write_text("LOW = 1\nHIGH = 2\n")
    start = "from counterpoise.m import LOW\ndef test_it(): "
    (tmp_path / "test_good.py").write_text(f"{start}assert LOW == 1\n")
    (tmp_path / "test_bad.py").write_text(f"{start}assert LOW == 9\n")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "tests", "outcome"),
    [
        ("LOW = 1", "LOW = 5", "test_good.py", "killed"),
        ("HIGH = 2", "HIGH = 5", "test_good.py", "survived"),
        ("LOW = 2", "LOW = 5", "test_good.py", "not-applicable"),
        (" = ", " == ", "test_good.py", "not-applicable"),
        ("LOW = 1", "LOW = 5", "test_bad.py", "not-applicable"),
    ],
)
def test_an_edit_is_killed_only_by_tests_that_pass_without_it(repository, old, new, tests, outcome):
    edit = mutants.Edit("m.py", old, new, tests)
    assert mutants.outcome_of(repository, edit, lambda tests: mutants.tests_pass(repository, tests)) == outcome
    assert (repository / edit.path).read_text() == "LOW = 1\nHIGH = 2\n"
