"""CSV files: nothing swallowed, nothing guessed, mistakes named with their line, and formulas disarmed."""

from __future__ import annotations

import csv
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoise.core import tables
from counterpoise.core.errors import ArgumentError, ArtifactError, DatasetError
from counterpoise.core.tables import TextTable, read_csv, read_own_csv, write_csv

REQUIRED = ("path", "label")
FIELD = st.text(st.characters(exclude_characters='\0\r\n",', exclude_categories=["Cs"]), min_size=1, max_size=8)


def _texts(table: TextTable) -> dict[str, list[str]]:
    return {name: column.to_list() for name, column in table.columns.items()}


def _write(folder: Path, text: str) -> Path:
    (folder / "all.csv").write_bytes(text.encode())
    return folder / "all.csv"


@settings(max_examples=150, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=20), blank=st.booleans(), quoted=st.booleans())
def test_every_field_is_read_as_written_with_its_line(tmp_path, rows, blank, quoted):
    text = "".join(f'"{path}",{label}\n' if quoted else f"{path},{label}\n" for path, label in rows)
    table = read_csv(_write(tmp_path, "path,label\n" + ("\n" if blank else "") + text), REQUIRED, error=DatasetError)
    assert _texts(table) == {"path": [p for p, _ in rows], "label": [c for _, c in rows]}
    assert list(table.lines) == [i + 2 + blank for i in range(len(rows))]


@settings(max_examples=150, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.sampled_from(["i/000.jpg", "cat", '"', ",", "\n", "\r\n", ";", "../x", "\t", '""', "é"]), max_size=30
    )
)
def test_any_text_is_read_whole_or_refused(tmp_path, cells):
    text = "path,label\n" + "".join(cells)
    try:
        table = read_csv(_write(tmp_path, text), REQUIRED, error=DatasetError)
    except DatasetError:
        return
    # Nothing is swallowed: every cell that was written is found again.
    assert sum(value.count("cat") for column in _texts(table).values() for value in column) == cells.count("cat")
    assert len(table) <= text.count("\n")


def test_the_caller_chooses_the_class_of_the_error(tmp_path):
    with pytest.raises(ArgumentError, match="lacks the column `child` on line 1, which has 'path', 'label'; add it"):
        read_csv(_write(tmp_path, "path,label\n"), ("child",), error=ArgumentError)


CELL = st.one_of(
    st.none(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)


@settings(max_examples=200, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=8))
def test_what_is_written_is_read_again_and_no_text_is_a_formula(tmp_path, rows):
    write_csv(tmp_path / "a.csv", ("x", "y"), rows)
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    assert [list(row.values()) for row in read_own_csv(tmp_path / "a.csv", ("x", "y"))] == texts
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        raw = list(csv.reader(lines))[1:]
    for row, given_row in zip(raw, rows, strict=True):
        assert not [
            c for c, cell in zip(row, given_row, strict=True) if isinstance(cell, str) and c[:1] in "=+-@" and c
        ]


def test_names_that_are_not_utf8_stay_as_on_disk(tmp_path):
    name = os.fsdecode(b"caf\xe9,\n.png")
    write_csv(tmp_path / "a.csv", ("file",), [(name,)])
    assert read_own_csv(tmp_path / "a.csv", ("file",)) == [{"file": name}]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "must have the columns 'x', 'y'; it has none"),
        ("x,z\n", "must have the columns 'x', 'y'; it has 'x', 'z'"),
        ('x,y\n1,"2\n', "is damaged: .* line 2 opens a quote that is never closed"),
        ("x,y\n1\n", "is damaged: .* line 2 has 1 fields"),
    ],
)
def test_a_file_that_was_not_written_here_or_is_damaged_is_refused(tmp_path, text, match):
    with pytest.raises(ArtifactError, match=match):
        read_own_csv(_write(tmp_path, text), ("x", "y"))
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        read_own_csv(tmp_path / "none.csv", ("x", "y"))


@pytest.mark.fault("R3")
def test_any_cell_runs_in_no_spreadsheet_and_is_read_as_it_was(tmp_path):
    starts = ["=", "+", "-", "@", "\t", "\r", "'", "''", '"', "\n", ",", ";", " ", "\udcff", "é", ""]
    cells = [f"{a}{b}1+1|'{a}\"" for a in starts for b in starts] + starts
    write_csv(tmp_path / "a.csv", ("x", "y"), [(cell, 0.5) for cell in cells])
    assert [row["x"] for row in read_own_csv(tmp_path / "a.csv", ("x", "y"))] == cells
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        assert not [row for row in csv.reader(lines) if row[0].startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.fault("D31")
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_disk_that_is_full_while_a_table_is_written_leaves_the_old_one(tmp_path):
    import resource

    file = tmp_path / "a.csv"
    write_csv(file, ("x",), [("old",)])
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ArtifactError, match=r"cannot write .*a\.csv: File too large"):
            write_csv(file, ("x",), [("new " * 100,)] * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


ENDS = [",", ",", "\n", "\n", "\r\n", "\r", ";", "\t", '"']
CELLS = ["i/0.jpg", "cat", " ", "null", "NA", "007", "1e5", "nan", "inf", "é", "\u2028", "\x0b", "\x85", "\ufeff", "#"]
CELLS += ["\\", "'", "x", "x^", "-", "", "\x1c"]
ROWS = st.lists(st.lists(st.sampled_from(CELLS), min_size=2, max_size=3).map(",".join), max_size=12)
TEXTS = st.one_of(st.lists(st.sampled_from(CELLS + ENDS), max_size=30).map("".join), ROWS.map("\n".join))
HEADERS = ["path,label", "label;path", "path,label,note", "xpath\tpath\tlabel", "\ufeffpath,path,label"]


@settings(max_examples=600, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from(
        ["path,label", "label;path", "path,label,note", "xpath\tpath\tlabel", "\ufeffpath,path,label"]
    ),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    text=TEXTS,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_polars_and_the_csv_module_read_the_same_or_refuse_with_the_same_words(
    tmp_path, monkeypatch, header, newline, text, encoding
):
    (tmp_path / "all.csv").write_bytes(f"{header}{newline}{text}".encode(encoding, "replace"))

    def outcome() -> object:
        try:
            table = read_csv(tmp_path / "all.csv", REQUIRED, error=DatasetError)
        except DatasetError as error:
            return str(error)
        return _texts(table), list(table.lines), table.not_utf8

    fast = outcome()
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_unquoted_columns", lambda *arguments: None)
        assert outcome() == fast


@pytest.mark.parametrize(
    ("text", "is_fast"),
    [
        ("path,label\na,b\nc,d\n", True),
        ("path,label\r\na,b\r\nc,d\r\n\r\n", True),
        ("path;label\na;é\n", True),
        ('path,label\n"a",b\n', False),
        ("path,label\ra,b\r", False),
        ("path,label\n\na,b\n", False),
        ("path,label\na,b,c\nd\n", False),
        ("path,label\na\nb,c,d\n", False),
        (f"path,label\na,{'b' * 131_073}\n", False),
        ("\ufeff\ufeffpath,path,label\na,b,c\n", False),
        ("x\x9c,path,label\na,b,c\n", False),
    ],
)
def test_only_what_polars_reads_alike_goes_through_polars(text, is_fast):
    content = text.encode()
    header, separator = tables._header(content, REQUIRED, "x")
    found = tables._unquoted_columns(content, len(header), separator)
    assert (found is not None) == is_fast


def test_a_long_table_needs_no_object_per_row_and_a_quoted_one_not_for_long(tmp_path, monkeypatch):
    rows = 60_000
    for quote, most in (("", 30), ('"', 90)):  # bytes of Python objects per row beside the content of the file
        text = "path,label\n" + "".join(f"{quote}images/{i:08d}.jpg{quote},class {i % 10}\n" for i in range(rows))
        file = _write(tmp_path, text)
        read_csv(file, REQUIRED, error=DatasetError)
        monkeypatch.setattr(tables, "_ROWS", 1000)
        tracemalloc.start()
        table = read_csv(file, REQUIRED, error=DatasetError)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(table) == rows
        assert (peak - len(text)) / rows < most


def test_a_name_that_no_system_has_is_an_error_of_ours(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read: embedded null byte"):
        read_own_csv(tmp_path / "a\0.csv", ("x",))
    with pytest.raises(DatasetError, match="cannot be read: embedded null byte"):
        read_csv(tmp_path / "a\0.csv", REQUIRED, error=DatasetError)
