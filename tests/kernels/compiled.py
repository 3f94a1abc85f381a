# ruff: noqa: T201  a script
"""Compiles every variant of the kernels for an H100 (sm_90) on a machine without one; run by test_compilation.py.

``python compiled.py 0,2`` compiles for the shapes at those places of SHAPES, ``''`` the kernels without a shape.
Arguments come from the code that launches the kernels, given tensors without memory. Prints one line of JSON per
variant: registers per thread, bytes spilled, and how wide the widest and the narrowest loads of logits are.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import mangle_type

from counterpoise.kernels.autograd import empty_gradient
from counterpoise.kernels.reduction import Batch, accumulation_dtype
from counterpoise.kernels.reference import SigmoidParameters, SoftmaxParameters
from counterpoise.kernels.triton import math as kernels
from counterpoise.kernels.triton import sigmoid as sigmoid_triton
from counterpoise.kernels.triton import softmax as softmax_triton
from counterpoise.kernels.triton.launch import LogitsView, accumulation

# The shapes of the targets: aligned, 8142 classes (rows not on 16 bytes), an odd number, beyond one tile, few classes,
# images of few and of many classes, launch-bound.
SHAPES = (
    ((65536, 1000), torch.float32),
    ((65536, 1000), torch.bfloat16),
    ((16384, 8142), torch.bfloat16),
    ((64, 8141), torch.float16),
    ((8192, 50000), torch.bfloat16),
    ((262144, 80), torch.float32),
    ((16, 19, 512, 512), torch.bfloat16),
    ((16, 150, 128, 128), torch.float16),
    ((256, 10), torch.float64),
)


def empty(shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def softmax_variants(shape, dtype):
    v = empty(shape[1], torch.float64 if dtype == torch.float64 else torch.float32)
    yield "weighted", SoftmaxParameters(weight=v), False
    yield "all hyperparameters", SoftmaxParameters(v, v, v, 2.0, v, v, 1.0, 0.0), False
    yield "smoothed focal", SoftmaxParameters(gamma=2.0, label_smoothing=0.1), False
    yield "soft, all hyperparameters", SoftmaxParameters(v, v, v, 2.0, v, v, 1.0, v), True


def sigmoid_variants(shape, dtype):
    v = empty(shape[1], torch.float64 if dtype == torch.float64 else torch.float32)
    yield "binary", SigmoidParameters(), torch.float32
    yield "asymmetric", SigmoidParameters(None, 1.0, 1.0, 1.0, 4.0, 0.05, True), torch.uint8
    yield "all hyperparameters", SigmoidParameters(v, v, v, 0.5, 2.5, 0.05, False), dtype
    yield "one against the rest", SigmoidParameters(None, 0.25, 0.75, 2.0, 2.0), None


def rows_of(shape):
    return empty((shape[0], *shape[2:]), torch.int64)


def split(params):
    """Vectors and numbers, as the launchers get them."""
    vectors = [x if isinstance(x, torch.Tensor) else None for x in params]
    numbers = [0.0 if x is None or isinstance(x, torch.Tensor) else float(x) for x in params]
    return type(params)(*vectors), type(params)(*numbers)


def softmax_calls(shapes):
    for shape, dtype in shapes:
        z = empty(shape, dtype)
        u = empty((shape[0], *shape[2:]))
        for name, params, dense in softmax_variants(shape, dtype):
            target = empty(shape) if dense else rows_of(shape)
            own = len(shape) == 2 and shape[0] <= 1024 and not dense
            denominator = (None, None) if own else (empty(128), 1.0)
            batch = Batch(target, u if "all" in name else None, -100, "mean")
            walk = LogitsView.over(z)
            results = (empty(walk.rows, accumulation_dtype(z)), empty_gradient(z), empty((), accumulation_dtype(z)))
            plan = softmax_triton.launch_plan(walk, z, batch, denominator, *split(params), results)
            kernel, _, arguments, tile = plan
            yield "softmax", shape, dtype, name, kernel, arguments, tile.warps


def sigmoid_calls(shapes):
    for shape, dtype in shapes:
        z = empty(shape, dtype)
        for name, params, labels in sigmoid_variants(shape, dtype):
            target = rows_of(shape) if labels is None else empty(shape, labels)
            batch = Batch(target, None, -100, "mean")
            vectors, numbers = split(params)
            walk, tile, programs = sigmoid_triton.tiling(z, batch, vectors)
            results = (empty(programs, accumulation_dtype(z)), empty_gradient(z), empty((), accumulation_dtype(z)))
            arguments = sigmoid_triton.kernel_arguments(
                walk, tile, z, batch, (empty(128), 1.0), vectors, numbers, results
            )
            yield "sigmoid", shape, dtype, name, sigmoid_triton.sigmoid_kernel, arguments, tile.warps


def other_calls():
    z, y, w, parts = empty((4096, 1000)), empty((1, 4096), torch.int64), empty(1000), empty(128)
    strides = {"y_o": 0, "y_i": 1, "u_o": 0, "u_i": 1}
    common = {"sample_weight": empty(4096), "weight": w, "totals": parts, "inner": 4096, "C": 1000}
    acc = {"ACC": accumulation(z)}
    masses = {"target": y, "number": 4096, "ignore_index": -100, "BLOCK": 1024, **strides, **common, **acc}
    yield "index mass", kernels.index_mass_kernel, masses
    t = {"t_o": 0, "t_i": 1000, "t_c": 1, "ROWS": 1, "CLASSES": 1024, "blocks": 4096, "programs": 4096}
    yield "soft mass", kernels.soft_mass_kernel, {"target": z, **t, **strides, **common, **acc}
    count = {"target": z, "totals": parts, "ignore_index": -100, **acc}
    yield "valid elements", kernels.valid_elements_kernel, {"size": 4096000, "BLOCK": 4096, **count}
    yield "valid rows", kernels.valid_rows_kernel, {"inner": 4096, "many": 1000, **t, **count}
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        g = {"source": empty(4096, dtype), "target": empty(4096, dtype), "factor": empty(()), "size": 4096}
        yield (
            f"scale {dtype}",
            kernels.scale_kernel,
            {**g, "INPLACE": True, "BLOCK": 4096, "ACC": accumulation(g["source"])},
        )


def source(kernel, arguments):
    """As Triton's launcher would specialise: None and 1 are constants, multiples of 16 are known to be such."""
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, float):
            signature[parameter.name] = "fp64"
        else:
            signature[parameter.name] = mangle_type(value)
            if isinstance(value, torch.Tensor) or value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)


def compiled(kernel, arguments, warps):
    options = {"num_warps": warps, "enable_fp_fusion": True}
    result = triton.compile(source(kernel, arguments), target=GPUTarget("cuda", 90, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(result.asm["cubin"])
        used = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, local = re.search(r"REG:(\d+) .*?LOCAL:(\d+)", used).groups()
    loads = set(re.findall(r"ld\.global\S*?((?:\.v\d)?\.b\d+)", result.asm["ptx"]))
    return {"registers": int(registers), "spilled": int(local), "loads": sorted(loads)}


def main(chosen):
    shapes = [SHAPES[int(i)] for i in chosen.split(",")] if chosen else []
    for family, shape, dtype, name, kernel, arguments, warps in (*softmax_calls(shapes), *sigmoid_calls(shapes)):
        about = {"kernel": family, "shape": shape, "dtype": str(dtype), "variant": name, "warps": warps}
        print(json.dumps({**about, **compiled(kernel, arguments, warps)}), flush=True)
    for name, kernel, arguments in () if chosen else other_calls():
        print(json.dumps({"kernel": name, "warps": 4, **compiled(kernel, arguments, 4)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
