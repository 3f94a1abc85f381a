"""Manifests: labels unchanged, every mistake with its line, no row swallowed."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import polars as pl
import pytest

from counterpoise.core.errors import CounterpoiseError, DatasetError
from counterpoise.workflow.dataset import load


@pytest.fixture
def images(make) -> Path:
    """A folder with i/000.jpg … i/011.jpg."""
    return make({"i": 12})


def _write(folder: Path, text: str | bytes, name: str = "all.csv") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def _rows(*labels: str) -> str:
    return "path,label\n" + "".join(f"i/{i:03d}.jpg,{label}\n" for i, label in enumerate(labels))


def _labels(data) -> list[str]:
    return [data.classes[c] for c in data.labels]


TRAPS = [
    "NA",
    "null",
    "007",
    "1e5",
    "true",
    " cat ",
    "None",
    "nan",
    "NaN",
    "-0",
    "0x1F",
    "2024-01-01",
    "=1+1",
    "N/A",
    "#",
]


@pytest.mark.fault("D20")
@pytest.mark.parametrize("quoted", [False, True])
def test_labels_stay_exactly_what_they_are(images, quoted):
    labels = TRAPS[:12]
    rows = _rows(*(f'"{label}"' if quoted else label for label in labels))
    data = load(_write(images, rows))
    assert _labels(data) == labels
    assert data.classes == tuple(sorted(labels))
    assert not data.quarantined


@pytest.mark.fault("D20")
def test_labels_stay_exactly_what_they_are_in_parquet(images):
    frame = pl.DataFrame({"path": [f"i/{i:03d}.jpg" for i in range(12)], "label": TRAPS[:12]})
    frame.write_parquet(images / "all.parquet")
    assert _labels(load(images / "all.parquet")) == TRAPS[:12]


def test_markup_is_a_legal_class(images):
    evil = "</script><img src=x onerror=alert(1)>"
    assert load(_write(images, _rows(evil, evil, "cat"))).classes == (evil, "cat")


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2, 10], pl.Int64), ([True, False, True], pl.Boolean), (["a", "b", "a"], pl.Categorical)]
)
def test_parquet_labels_of_other_kinds(images, values, kind):
    paths = [f"i/{i:03d}.jpg" for i in range(3)]
    pl.DataFrame({"path": paths, "label": pl.Series(values, dtype=kind)}).write_parquet(images / "a.pq")
    expected = [str(value).lower() if kind is pl.Boolean else str(value) for value in values]
    assert _labels(load(images / "a.pq")) == expected


@pytest.mark.fault("D26")
@pytest.mark.parametrize("values", [[1.0, 2.0], [["a"], ["b"]]])
def test_parquet_labels_that_are_neither_names_nor_whole_numbers(images, values):
    pl.DataFrame({"path": ["i/000.jpg", "i/001.jpg"], "label": values}).write_parquet(images / "a.parquet")
    with pytest.raises(DatasetError, match="`label` must hold strings or whole numbers; it has"):
        load(images / "a.parquet")


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"path,label\n"])
def test_damaged_parquet(tmp_path, damage):
    (tmp_path / "a.parquet").write_bytes(damage)
    with pytest.raises(DatasetError, match=r"'a.parquet' cannot be read as Parquet") as caught:
        load(tmp_path / "a.parquet")
    assert str(tmp_path) not in str(caught.value)


def test_splits_as_given_and_drawn(images):
    given_splits = ["train"] * 6 + ["valid", "Validation", "test"]
    text = "path,label,split,note\n" + "".join(f"i/{i:03d}.jpg,cat,{s},x\n" for i, s in enumerate(given_splits))
    data = load(_write(images, text))
    assert data.splits.tolist() == ["train"] * 6 + ["val", "val", "test"]
    assert data.counts("test").total == 1
    assert load(_write(images, _rows(*["cat"] * 10))).counts("test").total == 2


@pytest.mark.fault("D19")
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", [True, False])
def test_dialects(images, separator, newline, encoding, end):
    text = newline.join(f"i/{i:03d}.jpg{separator}Käse" for i in range(5))
    text = f"path{separator}label{newline}{text}{newline if end else ''}"
    data = load(_write(images, text.encode(encoding)))
    assert _labels(data) == ["Käse"] * 5
    assert not data.quarantined


@pytest.mark.fault("D19")
def test_latin_1_is_read_with_a_warning(images):
    data = load(_write(images, _rows("cat", "Käse", "10 €").encode("cp1252")))
    assert data.classes == ("10 €", "Käse", "cat")
    finding = next(f for f in data.findings if f.kind == "manifest-encoding")
    assert finding.severity == "warning"
    assert "line 3" in finding.reason
    with pytest.raises(DatasetError, match="line 2 is neither UTF-8 nor Windows-1252"):
        load(_write(images, b"path,label\ni/000.jpg,\x81\xff\n"))


@pytest.mark.fault("D19")
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('path,label\ni/000.jpg,cat\ni/001.jpg,"dog\ni/002.jpg,cat\n', "line 3 opens a quote that is never closed"),
        ('path,label\ni/000.jpg,"cat\ni/001.jpg,dog"\ni/002.jpg,cat\n', "line 2 opens a quote that runs over the rows"),
        ('path,label\ni/000.jpg,"cat"x\ni/001.jpg,dog\n', "line 2 cannot be read"),
        ("path,label\ni/000.jpg,cat\ni/001.jpg,dog,x\n", "line 3 has 3 fields, the header 2"),
        ("path,label\ni/000.jpg,cat\ni/001.jpg\n", "line 3 has 1 fields, the header 2"),
        ("path,label\ni/000.jpg,a,b\ni/001.jpg\n", "line 2 has 3 fields"),
        ("path,label\n\n\ni/000.jpg\n", "line 4 has 1 fields"),
        ("path,label\ni/000.jpg,c\0at\n", "line 2 has a NUL character"),
        ("path,label,path\ni/000.jpg,cat,x\n", "line 1 has the column 'path' twice"),
        (
            "path,class\ni/000.jpg,cat\n",
            "lacks the column `label` on line 1, which has 'path', 'class'; set `label_column='class'` if",
        ),
        ("Path,Label\ni/000.jpg,cat\n", "lacks the column `path`"),
        ("", "lacks the column `path` on line 1, which has no column"),
        ("path,labels\ni/000.jpg,cat|dog\n", "`labels`: several labels per image are not supported"),
        ("path,label\n", "names no image"),
        (f"path,label\ni/000.jpg,cat\ni/001.jpg,{'x' * 200_000}\n", "line 3"),
        (f'path,label\ni/000.jpg,{"x" * 200_000}\ni/001.jpg,"c"\n', "line 2"),
        (
            "path,label,split\ni/000.jpg,cat,train\ni/001.jpg,cat,dev\n",
            "line 3: the split must be one of 'train', 'val', 'test'; got 'dev'",
        ),
        ("path,label,split\ni/000.jpg,cat,\n", "line 2: the split must be one of 'train', 'val', 'test'; got ''"),
        (
            "path,label,split\ni/000.jpg,cat,test\n",
            "no image that can be used in train: all its images are in other splits",
        ),
    ],
)
def test_a_mistake_is_one_error_with_its_line(images, text, match):
    with pytest.raises(DatasetError, match=re.escape(match)) as caught:
        load(_write(images, text))
    assert "\n" not in str(caught.value)
    assert str(images) not in str(caught.value)


@pytest.mark.fault("D18")
@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg",
        "i/../../secret.jpg",
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "https://example.org/x.jpg",
        "\\\\server\\share\\x.jpg",
        "//server/share/x.jpg",
        "C:\\x.jpg",
        "~/x.jpg",
        "~root/x.jpg",
        "..\\secret.jpg",
        "..",
    ],
)
def test_a_path_that_leads_outside_is_refused_with_its_line(images, path):
    text = f'path,label\ni/000.jpg,cat\n"{path}",dog\n'
    with pytest.raises(DatasetError, match=re.escape(f"'all.csv' line 3: the path {path!r} is outside")):
        load(_write(images, text))


@pytest.mark.fault("D18")
def test_a_nul_in_a_parquet_path_is_refused_with_its_row(images):
    pl.DataFrame({"path": ["i/000.jpg", "i/\0.jpg"], "label": ["a", "b"]}).write_parquet(images / "a.parquet")
    with pytest.raises(DatasetError, match=r"row 2: the path 'i/\\x00.jpg'"):
        load(images / "a.parquet")


@pytest.mark.fault("D18")
def test_links_may_lead_within_the_folder_but_not_out(images, encoded):
    (images.parent / "photos-evil").mkdir()
    (images.parent / "photos-evil/x.jpg").write_bytes(encoded())
    (images / "in").symlink_to(images / "i", target_is_directory=True)
    (images / "one.jpg").symlink_to("i/003.jpg")
    data = load(_write(images, "path,label\nin/000.jpg,cat\none.jpg,dog\n"))
    assert data.paths == ("i/000.jpg", "i/003.jpg")
    (images / "evil").symlink_to(images.parent / "photos-evil", target_is_directory=True)
    (images / "evil.jpg").symlink_to(images.parent / "photos-evil/x.jpg")
    for path in ("evil/x.jpg", "evil.jpg", "in/../evil/x.jpg"):
        with pytest.raises(DatasetError, match="line 3"):
            load(_write(images, f"path,label\ni/000.jpg,cat\n{path},dog\n"))


def test_other_spellings_of_a_path_inside(images):
    text = f"path,label\n./i/000.jpg,cat\ni//001.jpg,cat\ni\\002.jpg,cat\ni/../i/003.jpg,cat\n{images}/i/004.jpg,cat\n"
    assert load(_write(images, text)).paths == tuple(f"i/{i:03d}.jpg" for i in range(5))


@pytest.mark.fault("D21")
def test_faults_in_the_data_are_quarantined_and_counted(images, encoded):
    (images / "i/010.jpg").write_bytes(b"<html>")
    (images / "x.pdf").write_bytes(b"%PDF")
    rows = [
        ("i/000.jpg", "cat"),
        ("i/001.jpg", "dog"),
        ("i/000.jpg", "cat"),  # 4 repeats 2
        ("./i/002.jpg", "cat"),
        ("i/002.jpg", "dog"),  # 6 contradicts 5
        ("i/missing.jpg", "dog"),
        ("i/003.jpg", ""),
        ("", "cat"),
        ("i/010.jpg", "dog"),
        ("x.pdf", "dog"),
        ("i/004.jpg", "   "),
        ("i", "dog"),
    ]
    data = load(_write(images, "path,label\n" + "".join(f"{p},{c}\n" for p, c in rows)))
    assert data.paths == ("i/000.jpg", "i/001.jpg")
    reasons = sorted((item.path, item.reason) for item in data.quarantined)
    assert reasons == [
        ("", "Line 9: The path is empty. Write one, or delete the row."),
        ("i", "Line 13: The file is not a regular file. Move it out of the dataset."),
        ("i/000.jpg", "Line 4: The row repeats line 2. Delete it."),
        ("i/002.jpg", "Line 5: The file has two labels, 'cat' and 'dog', on line 5 and line 6. Keep one of them."),
        ("i/002.jpg", "Line 6: The file has two labels, 'cat' and 'dog', on line 5 and line 6. Keep one of them."),
        ("i/003.jpg", "Line 8: The label is empty. Write one, or delete the row."),
        ("i/004.jpg", "Line 12: The label is empty. Write one, or delete the row."),
        ("i/010.jpg", "Line 10: The file is not an image: it starts with b'<html>'. Replace it, or remove it."),
        ("i/missing.jpg", "Line 7: The file does not exist. Restore it, or delete the row that names it."),
        ("x.pdf", "Line 11: The format .pdf is not supported, and the file was not opened. Convert it to PNG or JPEG."),
    ]
    assert data.num_files == len(rows)


@pytest.mark.fault("D21")
@pytest.mark.fault("D17")
def test_the_same_file_in_two_splits_is_in_neither(images):
    rows = [("i/000.jpg", "train"), ("i/001.jpg", "train"), ("i/002.jpg", "train"), ("i/001.jpg", "test")]
    data = load(_write(images, "path,label,split\n" + "".join(f"{p},cat,{s}\n" for p, s in rows)), val_fraction=0)
    assert data.paths == ("i/000.jpg", "i/002.jpg")
    assert {item.reason for item in data.quarantined} == {
        "Line 3: The file is in two splits, train and test, on line 3 and line 5. Keep one of them.",
        "Line 5: The file is in two splits, train and test, on line 3 and line 5. Keep one of them.",
    }


@pytest.mark.fault("D14")
def test_names_with_newlines_quotes_and_commas_come_through_csv(images, encoded):
    names = ["new\nline.jpg", 'quo"te.jpg', "com,ma.jpg", "-rf.jpg", "\u202egpj.jpg", "#hash.jpg", "12:30.jpg"]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["path", "label"])
    for i, name in enumerate(names):
        (images / name).write_bytes(encoded(seed=500 + i))
        writer.writerow([name, "a\nb"])
    data = load(_write(images, buffer.getvalue()))
    assert data.paths == tuple(sorted(names))
    assert data.classes == ("a\nb",)


def test_labels_that_differ_in_normal_form_are_one_class(images):
    data = load(_write(images, _rows("caf\u00e9", "cafe\u0301", "nai\u0308ve")))
    assert data.classes == ("caf\u00e9", "nai\u0308ve")
    assert data.labels.tolist() == [0, 0, 1]


def test_a_class_whose_images_are_all_faulty_is_excluded_unless_it_is_asked_for(images):
    file = _write(images, "path,label\ni/000.jpg,cat\ngone.jpg,unicorn\n")
    data = load(file)
    assert data.classes == ("cat",)
    assert "All files of 'unicorn' are quarantined." in data.findings[0].reason
    assert load(file, keep_empty_classes=True).counts("train").empty == ("unicorn",)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_other_names_are_read_as_path_and_label(images, suffix):
    columns = {
        "file": [f"i/{i:03d}.jpg" for i in range(4)],
        "path": ["nowhere"] * 4,
        "class name": ["cat", "dog", "007", "cat"],
        "label": ["wrong"] * 4,
        "split": ["train", "train", "train", "test"],
    }
    frame, file = pl.DataFrame(columns), images / f"all{suffix}"
    frame.write_parquet(file) if suffix == ".parquet" else frame.write_csv(file)
    data = load(file, path_column="file", label_column="class name", val_fraction=0)
    assert _labels(data) == columns["class name"]
    assert data.paths == tuple(columns["file"])
    assert data.splits.tolist() == columns["split"]
    by_split = load(file, path_column="file", label_column="split", val_fraction=0, test_fraction=0)
    assert by_split.classes == ("test", "train")
    assert set(by_split.splits.tolist()) == {"train"}  # the column of labels is no column of splits as well


@pytest.mark.fault("D19")
@pytest.mark.parametrize(
    ("header", "arguments", "advice"),
    [
        (
            "file,class",
            {},
            "set `path_column='file'` and `label_column='class'` if these columns have the paths and lab",
        ),
        ("Path;Label", {}, "set `path_column='Path'` and `label_column='Label'` if"),
        ("image_path,species", {}, "set `path_column='image_path'` and `label_column='species'` if"),
        ("path,id,Class Name", {}, "set `label_column='Class Name'` if this column has the labels"),
        ("path,lable", {}, "set `label_column='lable'` if"),
        ("path,kind", {}, "name the column in the file with `label_column`"),
        ("u,v", {}, "name the column in the file with `path_column` and `label_column`"),
        ("path,label,diagnosis_2", {"label_column": "diagnosis2"}, "set `label_column='diagnosis_2'` if"),
        ("i/000.jpg,cat", {}, "the first line looks like an image; write the names of the columns above it"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_missing_column_suggests_the_columns_that_are_like_it(images, header, arguments, advice, suffix):
    file = images / f"all{suffix}"
    names = header.replace(";", ",").split(",")
    if suffix == ".csv":
        file.write_text(f"{header}\n")
    else:
        pl.DataFrame({name: ["x"] for name in names}).write_parquet(file)
    with pytest.raises(DatasetError, match=re.escape(advice)) as caught:
        load(file, **arguments)
    assert str(caught.value).startswith(f"'all{suffix}' lacks the column `")


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("all.csv", {"path_column": "x", "label_column": "x"}, "must be two columns; both are 'x'"),
        ("all.csv", {"label_column": "path"}, "must be two columns; both are 'path'"),
        (".", {"label_column": "x"}, "`label_column` needs a CSV or Parquet manifest"),
        ("digits", {"path_column": "x"}, "`path_column` needs a CSV or Parquet manifest"),
        ("all.csv", {"path_column": 3}, "`path_column` must be the name of a column; got int"),
    ],
)
def test_columns_that_cannot_be_chosen(images, source, arguments, message):
    _write(images, _rows("cat"))
    with pytest.raises(CounterpoiseError, match=re.escape(message)):
        load(source if source == "digits" else images / source, **arguments)


@pytest.mark.fault("D19")
@pytest.mark.parametrize(
    ("separator", "name", "found"),
    [(",", "a.csv", None), (";", "a.csv", "semicolons"), ("\t", "a.csv", "tabs"), ("\t", "a.tsv", None)],
)
def test_a_separator_that_the_name_of_the_file_does_not_tell_is_a_finding(images, separator, name, found):
    text = f"path{separator}label\n" + "".join(f"i/{i:03d}.jpg{separator}cat, dog\n" for i in range(3))
    data = load(_write(images, text if separator != "," else _rows("cat", "cat", "cat"), name))
    reasons = [f.reason for f in data.findings if f.kind == "manifest-separator"]
    assert len(reasons) == (found is not None)
    assert all(f"read with {found} between its columns" in reason for reason in reasons)


def test_bytes_of_a_manifest_that_cannot_be_read(tmp_path, monkeypatch):
    file = _write(tmp_path, _rows("cat"))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", os.fspath(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetError, match=r"^'all.csv' cannot be read: Permission denied; check its permissions$"):
        load(file)
