"""Draws small pictures of cars, trucks and motorcycles into class folders, for the tutorial in docs/tutorial.md.

    python examples/draw_vehicles.py photos --new new_photos

The classes are imbalanced, as in traffic: 300 cars, 75 trucks and 45 motorcycles by default. As in a folder of real
photos, one file is broken and one picture is there twice, in two classes. ``--new`` draws a folder without classes.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = (64, 48)


def scene(ground: int, rng: np.random.Generator) -> Image.Image:
    """A road below the height ``ground``, with houses and trees."""
    sky, road = rng.integers(120, 230, 3), rng.integers(60, 140, 3)
    image = Image.new("RGB", SIZE, tuple(sky.tolist()))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, ground, *SIZE), fill=tuple(road.tolist()))
    for _ in range(4):
        x, height, width = (int(v) for v in rng.integers((-5, 4, 3), (64, 20, 12)))
        draw.rectangle((x, ground - height, x + width, ground), fill=tuple(rng.integers(40, 200, 3).tolist()))
    return image


def vehicle(kind: str, rng: np.random.Generator) -> Image.Image:
    """A picture of one vehicle on a road, RGB."""
    ground = int(rng.integers(30, 40))
    image = scene(ground, rng)
    draw = ImageDraw.Draw(image)
    length = {"car": 26, "truck": 32, "motorcycle": 18}[kind] * rng.uniform(0.9, 1.3)
    left, base = 32 - length / 2 + rng.uniform(-4, 4), ground + rng.uniform(2, 6)
    paint, dark = tuple(rng.integers(20, 255, 3).tolist()), (25, 25, 30)
    wheel = length * (0.2 if kind == "motorcycle" else 0.1)

    def box(x0: float, y0: float, x1: float, y1: float, color: tuple[int, ...]) -> None:
        """A rectangle in units of the length, from the rear wheel upwards."""
        draw.rectangle((left + x0 * length, base - y1 * length, left + x1 * length, base - y0 * length), fill=color)

    if kind == "car":
        box(0.0, 0.08, 1.0, 0.27, paint)
        box(0.2, 0.27, 0.75, 0.43, paint)
        box(0.26, 0.29, 0.69, 0.39, dark)
    elif kind == "truck":
        box(0.0, 0.1, 0.68, 0.5, paint)
        box(0.72, 0.1, 1.0, 0.36, paint)
        box(0.8, 0.24, 0.98, 0.33, dark)
    else:
        box(0.2, 0.3, 0.75, 0.42, paint)
        box(0.7, 0.4, 0.8, 0.62, dark)
        box(0.4, 0.42, 0.55, 0.85, tuple(rng.integers(20, 255, 3).tolist()))  # the rider
    for x in (0.18, 0.82):
        center = left + x * length
        draw.ellipse((center - wheel, base - 2 * wheel, center + wheel, base), fill=dark)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 10, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write, new or empty")
    parser.add_argument("--counts", default="car=300,truck=75,motorcycle=45", help="pictures per class")
    parser.add_argument("--new", type=Path, help="folder for 30 more pictures without classes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    counts = {kind: int(number) for kind, number in (part.split("=") for part in arguments.counts.split(","))}
    for kind, number in counts.items():
        (arguments.out / kind).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            vehicle(kind, rng).save(arguments.out / kind / f"{i:04d}.jpg", quality=92)
    if {"car", "truck"} <= counts.keys():
        (arguments.out / "truck" / "download.jpg").write_text("<html>404 Not Found</html>")
        shutil.copy(arguments.out / "truck" / "0003.jpg", arguments.out / "car" / "copy.jpg")
    print(f"{arguments.out}: " + ", ".join(f"{number} × {kind}" for kind, number in counts.items()))
    if arguments.new is not None:
        arguments.new.mkdir(parents=True, exist_ok=True)
        for i in range(30):
            vehicle(list(counts)[i % len(counts)], rng).save(arguments.new / f"{i:02d}.jpg", quality=92)
        print(f"{arguments.new}: 30 pictures")


if __name__ == "__main__":
    main()
