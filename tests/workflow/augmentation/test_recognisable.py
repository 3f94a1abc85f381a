"""At the default strength an object stays recognisable: measured against the original in the same geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from counterpoise.augment.operations import DEGRADING, OPERATIONS, augmented_image, drawn_operations
from counterpoise.workflow.augmentation import augment, read_lineage
from counterpoise.workflow.dataset import load

GEOMETRIC = ("hflip", "vflip", "rot90", "rotate", "crop")


def ssim(a, b):
    """Structural similarity of two grey images with a Gaussian window (Wang et al., IEEE TIP 2004)."""
    mean_a, mean_b = gaussian_filter(a, 1.5), gaussian_filter(b, 1.5)
    var_a, var_b = gaussian_filter(a * a, 1.5) - mean_a**2, gaussian_filter(b * b, 1.5) - mean_b**2
    both = gaussian_filter(a * b, 1.5) - mean_a * mean_b
    ratio = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
    return float((ratio / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))).mean())


def write_crops(root: Path, size: int) -> None:
    """Crops of scikit-learn's two photographs: one class of 120 images and one of 12."""
    rng = np.random.default_rng(0)
    for name, image, n in zip(("china", "flower"), load_sample_images().images, (60, 12), strict=True):
        (root / name).mkdir(parents=True)
        small = Image.fromarray(image).resize((320, 213))
        for i in range(n):
            x, y = rng.integers(0, 192), rng.integers(0, 85)
            small.crop((x, y, x + 128, y + 128)).resize((size, size)).save(root / name / f"{i}.png")


def made(image, operations, row):
    """The image after some of the operations of a row of augmented.csv, with the same random numbers."""
    generator = torch.Generator().manual_seed(int(row["seed"]))
    changed = augmented_image(image, operations, float(row["strength"]), generator=generator, symmetries={"hflip"})
    return changed.double().numpy()


def measured(root: Path, out: Path, **options) -> dict[str, float]:
    """Every new image against its source after the same flips, rotations and crops."""
    dataset = load(root, val_fraction=0, test_fraction=0)
    augment(dataset, out, jobs=1, images=False, **options)
    values = []
    for row in read_lineage(out / "augmented.csv"):
        with Image.open(root / row["source"]) as source, Image.open(out / row["file"]) as file:
            image = torch.from_numpy(np.array(source.convert("RGB"))).permute(2, 0, 1).float() / 255
            found = np.array(file.convert("RGB")).transpose(2, 0, 1) / 255
        drawn = row["operations"].split("+")
        reference = made(image, [name for name in drawn if name in GEOMETRIC], row)
        whole = made(image, [name for name in drawn if name != "erase"], row)  # erasing is the last operation
        clipped = ((found < 0.002) | (found > 0.998)) & (reference > 0.01) & (reference < 0.99)
        erased = (made(image, drawn, row) != whole).any(0)
        correlation = np.corrcoef(found.ravel(), reference.ravel())[0, 1]
        values.append((ssim(found.mean(0), reference.mean(0)), correlation, clipped.mean(), erased.mean()))
    similar, correlation, clipped, erased = np.array(values).T
    return {
        "mean SSIM": similar.mean(),
        "share of SSIM below 0.5": (similar < 0.5).mean(),
        "5 % quantile of the correlation": np.quantile(correlation, 0.05),
        "least correlation": correlation.min(),
        "clipped pixels, mean": clipped.mean(),
        "erased pixels, most": erased.max(),
        "erased pixels, mean": erased.mean(),
    }


def assert_recognisable(found: dict[str, float]) -> None:
    assert found["mean SSIM"] > 0.92
    assert found["share of SSIM below 0.5"] <= 0.01
    assert found["5 % quantile of the correlation"] > 0.9
    assert found["least correlation"] > 0.7
    assert found["clipped pixels, mean"] < 0.04
    assert 0.01 < found["erased pixels, most"] < 0.12
    assert found["erased pixels, mean"] < 0.02


@pytest.mark.parametrize("size", [32, 128])
def test_the_default_strength_leaves_a_recognisable_object(tmp_path, size):
    write_crops(tmp_path / "photos", size)
    assert_recognisable(measured(tmp_path / "photos", tmp_path / "out"))
    full = measured(tmp_path / "photos", tmp_path / "full", strength=1.0)
    assert full["mean SSIM"] < 0.92
    assert full["erased pixels, most"] > 0.18
    mild = measured(tmp_path / "photos", tmp_path / "mild", strength=0.1)
    assert mild["mean SSIM"] > 0.98


def test_the_default_strength_leaves_recognisable_photographs(real_data, tmp_path):
    for k, name in enumerate(("airplane", "deer", "truck")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for file in sorted((real_data / "cifar10-lt" / "train" / name).iterdir())[: (60, 15, 10)[k]]:
            (tmp_path / "photos" / name / file.name).write_bytes(file.read_bytes())
    assert_recognisable(measured(tmp_path / "photos", tmp_path / "out"))


def test_at_most_one_degrading_operation_is_drawn_and_every_operation_is():
    drawn = [drawn_operations(seed, tuple(OPERATIONS)) for seed in range(2000)]
    degrading = [len(set(names) & set(DEGRADING)) for names in drawn]
    assert max(degrading) == 1
    assert np.mean(degrading) == pytest.approx(0.5 + 1 / 32, abs=0.03)  # alone where nothing else is drawn
    share = {name: np.mean([name in names for names in drawn]) for name in OPERATIONS}
    for name in OPERATIONS:
        assert share[name] == pytest.approx(1 / 6 if name in DEGRADING else 0.5, abs=0.06)
    assert all(set(names) - {"hflip", "vflip", "rot90"} for names in drawn)
    assert all(list(names) == sorted(names, key=list(OPERATIONS).index) for names in drawn)
    assert {drawn_operations(seed, ("hflip", "noise")) for seed in range(99)} == {("noise",), ("hflip", "noise")}
