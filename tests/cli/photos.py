"""What tests of several commands share: running a command, and a folder of small images."""

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from counterpoise.cli import app


def call(*arguments: object, code: int = 0):
    """Run a command that must end with this exit code."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


def write_photos(root: Path, *, blue: int = 6) -> Path:
    """Class folders: 24 red, 8 green and some blue images of 10×12 pixels."""
    rng = np.random.default_rng(0)
    for name, n, channel in (("red", 24, 0), ("green", 8, 1), ("blue", blue, 2)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 90, (12, 10, 3))
            pixels[..., channel] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02}.png")
    return root
