"""The pages in a real browser: drawn, quiet, fetching nothing, legible, usable on a phone."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from . import pages, samples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with sync.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield browser
            browser.close()


@dataclass
class Opened:
    """A page that has finished drawing, and everything it said or asked for meanwhile."""

    page: Any
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    contexts = []

    def opener(kind: str, *, width: int = 1280, scheme: str = "light") -> Opened:
        file = tmp_path / f"{kind}.html"
        file.write_text(pages.html(kind), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
        opened.page.on("dialog", lambda dialog: (opened.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        opened.page.goto(file.as_uri())
        opened.page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
        return opened

    yield opener
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("kind", "figures"),
    [("comparison", 9), ("hostile", 9), ("large", 8), ("audit", 1), ("evaluation", 4), ("run", 0), ("strategies", 0)],
)
@pytest.mark.fault("R1")
@pytest.mark.fault("R5")
def test_every_figure_is_drawn_and_nothing_is_fetched_or_complained_about(open_page: Any, kind: str, figures: int):
    opened = open_page(kind)
    marks = opened.page.eval_on_selector_all(
        ".vega-embed", "plots => plots.map(p => p.querySelectorAll('svg .role-mark > *').length)"
    )
    assert len(marks) == figures
    assert all(n >= 8 for n in marks), marks
    assert opened.said == []
    assert opened.requests == [opened.page.url]


def test_each_class_has_a_mark_for_each_strategy_and_an_interval(open_page: Any):
    page = open_page("comparison").page
    count = "plot => [plot.querySelectorAll('.mark-symbol.role-mark path').length, "
    count += "plot.querySelectorAll('.mark-rule.role-mark line').length]"
    assert page.eval_on_selector("#recall .plot", count) == [50, 50]  # 10 classes, 5 of 6 strategies finished


@pytest.mark.fault("R1")
def tip_over(page: Any, mark: str) -> str:
    """What the tooltip says. Scrolling hides it, and the event of scrolling to the mark may come late: so try again."""
    page.locator(mark).scroll_into_view_if_needed()
    for _ in range(20):
        page.mouse.move(0, 0)
        page.hover(mark, force=True)
        page.wait_for_timeout(250)
        if page.is_visible("#tip"):
            return str(page.inner_text("#tip"))
    raise AssertionError("no tooltip appeared")


def test_names_that_are_markup_stay_text_in_tables_figures_and_tooltip(open_page: Any):
    opened = open_page("hostile")
    page = opened.page
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, main script:not([type])').length") == 0
    labels = page.eval_on_selector_all("#counts text", "all => all.map(t => t.textContent)")
    assert {"<svg onload=alert(4)>", "{{7*7}}", "datum' || alert(7) || '"} <= set(labels)
    assert "</script><img src" in tip_over(page, "#counts .mark-symbol.role-mark path >> nth=0")
    assert page.eval_on_selector_all("#tip *", "all => all.every(e => ['DIV', 'SPAN', 'BDI'].includes(e.tagName))")
    assert opened.said == []


@pytest.mark.parametrize("kind", ["comparison", "hostile", "large", "audit", "run", "evaluation", "strategies"])
def test_a_phone_shows_the_page_without_scrolling_sideways(open_page: Any, kind: str):
    page = open_page(kind, width=390).page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widest = page.eval_on_selector_all(".plot svg", "all => Math.max(0, ...all.map(s => s.clientWidth))")
    assert widest <= 390


@pytest.mark.parametrize("width", [390, 1280])
def test_no_two_labels_of_an_axis_are_the_same_and_none_is_cut_by_the_chart(open_page: Any, width: int):
    page = open_page("alike", width=width).page
    texts = "axes => axes.map(axis => [...axis.querySelectorAll('text')].filter(t => t.getAttribute('opacity') !== '0')"
    axes = page.eval_on_selector_all(".plot .role-axis-label", f"{texts}.map(t => t.textContent).filter(t => t))")
    assert len(axes) >= 15
    for labels in axes:
        assert len(set(labels)) == len(labels)
        assert not [label for label in labels if label.endswith("…")]


def test_a_phone_shows_whole_names_of_strategies_and_distinct_names_of_nested_classes(open_page: Any):
    page = open_page("nested", width=390).page
    texts = "all => all.map(axis => [...axis.querySelectorAll('text')].map(t => t.textContent))"
    differences = page.eval_on_selector_all("#differences .role-axis-label", texts)
    assert ["weighted-ce", "class-balanced-focal", "logit-adjusted", "post-hoc-logit-adjusted"] in differences
    across, down = page.eval_on_selector_all("#confusion .role-axis-label", texts)
    for labels in (across, down):
        assert len(set(labels)) == len(samples.NESTED)
        assert {"animal/cat", "animal/dog"} <= set(labels)


CONTRASTS = """() => {
  const number = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = (e) => { while (e) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return number(c); e = e.parentElement; } };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('script, style')) continue;
    const style = getComputedStyle(e);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    const r = ratio(number(ink), ground(e.closest('svg')?.parentElement ?? e));
    if (r < 4.5) bad.push([e.tagName, e.textContent.slice(0, 40), r]);
  }
  return bad;
}"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_also_in_figures_has_a_contrast_of_at_least_4_5(open_page: Any, scheme: str):
    page = open_page("comparison", scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate(CONTRASTS) == []


def test_the_toggle_turns_page_and_figures_dark_and_print_is_light(open_page: Any):
    page = open_page("comparison").page

    def colours() -> list[str]:
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, "
            "getComputedStyle(document.querySelector('#recall svg text')).fill]"
        )

    light = colours()
    page.click("#theme")
    dark = colours()
    assert page.inner_text("#theme") == "Light theme"
    assert light == ["rgb(253, 252, 250)", "rgb(91, 92, 95)"] or light[1] == "rgb(27, 28, 30)"
    assert dark[0] == "rgb(21, 22, 24)"
    assert dark[1] != light[1]
    page.emulate_media(media="print")
    assert colours() == light


def test_the_select_shows_another_strategys_confusion(open_page: Any):
    page = open_page("comparison").page
    cells = "plot => [...plot.querySelectorAll('.mark-text.role-mark text')].map(t => t.textContent)"
    options = page.eval_on_selector_all("select[data-figure=confusion] option", "all => all.map(o => o.textContent)")
    assert options[0] == "logit-adjusted"  # the recommended one stands first
    first = page.eval_on_selector("#confusion .plot", cells)
    page.select_option("select[data-figure=confusion]", label="baseline")
    page.wait_for_selector(f"#confusion .plot[data-drawn='{options.index('baseline')}']")
    second = page.eval_on_selector("#confusion .plot", cells)
    truck = samples.comparison().arms[0].test
    share = sum(e.confusion[9][9] for e in truck) / sum(e.classes[9].support for e in truck)
    assert first != second
    assert second[-1] == f"{100 * share:.0f}"


def test_the_key_picks_out_a_strategy_in_every_figure(open_page: Any):
    page = open_page("comparison").page
    strong = "plot => [...plot.querySelectorAll('.mark-symbol.role-mark path')]"
    strong += ".filter(p => Number(p.getAttribute('opacity')) > 0.5).length"
    assert page.eval_on_selector("#recall .plot", strong) == 50
    bins = page.eval_on_selector("#calibration .plot", strong)  # of the leader and the baseline
    assert bins >= 10
    page.click("#recall .key button >> text=weighted-ce")
    assert page.eval_on_selector("#calibration .plot", strong) == bins  # weighted-ce is not in this figure
    assert page.eval_on_selector_all("#calibration .key button:not([hidden])", "all => all.length") == 2
    page.click("#recall .key button >> text=weighted-ce")
    page.select_option("select[data-figure=calibration]", label="all strategies")
    page.wait_for_selector("#calibration .key button[data-strategy=weighted-ce]", state="visible")
    page.click("#calibration .key button >> text=weighted-ce")
    assert page.get_attribute("#recall .key button[data-strategy=weighted-ce]", "aria-pressed") == "true"
    assert page.eval_on_selector("#recall .plot", strong) == 10
    page.click("#recall .key button[data-strategy=weighted-ce]")
    assert page.eval_on_selector("#recall .plot", strong) == 50


def test_a_saved_figure_stands_alone(open_page: Any):
    page = open_page("comparison", scheme="dark").page
    with page.expect_download() as download:
        page.click(".save[data-figure=recall]")
    svg = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "recall.svg"
    assert "var(" not in svg
    assert svg.count("<path") > 50


def test_everything_that_scrolls_or_acts_can_be_reached_by_keyboard(open_page: Any):
    page = open_page("comparison").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    regions = page.eval_on_selector_all(".scroll", "all => all.every(e => e.tabIndex === 0 && e.getAttribute('role'))")
    named = "all => all.every(e => e.labels.length === 1)"
    assert regions
    assert page.eval_on_selector_all("select", named)
