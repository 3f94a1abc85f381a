"""counterpoise predict"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import flag, option
from counterpoise.cli.output import Result, print_note, print_table, print_text
from counterpoise.core.errors import ArgumentError
from counterpoise.core.files import path_exists, read_json
from counterpoise.core.text import percent, plural

if TYPE_CHECKING:
    from counterpoise.workflow.deployment import ImagePredictions, TrainedModel

MOST_ROWS = 30
_RUN = "A folder that train or compare wrote. Of a comparison, the model of the recommended strategy."
_IMAGES = "Image files, and folders whose images are predicted."
_PRIOR = """Class shares of these images: uniform, train, shares that sum to 1 (0.9,0.1) or counts (900,100) in the
order of the classes, or a JSON file {class: share or count}. Default: the predictions as they were evaluated."""
_STRATEGY = "Strategy to take from a comparison; needed where its verdict is undecided."
_OUT = """CSV file to write: path, prediction, probability; with --top K those of the next classes too. An image that
cannot be read has no row: it is listed on stderr, and with --json under "failed"."""
_OVERWRITE = "Replace the CSV file of --out if it exists."

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)]
StrategyName = Annotated[str | None, option("--strategy", "NAME", _STRATEGY)]
Seed = Annotated[int | None, option("--seed", "S", "Seed to take from a comparison. Default: the first one.")]
Device = Annotated[str | None, option("--device", "D", "cpu, cuda, cuda:N or mps. Default: a GPU if there is one.")]


def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help=_IMAGES)],
    out: Annotated[Path | None, option("--out", "FILE", _OUT)] = None,
    top: Annotated[int, option("--top", "K", "Classes to print per image, the most probable first.", min=1)] = 1,
    strategy: StrategyName = None,
    seed: Seed = None,
    batch_size: Annotated[int | None, option("--batch-size", "B", "Images per pass.", min=1)] = None,
    device: Device = None,
    target_prior: Annotated[str | None, option("--target-prior", "P", _PRIOR)] = None,
    estimate_target_prior: Annotated[bool, flag("--estimate-prior", "Estimate these shares from the images.")] = False,
    overwrite: Annotated[bool, flag("--overwrite", _OVERWRITE)] = False,
) -> Result:
    """Predict the classes of images with a trained model; images that cannot be read are listed."""
    from counterpoise.workflow.deployment import load_model
    from counterpoise.workflow.deployment.result import class_shares

    model = load_model(run, strategy=strategy, seed=seed, device=device)
    if out is not None:
        _check_table(out, overwrite=overwrite)
    shares = None if target_prior is None else class_shares(_shares(target_prior, model), model.classes)
    predicted = model.predict(
        images, batch_size=batch_size, target_prior=shares, estimate_target_prior=estimate_target_prior
    )
    for name, reason in predicted.failed.items():
        print_note(f"warning: {name}: {reason}")
    if predicted.failed:
        rest = "the others are predicted" if len(predicted) else "no image is predicted; name other images"
        print_note(f"{plural(len(predicted.failed), 'image')} could not be read; {rest}")
    if out is not None:
        predicted.save(out, top=top)
    used = predicted.prior if shares is None else (shares / shares.sum()).tolist()
    return Result({"model": repr(model), **predicted.to_dict(top=top)}, lambda: _show(predicted, model, used, out, top))


def _check_table(out: Path, *, overwrite: bool) -> None:
    """Refuse a table that would replace an image, as in ``--out`` before the images, or a file that is kept."""
    if path_exists(out) and out.is_dir():
        raise ArgumentError(f"`out` is the folder {str(out)!r}; name a file, such as {str(out / 'predictions.csv')!r}")
    if out.suffix.lower() != ".csv":
        raise ArgumentError(f"`out` must end in .csv, so that no image is replaced; got {str(out)!r}")
    if path_exists(out) and not overwrite:
        raise ArgumentError(f"`out` {out} exists; name another file, or give `overwrite` to replace it")


def _shares(text: str, model: TrainedModel) -> Any:
    """The option --target-prior as class shares or counts."""
    if text == "uniform":
        return [1.0] * len(model.classes)
    if text == "train":
        return list(model.run.train_counts)
    if text.endswith(".json"):
        return read_json(text)
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(
            f"`target_prior` must be uniform, train, numbers separated by commas or a JSON file; got {text!r:.80}"
        ) from None
    return shares


def _show(
    predicted: ImagePredictions, model: TrainedModel, shares: Sequence[float], out: Path | None, top: int
) -> None:
    print_text(repr(model))
    if shares:
        named = ", ".join(f"{name} {percent(q)}" for name, q in zip(model.classes, shares, strict=True))
        print_text(f"{'estimated' if predicted.prior else 'given'} class shares: {named}")
    if out is not None:
        print_text(f"{plural(len(predicted), 'image')} predicted: {out}")
        return
    rows = zip(predicted.names[:MOST_ROWS], predicted.top(top)[:MOST_ROWS], strict=True)
    columns = min(top, len(model.classes))
    headers = ("image", *(("prediction", "probability") * columns))
    print_table(headers, [(name, *(x for label, p in best for x in (label, percent(p)))) for name, best in rows])
    if len(predicted) > MOST_ROWS:
        print_text(f"and {len(predicted) - MOST_ROWS:,} more; --out FILE writes all of them")
