"""Pictures of the report: confident mistakes, what a strategy fixes and breaks, duplicates, and one image per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import AuditResult, Comparison, Example, Run
from counterpoise.core.errors import ArtifactError
from counterpoise.core.text import plural
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report import page
from counterpoise.workflow.report.collect_classes import select_classes
from counterpoise.workflow.report.collect_strategies import score_of
from counterpoise.workflow.report.outcomes import Outcomes, read_outcomes
from counterpoise.workflow.report.pictures import Thumbnailer

MAX_CLASSES, PER_CLASS = 6, 8
MAX_CHANGED, CHANGED_PER_CLASS = 16, 4
MAX_GROUPS, PER_GROUP = 8, 4
FILE_LENGTH = 26
CONFLICTS = {"same-image-two-classes": "Different labels", "same-image-two-splits": "different splits"}
"""The kinds of findings whose subjects are copies of one image, and what is wrong with them."""
COPIES = "repeated-images"
"""The kind of the finding whose subjects are images, each followed by a copy of it."""


def run_section(run: Run, thumbnails: Thumbnailer, folder: Path) -> page.Section:
    """The most confident mistakes of a run on the test images."""
    try:
        outcomes = read_outcomes([folder], run.classes)
    except ArtifactError as error:
        return _section(_unavailable(error))
    name = fmt.one_line(run.strategy.name)
    return _section(*_mistakes(outcomes, name, run.classes, run.train_counts, thumbnails), thumbnails.note())


def comparison_section(comparison: Comparison, thumbnails: Thumbnailer, folder: Path) -> page.Section:
    """The mistakes of the selected strategy on the test images, and how they differ from those of another one."""
    done = {arm.strategy.name: arm for arm in comparison.arms if arm.status == "done"}
    selected = comparison.verdict.selected
    if selected not in done:
        return page.Section("mistakes", "Mistakes on test images", ())
    names = [c.name for c in comparison.audit.classes]
    counts = [c.train for c in comparison.audit.classes]
    other = _other_strategy(comparison, selected)
    try:
        found = {
            name: read_outcomes([folder / path for path in done[name].directories], names)
            for name in (selected, other)
            if name is not None
        }
    except ArtifactError as error:
        return _section(_unavailable(error))
    blocks = _mistakes(found[selected], selected, names, counts, thumbnails)
    if other is not None:
        pair = (selected, other) if other == comparison.baseline else (other, selected)
        blocks += _changes(found, pair, names, counts, thumbnails)
    return _section(*blocks, thumbnails.note())


def _section(*blocks: page.Block | None) -> page.Section:
    return page.Section.of("mistakes", "Mistakes on test images", *blocks)


def _unavailable(error: ArtifactError) -> page.Paragraph:
    reason = fmt.clean_message(str(error)).rstrip(".")
    return page.Paragraph(f"There are no pictures of mistakes, because the predictions cannot be read: {reason}.")


def _other_strategy(comparison: Comparison, selected: str) -> str | None:
    """The baseline; if that is selected, the strategy that is the best of the others on validation."""
    others = [arm for arm in comparison.arms if arm.status == "done" and arm.strategy.name != selected]
    if selected != comparison.baseline:
        others = [arm for arm in others if arm.strategy.name == comparison.baseline]

    def score(arm: object) -> float:
        spread = score_of(arm, "val", comparison.metric)  # type: ignore[arg-type]
        value = None if spread is None else fmt.finite(spread.mean)
        return -1.0 if value is None else value

    best = max(others, key=score, default=None)
    return None if best is None else best.strategy.name


def _mistakes(
    outcomes: Outcomes, name: str, classes: Sequence[str], counts: Sequence[int], thumbnails: Thumbnailer
) -> list[page.Block | None]:
    """The most confident mistakes in the rarest classes that have any."""
    groups: list[page.PictureGroup] = []
    for c in sorted(range(len(classes)), key=lambda c: (counts[c], c)):
        rows = np.flatnonzero((outcomes.labels == c) & (outcomes.wrong > 0))
        if not rows.size or len(groups) == MAX_CLASSES:
            continue
        most_confident = rows[np.argsort(-outcomes.weight[rows], kind="stable")][:PER_CLASS].tolist()
        pictures = tuple(_mistake(outcomes, row, classes, thumbnails) for row in most_confident)
        images = int((outcomes.labels == c).sum())
        missed = int((outcomes.is_wrong & (outcomes.labels == c)).sum())
        text = f"{plural(counts[c], 'training image')}; {_wrong_of(missed, images, outcomes.runs)}"
        groups.append(page.PictureGroup(pictures, fmt.name_cell(classes[c]), text))
    if not groups:
        return [page.Paragraph(f"{fmt.one_line(name)} predicts every test image right.")]
    over = ", averaged over the runs that predict it. Images without another number are wrong in all runs"
    intro = (
        "Mistakes with a high confidence are often images with a wrong label, or with objects of several classes: look "
        "at them before you change the training. The number is the predicted probability of the wrong class"
    )
    intro += f"{over if outcomes.runs > 1 else ''}."
    title = f"Most confident mistakes of {fmt.one_line(name)} in the rarest classes"
    return [page.Paragraph(intro), _shown(page.Pictures(title, tuple(groups)))]


def _wrong_of(wrong: int, images: int, runs: int) -> str:
    over = "" if runs == 1 else f" in most of the {runs} runs"
    return f"{wrong:,} of {plural(images, 'test image')} wrong{over}"


def _mistake(outcomes: Outcomes, row: int, classes: Sequence[str], thumbnails: Thumbnailer) -> page.Picture:
    true, predicted = (fmt.one_line(classes[c]) for c in (outcomes.labels[row], outcomes.mistaken[row]))
    confidence = _percent(outcomes.confidence[row])
    runs = f"in {outcomes.wrong[row]} of {outcomes.runs} runs" if outcomes.wrong[row] < outcomes.runs else ""
    line = page.Cell(f"→ {predicted}", detail=confidence, is_name=True)
    lines = (
        line,
        *((page.Cell("", detail=runs),) if runs else ()),
        fmt.file_cell(outcomes.paths[row], limit=FILE_LENGTH),
    )
    alt = f"{true}, predicted as {predicted} with a probability of {confidence}"
    return thumbnails.picture(outcomes.paths[row], lines, alt)


def _changes(
    found: dict[str, Outcomes],
    pair: tuple[str, str],
    classes: Sequence[str],
    counts: Sequence[int],
    thumbnails: Thumbnailer,
) -> list[page.Block | None]:
    """The images that ``pair[0]`` predicts right and ``pair[1]`` wrong (fixed), and the reverse (broken)."""
    new, old = pair
    ours, theirs = found[new], found[old]
    if ours.paths != theirs.paths:
        return []
    gain = ours.true_probability - theirs.true_probability
    blocks: list[page.Block | None] = []
    for title, right, wrong, sign in (("Fixed", new, old, 1.0), ("Broken", old, new, -1.0)):
        is_changed = found[right].is_right & found[wrong].is_wrong
        rows = np.flatnonzero(is_changed)
        chosen = _spread_over_classes(rows[np.argsort(-sign * gain[rows], kind="stable")], ours.labels)
        over = "" if ours.runs == 1 else f", each in most of its {ours.runs} runs"
        text = (
            f"{plural(len(rows), 'image')} of {len(ours.labels):,} that {right} predicts right and {wrong} wrong{over}"
        )
        text += f": {_by_class(ours.labels[rows], classes, counts)}."
        pictures = tuple(_change(found, row, (right, wrong), classes, thumbnails) for row in chosen)
        named = f"{title} by {fmt.one_line(new)}"
        shown = _shown(page.Pictures(named, (page.PictureGroup(pictures),), text))
        blocks.append(shown if pictures else page.Paragraph(f"{named}: none of the {len(ours.labels):,} test images."))
    return blocks


def _spread_over_classes(rows: NDArray[np.intp], labels: NDArray[np.int64]) -> list[int]:
    """The first rows, at most a few per class."""
    taken: dict[int, int] = {}
    chosen: list[int] = []
    for row in rows.tolist():
        c = int(labels[row])
        if taken.get(c, 0) < CHANGED_PER_CLASS and len(chosen) < MAX_CHANGED:
            taken[c] = taken.get(c, 0) + 1
            chosen.append(row)
    return chosen


def _by_class(labels: NDArray[np.int64], classes: Sequence[str], counts: Sequence[int]) -> str:
    """The number of images per class, the rarest classes first."""
    number = np.bincount(labels, minlength=len(classes))
    present = sorted(np.flatnonzero(number).tolist(), key=lambda c: (counts[c], c))
    shown = [f"{fmt.one_line(classes[c])} {number[c]:,}" for c in present[:MAX_GROUPS]]
    more = int(number[present[MAX_GROUPS:]].sum())
    return ", ".join([*shown, *([f"other classes {more:,}"] if more else [])])


def _change(
    found: dict[str, Outcomes], row: int, pair: tuple[str, str], classes: Sequence[str], thumbnails: Thumbnailer
) -> page.Picture:
    right, wrong = pair
    outcomes = found[wrong]
    true, predicted = (fmt.one_line(classes[c]) for c in (outcomes.labels[row], outcomes.mistaken[row]))
    confidence = _percent(outcomes.confidence[row])
    lines = (
        page.Cell(true, is_name=True, strong=True, detail=_percent(found[right].true_probability[row])),
        page.Cell(f"not {predicted}", is_name=True, detail=confidence),
        fmt.file_cell(outcomes.paths[row], limit=FILE_LENGTH),
    )
    alt = f"{true}; {wrong} predicts {predicted} with a probability of {confidence}, {right} predicts it right"
    return thumbnails.picture(outcomes.paths[row], lines, alt)


def copies(audit: AuditResult, thumbnails: Thumbnailer) -> page.Pictures | None:
    """Images with several labels or in several splits, and pairs of copies, side by side; None if there are none."""
    conflicts: dict[tuple[str, ...], list[str]] = {}
    for finding in audit.findings:
        if finding.kind in CONFLICTS:
            conflicts.setdefault(tuple(sorted(finding.about)), []).append(CONFLICTS[finding.kind])
    shown = [(paths, " and ".join(what)) for paths, what in [*conflicts.items()][:MAX_GROUPS]]
    repeated = [name for finding in audit.findings if finding.kind == COPIES for name in finding.about]
    pairs = list(zip(repeated[::2], repeated[1::2], strict=False))
    shown += [(pair, "The same class and split") for pair in pairs[:MAX_GROUPS]]
    examples = {example.path: example for example in audit.examples}
    groups = [_copies(paths, text, examples, thumbnails) for paths, text in shown]
    return _shown(page.Pictures("Copies of one image", tuple(groups), side_by_side=True)) if groups else None


def _copies(
    paths: Sequence[str], text: str, examples: Mapping[str, Example], thumbnails: Thumbnailer
) -> page.PictureGroup:
    pictures = []
    for path in paths[:PER_GROUP]:
        caption = [fmt.path_cell(path, limit=2 * FILE_LENGTH)]
        if known := examples.get(path):
            split = fmt.SPLIT_NAMES.get(known.split, known.split)
            caption.insert(0, page.Cell(fmt.one_line(known.label), is_name=True, strong=True, detail=split))
        pictures.append(thumbnails.picture(path, tuple(caption), f"the image {fmt.one_line(path)}"))
    return page.PictureGroup(tuple(pictures), text=f"{text[:1].upper()}{text[1:]}")


def class_pictures(audit: AuditResult, thumbnails: Thumbnailer) -> page.Pictures | None:
    """The first training image of every class shown; None if the audit does not name them, or none is available."""
    classes = select_classes([c.name for c in audit.classes], [c.train for c in audit.classes])
    first = {e.label: e.path for e in reversed(audit.examples) if e.split == "train"}
    pictures = [
        thumbnails.picture(first[name], (cell,), f"a training image of {cell.text}", expected=False)
        for name, cell in ((audit.classes[c].name, cell) for c, cell in zip(classes.ids, classes.cells, strict=True))
        if name in first
    ]
    shown = tuple(picture for picture in pictures if picture.source)
    return page.Pictures("First training image of each class", (page.PictureGroup(shown),)) if shown else None


def _shown(pictures: page.Pictures) -> page.Pictures | None:
    """None if not one of the pictures is available: a note says so."""
    return pictures if any(p.source for group in pictures.groups for p in group.pictures) else None


def _percent(share: float) -> str:
    return f"{fmt.percent_number(float(share), 0)}\u00a0%"
