"""The report page of one training run: its class prior, fitted values, training recall, settings and notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from counterpoise.core.artifacts import Run
from counterpoise.core.text import number_text, plural
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report import page
from counterpoise.workflow.report.collect_classes import select_classes
from counterpoise.workflow.report.collect_single import load_section, model_fact, settings_section, strategy_table

_RUN = "print(run.strategy, run.seed, run.status, run.settings)\n"
_UNIFORM = 1e-9
STEPS = {
    "log_sigmoid": "Logarithm of the sigmoid",
    "leaf_log_probabilities": "Probabilities of the classes from those of the tree",
    "exclude": "Exclusion of classes without training images",
    "adjust_logits": "Logit adjustment",
    "scale_logits": "Scaling",
    "tau_normalize": "τ-normalisation of the head",
    "tune_thresholds": "Thresholds per class",
    "temperature": "Temperature scaling",
}
"""The steps from the output of a model to its final logits, and their titles."""
PER_CLASS = {"thresholds": "Threshold", "temperature": "Temperature", "norm": "Norm of the weights of the head"}
"""The parameters of the steps after the model that have one value per class, and their titles."""


def run_page(run: Run, mistakes: page.Section | None = None) -> page.Page:
    """The page of one training run, with the section of its mistakes in pictures."""
    tone: page.Tone = {"done": "good", "failed": "bad", "running": "neutral"}[run.status]  # type: ignore[assignment]
    notes = tuple(map(fmt.clean_message, run.notes))
    if run.status == "failed":
        notes = ("Fix the cause, then run `counterpoise train` again with `--resume`.", *notes)
    facts = (
        model_fact({**run.settings, "model": run.model}),
        ("Seed", page.Cell(str(run.seed))),
        ("Steps", fmt.number_cell(run.steps)),
        *((_title(name), fmt.value_cell(value)) for name, value in run.selected.items()),
        ("Training time", page.Cell(fmt.duration(run.seconds))),
        ("Started at step", fmt.value_cell(list(run.starts)) if run.starts else fmt.missing_cell("never started")),
    )
    settings = {**run.settings, **{f"data: {key}": value for key, value in run.data.items()}}
    sections = (
        page.Section("classes", "Per-class results", (_train_recall_table(run),) if run.classes else ()),
        _prior_section(run),
        *((mistakes,) if mistakes else ()),
        settings_section(settings, run.environment, strategy_table([run.strategy], caption="Strategy")),
        load_section("run", "Run", _RUN),
    )
    text = fmt.clean_message(run.error) if run.error else fmt.one_line(run.strategy.summary, 400)
    return page.Page(
        "Run",
        f"{fmt.one_line(run.strategy.name)}, seed {run.seed}",
        f"{plural(len(run.classes), 'class', 'classes')}, {plural(sum(run.train_counts), 'training image')}",
        (page.Headline(run.status.capitalize(), tone, text, notes=notes), page.Facts(facts, wide=True)),
        tuple(section for section in sections if section.blocks),
    )


def _train_recall_table(run: Run) -> page.Table:
    classes = select_classes(run.classes, run.train_counts)
    recall = dict(enumerate(run.train_recall))
    rows = tuple(
        (
            cell,
            fmt.number_cell(run.train_counts[i]),
            fmt.percent_cell(recall.get(i), "not measured, or no training image"),
        )
        for i, cell in zip(classes.ids, classes.cells, strict=True)
    )
    columns = (*page.text_columns("Class"), page.Column("Training images"), page.Column("Training recall (%)"))
    return page.Table("Training images and training recall", columns, rows, classes.notes)


def _prior_section(run: Run) -> page.Section:
    """The class prior of training and of the final logits, and what was fitted on validation."""
    if run.status != "done":
        return page.Section("prior", "Class prior and fitted values", ())
    fitted = tuple((_title(name), _value_cell(value)) for name, value in run.fitted.items())
    steps = tuple(
        (STEPS.get(step.method, _title(step.method)), _parameters_cell(step.parameters))
        for step in run.transforms or ()
    )
    return page.Section.of(
        "prior",
        "Class prior and fitted values",
        page.Paragraph(_prior_text(run)),
        page.Facts(fitted, "Fitted on the validation images") if fitted else None,
        page.Facts(steps, "Steps from the output of the model to the final logits") if steps else None,
        _prior_table(run),
    )


def _prior_text(run: Run) -> str:
    if not run.prior:
        return (
            "The loss or the correction of this strategy does not define a class prior in the logits. To adjust them "
            "to other class shares, state the counts: `counterpoise evaluate RUN --tune tau --counts N,N,…`."
        )
    if max(run.prior) - min(run.prior) < _UNIFORM:
        return "The class prior in the final logits is uniform: the imbalance of the training images is compensated."
    return (
        "The final logits contain the class prior in the table below. `counterpoise evaluate RUN --tune tau` subtracts "
        "its logarithm from them, with a strength that is tuned on the validation images."
    )


def _title(name: str) -> str:
    return fmt.one_line(name.replace("_", " ").capitalize())


def _value_cell(value: Any) -> page.Cell:
    """A fitted value; of several ones the range, as the table has them per class."""
    numbers = _numbers(value.values() if isinstance(value, Mapping) else value)
    if numbers is None:
        return fmt.value_cell(value)
    if isinstance(value, Mapping) and len(numbers) <= 3:  # one per group of classes
        return fmt.name_cell(", ".join(f"{name} {number_text(float(n))}" for name, n in value.items()), limit=160)
    return page.Cell(f"{number_text(min(numbers))} to {number_text(max(numbers))}", detail="per class, see the table")


def _parameters_cell(parameters: Mapping[str, Any]) -> page.Cell:
    """The parameters of a step that are single numbers."""
    single = {k: v for k, v in parameters.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    text = ", ".join(f"{k} = {number_text(float(v))}" for k, v in single.items())
    return page.Cell(text or ("one value per class" if parameters else "no parameters"))


def _numbers(values: Any) -> list[float] | None:
    """The values as numbers; None if they are not several finite numbers."""
    if isinstance(values, str | bytes | int | float) or not hasattr(values, "__iter__"):
        return None
    found = list(values)
    fits = found and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in found)
    return [float(v) for v in found] if fits else None


def _prior_table(run: Run) -> page.Table | None:
    """Per class: its share of the training images, the priors, and the values that were fitted."""
    if not run.classes:
        return None
    total = sum(run.train_counts)
    columns = [page.Column("Training images"), page.Column("Share of the training images (%)")]
    values: list[Sequence[page.Cell]] = [
        [fmt.number_cell(n) for n in run.train_counts],
        [fmt.percent_cell(n / total if total else None, "no training images") for n in run.train_counts],
    ]
    for title, numbers, is_share in _per_class(run):
        columns.append(page.Column(title))
        values.append([fmt.percent_cell(n, "") if is_share else page.Cell(number_text(n)) for n in numbers])
    classes = select_classes(run.classes, run.train_counts)
    rows = tuple((cell, *(column[i] for column in values)) for i, cell in zip(classes.ids, classes.cells, strict=True))
    return page.Table("Priors and values per class", (*page.text_columns("Class"), *columns), rows, classes.notes)


def _per_class(run: Run) -> list[tuple[str, list[float], bool]]:
    """Title, one number per class, and whether it is a share."""
    found: list[tuple[str, Any, bool]] = []
    for step in run.transforms or ():
        if "prior" in step.parameters:
            found.append(("Prior in the output of the model (%)", step.parameters["prior"], True))
        found += [(title, step.parameters[name], False) for name, title in PER_CLASS.items() if name in step.parameters]
    found.append(("Prior in the final logits (%)", run.prior, True))
    listed = [(title, _numbers(numbers), is_share) for title, numbers, is_share in found]
    return [(title, numbers, share) for title, numbers, share in listed if numbers and len(numbers) == len(run.classes)]
