"""Published weights of timm and torchvision: from the cache, or from their server if it can be reached."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch

from counterpoise.core.errors import WeightsUnavailableError

SECONDS = 4.0
"""How long to wait for the first answer of a server, before any download."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def timm_options(architecture: str) -> dict[str, Any]:
    """Keyword arguments of `timm.create_model` for published weights: a cached file is used without the network.

    Raises:
        ArgumentError: the weights are not in the cache, and their server cannot be reached.
    """
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    config = timm.get_pretrained_cfg(architecture)
    repository = getattr(config, "hf_hub_id", None)
    if repository:
        for name in _HUB_FILES:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return {"pretrained": True, "pretrained_cfg_overlay": {"file": cached}}
    url = constants.ENDPOINT if repository else getattr(config, "url", None)
    if url and not (_hub_folder() / Path(url).name).is_file():
        check_reachable(f"timm:{architecture}", url)
    return {"pretrained": True}


def check_torchvision(architecture: str) -> None:
    """Raise `ArgumentError` if the published weights are neither in the cache nor can their server be reached."""
    import torchvision

    url = torchvision.models.get_model_weights(architecture).DEFAULT.url
    if not (_hub_folder() / Path(url).name).is_file():
        check_reachable(f"torchvision:{architecture}", url)


def check_reachable(model: str, url: str) -> None:
    """Raise `ArgumentError` if a server does not answer within a few seconds.

    The libraries would try again for up to a minute, or wait for longer without a limit.
    """
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(_failure(url)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    failure = answers[0] if answers else f"no answer within {SECONDS:g} s"
    if failure is not None:
        server = url.partition("://")[2].partition("/")[0]
        raise WeightsUnavailableError(
            f"the weights of {model} could not be downloaded, because {server} cannot be reached ({failure})",
            "connect to the network (with HF_HUB_OFFLINE unset), train without `pretrained`, or download the file "
            "elsewhere and name it as `weights` (--weights FILE)",
        )


def _failure(url: str) -> str | None:
    """Why a server cannot be reached; None if it answers, whatever it says."""
    from huggingface_hub import get_session

    try:
        get_session().head(url, timeout=SECONDS - 1)
    except Exception as error:  # of the network library that huggingface_hub uses, which differs by version
        return (" ".join(str(error).split()) or type(error).__name__)[:200]
    return None


def _hub_folder() -> Path:
    """The folder where torch keeps what it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"
