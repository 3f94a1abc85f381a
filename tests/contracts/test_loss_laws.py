"""The laws, generated for every loss and form from the table of specifications."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.contracts.loss_specs import (
    BY_NAME,
    EQUATIONS,
    EVERY_FORM,
    FORMS,
    FUSED,
    SPECS,
    form_id,
    one_hot,
    reductions,
    sample,
    value_and_gradient,
)
from tests.contracts.loss_specs import placed_losses as losses
from torch.autograd import gradcheck

every_form = pytest.mark.parametrize(("spec", "impl"), EVERY_FORM, ids=form_id)
every_equation = pytest.mark.parametrize(("spec", "impl"), EQUATIONS, ids=form_id)
every_loss = pytest.mark.parametrize("spec", SPECS, ids=form_id)
SHAPES = ((6, 3), (2, 3, 2, 2), (5, 2), (3, 1))
SHIFTING = {"softmax_loss", "logit_adjusted_loss", "balanced_softmax_loss", "vector_scaling_loss", "ldam_loss"}
W = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def same_both(pair_a, pair_b, tolerance=1e-12):
    for a, b in zip(pair_a, pair_b, strict=True):
        same(a, b, tolerance)


def targets_for(spec, shape, target):
    """The target in each form that the family takes: indices with one row ignored, and soft ones."""
    ignored = target.clone()
    ignored[0] = -100
    soft = torch.softmax(sample(shape, seed=7)[0], 1)
    return (target, ignored, one_hot(target, shape[1]), soft)


def test_every_loss_has_a_row():
    functions = {name for name in losses.__all__ if name.endswith("_loss") or name == "cross_entropy"}
    functions |= {name for name in losses.__all__ if name == "binary_cross_entropy"}
    functions.remove("linear_softmax_loss")  # takes a head as well; see tests/losses/test_linear.py
    functions.remove("hierarchical_loss")  # takes a class tree as well; see tests/hierarchy/test_tree.py
    modules = {name for name in losses.__all__ if name.endswith("Loss")} - {"HierarchicalLoss"}
    assert functions == set(BY_NAME)
    assert modules == {spec.module.__name__ for spec in SPECS}


@pytest.mark.fault("L25")
@every_form
def test_gradient_is_that_of_the_value(spec, impl):
    for shape in ((3, 3), (1, 2, 2, 2)):  # (3, 3): N = C, where a wrong broadcast would go unseen
        logits, target = sample(shape, scale=2.0)
        for form in targets_for(spec, shape, target)[1:]:
            for reduction in reductions(spec):
                weight = W[: shape[1]]
                loss = spec.loss(shape[1], impl, reduction=reduction, weight=weight)
                leaf = logits.clone().requires_grad_()
                quick = reduction != "mean" or impl == "triton"  # interpreted: slow
                assert gradcheck(lambda z, loss=loss, form=form: loss(z, form), leaf, fast_mode=quick)


@pytest.mark.parametrize(("spec", "impl"), [form for form in EQUATIONS if form[1] in FUSED], ids=form_id)
def test_every_form_is_the_reference(spec, impl):
    for shape in SHAPES:
        logits, target = sample(shape, scale=3.0)
        for form in targets_for(spec, shape, target):
            for reduction in reductions(spec):
                both = [
                    value_and_gradient(
                        spec.loss(shape[1], form_name, reduction=reduction, weight=W[: shape[1]]),
                        logits,
                        form,
                        sample_weight=torch.linspace(0.5, 2.0, shape[0], dtype=torch.float64),
                    )
                    for form_name in ("reference", impl)
                ]
                same_both(*both)


@every_form
def test_one_hot_is_index(spec, impl):
    for shape in SHAPES[
        : -1 if spec.family == "overlap" else None
    ]:  # without one class, which a softmax has no loss of
        logits, target = sample(shape)
        for reduction in reductions(spec):
            loss = spec.loss(shape[1], impl, reduction=reduction, weight=W[: shape[1]])
            by_index, by_one_hot = (value_and_gradient(loss, logits, t) for t in (target, one_hot(target, shape[1])))
            same_both(by_index, by_one_hot)


@every_form
def test_weight_1_is_unweighted(spec, impl):
    logits, target = sample((6, 4))
    for reduction in reductions(spec):
        loss = spec.loss(4, impl, reduction=reduction)
        plain = value_and_gradient(loss, logits, target)
        same_both(plain, value_and_gradient(loss, logits, target, weight=torch.ones(4)))
        same_both(plain, value_and_gradient(loss, logits, target, sample_weight=torch.ones(6)))


@every_form
def test_linear_in_the_weights_under_sum_and_none_and_scale_free_under_mean(spec, impl):
    logits, target = sample((6, 4))
    for reduction in reductions(spec):
        loss = spec.loss(4, impl, reduction=reduction)
        once, twice = (value_and_gradient(loss, logits, target, weight=k * W) for k in (1, 2))
        scale_free = reduction == "mean" and spec.family != "sigmoid"  # the sigmoid family's mean is over elements
        same_both(once, twice if scale_free else [x / 2 for x in twice])
        if spec.family == "overlap" or scale_free:
            continue
        u = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)
        once, twice = (value_and_gradient(loss, logits, target, sample_weight=k * u) for k in (1, 2))
        same_both(once, [x / 2 for x in twice])


@every_form
def test_weights_add_up_over_classes(spec, impl):
    """Linear, not only homogeneous: the loss of w + v is that of w and that of v."""
    logits, target = sample((6, 4))
    loss = spec.loss(4, impl, reduction="sum")
    v = W.flip(0)
    parts = [value_and_gradient(loss, logits, target, weight=x) for x in (W, v, W + v)]
    same_both([a + b for a, b in zip(parts[0], parts[1], strict=True)], parts[2])


@pytest.mark.fault("L37")
@every_form
def test_permuting_classes_changes_nothing(spec, impl):
    logits, target = sample((8, 4))
    order = torch.tensor([2, 0, 3, 1])
    options = spec.options(4)
    moved = {name: options[name][order] for name in spec.per_class}
    loss = spec.loss(4, impl, weight=W)
    there = spec.loss(4, impl, weight=W[order], **moved)
    value, gradient = value_and_gradient(loss, logits, target)
    permuted = value_and_gradient(there, logits[:, order], torch.argsort(order)[target])
    same_both((value, gradient[:, order]), permuted)


@pytest.mark.fault("L38")
@every_form
def test_weight_2_is_the_row_twice(spec, impl):
    logits, target = sample((5, 3))
    loss = spec.loss(3, impl, reduction="sum")
    doubled = value_and_gradient(loss, logits, target, sample_weight=torch.tensor([2.0, 1, 1, 1, 1]))
    value, gradient = value_and_gradient(loss, torch.cat([logits, logits[:1]]), torch.cat([target, target[:1]]))
    gradient[0] += gradient[5]
    same_both(doubled, (value, gradient[:5]))


@pytest.mark.fault("L3")
@pytest.mark.fault("L4")
@every_form
def test_nothing_to_learn_is_zero_with_a_live_graph(spec, impl):
    for shape in ((4, 3), (2, 3, 2, 2)):
        logits, target = sample(shape)
        for reduction in reductions(spec):
            loss = spec.loss(3, impl, reduction=reduction)
            for z, y in ((logits, torch.full_like(target, -100)), (logits[:0], target[:0])):
                leaf = z.clone().requires_grad_()
                value = loss(leaf, y)
                assert value.requires_grad
                value.sum().backward()
                assert value.sum().item() == 0
                assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@every_form
def test_zero_sample_weights_are_zero(spec, impl):
    logits, target = sample((4, 3))
    value, gradient = value_and_gradient(spec.loss(3, impl), logits, target, sample_weight=torch.zeros(4))
    assert value.item() == 0
    assert not gradient.any()


@every_form
def test_ignored_rows_do_not_exist(spec, impl):
    """Not in the loss, not in the mean, and not through a NaN or infinity in their logits."""
    logits, target = sample((6, 3))
    for reduction in ("mean", "sum"):
        loss = spec.loss(3, impl, reduction=reduction, weight=W[:3])
        want = value_and_gradient(loss, logits[2:], target[2:])
        for dirt in (0.0, torch.nan, torch.inf):
            z, y = logits.clone(), target.clone()
            z[:2], y[:2] = z[:2] + dirt, -100
            value, gradient = value_and_gradient(loss, z, y)
            same_both(want, (value, gradient[2:]))
            assert not gradient[:2].any()


@pytest.mark.fault("L22")
@every_form
def test_memory_layout_changes_nothing(spec, impl):
    logits, target = sample((3, 3, 2, 4))
    loss = spec.loss(3, impl, reduction="none")
    want = value_and_gradient(loss, logits, target)
    wide = torch.zeros(3, 3, 2, 8, dtype=torch.float64)
    wide[..., ::2] = logits
    layouts = {
        "channels last": logits.contiguous(memory_format=torch.channels_last),
        "transposed": logits.transpose(2, 3).contiguous().transpose(2, 3),
        "strided": wide[..., ::2],
        "unaligned": torch.cat([torch.zeros(1, dtype=torch.float64), logits.flatten()])[1:].view_as(logits),
    }
    for layout in layouts.values():
        same_both(want, value_and_gradient(loss, layout, target.transpose(1, 2).contiguous().transpose(1, 2)))
    expanded = value_and_gradient(loss, logits[:1].expand(3, -1, -1, -1), target)
    same_both(expanded, value_and_gradient(loss, logits[:1].repeat(3, 1, 1, 1), target))


@pytest.mark.fault("L21")
@pytest.mark.fault("L23")
@every_form
def test_any_number_of_classes(spec, impl):
    for c in (1, 2, 7, 9, 1000)[spec.family == "overlap" :]:  # the overlap losses refuse a softmax of one class
        for n in (1, 3):
            logits, target = sample((n, c))
            value, gradient = value_and_gradient(spec.loss(c, impl), logits, target)
            assert value.isfinite()
            assert gradient.isfinite().all()
            if impl in FUSED:
                same_both((value, gradient), value_and_gradient(spec.loss(c, "reference"), logits, target))
            if c == 1 and spec.family == "softmax":
                assert value.item() == 0
                assert gradient.abs().max().item() == 0


@pytest.mark.fault("L15")
@every_form
def test_extreme_logits_stay_finite_and_right(spec, impl):
    """Right to what float32 holds of logits this large: an offset of 1 is lost in 1e30, in anyone's arithmetic."""
    shifts_logits = spec.name in SHIFTING
    for dtype, limit in ((torch.float64, 1e4), (torch.float32, 1e4), (torch.float16, 65504.0), (torch.bfloat16, 1e30)):
        pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, -1.0]]) * limit
        logits, target = pattern.to(dtype), torch.tensor([0, 0, 2, 1])
        value, gradient = value_and_gradient(spec.loss(3, impl, reduction="none"), logits, target)
        exact, slope = value_and_gradient(spec.loss(3, impl, reduction="none"), logits.double(), target)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.dtype == dtype
        if shifts_logits and limit > 1e5:
            continue
        lost = 4 * torch.finfo(torch.float32).eps * (limit if shifts_logits else 1.0)
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=lost)
        torch.testing.assert_close(gradient.double(), slope, rtol=4 * torch.finfo(dtype).eps, atol=lost)


@every_form
def test_half_precision_agrees_with_double(spec, impl):
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        for reduction in ("mean", "none"):
            logits, target = sample((16, 5), dtype=dtype, scale=3.0)
            loss = spec.loss(5, impl, reduction=reduction)
            value, gradient = value_and_gradient(loss, logits, target)
            exact, slope = value_and_gradient(loss, logits.double(), target)
            assert value.dtype == torch.float32
            assert gradient.dtype == dtype
            torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(gradient.double(), slope, rtol=bound, atol=bound * float(slope.abs().max()))


@pytest.mark.fault("L18")
@pytest.mark.parametrize(("spec", "impl"), [form for form in EQUATIONS if form[0].family == "softmax"], ids=form_id)
def test_masked_classes_are_as_if_absent(spec, impl):
    """From the softmax, from the smoothing, from soft targets; masked by the logits or by the offset."""
    logits, target = sample((6, 4))
    soft = torch.softmax(sample((6, 4), seed=7)[0], 1)
    longer = {name: torch.cat([spec.options(4)[name], spec.options(4)[name][-1:]]) for name in spec.per_class}
    smooths_itself = spec.name in ("softmax_loss", "label_aware_smoothing_loss")
    smoothing = {} if smooths_itself else {"label_smoothing": 0.2}
    wide, narrow = spec.loss(5, impl, **{**smoothing, **longer}), spec.loss(4, impl, **smoothing)
    column = torch.zeros(6, 1, dtype=torch.float64)
    masked = torch.cat([logits, column - torch.inf], 1)
    for y, wider in ((target, target), (soft, torch.cat([soft, column], 1))):
        want = value_and_gradient(narrow, logits, y)
        value, gradient = value_and_gradient(wide, masked, wider)
        same_both(want, (value, gradient[:, :4]))
        assert not gradient[:, 4].any()
    if "offset" not in spec.per_class:
        offset = torch.tensor([0.0, 0.0, 0.0, 0.0, -torch.inf])
        by_offset = value_and_gradient(wide, torch.cat([logits, column], 1), target, offset=offset)
        same_both(value_and_gradient(wide, masked, target), by_offset)


@pytest.mark.fault("L16")
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("impl", FORMS)
def test_focusing_is_finite_at_saturation(gamma, impl):
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for gap in (0.0, 1e-4, 15.0, 40.0, 100.0, 1e4):
            logits = torch.tensor([[gap, 0.0, 0.0], [-gap, 0.0, 0.0]]).to(dtype)
            y = torch.tensor([0, 0])
            for target in (y, torch.tensor([[0.9, 0.1, 0.0]] * 2)):
                value, gradient = value_and_gradient(
                    lambda z, t: losses.focal_loss(z, t, gamma=gamma, impl=impl, reduction="none"), logits, target
                )
                assert value.isfinite().all()
                assert gradient.isfinite().all()
            labels = one_hot(y, 3)
            for clip in (0.0, 0.05):
                loss = partial(losses.sigmoid_loss, gamma_pos=gamma, gamma_neg=gamma, clip=clip, reduction="none")
                value, gradient = value_and_gradient(partial(loss, impl=impl), logits, labels)
                assert value.isfinite().all()
                assert gradient.isfinite().all()


@pytest.mark.fault("L16")
@pytest.mark.parametrize("impl", FORMS)
def test_gamma_0_is_cross_entropy(impl):
    logits, target = sample((6, 4), dtype=torch.float32, scale=20.0)
    zero = value_and_gradient(lambda z, y: losses.focal_loss(z, y, gamma=0.0, weight=W, impl=impl), logits, target)
    vector = value_and_gradient(
        lambda z, y: losses.focal_loss(z, y, gamma=torch.zeros(4), weight=W, impl=impl), logits, target
    )
    plain = value_and_gradient(lambda z, y: losses.cross_entropy(z, y, weight=W, impl=impl), logits, target)
    same_both(zero, plain, 0.0)
    same_both(vector, plain, 1e-6)
    labels = one_hot(target, 4)
    focal = value_and_gradient(
        lambda z, y: losses.sigmoid_focal_loss(z, y, gamma=0.0, alpha=None, impl=impl), logits, labels
    )
    same_both(focal, value_and_gradient(lambda z, y: losses.binary_cross_entropy(z, y, impl=impl), logits, labels), 0.0)


@pytest.mark.parametrize("impl", FORMS)
def test_the_modulating_probability_never_contains_the_weight(impl):
    """loss(k·w)/k is constant: ports that take p from the weighted cross-entropy fail this."""
    logits, target = sample((6, 4))
    values = [
        losses.focal_loss(logits, target, gamma=2.0, weight=k * W, reduction="sum", impl=impl) / k for k in (1, 2, 4)
    ]
    same(values[0], values[1])
    same(values[0], values[2])


@pytest.mark.fault("L32")
@pytest.mark.parametrize("impl", FORMS)
def test_a_confident_row_keeps_its_gradient(impl):
    """p − 1 by subtraction is 0 here in float32; the sum over the other classes is not."""
    logits = torch.tensor([[20.0, 0.0, 1.0]])
    _, gradient = value_and_gradient(lambda z, y: losses.cross_entropy(z, y, impl=impl), logits, torch.tensor([0]))
    _, exact = value_and_gradient(
        lambda z, y: losses.cross_entropy(z, y, impl=impl), logits.double(), torch.tensor([0])
    )
    assert exact[0, 0].item() < -7e-9
    if impl in FUSED:  # torch's log_softmax, in the reference, has lost it
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=0.0)
        half = value_and_gradient(
            lambda z, y: losses.cross_entropy(z, y, impl=impl), logits.bfloat16(), torch.tensor([0])
        )[1]
        cut_off = impl == "triton" and not torch.cuda.is_available()  # Triton's interpreter does not round to bfloat16
        torch.testing.assert_close(half.double(), exact, rtol=2**-7 if cut_off else 2**-8, atol=0.0)


@pytest.mark.parametrize("impl", FORMS)
def test_a_sure_miss_has_the_full_gradient(impl):
    """Public ASL clamps the probability and gives 0 for a positive at −18.5, and with m = 0 for a negative at 18."""
    for z, label, gamma, clip, want in ((-18.5, 1.0, 0.0, 0.05, -1.0), (40.0, 0.0, 4.0, 0.0, 1.0)):
        _, gradient = value_and_gradient(
            lambda z, t, gamma=gamma, clip=clip: losses.asymmetric_loss(
                z, t, gamma_pos=gamma, clip=clip, reduction="sum", impl=impl
            ),
            torch.tensor([[z]]),
            torch.tensor([[label]]),
        )
        assert gradient.item() == want or abs(gradient.item() - want) < 1e-6
