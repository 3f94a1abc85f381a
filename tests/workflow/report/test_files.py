"""What `render` writes besides the page: Markdown, JSON, single figures; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from counterpoise.core.artifacts import Comparison, Predictions, Strategy
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.workflow.report import render
from counterpoise.workflow.report.collect_comparison import comparison_page
from counterpoise.workflow.report.markdown import escaped
from counterpoise.workflow.report.page import Code

from . import samples


@pytest.mark.fault("R4")
def test_json_is_the_artifact_itself_and_reads_back(tmp_path: Path):
    comparison = samples.comparison()
    path = render(comparison, tmp_path / "comparison.json")
    assert Comparison.load(path) == comparison
    strategies = [strategy for _, strategy in samples.STRATEGIES.values()]
    listed = json.loads(render(strategies, tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert [Strategy.from_dict(item) for item in listed] == strategies


@pytest.mark.parametrize("names", [samples.NAMES, samples.HOSTILE])
@pytest.mark.fault("R1")
def test_markdown_tables_have_one_cell_a_column_whatever_the_names(tmp_path: Path, names: tuple[str, ...]):
    text = render(samples.comparison(names), tmp_path / "report.md").read_text(encoding="utf-8")
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    assert len(tables) >= 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(widths) == 1, table[0]
    assert not re.search(r"<(?!/?details>|/?summary>)", text)
    assert not re.search(r"(?i)javascript:\w", text)
    assert "secret-project" not in text
    assert "lower `learning_rate`" in text
    row = next(line for line in text.splitlines() if line.startswith("| **logit-adjusted**"))
    score = samples.comparison(names).arms[3].scores["test"]["balanced_accuracy"]
    assert f"**{100 * score.mean:.1f}** ± {100 * score.sd:.1f}" in row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("<b> & *c*", r"&lt;b&gt; &amp; \*c\*"),
        ("[x](y)", r"\[x\](y)"),
        ("two\nlines", "two lines"),
        ("see https://x.y", "see https:\u2060//x.y"),
    ],
)
def test_markdown_escapes(text: str, expected: str):
    assert escaped(text) == expected


FIGURES = ("differences", "selection", "recall", "tradeoff", "gap", "confusion", "calibration", "training", "counts")


def test_every_figure_follows_the_schema_of_vega_lite():
    import altair

    figures = comparison_page(samples.comparison(samples.HOSTILE)).figures
    assert tuple(sorted(figures)) == tuple(sorted(FIGURES))
    for figure in figures.values():
        altair.LayerChart.from_dict(figure.variants[0].spec(), validate=True)
        assert [variant.label for variant in figure.variants] != [""] or len(figure.variants) == 1


def test_every_figure_can_be_had_as_svg_in_colours_of_its_own(tmp_path: Path):
    comparison = samples.comparison()
    for figure in ("recall", "confusion"):
        path = render(comparison, tmp_path / f"{figure}.svg", figure=figure)
        text = path.read_text(encoding="utf-8")
        root = ET.fromstring(text)
        marks = [e for e in root.iter() if "role-mark" in (e.get("class") or "")]
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert sum(len(list(mark)) for mark in marks) >= 100
        assert "var(" not in text
    words = {e.text for e in ET.parse(tmp_path / "recall.svg").iter() if e.text}
    assert {"Recall per class", "logit-adjusted", "truck"} <= words


def test_png(tmp_path: Path):
    from PIL import Image

    path = render(samples.audit(), tmp_path / "counts.png", figure="counts")
    with Image.open(path) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert picture.format == "PNG"
        assert picture.width > 1400
    assert (colours == (0x1D, 0x5A, 0x96)).all(1).sum() > 100  # the marks of the training images are there


@pytest.mark.parametrize(
    ("name", "figure", "message"),
    [
        ("report.pdf", None, r"`path` must end in one of \.html, .*; got 'report\.pdf'"),
        ("report", None, r"`path` must end in"),
        ("recall.svg", None, r"`figure` must name the figure that 'recall\.svg' shows, for example figure='recall'"),
        ("report.html", "recall", r"`figure` is for \.svg and \.png files only; leave it out for 'report\.html'"),
        ("recall.svg", "recal", r"`figure` must name a figure of this comparison \(differences, .*\); got 'recal'"),
    ],
)
def test_mistakes_are_named_and_leave_nothing_behind(tmp_path: Path, name: str, figure: str | None, message: str):
    with pytest.raises(ArgumentError, match=message):
        render(samples.comparison(), tmp_path / name, figure=figure)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("artifact", [{"a": 1}, "comparison.json", [1, 2], None])
def test_what_is_no_artifact_is_refused(tmp_path: Path, artifact: object):
    with pytest.raises(ArgumentTypeError, match=r"`artifact` must be a Comparison, .*; got \w+"):
        render(artifact, tmp_path / "report.html")  # type: ignore[arg-type]


def test_the_snippets_of_the_page_run_beside_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    comparison = samples.comparison()
    render(comparison, tmp_path / "comparison.json")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 10)), np.arange(60) % 10
    saved = Predictions(logits, labels, np.arange(60).astype(str), np.array(samples.NAMES))
    saved.save(tmp_path / "runs" / "logit-adjusted-seed0" / "predictions-test.npz")
    monkeypatch.chdir(tmp_path)
    section = next(s for s in comparison_page(comparison).sections if s.id == "python")
    printed = []
    for block in section.blocks:
        if isinstance(block, Code):
            exec(compile(block.text, block.caption, "exec"), {})
            printed.append(capsys.readouterr().out)
    assert len(printed) == 3
    assert str(comparison.arms[3].scores["test"]["balanced_accuracy"].mean) in printed[0]
    assert str(comparison.differences[0].low) in printed[1]
    assert str(balanced_accuracy_score(labels, logits.argmax(1))) in printed[2]


@pytest.mark.fault("R10")
def test_a_locale_without_utf8_writes_the_same_bytes(tmp_path: Path):
    comparison = samples.comparison(samples.HOSTILE)
    comparison.save(tmp_path / "comparison.json")
    here = render(Comparison.load(tmp_path / "comparison.json"), tmp_path / "here.md").read_bytes()
    code = "import sys; from counterpoise.core.artifacts import Comparison; "
    code += "from counterpoise.workflow.report import render; render(Comparison.load(sys.argv[1]), sys.argv[2])"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    there = tmp_path / "there.md"
    subprocess.run([sys.executable, "-c", code, tmp_path / "comparison.json", there], env=environment, check=True)
    assert there.read_bytes() == here
