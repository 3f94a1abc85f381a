"""counterpoise audit"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from counterpoise.cli.options import Data, DataOptions, NoImages, Overwrite, flag, option
from counterpoise.cli.output import Result, print_findings, print_table, print_text, progress_bar
from counterpoise.core.text import constant_prediction, imbalance_headline, percent, plural

if TYPE_CHECKING:
    from counterpoise.core.artifacts import AuditResult
    from counterpoise.workflow.dataset import ImageDataset

FILES = ("audit.json", "audit.html")
ORDER = ("info", "warning", "error")
Out = Annotated[Path | None, option("--out", "DIR", "Also write audit.json and audit.html to this folder.")]
WriteClean = Annotated[
    Path | None,
    option(
        "--write-clean",
        "FILE.csv",
        "Also decode every image, and write a manifest without those that cannot be read and without copies (as "
        "--exclude-duplicates). In the folder of the images, or above it.",
    ),
]
FailOn = Annotated[
    Literal["info", "warning", "error"] | None,
    typer.Option("--fail-on", help="Exit with code 1 if a finding is at least this severe."),
]


def audit(
    data: Data,
    reading: DataOptions,
    out: Out = None,
    no_duplicates: Annotated[bool, flag("--no-duplicates", "Do not search for duplicate images.")] = False,
    write_clean: WriteClean = None,
    fail_on: FailOn = None,
    no_images: NoImages = False,
    overwrite: Overwrite = False,
) -> Result:
    """Count the images per class, measure the imbalance, and list the faults found in the files."""
    from counterpoise.core.files import claim, output_folder
    from counterpoise.workflow import audit as stage
    from counterpoise.workflow.dataset import check_manifest_target, check_output
    from counterpoise.workflow.report import render

    if out is not None:
        claim(out, resume=None, overwrite=overwrite)
    dataset = reading.load(data, warn=False)
    if out is not None:
        check_output(dataset, out)
    if write_clean is not None:
        check_manifest_target(dataset, write_clean, overwrite=overwrite)
    result = stage.audit(dataset, duplicates=not no_duplicates)
    if out is not None:
        with output_folder(out, FILES, resume=None, overwrite=overwrite) as folder:
            result.save(folder / "audit.json")
            render(result, folder / "audit.html", data=dataset, images=not no_images)
    written = "" if write_clean is None else _write_clean(dataset, write_clean, overwrite)
    worst = max((ORDER.index(finding.severity) for finding in result.findings), default=-1)
    failed = fail_on is not None and worst >= ORDER.index(fail_on)
    return Result(result, lambda: _show(result, out, written), exit_code=int(failed))


def _write_clean(dataset: ImageDataset, file: Path, overwrite: bool) -> str:
    """Write the manifest of the images that can be used, and return a sentence about it."""
    from counterpoise.workflow.dataset import write_manifest
    from counterpoise.workflow.dataset.cleaning import without_duplicates

    with progress_bar("reading images") as bar:
        readable = dataset.without_unreadable(progress=lambda done: bar("reading images", done, len(dataset)))
    clean = without_duplicates(readable)
    write_manifest(clean, file, overwrite=overwrite)
    copies, unusable = len(readable) - len(clean), len(readable.quarantined)
    return (
        f"wrote {file}: {plural(len(clean), 'image')}, without {plural(unusable, 'file')} that cannot be used and "
        f"{plural(copies, 'copy', 'copies')} of images; read it as DATA"
    )


def _show(result: AuditResult, out: Path | None, written: str) -> None:
    from counterpoise.workflow.strategy import plan

    rows = [(c.name, f"{c.train:,}", f"{c.val:,}", f"{c.test:,}", percent(c.share), c.group) for c in result.classes]
    print_table(("class", "train", "val", "test", "share", "group"), rows, title=result.name)
    text = "add training images before you train"
    if result.imbalance_ratio is not None:
        scores = (result.constant_accuracy, result.constant_balanced_accuracy)
        text = constant_prediction(repr(result.constant_class), *scores, result.reference_split)
        text += "; judge models by balanced accuracy"
    print_text(f"\n{imbalance_headline(result.imbalance_ratio)}: {text}")
    print_findings(result.findings)
    for fault in result.quarantined:
        print_text(f"  quarantined  {fault.path}: {fault.reason}")
    if sum(c.train > 0 for c in result.classes) > 1:
        print_text("\nrecommended to compare: " + ", ".join(strategy.name for strategy in plan(result)))
    if out is not None:
        print_text(f"report: {out / 'audit.html'}")
    if written:
        print_text(written)
    elif any(finding.kind.startswith("same-image") for finding in result.findings):
        print_text("--exclude-duplicates leaves the copies out; --write-clean FILE.csv writes a manifest without them")
