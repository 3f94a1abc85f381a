"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a visible skip."""
    folder = os.environ.get("COUNTERPOISE_DATA")
    if not folder:
        pytest.skip("COUNTERPOISE_DATA is not set: real images are not at hand")
    return Path(folder)
