"""`explain`: from the name of a method to its `Explanation`, by putting together the pages of what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from counterpoise.core.artifacts import Strategy
from counterpoise.core.explanation import Explanation, ExplanationSection, ExplanationTable
from counterpoise.core.hyperparameters import HYPERPARAMETERS, Hyperparameter, Kind, hyperparameters
from counterpoise.core.names import resolve
from counterpoise.workflow.explain import by_class
from counterpoise.workflow.explain.losses import LOSS_PAGES, weighted_cross_entropy
from counterpoise.workflow.explain.page import Content, ExplanationPage, load_page
from counterpoise.workflow.explain.worked import POSTHOC_PAGES, accuracy, separate
from counterpoise.workflow.strategy import CATALOG, strategy_named

PAGES: Mapping[Kind, Mapping[str, Callable[..., Content]]] = {
    "loss": LOSS_PAGES,
    "posthoc": POSTHOC_PAGES,
    **by_class.PAGES,
}
"""The content of each method by kind; the same names as in `counterpoise.core.hyperparameters`."""
_METRICS = {"accuracy": accuracy}
_PLURALS: Mapping[str, Kind] = {
    "weights": "weights",
    "losses": "loss",
    "samplers": "sampler",
    "augmentations": "augment",
}
_TITLES: Mapping[Kind, str] = {
    "loss": "Loss",
    "weights": "Class weights",
    "sampler": "Sampler",
    "posthoc": "Correction after training",
    "augment": "Augmentation",
    "mixing": "Mixing of images",
    "reweighting": "Re-weighting during training",
    "retraining": "Second stage of training",
}
_Component = tuple[ExplanationPage, ExplanationTable | None]
"""The page of one method of a strategy, and the table of its hyperparameters."""


def explainable() -> dict[str, tuple[str, ...]]:
    """Every name that `explain` knows, by kind, without the aliases of `counterpoise.core.names`.

    Losses that are strategies under the same name are listed as strategies.
    """
    used = {strategy.sampler for strategy in CATALOG.values()} | {strategy.augment for strategy in CATALOG.values()}
    return {
        "metrics": tuple(_METRICS),
        "strategies": tuple(CATALOG),
        "weights": tuple(PAGES["weights"]),
        "losses": tuple(name for name in LOSS_PAGES if name.replace("_", "-") not in CATALOG),
        "samplers": tuple(name for name in PAGES["sampler"] if name not in used),
        "augmentations": tuple(name for name in PAGES["augment"] if name not in used),
    }


def explain(name: str) -> Explanation:
    """What a method does: equations, curves and tables computed by calling it, its costs, and references.

    Args:
        name: a strategy of the catalog, a weighting scheme, a loss (``focal``, ``focal_loss``, ``focal-loss`` or
            ``FocalLoss``), ``accuracy``, an alias such as ``WCE``, ``cRT`` or ``pos_weight``, or a strategy with
            overrides such as ``focal:gamma=1``.

    Returns:
        An `Explanation`: `counterpoise.render` draws it as HTML, Markdown, JSON, SVG or PNG.

    Raises:
        ArgumentError: an unknown name; the nearest ones are in the message.

    Example:
        >>> explanation = explain("focal_loss")
        >>> explanation.summary[:48]
        'Focal loss multiplies cross-entropy by (1 − p)^γ'
        >>> [curve.name for curve in explanation.charts[0].curves]
        ['γ = 0', 'γ = 0.5', 'γ = 1', 'γ = 2', 'γ = 5']
    """
    if ":" in name:
        return _strategy(strategy_named(name))
    kinds = {known: kind for kind, names in explainable().items() for known in names}
    key = resolve(name, kinds, kind="page", argument="`name`")
    if key in CATALOG:
        return _strategy(CATALOG[key])
    if key in _METRICS:
        return _assembled(key, "metric", [(load_page(_METRICS[key]()), None)])
    kind = _PLURALS[kinds[key]]
    return _assembled(key, _TITLES[kind].lower(), [_component(kind, key, {})])


def page_of(kind: Kind, method: str, options: Mapping[str, Any]) -> ExplanationPage:
    """The page of one method, with the defaults of the table of hyperparameters for what ``options`` leaves out."""
    every = {name: parameter.default for name, parameter in hyperparameters(kind, method).items()} | dict(options)
    content = PAGES[kind][method](**every)
    return load_page(replace(content, values={**every, **content.values}))


def _component(kind: Kind, method: str, options: Mapping[str, Any]) -> _Component:
    return page_of(kind, method, options), _hyperparameter_table(kind, method, options)


def _strategy(strategy: Strategy) -> Explanation:
    components = list(_components(strategy))
    summary = f"{strategy.summary[0].upper()}{strategy.summary[1:].rstrip('.')}."
    return _assembled(strategy.name, "strategy", components, summary=summary if len(components) > 1 else "")


def _components(strategy: Strategy) -> Iterator[_Component]:
    """The pages of everything that a strategy sets; cross-entropy only where it sets nothing else."""
    steps: tuple[tuple[Kind, str | None, Mapping[str, Any]], ...] = (
        ("weights", strategy.weights, strategy.weight_options),
        ("sampler", strategy.sampler, strategy.sampler_options),
        ("augment", strategy.augment, strategy.augment_options),
        ("mixing", strategy.mixing, strategy.mixing_options),
        ("reweighting", strategy.reweighting, strategy.reweighting_options),
        ("retraining", strategy.retraining, strategy.retraining_options),
        ("posthoc", strategy.posthoc, strategy.posthoc_options),
    )
    if strategy.weights:
        page = load_page(weighted_cross_entropy(strategy.weights, strategy.weight_options))
        yield page, _hyperparameter_table("loss", strategy.loss, strategy.loss_options)
    elif strategy.loss != "cross_entropy" or not any(method for _, method, _ in steps):
        yield _component("loss", strategy.loss, strategy.loss_options)
    for kind, method, options in steps:
        if method:
            yield _component(kind, method, options)
    if strategy.separate:
        yield load_page(separate()), None


def _assembled(name: str, kind: str, components: list[_Component], *, summary: str = "") -> Explanation:
    pages, tables = [page for page, _ in components], tuple(table for _, table in components if table)
    sections = {section.title: section for page in pages for section in page.sections}
    if tables:
        sections["Hyperparameters"] = ExplanationSection("Hyperparameters", tables=tables)
    costs = dict.fromkeys(cost for page in pages for cost in page.costs)
    notes = dict.fromkeys(note for page in pages for note in page.notes)
    return Explanation(name, kind, summary or pages[0].summary, tuple(costs), tuple(notes), tuple(sections.values()))


def _hyperparameter_table(kind: Kind, method: str, options: Mapping[str, Any]) -> ExplanationTable | None:
    columns = ("Name", "Symbol", "Default", "Allowed values", "Meaning")
    rows = [(p.name, p.symbol, _shown(p.default), _allowed(p), p.meaning) for p in HYPERPARAMETERS[kind][method]]
    chosen = ", ".join(f"{name} = {_shown(value)}" for name, value in options.items())
    notes = (f"This strategy sets {chosen}.",) if chosen else ()
    return ExplanationTable(f"{_TITLES[kind]}: {method}", columns, tuple(rows), notes) if rows else None


def _allowed(parameter: Hyperparameter) -> str:
    return parameter.bounds + (", or one per class" if parameter.per_class else "")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
