"""Equations: MathML that browsers draw, text that a terminal shows, and nothing that a page could run."""

from __future__ import annotations

import re
from xml.etree.ElementTree import fromstring

import pytest

from counterpoise.core.equations import to_mathml, to_text
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.explain.page import PAGES_FOLDER

EQUATIONS = {
    f"{file.stem} {i}": line
    for file in sorted(PAGES_FOLDER.rglob("*.md"))
    for block in re.findall(r"^\$\$\n(.*?)^\$\$", file.read_text("utf-8"), re.S | re.M)
    for i, line in enumerate(block.splitlines())
}
ELEMENTS = {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt"}
ELEMENTS |= {"msup", "msub", "msubsup", "munder", "mover", "munderover", "mstyle"}


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_equation_of_the_pages_becomes_mathml_and_text(name):
    latex = EQUATIONS[name]
    root = fromstring(to_mathml(latex))
    assert root.tag == "math"
    assert {element.tag for element in root.iter()} <= ELEMENTS
    drawn, text = "".join(root.itertext()), to_text(latex)
    assert "\\" not in drawn + text
    assert "&" not in drawn + text
    assert not re.search(r"[{}]|\(\)|  (?! )(?<!   )| \)|\( ", text)
    names = re.findall(r"\\text\{([^}]*)\}", latex)
    assert all(part.strip() in text for part in names)
    spoken = re.compile(r"[^\w()]")  # the same letters, digits and signs are in both
    for char in set(spoken.sub("", text)) - set("()_ΣΠ√"):
        assert char in drawn.replace("′", "") or char in "⁺⁻²′", char


def test_there_are_equations():
    assert len(EQUATIONS) > 60


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\text{loss} = -\alpha_y\,(1 - p_y)^\gamma \log p_y", "loss = −α_y (1 − p_y)^γ log p_y"),
        (r"(1-p)^{\gamma^+} (p^m)^{\gamma^-}", "(1 − p)^γ⁺(p^m)^γ⁻"),
        (r"\frac{\partial\text{loss}}{\partial z_c}", "∂loss/∂z_c"),
        (r"w_c = \frac{N}{C n_c}, \quad \frac{1}{\sqrt{n_c}}", "w_c = N/(C n_c),   1/√n_c"),
        (r"\sum_{c \ne y} -\log p_c", "Σ_(c≠y) −log p_c"),
        (r"1 + \beta + \dots + \beta^{n-1}", "1 + β + … + β^(n−1)"),
        (r"\hat{t}_c + \bar{r} - \eta'\,[x]_+", "t̂_c + r̄ − η′ [x]₊"),
        (r"\lVert w_c \rVert^\tau \odot z", "‖w_c‖^τ ⊙ z"),
        (r"p(x \mid y) \propto \max\left(0, 1\right)", "p(x | y) ∝ max(0, 1)"),
        (r"E_{n_c}", "E_(n_c)"),
        (r"I(x; y), \lambda \sim \text{Beta}(\alpha, \alpha)", "I(x; y), λ ~ Beta(α, α)"),
    ],
)
def test_the_text_reads_as_one_would_type_it(latex, text):
    assert to_text(latex) == text


def test_names_of_functions_stand_apart_and_a_sign_stands_close():
    mathml = to_mathml(r"a = -\log p")
    assert '<mo form="prefix">−</mo><mi>log</mi><mspace width="0.167em" /><mi>p</mi>' in mathml
    assert 'form="prefix"' not in to_mathml("a - b")
    assert "mspace" not in to_mathml(r"\log(1 - p)")


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{</math><script>alert(1)</script>}",
        r"\text{&lt;script&gt;&#60;img src=x onerror=alert(1)&#62;}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(https://example.org)}{x}",
        r"\class{a\" onload=\"alert(1)}{x}",
        r"\color{red}{x}",
    ],
)
def test_nothing_of_a_line_becomes_markup_an_address_or_a_style(latex):
    root = fromstring(to_mathml(latex))
    assert {element.tag for element in root.iter()} <= ELEMENTS
    allowed = {"accent", "display", "displaystyle", "fence", "form", "mathvariant", "separator", "stretchy", "width"}
    assert {name for element in root.iter() for name in element.attrib} <= allowed


@pytest.mark.parametrize("latex", ["x_a_b", r"\left( a", "{" * 400, "a" * 1001, "", r"\begin{matrix} a"])
def test_what_is_no_latex_is_refused(latex):
    with pytest.raises(ArgumentError, match=r"^`latex` (cannot be converted|must have at most 1,000 characters)"):
        to_mathml(latex)
    with pytest.raises(ArgumentError, match="`latex`"):
        to_text(latex)


def test_an_element_without_a_text_form_is_named():
    with pytest.raises(ArgumentError, match="no form in plain text: mtable"):
        to_text(r"\begin{matrix} a & b \end{matrix}")
