"""The Triton kernels where the table of losses does not reach: shapes that decide how they run, memory, launches.

Compiled on a GPU, under Triton's interpreter without one. Buffers are poisoned with NaN wherever torch hands them out.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.contracts.loss_specs import TRITON, placed_losses, sample, value_and_gradient
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from counterpoise import losses
from counterpoise.core.errors import UnsupportedError
from counterpoise.kernels import dispatch

if not TRITON:
    pytest.skip("Triton is not installed", allow_module_level=True)

from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.kernels.triton import launch as triton_launch
from counterpoise.kernels.triton import sigmoid as sigmoid_triton
from counterpoise.kernels.triton import softmax as softmax_triton

HYPERPARAMETERS = {"gamma": 1.5, "poly": 0.5, "scale": 1.5, "margin": 0.2}


@pytest.fixture(autouse=True)
def poisoned():
    """torch.empty gives NaN: whatever a kernel leaves unwritten shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def softmax_cases(shape, seed):
    """Losses of index, smoothed and probability targets, with a vector for every hyperparameter that may be one."""
    g = torch.Generator().manual_seed(seed)
    c = shape[1]
    vectors = {name: torch.rand(c, generator=g) + 0.1 for name in ("weight", "offset", "class_scale")}
    row_weight = torch.rand(shape[0], generator=g)
    z, y = sample(shape, seed=seed, scale=4.0)
    y[torch.rand(y.shape, generator=g) < 0.2] = -100
    soft = torch.softmax(torch.randn(shape, generator=g, dtype=torch.float64), 1)
    yield z, y, {"weight": vectors["weight"], "sample_weight": row_weight}
    yield z, y, {**vectors, **HYPERPARAMETERS}
    yield z, y, {"label_smoothing": 0.1, "gamma": torch.rand(c, generator=g), **vectors}
    yield z, soft, {**vectors, **HYPERPARAMETERS, "margin": torch.rand(c, generator=g), "sample_weight": row_weight}


def agree(loss, z, target, options, tolerance=1e-11):
    for reduction in ("mean", "none"):
        ours, want = (
            value_and_gradient(
                lambda *a, impl=impl, reduction=reduction: loss(*a, impl=impl, reduction=reduction, **options),
                z,
                target,
            )
            for impl in ("triton", "closed_form")
        )
        torch.testing.assert_close(ours, want, rtol=tolerance, atol=tolerance)


# 1: nothing but the target. 2, 3: the least that differ. 16 and its neighbours: a power of 2, one less, one more.
# 61: odd, no row starts where another did. 9 rows: a tile of rows that is not full. Images: pixels, not classes, lie
# side by side; of odd size; one pixel; more pixels than a tile.
@pytest.mark.parametrize(
    "shape", [(1, 1), (9, 2), (1, 3), (9, 15), (9, 16), (9, 17), (3, 61), (2, 3, 5, 7), (2, 5, 1, 1), (1, 17, 41)]
)
def test_softmax_over_shapes(shape):
    for z, target, options in softmax_cases(shape, seed=sum(shape)):
        agree(placed_losses.softmax_loss, z, target, options)


@pytest.mark.parametrize("shape", [(3, 33), (2, 16), (1, 21, 3), (1, 40)])
def test_rows_beyond_one_tile(shape, monkeypatch):
    """Chunks of 8 (4 in double precision) classes: the sum is kept online, and the largest class may change chunk."""
    for name, size in (("_HARD_TILE", 16), ("_SOFT_TILE", 16), ("_HARD_CHUNK", 8), ("_SOFT_CHUNK", 8)):
        monkeypatch.setattr(triton_launch, name, size)
    monkeypatch.setattr(triton_launch, "_LEAST_PIXELS", 2)
    for z, target, options in softmax_cases(shape, seed=sum(shape)):
        agree(placed_losses.softmax_loss, z, target, options)
        z = z.clone()
        z[:, ::3] = -torch.inf  # masked classes, whole chunks of them among them
        z[:, :8] = -torch.inf
        if not target.is_floating_point():
            target = torch.where(target == -100, -100, (target // 3 * 3 + 1).clamp(10, shape[1] - 1))
            target = torch.where(target % 3 == 0, target + (-1 if shape[1] % 3 == 1 else 1), target)
            agree(placed_losses.softmax_loss, z, target.clamp(max=shape[1] - 1), options)


@pytest.mark.parametrize("size", [1, 5, 1024, 1025, 2100])
def test_denominators_are_added_up_in_parts(size, monkeypatch):
    """One program and several for Σ w, for a batch of more rows than one of them takes at a time."""
    z, y = sample((size, 2), dtype=torch.float64)
    y[::7] = -100
    options = {"weight": torch.tensor([1.0, 3.0]), "sample_weight": torch.linspace(0.5, 1.0, size)}
    agree(placed_losses.cross_entropy, z, y, options)
    batchmean = [placed_losses.cross_entropy(z, y, impl=i, reduction="batchmean", **options) for i in fused_impls()]
    torch.testing.assert_close(*batchmean)
    monkeypatch.setattr(softmax_triton, "_OWN_ROWS", 0)
    agree(placed_losses.cross_entropy, z, y, options)
    batchmean = [placed_losses.cross_entropy(z, y, impl=i, reduction="batchmean", **options) for i in fused_impls()]
    torch.testing.assert_close(*batchmean)
    agree(placed_losses.binary_cross_entropy, z, y, {})
    labels = torch.rand(size, 2, dtype=torch.float64).round()
    labels[::5] = -100.0
    agree(placed_losses.binary_cross_entropy, z, labels, {})
    batchmean = [placed_losses.binary_cross_entropy(z, labels, impl=i, reduction="batchmean") for i in fused_impls()]
    torch.testing.assert_close(*batchmean)


def fused_impls():
    return ("triton", "closed_form")


@pytest.mark.parametrize("shape", [(1, 1), (9, 2), (3, 61), (2, 1500), (2, 3, 5, 7), (1, 2, 300)])
@pytest.mark.parametrize("labels", [torch.float64, torch.float32, torch.uint8, torch.bool, "indices"])
def test_sigmoid_over_shapes_and_labels(shape, labels):
    z, y = sample(shape, scale=4.0)
    g = torch.Generator().manual_seed(1)
    target = y if labels == "indices" else (torch.rand(shape, generator=g) < 0.3).to(labels)
    vectors = {name: torch.rand(shape[1], generator=g) for name in ("pos_weight", "neg_weight", "weight")}
    for options in (
        {"gamma_pos": 1.0, "gamma_neg": 4.0, "clip": 0.05, "detach_focus": True},
        {"gamma_pos": 0.5, "gamma_neg": 2.5, "clip": 0.05, **vectors},
        {"gamma_pos": 3.0, "gamma_neg": 0.0, "clip": 0.2, "sample_weight": torch.rand(shape[0], generator=g)},
        {"ignore_index": 0} if labels == torch.uint8 else {},
    ):
        agree(placed_losses.sigmoid_loss, z, target, options)


def test_a_normalizer_of_zero_gives_zero():
    """Given on the device, where nobody looks at it: a batch without boxes, say."""
    z, y = sample((4, 3))
    for loss in (placed_losses.cross_entropy, placed_losses.binary_cross_entropy):
        for nothing in (torch.zeros(()), torch.zeros(1, dtype=torch.float64), 0.0):
            value, gradient = value_and_gradient(partial(loss, normalizer=nothing, impl="triton"), z, y)
            assert value.item() == 0
            assert not gradient.any()


@pytest.mark.fault("L24")
@pytest.mark.skipif(torch.cuda.is_available(), reason="memory that is never touched is free on a CPU only")
def test_offsets_beyond_2_to_the_31():
    """Rows, and classes, further apart than 32 bits reach; only the few pages that hold a logit become memory."""
    far = 2**31 + 5
    torch.use_deterministic_algorithms(False)
    ocean = torch.empty(2 * far + 4096, dtype=torch.uint8)
    row_by_row = ocean[: 2 * far + 4090].view(torch.bfloat16).as_strided((2, 1024), (2**31 + 2, 1))  # a tile a row
    row_by_row.copy_(sample((2, 1024), dtype=torch.bfloat16)[0])
    for loss in (losses.cross_entropy, losses.binary_cross_entropy):
        ours, want = (
            loss(row_by_row.clone() if i == "closed_form" else row_by_row, torch.tensor([1, 5]), impl=i)
            for i in fused_impls()
        )
        torch.testing.assert_close(ours, want)
    for dtype, strides in ((torch.bfloat16, (far // 2, 1)), (torch.bfloat16, (1, far // 2))):
        room = ocean[: 2 * far + 8].view(dtype)
        for scale, reach in ((1, strides), (2, tuple(s * 2 - 2 if s > 1 else 1 for s in strides))):
            z = room.as_strided((2, 2), reach)
            z.copy_(torch.tensor([[0.5, -1.0], [2.0, scale]]))
            for loss in (losses.cross_entropy, losses.binary_cross_entropy):
                ours = loss(z, torch.tensor([1, 0]), impl="triton")
                torch.testing.assert_close(ours, loss(z.clone(), torch.tensor([1, 0]), impl="closed_form"))


class Operations(TorchDispatchMode):
    """Names of torch's operations that start a kernel: neither views nor allocations do."""

    FREE = (
        "empty",
        "view",
        "reshape",
        "expand",
        "unsqueeze",
        "squeeze",
        "detach",
        "as_strided",
        "alias",
        "permute",
        "t",
        "transpose",
    )

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        if name.split("_")[0] not in self.FREE and "empty" not in name and name not in self.FREE:
            self.names.append(name)
        return function(*arguments, **(options or {}))


@pytest.mark.fault("L31")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss", "sigmoid_focal_loss", "asymmetric_loss"])
@pytest.mark.parametrize("many", [False, True])
def test_kernels_started(name, reduction, many, monkeypatch):
    """Forward and backward: the loss, torch's sum of it, the upstream gradient: three. The denominator of a mean is one
    more where labels must be read to count them, or there are more rows than `_OWN_ROWS`."""
    kernels = []
    start = triton_launch.start
    monkeypatch.setattr(softmax_triton, "_OWN_ROWS", 5 if many else 6)

    def counted(kernel, *arguments, **options):
        kernels.append(kernel.__name__)
        with _disable_current_modes():  # the interpreter moves tensors about
            start(kernel, *arguments, **options)

    monkeypatch.setattr(triton_launch, "start", counted)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    z, y = (x.to(device) for x in sample((6, 4), dtype=torch.float32))
    target = y if name in ("cross_entropy", "focal_loss") else torch.nn.functional.one_hot(y, 4).float()
    leaf = z.requires_grad_()
    monkeypatch.setattr(losses.checks, "mode", "never")  # the checks of values on a CPU are torch operations
    with Operations() as operations:
        value = getattr(losses, name)(leaf, target, reduction=reduction, impl="triton")
        value.backward()
    own = [n for n in operations.names if n not in ("ones_like", "fill_")]  # autograd's own seed of the backward
    assert own == ["sum"]
    assert len(kernels) == (
        3 if reduction == "mean" and (many or name in ("sigmoid_focal_loss", "asymmetric_loss")) else 2
    )
    assert kernels[-1] == "scale_kernel"


def test_the_operators_are_what_they_say():
    """Schema, fake tensors, strides: what torch.compile relies on."""
    z, y = sample((4, 3, 2, 2), dtype=torch.float32)
    z = z.to(memory_format=torch.channels_last)
    w = torch.rand(3)
    torch.use_deterministic_algorithms(False)
    for reduction in ("mean", "none"):
        batch = (y, None, -100, reduction, None, None if reduction == "mean" else 1.0)
        vectors, numbers = [w, *[None] * 7], [0.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0]
        arguments = (z, *batch, vectors, numbers, True)
        _, gradient, _ = softmax_triton.softmax_forward(*arguments)
        assert gradient.stride() == z.stride()
        torch.library.opcheck(softmax_triton.softmax_forward, arguments, test_utils=("test_schema", "test_faketensor"))
        arguments = (z, *batch, [w, *[None] * 6], [0.0, 1.0, 1.0, 0.0, 2.0, 0.05, 1.0], True)
        torch.library.opcheck(sigmoid_triton.sigmoid_forward, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.fixture
def fastest(monkeypatch):
    """A table that says that the kernels are faster, on a device where the first batch verifies them."""
    table = {
        (equation, (9, 0), dtype, shape): 2.0
        for equation in ("softmax", "sigmoid")
        for dtype in (torch.float32, torch.bfloat16)
        for shape in ("small", "few classes")
    }
    monkeypatch.setattr(dispatch, "MEASURED_SPEEDUPS", table)
    monkeypatch.setattr(dispatch, "_is_faster", partial(measured_as_on_a_gpu, table))
    monkeypatch.setattr(dispatch, "_VERIFIED_DEVICES", ("cuda", "cpu"))
    monkeypatch.setattr(dispatch, "_failures", {})
    torch.use_deterministic_algorithms(False)
    return table


def measured_as_on_a_gpu(table, equation, logits):
    return table.get((equation, (9, 0), logits.dtype, dispatch.shape_class(logits)), 0.0) > 1.0


@pytest.mark.fault("L36")
def test_kernels_that_do_not_start_raise_or_give_the_closed_form_with_one_warning(fastest, monkeypatch):
    z, y = sample((4, 3), dtype=torch.float32)

    def broken(*arguments, **options):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(triton_launch, "start", broken)
    for loss in (losses.cross_entropy, losses.binary_cross_entropy):
        with pytest.warns(
            UserWarning, match=r'do not run on cpu .*no C compiler.*"auto" uses the closed form'
        ) as caught:
            first = loss(z, y)
        assert len(caught) == 1
        assert torch.equal(first, loss(z, y, impl="closed_form"))
        assert torch.equal(first, loss(z, y))  # no second warning: warnings are errors here
        for _ in range(2):
            with pytest.raises(UnsupportedError, match=r'"triton".*no C compiler.*pass impl="closed_form"'):
                loss(z, y, impl="triton")


@pytest.mark.parametrize("impl", ["auto", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_batch_of_every_kind_verifies_the_kernels(fastest, monkeypatch, dtype, impl):
    z, y = sample((6, 5), dtype=dtype)
    start = triton_launch.start
    for loss in (losses.cross_entropy, losses.binary_cross_entropy):
        launched = []
        monkeypatch.setattr(triton_launch, "start", lambda *a, n=launched, **k: n.append(1) or start(*a, **k))
        loss(z.clone().requires_grad_(), y, weight=torch.rand(5), impl=impl).backward()
        first = len(launched)
        loss(z.clone().requires_grad_(), y, weight=torch.rand(5), impl=impl).backward()
        assert 0 < len(launched) - first < first
        with torch.inference_mode():
            assert loss(z, y, impl=impl).isfinite()
        assert set(dispatch._failures.values()) == {None}
    hidden, head = torch.randn(6, 3, dtype=dtype), torch.randn(5, 3, dtype=dtype)
    assert losses.linear_softmax_loss(hidden, head, y, impl=impl).isfinite()


def test_kernels_that_give_another_result_are_not_used(fastest, monkeypatch):
    z, y = sample((6, 5), dtype=torch.float32)
    hidden, head = torch.randn(6, 3), torch.randn(5, 3)
    original = softmax_triton._computed

    def wrong(logits, batch, vectors, numbers, memory):
        result = original(logits, batch, vectors, numbers, memory)
        if memory is not None:
            memory.mul_(1.01)
        return result

    _, forward = triton_launch.fused_operator(
        "wrong_softmax_forward", wrong, softmax_triton._empty_loss, SoftmaxParameters
    )
    monkeypatch.setattr(softmax_triton, "_loss_and_gradient", forward)
    for loss in (losses.cross_entropy, partial(losses.linear_softmax_loss, hidden, head)):
        arguments = (z, y) if loss is losses.cross_entropy else (y,)
        monkeypatch.setattr(dispatch, "_failures", {})
        with pytest.warns(
            UserWarning, match="give another result than the closed form on cpu; .*uses the closed form"
        ) as caught:
            first = loss(*arguments)
        assert len(caught) == 1
        assert torch.equal(first, loss(*arguments))
        assert torch.equal(first, loss(*arguments, impl="closed_form"))
        with pytest.raises(UnsupportedError, match=r'another result than the closed form.*pass impl="closed_form"'):
            loss(*arguments, impl="triton")


def test_auto_never_takes_triton_on_a_cpu(monkeypatch):
    monkeypatch.setattr(triton_launch, "start", None)
    big = torch.zeros(1024, 1024)
    assert dispatch.chosen_implementation("auto", "softmax", big, ()) == "closed_form"
    assert dispatch.chosen_implementation("triton", "softmax", big, ()) == "triton"  # interpreted, on request


def test_a_target_out_of_range_shows_as_nan_on_its_row_alone():
    """On a GPU nothing waits to look at the targets."""
    z, _ = sample((4, 5))
    for y in (torch.tensor([0, 5, 2, 1]), torch.tensor([0, -1, 2, 1])):
        with losses.checks("never"):
            for options in ({}, {"label_smoothing": 0.1}):
                leaf = z.clone().requires_grad_()
                rows = placed_losses.softmax_loss(leaf, y, impl="triton", reduction="none", **options)
                rows.sum().backward()
                assert rows.isnan().tolist() == [False, True, False, False]
                assert leaf.grad.isnan().any(1).tolist() == [False, True, False, False]
            elements = placed_losses.sigmoid_loss(z, y, impl="triton", reduction="none")
            assert elements.isnan().all(1).tolist() == [False, True, False, False]


def test_a_number_is_given_in_double_precision():
    """0.1 in float32 is 1.5e-9 off: single precision of a scalar would show in a float64 loss."""
    z, y = sample((3, 4))
    terms = SoftmaxParameters(gamma=2.3, poly=0.1, scale=1.1, margin=0.3, label_smoothing=0.1)._asdict()
    given = {name: value for name, value in terms.items() if value is not None}
    agree(placed_losses.softmax_loss, z, y, given, tolerance=1e-13)


@pytest.mark.fault("L31")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("name", ["focal_loss", "asymmetric_loss"])
def test_a_cuda_graph_replays_it_on_new_logits(name):
    torch.use_deterministic_algorithms(False)
    z, y = (x.cuda() for x in sample((64, 10), dtype=torch.float32))
    loss = getattr(losses, name)
    leaf = z.clone().requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            leaf.grad = None
            loss(leaf, y, impl="triton").backward()
    torch.cuda.current_stream().wait_stream(stream)
    leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(leaf, y, impl="triton")
        value.backward()
    with torch.no_grad():
        leaf.copy_(z.flip(0) * 2.0)
    graph.replay()
    want = value_and_gradient(lambda *a: loss(*a, impl="reference"), z.flip(0) * 2.0, y)
    torch.testing.assert_close((value.detach(), leaf.grad), want, rtol=1e-4, atol=1e-6)
