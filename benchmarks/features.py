"""Compare the extraction of features with plain loops, in one run: ``python -m benchmarks.features DATA``.

DATA is a folder of images, such as cifar10-lt. The network is timm's ``tf_efficientnet_lite0`` with ImageNet weights.
Three programs compute the features of the same images in interleaved rounds: `extract_features` with an empty cache; a
loop over batches that are already decoded and in memory; and a loop over a DataLoader whose processes decode the
images. The right column shows whether the target is met on this machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from benchmarks.lite0_weights import MODEL, lite0_weights, write_lite0_weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import counterpoise as cp
from counterpoise.workflow.training.data import fit_to_square, to_tensor
from counterpoise.workflow.training.frozen.extraction import extract_features

BATCH = 64


class Decoded(Dataset[Tensor]):
    """The images of a dataset as a user's own program would prepare them."""

    def __init__(self, data: cp.LabeledImages, size: int) -> None:
        self.data, self.size = data, size

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Tensor:
        return to_tensor(fit_to_square(self.data[row], self.size))


def plain_network() -> nn.Module:
    """timm's model as a user would prepare it for inference."""
    network = timm.create_model(MODEL, num_classes=0)
    network.load_state_dict({name: v for name, v in lite0_weights().items() if not name.startswith("classifier.")})
    return network.eval().to(memory_format=torch.channels_last)


def plain_features(network: nn.Module, batches: object) -> np.ndarray:
    """A plain loop over batches of uint8 images."""
    parts = []
    with torch.inference_mode():
        for images in batches:
            inputs = (images.float().div_(255) - 0.5) / 0.5
            parts.append(network(inputs.contiguous(memory_format=torch.channels_last)))
    return torch.cat(parts).numpy()


def programs(data: cp.LabeledImages, size: int, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The programs to be compared; each returns the features of all images in the order of the dataset."""
    weights = write_lite0_weights(folder / "lite0.safetensors")
    network, images = plain_network(), Decoded(data, size)
    memory = torch.stack([images[row] for row in range(len(images))]).split(BATCH)

    def ours() -> np.ndarray:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            features = extract_features(
                data, model=f"timm:{MODEL}", pretrained=False, weights=str(weights), image_size=size, resize="crop",
                cache=Path(cache),
            )  # fmt: skip
        found = np.empty((len(data), features.width), dtype=np.float16)
        for split, values in features.values.items():
            found[data.splits == split] = values[:, 0]
        return found

    return {
        "extract_features": ours,
        "loop, decoded images in memory": lambda: plain_features(network, memory),
        "loop, DataLoader": lambda: plain_features(network, DataLoader(images, BATCH, num_workers=os.cpu_count() or 1)),
    }


def measure(runs: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each program in each round, after one round in which the results are compared."""
    results = {name: run() for name, run in runs.items()}
    reference = results.pop("loop, decoded images in memory")
    for name, found in results.items():
        np.testing.assert_allclose(found, reference, rtol=2e-3, atol=2e-3, err_msg=name)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("counterpoise", "torch", "timm", "pillow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
          f"{platform.python_version()}, {versions}")  # fmt: skip
    data = cp.load(options.data)
    rows = np.linspace(0, len(data) - 1, num=min(options.images, len(data))).astype(int)
    data = data.quarantine(dict.fromkeys(set(range(len(data))) - set(rows.tolist()), "not in the sample"))
    print(f"{len(data)} images of {data.name} at {options.size} pixels, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        times = measure(programs(data, options.size, Path(folder)), options.rounds)
    ours = times["extract_features"]
    for name, seconds in times.items():
        target = {"loop, decoded images in memory": 1.1, "loop, DataLoader": 1.0}.get(name)
        ratio = statistics.median(a / b for a, b in zip(ours, seconds, strict=True))
        verdict = "" if target is None else f"ours takes {ratio:.2f}× (target ≤ {target}×)"
        met = "" if target is None else "met" if ratio <= target else "NOT MET"
        print(f"{name:<32} {len(data) / statistics.median(seconds):7.1f} images/s  {verdict:<40} {met}")


if __name__ == "__main__":
    main()
