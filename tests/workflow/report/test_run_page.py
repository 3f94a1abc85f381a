"""The page of a run: its class prior, what was fitted, the steps after the model, and its notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from counterpoise.core.artifacts import LogitTransform, Run
from counterpoise.workflow.report import render, render_html

from . import samples
from .test_html import Tree

NAMES = ("cat", "dog", "fox")
SHARES = (0.7, 0.2, 0.1)


def run(**changes: object) -> Run:
    return replace(samples.run(NAMES), train_counts=(70, 20, 10), **changes)  # type: ignore[arg-type]


def text_of(made: Run, folder: Path) -> str:
    return render(made, folder / "run.md").read_text("utf-8")


def test_the_prior_of_the_training_images_of_the_model_and_of_the_final_logits_stand_side_by_side(tmp_path):
    adjusted = LogitTransform("adjust_logits", {"tau": 0.75, "prior": [0.6, 0.3, 0.1]})
    text = text_of(run(prior=SHARES, transforms=(adjusted,)), tmp_path)
    assert "| dog | 20 | 20.0 | 30.0 | 20.0 |" in text
    assert "- Logit adjustment: tau = 0.75" in text
    assert "The final logits contain the class prior" in text


def test_fitted_values_are_shown_alone_per_group_and_per_class(tmp_path):
    thresholds = {"cat": 0.5, "dog": 0.25, "fox": 0.125, "owl": 0.1}
    steps = (
        LogitTransform("tune_thresholds", {"thresholds": [0.5, 0.25, 0.125]}),
        LogitTransform("log_sigmoid"),
        LogitTransform("exclude", {"classes": [2]}),
    )
    fitted = {"tau": 1.25, "temperature": {"many": 1.5, "few": 2.0}, "thresholds": thresholds}
    text = text_of(run(fitted=fitted, transforms=steps), tmp_path)
    assert "- Tau: 1.25" in text
    assert "- Temperature: many 1.5, few 2" in text
    assert "- Thresholds: 0.1 to 0.5 per class, see the table" in text
    assert "| dog | 20 | 20.0 | 0.25 |" in text
    assert "- Logarithm of the sigmoid: no parameters" in text


@pytest.mark.parametrize(
    ("prior", "sentence"),
    [
        ((1 / 3, 1 / 3, 1 / 3), "The class prior in the final logits is uniform"),
        ((), "does not define a class prior in the logits"),
    ],
)
def test_a_uniform_and_an_unknown_prior_are_said(tmp_path, prior, sentence):
    assert sentence in text_of(run(prior=prior), tmp_path)


def test_notes_are_shown_and_a_run_that_failed_has_no_prior(tmp_path):
    made = run(notes=("class weights and sampler compensate the imbalance twice; use one of them",), prior=SHARES)
    page = render_html(made)
    assert "class weights and sampler compensate the imbalance twice" in page
    assert "prior" in {a.get("id") for a in Tree(page).all("section")}
    failed = render_html(replace(made, status="failed", error="the loss became NaN", prior=()))
    assert "prior" not in {a.get("id") for a in Tree(failed).all("section")}
