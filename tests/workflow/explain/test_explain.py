"""Every name has an explanation, and its numbers are those of the functions that it explains."""

from __future__ import annotations

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from counterpoise import losses, metrics, samplers, weights
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.explanation import Explanation
from counterpoise.core.hyperparameters import hyperparameters
from counterpoise.core.names import ALIASES, simplified
from counterpoise.workflow.dataset import load
from counterpoise.workflow.explain import explain, explainable
from counterpoise.workflow.explain.series import COUNTS
from counterpoise.workflow.explain.worked import focal_terms
from counterpoise.workflow.report import render
from counterpoise.workflow.strategy import CATALOG

NAMES = [name for names in explainable().values() for name in names]


@pytest.fixture(scope="module")
def pages():
    return {name: explain(name) for name in NAMES}


def embedded(page: str, figure: str) -> dict[str, np.ndarray]:
    """The curves of a figure as they stand in the HTML: name → rows of (x, y)."""
    (spec,) = json.loads(re.search(rf'id="{re.escape(figure)}-specs">(.*?)</script>', page, re.S)[1])
    rows = max(spec["datasets"].values(), key=len)
    names = dict.fromkeys(row["strategy"] for row in rows)
    return {name: np.array([[r["x"], r["y"]] for r in rows if r["strategy"] == name], float) for name in names}


def chart(page: Explanation, id: str):
    return next(chart for chart in page.charts if chart.id == id)


def column(page: Explanation, id: str, curve: str) -> np.ndarray:
    return np.array(next(c.y for c in chart(page, id).curves if c.name == curve), float)


def table(page: Explanation, start: str) -> dict[str, tuple]:
    found = next(s for section in page.sections for s in section.tables if s.caption.startswith(start))
    return {row[0]: row[1:] for row in found.rows}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_page_with_its_costs(name, pages, tmp_path):
    page = pages[name]
    assert page.summary.endswith(".")
    assert page.sections
    assert page.charts
    assert page.costs
    ids = [chart.id for chart in page.charts]
    assert len(ids) == len(set(ids))
    for drawn in page.charts:
        assert len({c.name for c in drawn.curves}) == len(drawn.curves)
        assert all(len(c.y) == len(drawn.x) and any(y is not None for y in c.y) for c in drawn.curves)
    render(page, tmp_path / "page.json")
    assert Explanation.load(tmp_path / "page.json") == page


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_every_page_runs(name, pages):
    for section in pages[name].sections:
        exec(compile(section.code, f"explain {name}: {section.title}", "exec"), {})


def test_every_strategy_of_the_catalog_is_explained():
    assert explainable()["strategies"] == tuple(CATALOG)
    assert set(explainable()["weights"]) == set(weights.SCHEMES)


@pytest.mark.parametrize("name", ["focal", "logit-adjusted", "ldam", "asymmetric", "tversky", "hierarchical"])
def test_embedded_gradients_are_differences_of_the_embedded_losses(name, pages, tmp_path):
    page = pages[name]
    html = render(page, tmp_path / "page.html").read_text(encoding="utf-8")
    pairs = [p.id.removesuffix("-loss") for p in page.charts if p.id.endswith("-loss")]
    assert pairs
    for pair in pairs:
        values, slopes = embedded(html, f"{pair}-loss"), embedded(html, f"{pair}-gradient")
        assert list(values) == list(slopes)
        assert [len(v) for v in values.values()] == [101] * len(values)
        for curve, found in slopes.items():
            x, loss = values[curve].T
            logit = x if "osine" in chart(page, f"{pair}-loss").x_title else np.log(x / (1 - x))
            step = np.median(np.diff(logit))
            difference = (8 * (loss[3:-1] - loss[1:-3]) - (loss[4:] - loss[:-4])) / (12 * step)
            scale = np.abs(found[:, 1]).max()
            smooth = ~((loss[4:] == 0) ^ (loss[:-4] == 0))  # a margin's corner has no derivative
            np.testing.assert_allclose(found[2:-2, 1][smooth], difference[smooth], rtol=5e-3, atol=2e-4 * scale)


def test_the_focal_page_holds_the_worked_numbers(pages):
    """1,000 easy backgrounds at p = 0.9 and 100 hard foregrounds at p = 0.1, by the equations and not by our losses."""

    def loss(p, gamma):
        return (1 - p) ** gamma * -math.log(p)

    def gradient(p, gamma):  # |∂loss/∂z|, written out
        return (1 - p) ** gamma * ((1 - p) - gamma * p * math.log(p))

    for gamma, row in table(pages["focal"], "1,000 easy").items():
        g = float(gamma)
        expected = [1000 * loss(0.9, g), 100 * loss(0.1, g), 1000 * gradient(0.9, g), 100 * gradient(0.1, g)]
        assert row == pytest.approx((*expected, expected[3] / expected[2]), rel=1e-5)
    assert table(pages["focal"], "1,000 easy")["2"][:2] == pytest.approx((1.0536, 186.51), rel=1e-4)
    falling = column(pages["focal"], "alpha", "equal gradient magnitudes")
    assert (np.diff(falling) < 0).all()
    assert falling[0] == pytest.approx(100 / (100 + 90))


@pytest.mark.parametrize("positive", [True, False])
def test_the_terms_of_focal_add_up(positive):
    z = torch.linspace(-4, 4, 33, dtype=torch.float64)
    for gamma in (0.5, 2.0, 5.0):
        found = focal_terms(gamma, positive=positive, at=z)
        p = torch.sigmoid(z)  # of the true class; by z of the positive class, a negative's derivative turns its sign
        sign = 1 if positive else -1
        torch.testing.assert_close(found["factor"], (1 - p) ** gamma)
        torch.testing.assert_close(found["first"], -sign * (1 - p) ** (gamma + 1))
        torch.testing.assert_close(found["second"], sign * gamma * (1 - p) ** gamma * p * p.log())
        torch.testing.assert_close(found["total"], found["first"] + found["second"])


def test_the_effective_number_table(pages):
    for beta, row in table(pages["effective_number"], "Effective number").items():
        b = float(beta)
        few, many = (sum(b**k for k in range(n)) for n in (100, 5000))
        assert row[1:] == pytest.approx((many, few, many / few), rel=1e-5)


def test_the_class_balanced_page_has_the_curve_and_the_table_of_the_effective_number(pages):
    for name in ("class_balanced", "class-balanced-focal"):
        page = explain(name)
        drawn, given = chart(page, "effective"), chart(pages["effective_number"], "effective")
        assert drawn == given
        n, beta = np.array(drawn.x), 0.999
        np.testing.assert_allclose(column(page, "effective", "β = 0.999"), (1 - beta**n) / (1 - beta), rtol=1e-4)
        assert table(page, "Effective number") == table(pages["effective_number"], "Effective number")


def test_errors_accumulate_down_the_tree_as_the_product_of_the_accuracies(pages):
    page = pages["hierarchical"]
    accuracy = np.array(chart(page, "accumulation").x)
    for depth in (1, 2, 3, 5):
        name = f"{depth} level{'s' * (depth > 1)}"
        np.testing.assert_allclose(column(page, "accumulation", name), accuracy**depth, rtol=1e-4)
    rows = list(table(page, "A path of three decisions").values())
    assert [row[1] for row in rows] == pytest.approx(np.cumprod([row[0] for row in rows]))
    (text,) = next(section.paragraphs for section in page.sections if section.title.startswith("Errors accumulate"))
    assert "0.95 · 0.9 · 0.8 = 68.4 %" in text


def test_the_asymmetric_page_shows_cross_entropy_and_distinct_curves_of_a_positive(pages):
    loss = chart(pages["asymmetric"], "asymmetric-positive-loss")
    assert [curve.name for curve in loss.curves] == ["γ⁺ = 0", "γ⁺ = 1", "γ⁺ = 2", "γ⁺ = 4"]
    p = np.array(loss.x)
    for gamma, curve in zip((0, 1, 2, 4), loss.curves, strict=True):
        np.testing.assert_allclose(np.array(curve.y, float), -((1 - p) ** gamma) * np.log(p), rtol=1e-3, atol=1e-8)
    assert "γ⁺ = 3" in [c.name for c in chart(explain("asymmetric:gamma_pos=3"), "asymmetric-positive-loss").curves]


@pytest.mark.parametrize("name", ["minority-augment", "by_rarity"])
def test_an_augmentation_shows_an_embedded_digit_and_variants_of_it(name, pages, tmp_path):
    (pictures,) = (found for section in explain(name).sections for found in section.pictures)
    decoded = [[np.asarray(open_picture(picture.source)) for picture in row] for row in pictures.rows]
    (digit,) = {row[0].tobytes(): row[0] for row in decoded}.values()
    digits = load("digits")
    assert any((digit[::16, ::16] == digits[i]).all() for i in np.flatnonzero(digits.labels == 3)[:5])
    change = [np.mean([np.abs(one.astype(int) - row[0]).mean() for one in row[1:]]) for row in decoded]
    assert 0 < change[0] < change[1] < change[2]
    assert [row[1].label for row in pictures.rows] == ["strength 0.25", "strength 0.5", "strength 0.9"]
    html = render(explain(name), tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(picture.source in html for row in pictures.rows for picture in row)


def open_picture(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))).convert("RGB")


@pytest.mark.parametrize("name", NAMES)
def test_equations_are_drawn_as_mathml_and_readable_as_text(name, pages):
    from counterpoise.workflow.report.collect_explanation import explanation_page
    from counterpoise.workflow.report.markdown import page_markdown
    from counterpoise.workflow.report.page import Code, Equation

    sections = [section for section in pages[name].sections if section.equation]
    drawn = explanation_page(pages[name])
    blocks = [block for section in drawn.sections for block in section.blocks]
    assert [block.text for block in blocks if isinstance(block, Equation)] == [s.equation for s in sections]
    assert not [block for block in blocks if isinstance(block, Code) and block.language == "text"]
    assert all("\\" not in section.equation and len(section.latex.splitlines()) >= 1 for section in sections)
    markdown = page_markdown(drawn)
    assert all(line in markdown for section in sections for line in section.equation.splitlines())


def test_a_file_with_an_equation_or_a_picture_that_cannot_be_drawn_is_shown_without_it(pages, tmp_path):
    written = pages["focal"].to_dict()
    assert "<math" in render(Explanation.from_dict(written), tmp_path / "good.html").read_text(encoding="utf-8")
    wrong = [{"label": "x", "source": "https://example.org/x.png"}, {"label": "y", "source": "data:text/html,x"}]
    written["sections"][0] |= {"latex": "x^2^3", "pictures": [{"caption": "c", "rows": [wrong]}]}
    html = render(Explanation.from_dict(written), tmp_path / "page.html").read_text(encoding="utf-8")
    assert written["sections"][0]["equation"] in html
    assert "example.org" not in html
    assert "data:text" not in html
    del written["sections"][0]["latex"], written["sections"][0]["pictures"]  # as an earlier version wrote it
    assert written["sections"][0]["equation"] in render(
        Explanation.from_dict(written), tmp_path / "old.html"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", weights.SCHEMES)
def test_weights_against_counts(scheme, pages):
    rows = table(pages[scheme], "Weights of three classes")
    expected = weights.class_weights(COUNTS, scheme)
    expected = expected / expected.mean()
    assert rows[scheme] == pytest.approx((expected[0], expected[4], expected[9], expected[9] / expected[0]), rel=1e-5)


def test_the_boundary_moves_as_bayes_rule_says(pages):
    """N(0,1) and N(2,1): the log odds are 2x − 2 + log(1/9); minus τ log π they are zero at 1 + (1 − τ) log 9 / 2."""
    rows = table(pages["logit-adjusted"], "The boundary")
    assert set(rows) == {"0", "0.5", "1", "1.5"}
    for tau, (after, trained, *_rest) in rows.items():
        expected = 1 + (1 - float(tau)) * math.log(9) / 2
        assert after == pytest.approx(expected, abs=1e-3)
        assert trained == pytest.approx(expected, abs=5e-3)
    lines = {line.name: line.x for line in chart(pages["logit-adjusted"], "boundary").lines}
    assert lines["τ = 1"] == pytest.approx(1.0, abs=1e-3)


def test_likelihood_and_prior_add_up(pages):
    split = chart(pages["cross_entropy"], "split")
    likelihood, prior, both = (np.array(c.y, float) for c in split.curves)
    np.testing.assert_allclose(likelihood, 2 * np.array(split.x) - 2, atol=1e-5)
    np.testing.assert_allclose(prior, math.log(0.1 / 0.9), rtol=1e-5)
    np.testing.assert_allclose(likelihood + prior, both, atol=1e-4)


def test_the_loss_of_predicting_the_prior_is_its_entropy(pages):
    found = chart(pages["cross_entropy"], "prior-loss")
    share = np.array(found.x)
    prior_only = column(pages["cross_entropy"], "prior-loss", "prior only")
    np.testing.assert_allclose(prior_only, -share * np.log(share) - (1 - share) * np.log1p(-share), rtol=1e-3)


def test_accuracy_beside_balanced_error(pages):
    rows = [row for section in pages["accuracy"].sections for s in section.tables for row in s.rows]
    constant = {row[0]: row[2:4] for row in rows if row[1].startswith("always")}
    assert constant == {"99:1": (0.99, 0.5), "90:10": (0.9, 0.5), "80:20": (0.8, 0.5)}
    labels, predicted = np.repeat([0, 1], [9900, 100]), np.repeat([0, 1, 0, 1], [9801, 99, 50, 50])
    row = next(row for row in rows if row[0] == "99:1" and row[1].startswith("recall 99"))
    assert row[2:4] == pytest.approx(
        (metrics.accuracy(labels, predicted), 1 - metrics.balanced_accuracy(labels, predicted))
    )


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_draws_of_a_sampler_follow_its_prior(power, pages):
    labels = np.repeat(np.arange(10), COUNTS.counts)
    drawn = column(pages["class-balanced-sampling"], "draws", f"power {power:g}")
    expected = samplers.ClassBalancedSampler(labels, power=power).prior * len(labels)
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(expected.max()))


@pytest.mark.parametrize("name", ["focal", "focal_loss", "focal-loss", "FocalLoss", "Focal"])
def test_a_loss_is_found_by_all_its_names(name, pages):
    assert explain(name) == pages["focal"]


def test_every_public_loss_is_explained():
    skipped = {
        "hierarchical_loss",
        "linear_softmax_loss",
    }  # see hierarchical; softmax and its head in one
    for name in set(losses.__all__) - skipped:
        if name.endswith(("_loss", "Loss")) or name in ("cross_entropy", "binary_cross_entropy"):
            assert explain(name).sections, name


@pytest.mark.parametrize(("name", "hint"), [("focl", "focal"), ("logit_adjustd", "logit-adjusted"), ("dise", "dice")])
def test_an_unknown_name_is_refused_with_the_nearest(name, hint):
    with pytest.raises(ArgumentError, match=rf"`name` '{name}' is unknown; did you mean .*{hint}"):
        explain(name)
    with pytest.raises(ArgumentError, match="expected one of accuracy, baseline, weighted-ce"):
        explain("zzzzzzzz")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".md"])
def test_it_is_rendered_to_a_file(suffix, pages, tmp_path):
    content = render(pages["focal"], tmp_path / f"focal{suffix}").read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode("utf-8")
    for title in (
        "Loss",
        "Gradient",
        "A positive, γ = 2",
        "The α at which both sides have the same gradient magnitude",
    ):
        assert title in text
    if suffix == ".svg":
        assert "γ = 0.5" in text


def test_the_page_loads_nothing_from_the_network(pages, tmp_path):
    html = render(pages["logit-adjusted"], tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)


def test_an_explanation_of_format_version_1_is_refused(pages):
    written = pages["focal"].to_dict()
    assert written["version"] == 2
    with pytest.raises(ArtifactError, match="this Explanation has format version 1; this release reads version 2"):
        Explanation.from_dict({**written, "version": 1})


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.names[0])
def test_every_alias_leads_to_its_page(alias):
    assert alias.page in NAMES
    direct = {simplified(name): name for name in reversed(NAMES)}
    for name in alias.names:
        assert explain(name).name == direct.get(simplified(name), alias.page)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("INS", "inverse"),
        ("WCE", "weighted-ce"),
        ("CB loss", "class-balanced-ce"),
        ("cRT", "decoupled"),
        ("SMOTE", "oversample"),
        ("RFS", "repeat_factor"),
        ("class_weight", "balanced"),
        ("margin", "ldam"),
        ("accuracy paradox", "accuracy"),
    ],
)
def test_names_that_users_search_for_have_a_page(name, page, pages):
    assert explain(name) == pages[page]


@pytest.mark.parametrize(
    ("name", "kind", "method"),
    [("focal", "loss", "focal"), ("effective_number", "weights", "effective_number"), ("remix", "mixing", "remix")],
)
def test_hyperparameters_come_from_the_table(name, kind, method, pages):
    section = pages[name].sections[-1]
    assert section.title == "Hyperparameters"
    rows = {row[0]: row[1:] for row in section.tables[-1].rows}
    assert rows.keys() == hyperparameters(kind, method).keys()
    for parameter in hyperparameters(kind, method).values():
        symbol, default, bounds, meaning = rows[parameter.name]
        assert (symbol, meaning) == (parameter.symbol, parameter.meaning)
        assert bounds.startswith(parameter.bounds)
        is_number = isinstance(parameter.default, float)
        assert default == (f"{parameter.default:g}" if is_number else str(parameter.default))


def test_a_strategy_names_the_values_that_it_sets(pages):
    (table,) = pages["class-balanced-focal"].sections[-1].tables
    assert table.notes == ("This strategy sets beta = 0.9999, gamma = 1.",)


def test_a_strategy_with_overrides_is_explained(pages):
    page = explain("focal:gamma=1.5")
    assert page.name == "focal:gamma=1.5"
    assert "γ = 1.5" in [curve.name for curve in page.charts[0].curves]
    assert "FocalLoss(gamma=1.5)" in page.sections[0].code
    assert page.sections[-1].tables[0].notes == ("This strategy sets gamma = 1.5.",)
    with pytest.raises(ArgumentError, match="`gamma` must be at least 0"):
        explain("focal:gamma=-1")
