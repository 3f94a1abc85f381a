"""Every loss where operations are recorded or compute shapes only: meta and fake tensors, make_fx, torch.jit.trace."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from tests.contracts.loss_specs import EVERY_FORM, SPECS, form_id, sample, value_and_gradient
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from counterpoise import losses
from counterpoise.core.errors import UnsupportedError
from counterpoise.kernels.autograd import is_traced

every_loss = pytest.mark.parametrize("spec", SPECS, ids=form_id)
without_triton = pytest.mark.parametrize(
    ("spec", "impl"), [form for form in EVERY_FORM if form[1] != "triton"], ids=form_id
)
WEIGHT = [1.0, 2.0, 3.0, 4.0]


def plain(options):
    """Options with lists instead of tensors, whose values a `FakeTensorMode` would hide."""
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in options.items()}


def module_of(spec, impl, **more):
    return spec.module(**plain(spec.options(4)), **({} if impl is None else {"impl": impl}), weight=WEIGHT, **more)


def batches(dtype=torch.float32):
    """The batch that is recorded, one of other values with an ignored row, and one of another length."""
    first, second, longer = (sample((n, 4), seed=seed, dtype=dtype) for n, seed in ((6, 0), (6, 1), (9, 2)))
    second[1][2] = -100
    return first, second, longer


@without_triton
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_meta_tensors_go_forward_and_backward(spec, impl, reduction):
    logits, target = (x.to("meta") for x in sample((6, 4), dtype=torch.float32))
    module = module_of(spec, impl, reduction=reduction).to("meta")
    value, gradient = value_and_gradient(module, logits, target)
    want = value_and_gradient(module_of(spec, impl, reduction=reduction), *sample((6, 4), dtype=torch.float32))
    for found, real in zip((value, gradient), want, strict=True):
        assert found.is_meta
        assert (found.shape, found.dtype) == (real.shape, real.dtype)
    soft = spec.loss(4, impl, sample_weight=torch.ones(6, device="meta"))
    assert value_and_gradient(soft, logits, logits.softmax(1))[1].is_meta


@without_triton
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fake_tensors_go_forward_and_backward(spec, impl, device):
    options = plain(spec.options(4)) | ({} if impl is None else {"impl": impl})
    with FakeTensorMode():
        module = spec.module(**options, weight=WEIGHT).to(device)
        logits = torch.randn(6, 4, device=device, requires_grad=True)
        target = torch.zeros(6, dtype=torch.int64, device=device)
        value = module(logits, target)
        assert value.device.type == device
        if device == "cpu" or torch.cuda.is_available():  # torch's own backward needs the device
            value.backward()
            assert logits.grad.shape == logits.shape


class Step(nn.Module):
    """Loss and gradient; the buffers of the loss are arguments of what is recorded, as torch wants of fake ones."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, logits, target):
        leaf = logits.detach().requires_grad_()
        value = self.loss(leaf, target)
        return value.detach(), torch.autograd.grad(value, leaf)[0]


@without_triton
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_a_graph_that_is_right_for_other_values(spec, impl, mode):
    step = Step(module_of(spec, impl))
    state = dict(step.named_buffers())
    first, *others = batches()

    def pure(state, logits, target):
        return torch.func.functional_call(step, state, (logits, target))

    graph = make_fx(pure, tracing_mode=mode)(state, *first)
    for logits, target in (first, *others[: 1 + (mode == "symbolic")]):
        torch.testing.assert_close(graph(state, logits, target), step(logits, target))


@every_loss
@pytest.mark.parametrize("learns", [False, True], ids=["values", "gradients"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_records_a_graph_that_is_right_for_other_values_and_lengths(spec, learns):
    module = module_of(spec, None)
    first, *others = batches()
    recorded = torch.jit.trace(module, (first[0].clone().requires_grad_(learns), first[1]))
    torch.jit.save(recorded, memory := io.BytesIO())
    memory.seek(0)
    for traced in (recorded, torch.jit.load(memory)):
        for logits, target in (first, *others):
            want = value_and_gradient(module, logits, target)
            torch.testing.assert_close(value_and_gradient(traced, logits, target), want)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_refuses_an_implementation_that_it_cannot_record():
    with pytest.raises(UnsupportedError, match=r"`impl=\"closed_form\"` cannot be recorded by torch\.jit\.trace; pass"):
        torch.jit.trace(losses.CrossEntropyLoss(impl="closed_form"), sample((6, 4)))


@every_loss
@pytest.mark.parametrize("more", [{"weight": WEIGHT}, {}], ids=["weight", "defaults"])
def test_export_keeps_the_values(spec, more):
    module = spec.module(**plain(spec.options(4)), **more)
    first, second, _ = batches()
    exported = torch.export.export(copy.deepcopy(module), first).module()
    torch.testing.assert_close(exported(*second), module(*second))


def test_export_takes_a_loss_whose_only_vector_is_its_last():
    module = losses.SoftmaxLoss(label_smoothing=[0.1, 0.2, 0.3, 0.0])
    first, second, _ = batches()
    exported = torch.export.export(copy.deepcopy(module), first).module()
    torch.testing.assert_close(exported(*second), module(*second))


def test_values_are_read_everywhere_else():
    """Other dispatch modes, such as a counter of operations, do not switch the checks off."""
    from torch.utils.flop_counter import FlopCounterMode

    logits, target = sample((6, 4))
    assert not is_traced(logits)
    assert is_traced(logits.to("meta"))
    with FlopCounterMode(display=False), pytest.raises(ValueError, match="`target` must be in 0"):
        losses.cross_entropy(logits, target + 4)
    with FakeTensorMode():
        assert is_traced(torch.zeros(1))
        assert is_traced(logits)  # a real tensor, which the mode does not let anyone read
