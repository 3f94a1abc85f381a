"""The augmentation that every strategy gets: named transforms of a batch, and functions of one image."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise.augment import random_crop, random_symmetry
from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import described
from counterpoise.workflow.training.custom import Augmentation

_TOLERANCE = 0.5
"""How far beyond [0, 1] a float image may reach, for example by interpolation; it is clipped."""


def augmented(images: Tensor, steps: Sequence[Augmentation], *, generator: torch.Generator, seed: int) -> Tensor:
    """Augment images uint8 ``(N, 3, S, S)`` by each step in turn; the result is float32 in [0, 1].

    Names are applied to the whole batch with ``generator``. Functions are applied to each image; the random numbers of
    torch, NumPy and Python that they draw depend on ``seed`` only, and the generators of the caller do not change.
    """
    for i, step in enumerate(steps):
        if step == "crop":
            images = random_crop(images, padding=max(1, images.shape[-1] // 8), generator=generator)
        elif isinstance(step, str):
            images = random_symmetry(images, step, generator=generator)  # type: ignore[arg-type]
        else:
            own = (seed + i) % 2**32
            with _seeded(own, images.device):
                images = _one_by_one(step, images, own)
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def check_augmentation(steps: Sequence[Augmentation], image: Tensor) -> None:
    """Raise `ArgumentError` if a function of the caller fails with an image uint8 ``(3, S, S)``."""
    if any(callable(step) for step in steps):
        augmented(image[None], steps, generator=torch.Generator().manual_seed(0), seed=0)


def _one_by_one(function: Any, images: Tensor, seed: int) -> Tensor:
    takes_arrays = _is_albumentations(function)
    if takes_arrays and hasattr(function, "set_random_seed"):
        function.set_random_seed(seed)
    results = []
    for image in images:
        try:
            result = _call_with_array(function, image) if takes_arrays else function(image.clone())
        except Exception as error:  # a function of the caller can raise anything
            given = "image=array (S, S, 3)" if takes_arrays else f"a tensor uint8 {tuple(image.shape)}"
            raise ArgumentError(
                f"`augment`: {described(function)} raised {type(error).__name__}: {error}; it is called with one "
                f"image, {given}, as transforms of torchvision.transforms.v2 and albumentations expect it"
            ) from error
        results.append(_checked(function, result, image))
    if any(result.dtype != torch.uint8 for result in results):
        results = [result.float() / 255 if result.dtype == torch.uint8 else result.float() for result in results]
    return torch.stack(results)


def _is_albumentations(function: Any) -> bool:
    """Whether a function is called as ``function(image=array)["image"]``, which is how albumentations is called."""
    if type(function).__module__.partition(".")[0] == "albumentations" or hasattr(function, "available_keys"):
        return True
    try:
        parameter = inspect.signature(function).parameters.get("image")
    except (TypeError, ValueError):  # some built-in callables have no signature
        return False
    return parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY


def _call_with_array(function: Any, image: Tensor) -> Any:
    array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    # A dictionary without "image" is an error of the function, too.
    result = function(image=array)["image"]
    if isinstance(result, np.ndarray) and result.ndim == 3:
        result = torch.from_numpy(np.ascontiguousarray(result.transpose(2, 0, 1)))
    return result.to(image.device) if isinstance(result, Tensor) else result


def _checked(function: Any, result: Any, image: Tensor) -> Tensor:
    """The image that a function returned: uint8, or float clipped to [0, 1], in the size that it was given."""
    name = described(function)
    if not isinstance(result, Tensor) or result.shape != image.shape:
        got = tuple(result.shape) if isinstance(result, Tensor | np.ndarray) else type(result).__name__
        raise ArgumentError(
            f"`augment`: {name} must return one image of the size it is given, {tuple(image.shape)}; it returned "
            f"{got}; the images already have the size `image_size`, so resize to that or leave resizing out"
        )
    plain = result.as_subclass(Tensor)
    if plain.dtype == torch.uint8:
        return plain
    low, high = (float(x) for x in plain.aminmax()) if plain.is_floating_point() else (0.0, 255.0)
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise ArgumentError(
            f"`augment`: {name} must return uint8, or floats in [0, 1]; it returned {str(plain.dtype)[6:]} in "
            f"[{low:.3g}, {high:.3g}]; leave normalization out, because the model normalizes the images itself, and "
            "scale floats to [0, 1]"
        )
    return plain.clamp(0, 1)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the random numbers of torch, NumPy and Python in the block, and restore the generators after it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002  functions may draw from it
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
