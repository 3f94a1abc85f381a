"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Kernels are interpreted where no GPU can run them compiled; Triton reads this when a kernel is defined.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a visible skip."""
    folder = os.environ.get("COUNTERPOISE_DATA")
    if not folder:
        pytest.skip("COUNTERPOISE_DATA is not set: real images are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def lite0_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ImageNet weights for ``timm:tf_efficientnet_lite0``."""
    from benchmarks.lite0_weights import write_lite0_weights

    return write_lite0_weights(tmp_path_factory.mktemp("weights") / "lite0.safetensors")
