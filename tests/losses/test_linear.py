"""Head and loss in one: the loss of the logits it never holds, with the gradients of hidden, weight and bias."""

from __future__ import annotations

import pytest
import torch
from tests.contracts.loss_specs import FORMS, FUSED, SPECS, form_id
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from counterpoise import losses
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from counterpoise.kernels import linear

SOFTMAX = [spec for spec in SPECS if spec.family == "softmax" and not spec.one_implementation]
N, C, D = 7, 4, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Two rows a chunk, on any device, and a last one that is not full."""
    monkeypatch.setattr(linear, "_CPU_CHUNK", 2 * C)
    monkeypatch.setattr(linear, "_GPU_CHUNK", 2 * C)
    monkeypatch.setattr(linear, "_GPU_ROWS", 2)


def problem(dtype=torch.float64, *, n=N):
    g = torch.Generator().manual_seed(0)
    head = [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in ((n, D), (C, D), (C,))]
    y = torch.arange(n) % C
    y[1:2] = -100
    soft = torch.softmax(torch.randn(n, C, generator=g, dtype=torch.float64), 1)
    return [x.to(DEVICE).requires_grad_() for x in head], y.to(DEVICE), soft.to(DEVICE)


def keywords(spec):
    moved = spec.module(**spec.options(C)).to(DEVICE).keywords
    return {
        **moved,
        **({} if "weight" in moved and moved["weight"] is not None else {"weight": torch.arange(1.0, C + 1)}),
    }


def gradients(value, leaves):
    return torch.autograd.grad(value.sum() * 3.0, leaves)


def joined(head, target, **options):
    return losses.linear_softmax_loss(head[0], head[1], target, bias=head[2], **options)


def apart(head, target, **options):
    return losses.softmax_loss(torch.nn.functional.linear(*head), target, impl="reference", **options)


@pytest.mark.parametrize("impl", FORMS if DEVICE == "cpu" else ("auto", *FORMS))
@pytest.mark.parametrize("spec", SOFTMAX, ids=form_id)
def test_every_preset_is_that_of_the_logits(spec, impl):
    head, y, soft = problem()
    for target in (y, soft):
        for reduction in ("mean", "batchmean", "sum", "none"):
            options = {**keywords(spec), "sample_weight": torch.linspace(0.5, 2.0, N), "reduction": reduction}
            ours, want = joined(head, target, impl=impl, **options), apart(head, target, **options)
            torch.testing.assert_close(ours, want, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(gradients(ours, head), gradients(want, head), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_are_those_of_the_value(reduction):
    head, y, _ = problem()
    if DEVICE == "cpu":
        assert gradcheck(lambda *h: joined(h, y, gamma=1.5, reduction=reduction), head)


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_agrees_with_double(dtype, impl):
    head, y, _ = problem(dtype)
    exact = [x.detach().double().requires_grad_() for x in head]
    for reduction in ("mean", "none"):
        ours, want = (joined(h, y, impl=i, gamma=2.0, reduction=reduction) for h, i in ((head, impl), (exact, "auto")))
        assert ours.dtype == torch.float32
        bound = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
        torch.testing.assert_close(ours.double(), want, rtol=bound, atol=bound)
        for x, g, e in zip(head, gradients(ours, head), gradients(want, exact), strict=True):
            assert g.dtype == x.dtype
            torch.testing.assert_close(g.double(), e, rtol=bound, atol=bound * float(e.abs().max()))


def test_a_loss_scale_beyond_float16_is_applied_in_float32():
    head, y, _ = problem(torch.float16)
    (scaled,) = torch.autograd.grad(joined(head, y) * 65536.0 * 2.0**-10, head[:1])
    (once,) = torch.autograd.grad(joined(head, y) * 2.0**6, head[:1])
    assert scaled.isfinite().all()
    assert torch.equal(scaled, once)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 1)])
def test_only_the_gradients_that_are_asked_for(needed):
    head, y, _ = problem()
    leaves = [x.detach().requires_grad_(i in needed) for i, x in enumerate(head)]
    joined(leaves, y).backward()
    want = gradients(joined(head, y) / 3.0, head)
    for i, (leaf, g) in enumerate(zip(leaves, want, strict=True)):
        if i in needed:
            torch.testing.assert_close(leaf.grad, g)
        else:
            assert leaf.grad is None


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation gave."""

    most = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes():
                self.most = max(self.most, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_logits_are_never_there(reduction, monkeypatch):
    n, c, d = 400, 50, 3
    monkeypatch.setattr(linear, "_CPU_CHUNK", 10 * c)
    monkeypatch.setattr(linear, "_GPU_CHUNK", 10 * c)
    h = torch.randn(n, d, device=DEVICE, requires_grad=True)
    w = torch.randn(c, d, device=DEVICE, requires_grad=True)
    y = torch.arange(n, device=DEVICE) % c
    with Largest() as seen:
        losses.linear_softmax_loss(h, w, y, reduction=reduction).sum().backward()
    assert seen.most <= n * d
    with Largest() as seen:
        losses.cross_entropy(h @ w.T, y, reduction=reduction).sum().backward()
    assert seen.most >= n * c


def test_small_gradients_are_not_dropped():
    """A rare class's gradient, 1e-9 of the largest, is there to the last digits."""
    head, _, _ = problem()
    confident = [head[0], head[1], torch.tensor([25.0, 0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)]
    y = torch.zeros(N, dtype=torch.int64)
    ours, want = (gradients(f([x.to(DEVICE) for x in confident], y.to(DEVICE)), confident) for f in (joined, apart))
    assert 0 < ours[2][1:].abs().max() < 1e-6
    torch.testing.assert_close(ours[2][1:], want[2][1:], rtol=1e-8, atol=0.0)  # [0], p − 1, the reference has lost


def test_autocast_is_that_of_a_linear_layer():
    head, y, _ = problem(torch.float32)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        value = joined(head, y)
        plain = losses.cross_entropy(torch.nn.functional.linear(*head), y)
        assert torch.is_autocast_enabled(DEVICE)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, plain, rtol=1e-2, atol=1e-2)
    for g, e in zip(gradients(value, head), gradients(plain, head), strict=True):
        assert g.dtype == torch.float32
        torch.testing.assert_close(g, e, rtol=3e-2, atol=3e-2)


def test_nothing_to_learn_is_zero_with_a_live_graph():
    for n in (0, N):
        head, y, _ = problem(n=n)
        for reduction in ("mean", "sum", "none"):
            value = joined(head, torch.full_like(y, -100), reduction=reduction)
            assert value.sum().item() == 0
            assert not any(g.any() for g in gradients(value, head))


def test_it_compiles_without_a_graph_break():
    torch._dynamo.reset()
    head, y, _ = problem(torch.float32)
    compiled = torch.compile(lambda *h: joined(h, y, gamma=2.0), fullgraph=True, backend="aot_eager")
    ours, want = compiled(*head), joined(head, y, gamma=2.0)
    torch.testing.assert_close(ours, want)
    torch.testing.assert_close(gradients(ours, head), gradients(want, head))


def test_a_hyperparameter_with_a_gradient_falls_back_or_refuses():
    head, y, _ = problem()
    offset = torch.zeros(C, dtype=torch.float64, device=DEVICE, requires_grad=True)
    joined(head, y, offset=offset).backward()
    assert offset.grad.any()
    with pytest.raises(UnsupportedError, match="requires one"):
        joined(head, y, offset=offset, impl="closed_form")
    with pytest.raises(UnsupportedError, match="create_graph"):
        torch.autograd.grad(joined(head, y, impl="closed_form"), head, create_graph=True)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_auto_differentiates_twice(reduction):
    """Second derivatives by hidden, weight and bias, and those that mix them, are those of the reference."""
    head, y, _ = problem()
    found = []
    for impl in ("auto", "reference"):
        value = joined(head, y, impl=impl, gamma=2.0, reduction=reduction).sum()
        first = torch.autograd.grad(value, head, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), head))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((7,), (4, 5), (4,)), r"`hidden` must have shape \(N, D\)"),
        (((7, 5), (4, 6), (4,)), r"`head_weight` must have shape \(C, 5\).*got \(4, 6\)"),
        (((7, 5), (0, 5), (0,)), r"`head_weight`"),
        (((7, 5), (4, 5), (5,)), r"`bias` must have shape \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ArgumentError, match=message):
        joined([torch.zeros(shape) for shape in shapes], torch.zeros(7, dtype=torch.int64))


def test_what_else_is_refused():
    head, y, _ = problem()
    with pytest.raises(ArgumentTypeError, match="`hidden` must be floating point"):
        joined([head[0].long(), *head[1:]], y)
    with pytest.raises(ArgumentError, match=r"`target` must be in 0 \.\. 3"), losses.checks("always"):
        joined(head, y + C)
    with pytest.raises(ArgumentError, match="`weight` must have one value for each of the 4 classes"):
        joined(head, y, weight=[1.0, 2.0])
