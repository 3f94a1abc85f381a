"""Write torch's own samples of its losses to a file; run as a program, with the file as its argument.

They come from `torch.testing._internal` of the installed torch. Importing it changes settings of torch and of
hypothesis for the whole process, so that the tests start a process of its own for it.
"""

from __future__ import annotations

import random
import sys
import types
import unittest
from collections.abc import Iterator
from typing import Any

FUNCTIONS = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "linear_cross_entropy")
MODULES = ("CrossEntropyLoss", "BCEWithLogitsLoss", "NLLLoss")
DTYPES = ("float64", "float32", "bfloat16", "float16")

Samples = dict[str, list[dict[str, Any]]]


def main(path: str) -> None:
    import torch

    if "expecttest" not in sys.modules:
        _allow_without_expecttest()
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    samples: Samples = {}
    for op in op_db:
        if op.name.rpartition(".")[2] in FUNCTIONS and op.variant_test_name == "":
            samples |= _of_function(op, torch)
    for module in module_db:
        if module.name.rpartition(".")[2] in MODULES:
            samples |= _of_module(module, torch)
    torch.save(samples, path)


def _allow_without_expecttest() -> None:
    """Stand in for a package that torch's test helpers import, but its samples do not use."""
    try:
        import expecttest  # noqa: F401
    except ModuleNotFoundError:
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stand_in


def _of_function(op: Any, torch: Any) -> Samples:
    def plain(sample: Any) -> dict[str, Any]:
        return {"init": {}, "args": (sample.input, *sample.args), "kwargs": dict(sample.kwargs)}

    name, samples = op.name.rpartition(".")[2], {}
    for dtype in _seeded(torch):
        found = op.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False)
        samples[f"{name}-{dtype}"] = [plain(sample) for sample in found]
    if op.error_inputs_func is not None:
        samples[f"{name}-errors"] = [plain(error.sample_input) for error in op.error_inputs("cpu")]
    return samples


def _of_module(module: Any, torch: Any) -> Samples:
    def plain(sample: Any) -> dict[str, Any]:
        init, forward = sample.constructor_input, sample.forward_input
        assert not init.args
        return {"init": dict(init.kwargs), "args": tuple(forward.args), "kwargs": dict(forward.kwargs)}

    name, samples = module.name.rpartition(".")[2], {}
    for dtype in _seeded(torch):
        found = module.module_inputs_func(module, "cpu", getattr(torch, dtype), requires_grad=False, training=True)
        samples[f"{name}-{dtype}"] = [plain(sample) for sample in found]
    if module.module_error_inputs_func is not None:
        errors = module.module_error_inputs_func(module, "cpu", torch.float32, False, False)
        samples[f"{name}-errors"] = [plain(error.module_error_input) for error in errors]
    return samples


def _seeded(torch: Any) -> Iterator[str]:
    """The dtypes, each with the same random numbers."""
    for dtype in DTYPES:
        torch.manual_seed(0)
        random.seed(0)
        yield dtype


if __name__ == "__main__":
    main(sys.argv[1])
