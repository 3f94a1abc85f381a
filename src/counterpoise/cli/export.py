"""counterpoise export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from counterpoise.cli.options import option
from counterpoise.cli.output import Result, print_text
from counterpoise.cli.predict import RunFolder, Seed, StrategyName

_OUT = "File to write: model.onnx (ONNX) or model.pt2 (torch.export)."


def export(
    run: RunFolder,
    path: Annotated[Path, option("--out", "FILE", _OUT)],
    strategy: StrategyName = None,
    seed: Seed = None,
) -> Result:
    """Export a trained model with its correction; classes and preprocessing are in the metadata of the file."""
    from counterpoise.workflow.deployment import load_model
    from counterpoise.workflow.deployment.export import export_metadata, export_model

    model = load_model(run, strategy=strategy, seed=seed, device="cpu")
    written = export_model(model, path)

    def show() -> None:
        print_text(f"{model!r}: {written}")
        side = model.transform.size
        print_text(f"input:  images, float32 (N, 3, {side}, {side}), RGB in [0, 1]; outputs: logits, probabilities")

    return Result({"path": str(written), **export_metadata(model)}, show)
