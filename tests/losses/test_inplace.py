"""The gradient over the logits: no second tensor of their size, and nobody reads what is no longer there."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.contracts.loss_specs import EQUATIONS, FUSED, form_id, sample
from torch.profiler import ProfilerActivity, profile

from counterpoise import losses
from counterpoise.core.errors import ArgumentError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
fused = pytest.mark.parametrize(("spec", "impl"), [form for form in EQUATIONS if form[1] in FUSED], ids=form_id)


def head(leaf, factor=2.0):
    """Logits that are neither a leaf nor a view, of an operation that does not save its result."""
    return leaf * factor


@fused
def test_the_gradient_is_the_same(spec, impl):
    if impl == "triton" and DEVICE == "cuda":
        pytest.skip("the table's losses are moved to the GPU, where logits are a copy")
    for shape in ((6, 4), (2, 4, 3, 2)):
        for dtype in (torch.float64, torch.float32, torch.float16):
            z, y = sample(shape, dtype=dtype)
            for reduction in ("mean", "none"):
                for layout in (torch.contiguous_format, *([torch.channels_last] if len(shape) == 4 else [])):
                    found = []
                    for inplace in (False, True):
                        leaf = z.clone(memory_format=layout).requires_grad_()
                        loss = spec.loss(4, impl, reduction=reduction, inplace=inplace)(head(leaf), y)
                        loss.sum().backward()
                        found.append((loss.detach(), leaf.grad))
                    assert torch.equal(found[0][0], found[1][0])
                    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.fault("L26")
@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy])
def test_it_takes_the_memory_and_refuses_a_second_consumer(loss, impl):
    z, y = (x.to(DEVICE) for x in sample((6, 4), dtype=torch.float32))
    logits = head(z.requires_grad_())
    memory, version, saved = logits.data_ptr(), logits._version, []
    before = logits.square().sum()  # saved the logits
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.data_ptr()) or t, lambda t: t):
        value = loss(logits, y, impl=impl, inplace=True)
    assert memory in saved
    assert logits._version > version
    assert logits.numel() == 0  # after it there is nothing to read
    with pytest.raises((RuntimeError, IndexError)):
        logits.argmax(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.backward()
    value.backward()
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy])
def test_where_it_would_destroy_something_it_is_refused(loss):
    z, y = sample((6, 4))
    leaf = z.requires_grad_()
    for logits, reason in (
        (leaf, "leaf"),
        (head(leaf).view(6, 4), "view"),
        (head(z.detach().T.contiguous().T.requires_grad_()), "not contiguous"),
    ):
        with pytest.raises(ArgumentError, match=f"`inplace` must be False.*{reason}"):
            loss(logits, y, inplace=True)
    with pytest.raises(ArgumentError, match="reference"):
        loss(head(leaf), y, impl="reference", inplace=True)
    with pytest.raises(ArgumentError, match="no logits in memory"):
        losses.linear_softmax_loss(leaf, torch.ones(3, 4, dtype=torch.float64), y % 3, inplace=True)


def test_without_a_gradient_logits_are_left_alone():
    z, y = sample((6, 4))
    kept = z.clone()
    losses.cross_entropy(z, y, inplace=True)
    with torch.no_grad():
        losses.cross_entropy(head(z.requires_grad_()), y, inplace=True)
    assert torch.equal(z, kept)


def peak_memory(run):
    """Peak of live allocations during a call, in bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    sizes = [e.nbytes() for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(sizes))


def test_pos_weight_is_not_expanded_to_the_size_of_images():
    logits, labels = torch.zeros(8, 21, 64, 64, requires_grad=True), torch.zeros(8, 21, 64, 64)
    weight = torch.linspace(0.5, 1.5, 21)
    size = logits.numel() * logits.element_size()
    plain, weighted = (
        peak_memory(lambda w=w: losses.binary_cross_entropy(logits, labels, pos_weight=w).backward())
        for w in (None, weight)
    )
    assert plain < 1.6 * size  # the gradient, and temporary tensors of one block
    assert weighted < plain + 0.6 * size
