"""The pages: every file loads with its content, and mistakes in a page are refused with its name and line."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from counterpoise.cli import app
from counterpoise.workflow.explain.assemble import PAGES, explain, page_of
from counterpoise.workflow.explain.losses import weighted_cross_entropy
from counterpoise.workflow.explain.page import PAGES_FOLDER, Content, PageError, load_page
from counterpoise.workflow.explain.series import chart, table
from counterpoise.workflow.explain.worked import accuracy, separate

METHODS = [(kind, method) for kind, pages in PAGES.items() for method in pages]
WITHOUT_METHOD = (accuracy, separate, lambda: weighted_cross_entropy("inverse", {}))


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_every_page_loads_with_the_defaults_of_its_method(kind, method):
    page = page_of(kind, method, {})
    assert page.summary.endswith(".")
    assert all(len(section.title) < 80 for section in page.sections)
    for text in (page.summary, *page.costs, *page.notes, *(t for s in page.sections for t in s.paragraphs)):
        assert "[" not in text.replace("[−1, 1]", "")
        assert "{" not in text


@pytest.mark.parametrize("content", WITHOUT_METHOD)
def test_every_other_page_loads(content):
    assert load_page(content()).sections


def test_every_file_is_used(monkeypatch):
    read = set()
    original = type(PAGES_FOLDER).read_text
    monkeypatch.setattr(type(PAGES_FOLDER), "read_text", lambda p, **k: (read.add(p), original(p, **k))[1])
    for kind, method in [*METHODS, ("sampler", "resample")]:
        page_of(kind, method, {})
    page_of("sampler", "resample", {"sampling_strategy": "under"})
    for content in WITHOUT_METHOD:
        load_page(content())
    assert set(PAGES_FOLDER.rglob("*.md")) == {path for path in read if PAGES_FOLDER in path.parents}


QUOTED = sorted(
    {quoted for path in PAGES_FOLDER.rglob("*.md") for quoted in re.findall(r"`([^`\n]+)`", path.read_text("utf-8"))}
)


@pytest.mark.parametrize("text", [quoted for quoted in QUOTED if re.match(r"[a-z-]+:", quoted)])
def test_a_recommended_strategy_with_overrides_can_be_explained(text):
    assert explain(text).name == text


def test_the_recommended_options_exist():
    commands = get_command(app).commands.values()
    known = {name for command in commands for parameter in command.params for name in parameter.opts}
    options = {word for quoted in QUOTED for word in quoted.split() if word.startswith("--")}
    assert options
    assert options <= known


CONTENT = Content(
    "example",
    (chart("line", ("x", "y"), [0, 1], {"a": [1, 2]}),),
    {"numbers": table(("name", "value"), [("a", 1.0)])},
    {"gamma": 2.0},
)
EXAMPLE = """A summary
over two lines.

## Costs
- One cost
  over two lines.
- Another.

## A section with γ = {gamma:g}
A paragraph.

$$
y = \\frac{1}{x^2}
$$

[chart: line] Title | A caption
  over two lines.
[table: numbers] A caption | A note.
[include: code]

Reference: A paper
"""


def load(folder, text, content=CONTENT):
    (folder / "shared").mkdir()
    (folder / "shared" / "code.md").write_text("```python\nprint(1)\n\nprint(2)\n```\n")
    (folder / "example.md").write_text(text, encoding="utf-8")
    return load_page(content, folder)


def test_a_page_is_read(tmp_path):
    page = load(tmp_path, EXAMPLE)
    assert page.summary == "A summary over two lines."
    assert page.costs == ("One cost over two lines.", "Another.")
    assert page.notes == ()
    (section,) = page.sections
    assert section.title == "A section with γ = 2"
    assert section.paragraphs == ("A paragraph.",)
    assert section.equation == "y = 1/x²"
    assert section.latex == r"y = \frac{1}{x^2}"
    assert section.code == "print(1)\n\nprint(2)\n"
    assert section.reference == "A paper"
    ((drawn,), (cells,)) = section.charts, section.tables
    assert (drawn.title, drawn.caption, drawn.curves[0].y) == ("Title", "A caption over two lines.", (1.0, 2.0))
    assert (cells.caption, cells.notes, cells.rows) == ("A caption", ("A note.",), (("a", 1.0),))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "A paragraph.",
            "At τ = {tau}.",
            "example.md line 10: unknown placeholder 'tau'; there are gamma",
        ),
        ("A paragraph.", "A brace {.", "example.md line 10: "),
        ("A paragraph.", "At {gamma:q}.", "example.md line 10: Unknown format code"),
        ("[chart: line]", "[chart: lin]", "example.md must show the chart 'line' exactly once"),
        ("A paragraph.", "[chart: lin] Title", "example.md line 10: unknown chart 'lin'; there are line"),
        ("A paragraph.", "[table: lin] Title", "example.md line 10: unknown table 'lin'; there are numbers"),
        ("A paragraph.", "[figure: line] Title", r"example.md line 10: expected \[chart: id\]"),
        ("A paragraph.", "- An item", "example.md line 10: a section cannot have this item"),
        (r"\frac{1}{x^2}", "x^2^3", "example.md line 12: `latex` cannot be converted: 'y = x\\^2\\^3'"),
        ("A paragraph.", "[pictures: photo] Title", "example.md line 10: unknown pictures 'photo'; there are none"),
        ("A paragraph.", "$$\ny\n$$", "example.md line 14: a section cannot have this equation"),
        ("^2}\n$$", "^2}", "example.md line 12: the equation has no closing"),
        ("- Another.", "\nA paragraph", "example.md line 8: expected a list item, got a paragraph"),
        ("## Costs\n- One cost\n", "", "example.md must start with one paragraph"),
        ("## A section with γ = {gamma:g}", "## Costs", "example.md line 9: the heading 'Costs' occurs twice"),
        ("[include: code]", "[include: cod]", "shared/cod.md does not exist"),
        ("[table: numbers] A caption | A note.\n", "", "example.md must show the table 'numbers' exactly once"),
    ],
)
def test_a_mistake_names_the_page_and_the_line(old, new, message, tmp_path):
    assert old in EXAMPLE
    with pytest.raises(PageError, match=message):
        load(tmp_path, EXAMPLE.replace(old, new))
