"""The page as a parser sees it, without a browser."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from counterpoise.core.artifacts import Finding
from counterpoise.workflow.report import render_html

from . import pages, samples

VOID = {"meta", "link", "img", "br"}


class Tree(HTMLParser):
    """Tags with their attributes, texts with the tags around them, and whether everything closes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for around, text in self.texts if around and around[-1] == tag]


KINDS = ["comparison", "hostile", "large", "audit", "run", "evaluation", "strategies"]
ALLOWED = {
    *(
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
        "section",
        "footer",
        "noscript",
    ),
    *("h1", "h2", "h3", "p", "a", "span", "bdi", "button", "label", "select", "option", "div", "ol", "ul", "li"),
    *("dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("figure", "figcaption", "svg", "path", "pre", "code", "script", "noscript"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.fault("R1")
def test_only_our_tags_and_no_handler_address_or_inline_style(kind: str):
    tree = Tree(pages.html(kind))
    assert tree.open == []
    assert {tag for tag, _ in tree.tags} <= ALLOWED
    for tag, attributes in tree.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        address = attributes.get("href") or attributes.get("src") or "#"
        assert address.startswith("#") or address == "data:,"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.fault("R1")
def test_the_policy_allows_exactly_the_scripts_and_the_style_that_are_there(kind: str):
    tree = Tree(pages.html(kind))
    metas = tree.all("meta")
    assert metas[1]["http-equiv"] == "Content-Security-Policy"  # before anything that it must govern
    policy = dict(part.split(" ", 1) for part in metas[1]["content"].split("; "))
    assert policy["default-src"] == "'none'"
    assert not re.search("unsafe|http|\\*", metas[1]["content"])
    kinds = iter(tree.all("script"))
    text = pages.html(kind)
    scripts = [
        body for body, a in zip(re.findall(r"<script[^>]*>(.*?)</script>", text, re.S), kinds, strict=True) if not a
    ]
    assert policy["script-src"].split() == [_hash(body) for body in scripts]
    assert policy["style-src"] == _hash(re.search(r"<style>(.*?)</style>", text, re.S)[1])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.fault("R1")
def test_every_hostile_name_can_be_read_where_it_belongs():
    tree = Tree(pages.html("hostile"))
    names = tree.inside("bdi")
    for name in samples.HOSTILE[:6]:
        assert name in names or any(a.get("title") == name for a in tree.all("bdi")), name
    assert any("\\u202egpj.exe" in name for name in names)  # a direction override is shown, not obeyed
    assert "49" not in {name.strip() for name in names}
    assert not any("\u202e" in text for _, text in tree.texts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.fault("R4")
def test_embedded_json_is_strict_and_cannot_leave_its_element(kind: str):
    text = pages.html(kind)
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    assert found
    for body in found:
        assert "<" not in body
        json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_who_sees_no_figure_finds_its_words_and_numbers(kind: str):
    tree = Tree(pages.html(kind))
    ids = [a["id"] for _, a in tree.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, a in tree.tags:
        for reference in ("aria-labelledby", "aria-describedby"):
            assert a.get(reference, ids[0]) in ids
    plots = [a for a in tree.all("div") if a.get("class") == "plot"]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 30 for a in plots)
    levels = [int(tag[1]) for tag, _ in tree.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(tree.all("caption")) == len(tree.all("table"))
    assert tree.all("html")[0]["lang"] == "en"


def test_the_table_of_results_has_the_numbers_of_the_artifact():
    comparison, text = samples.comparison(), pages.html("comparison")
    table = text[text.index('<caption id="results-1-caption"') :].split("</table>")[0]
    rows = [_words(row) for row in table.split("<tr")[2:]]
    assert [row.split()[0] for row in rows] == [arm.strategy.name for arm in comparison.arms]
    for row, arm in zip(rows, comparison.arms, strict=True):
        if arm.status == "failed":
            assert row.count("no value: oversample failed") == 9
            continue
        for metric in ("balanced_accuracy", "macro_f1", "few", "few_false_positives", "expected_calibration_error"):
            score = arm.scores["test"][metric]
            assert f"{100 * score.mean:.1f} ± {100 * score.sd:.1f}" in row
    d = next(d for d in comparison.differences if d.strategy == "logit-adjusted")
    expected = f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    assert expected in rows[3].replace("−", "-")
    assert 'class="highlighted"' in table.split("<tr")[5]
    assert "paired bootstrap (2,000 resamples) that resamples the test images of each class" in text
    assert "the loss became NaN at step 12" in text


def _words(fragment: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", fragment.split(">", 1)[1]).split())


@pytest.mark.parametrize("kind", ["comparison", "audit", "run", "evaluation", "strategies"])
def test_text_in_backticks_is_code_and_no_backtick_is_left(kind: str):
    tree = Tree(pages.html(kind))
    texts = [text for around, text in tree.texts if not {"script", "style"} & set(around)]
    assert not [text for text in texts if "`" in text]
    if kind == "comparison":
        code = " ".join(text for around, text in tree.texts if "code" in around)
        assert "--resume" in code
        assert "learning_rate" in code


def test_the_verdict_stands_before_everything_else():
    found = Tree(pages.html("comparison")).texts
    texts = [text.strip().replace("\u00a0", " ") for around, text in found if "main" in around and text.strip()]
    verdict = samples.comparison().verdict
    assert texts.index(verdict.headline) == 3  # after the name of the dataset, the subtitle and the kind of verdict
    assert texts.index(verdict.costs[0]) < texts.index("Results")


def test_differences_on_validation_are_shown_against_the_choice_not_among_those_from_the_baseline():
    text = pages.html("comparison")
    from_baseline = _spec(text, "differences")
    from_choice = _spec(text, "selection")
    comparison = samples.comparison()
    for spec, split, against in ((from_baseline, "test", "baseline"), (from_choice, "val", "logit-adjusted")):
        rows = next(rows for rows in spec["datasets"].values() if "estimate" in rows[0])
        main = [d for d in comparison.differences if d.metric == "balanced_accuracy" and d.split == split]
        assert [(r["strategy"], r["estimate"], r["low"], r["high"]) for r in rows] == [
            (d.strategy, d.estimate, d.low, d.high) for d in main if d.baseline == against
        ]
    assert "Each strategy minus logit-adjusted" in text


def _spec(text: str, figure: str) -> dict:
    return json.loads(re.search(rf'id="{figure}-specs">(.*?)</script>', text, re.S)[1])[0]


def test_overfit_classes_are_counted_over_seeds():
    text = pages.html("comparison")
    table = text[text.index(">Overfit classes</span></caption>") :].split("</table>")[0]
    rows = [_words(row) for row in table.split("<tr")[2:]]
    assert rows == [
        f"{name} truck (2/2) none"
        for name in ("weighted-ce", "class-balanced-focal", "logit-adjusted", "post-hoc-logit-adjusted")
    ]


def test_a_trade_off_is_drawn_between_the_groups_that_there_are():
    comparison = samples.comparison()
    gone = samples.spread([None, None])
    arms = [
        replace(arm, scores={**arm.scores, "test": {**arm.scores["test"], "many": gone}}) if arm.scores else arm
        for arm in comparison.arms
    ]
    text = render_html(replace(comparison, arms=tuple(arms)))
    rows = next(rows for rows in _spec(text, "tradeoff")["datasets"].values() if rows[0].get("seed") == "mean")
    scores = arms[3].scores["test"]
    assert rows[3] == {**rows[3], "frequent": scores["medium"].mean, "rare": scores["few"].mean}
    assert "Medium-shot recall (test)" in text


@pytest.mark.fault("R4")
def test_what_is_not_a_number_is_a_dash_with_its_reason():
    whole = samples.evaluation()
    empty = replace(whole.classes[0], support=0, recall=None, recall_low=float("nan"), recall_high=None)
    evaluation = replace(whole, classes=(empty, *whole.classes[1:]), macro_f1=float("nan"), geometric_mean=None)
    text = render_html(evaluation)
    assert text.count("no value: not defined for these images") == 2
    assert "no value: no image of this class in the split" in text
    assert not re.search(r">\s*(NaN|nan|None|inf)\s*<", text)


def test_text_in_backticks_is_code_whatever_it_contains():
    finding = Finding("x", "warning", "Name a folder: `--out <folder>|NAME & more`.")
    text = render_html(replace(samples.audit(), findings=(finding,)))
    assert "<span>&lt;folder&gt;|NAME</span> <span>&amp;</span>" in text
    assert "`--out" not in text


@pytest.mark.parametrize(
    ("ratio", "findings", "tone", "label"),
    [
        (100.0, (), "neutral", "Imbalanced 100:1"),
        (1.2, (), "good", "Nearly balanced 1.2:1"),
        (100.0, (Finding("x", "error", "A reason."),), "bad", "Imbalanced 100:1"),
        (None, (), "neutral", "No training images"),
    ],
)
def test_the_headline_of_an_audit_is_the_imbalance_and_its_consequence(ratio, findings, tone, label):
    changes = {"constant_class": "car", "constant_accuracy": 0.81, "constant_balanced_accuracy": 0.1}
    text = render_html(replace(samples.audit(), imbalance_ratio=ratio, findings=findings, **changes))
    assert f'<p class="tone {tone}">{label}</p>' in text
    consequence = (
        "Always predicting car scores 81.0\u00a0% accuracy and 10.0\u00a0% balanced accuracy on the test images."
    )
    assert (consequence in text) is (ratio is not None)
    assert ("1 finding needs attention." if findings else "No findings need attention.") in text


@pytest.mark.parametrize("kind", ["comparison", "audit", "run"])
@pytest.mark.fault("R6")
def test_absolute_paths_do_not_leave_the_machine(kind: str):
    text = pages.html(kind)
    assert "secret-project" not in text
    assert "/home/" not in text
    assert "…/" in text


@pytest.mark.fault("R5")
def test_ten_thousand_long_names_make_a_page_of_bounded_size_that_says_what_is_left_out():
    large, small = pages.html("large"), pages.html("comparison")
    assert len(large) < len(small) + 600_000
    assert (
        "10 largest and the 30 rarest classes are shown; the 9,960 classes between them are in the JSON export" in large
    )
    cells = [text for text in Tree(large).inside("bdi") if "…" in text]
    assert max(map(len, cells)) <= 48
    rows = large[large.index('id="recall-table-caption"') :].split("</table>")[0].count("<tr")
    assert rows == 1 + 40


def test_only_the_best_eight_of_many_strategies_are_drawn_and_the_page_says_so():
    comparison = samples.comparison()
    first = comparison.arms[0]
    more = [replace(first, strategy=replace(first.strategy, name=f"copy-{i}")) for i in range(10)]
    text = render_html(replace(comparison, arms=(*comparison.arms, *more)))
    key = text[text.index('id="recall"') :].split("</figure>")[0]
    assert key.count("data-strategy=") == 8
    assert 'data-strategy="baseline"' in key
    assert 'data-strategy="logit-adjusted"' in key
    assert "Figures show 8 strategies" in text
    assert "7 more are in the table above" in text


def test_a_comparison_in_which_nothing_finished_still_has_a_page():
    comparison = samples.comparison()
    arms = tuple(samples.failed(arm.strategy, arm.seeds) for arm in comparison.arms)
    verdict = replace(comparison.verdict, kind="nothing-finished", recommended=None, headline="No strategy finished.")
    tree = Tree(render_html(replace(comparison, arms=arms, differences=(), verdict=verdict)))
    assert "No strategy finished." in tree.inside("p")
    assert [a["id"] for a in tree.all("figure")] == ["counts"]


@pytest.mark.parametrize(
    ("kind", "recommended", "word"),
    [
        ("clear", "logit-adjusted", "recommended"),
        ("tied", "logit-adjusted", "recommended"),
        ("undecided", None, "best on validation"),
        ("undecided", "logit-adjusted", "best on validation"),  # a file of an earlier version
    ],
)
def test_what_leads_is_recommended_only_where_the_verdict_says_so(kind, recommended, word):
    comparison = samples.comparison()
    verdict = replace(comparison.verdict, kind=kind, recommended=recommended, leader="logit-adjusted")
    page = render_html(replace(comparison, verdict=verdict))
    details = re.findall(r'<span class="detail">(.*?)</span>', page)
    assert word in details
    assert ("recommended" in details) == (kind != "undecided")
    assert "Difference from the best strategy on validation" in page


def test_importing_the_report_loads_no_drawing_library_and_no_torch():
    code = "import sys, counterpoise.workflow.report as r; r.render; "
    code += "print(sorted({'altair', 'vl_convert', 'jinja2', 'PIL', 'torch', 'polars', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_option_and_strategy_that_the_text_advises_exists():
    import typer

    from counterpoise.cli import app
    from counterpoise.workflow.strategy import strategy_named

    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    options = {option for command in commands for parameter in command.params for option in parameter.opts}
    arm = samples.arm("baseline", samples.NAMES, (0,))
    other = replace(arm.test[0].classes[0], predicted=0)
    found = samples.Finding("never-predicted", "warning", "never predicted", (other.name,))
    arm = replace(arm, test=(replace(arm.test[0], findings=(found,)),))
    whole = samples.comparison(seeds=(0,))
    tree = Tree(render_html(replace(whole, arms=(arm, *whole.arms[1:]))))
    code = [text for around, text in tree.texts if "code" in around and "pre" not in around]
    named = {word for text in code for word in text.split() if word.startswith("--")}
    assert {"--seeds", "--val-fraction", "--resume", "--strategies", "--tune"} <= named <= options
    advised = re.findall(
        r"--strategies ([a-z,-]+[a-z])", "".join(f"{text}\n" if "," in text else text for text in code)
    )
    assert len(advised) == 2
    for name in ",".join(advised).split(","):
        assert strategy_named(name).name == name


@pytest.mark.parametrize(
    ("wall", "title", "shown"),
    [
        (75.0, "Time in all (wall time)", "75.0 s"),
        (None, "Training time (sum over strategies and seeds)", "10 min 38 s"),
    ],
)
def test_the_time_in_all_is_the_wall_time_and_not_the_sum_of_parallel_runs(wall, title, shown):
    comparison = replace(samples.comparison(), seconds=wall)
    assert sum(s for arm in comparison.arms for s in arm.seconds) == pytest.approx(638.4)
    tree = Tree(render_html(comparison))
    assert title in tree.inside("dt")
    text = "".join(part for _, part in tree.texts)
    assert shown in text.partition(title)[2][:200]
    assert ("all trainings together: 10 min 38 s" in text) is (wall is not None)
