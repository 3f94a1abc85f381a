"""Arguments that require a gradient: they receive it, or they are refused; none is detached in silence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from counterpoise import losses
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, UnsupportedError

C = 4
Z = torch.randn(6, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 0, 2])
LABELS = torch.nn.functional.one_hot(Y, C).double()
SOFTMAX = ("weight", "offset", "class_scale", "margin", "gamma", "label_smoothing")
SIGMOID = ("weight", "pos_weight", "neg_weight")
VECTORS = [
    *((losses.softmax_loss, losses.SoftmaxLoss, name) for name in SOFTMAX),
    *((losses.sigmoid_loss, losses.SigmoidLoss, name) for name in SIGMOID),
    (losses.tversky_loss, losses.TverskyLoss, "weight"),
]
NUMBERS = [case for case in VECTORS if case[2] in ("margin", "gamma", "label_smoothing", "pos_weight", "neg_weight")]
MORE = {"gamma": {"poly": 0.5, "label_smoothing": 0.1}, "label_smoothing": {"gamma": 1.5}}


def target_of(function):
    return LABELS if function is losses.sigmoid_loss else Y


def exact(function, value, **options):
    """Whether the gradient is that of finite differences."""
    options = {"reduction": "none", **options}
    return torch.autograd.gradcheck(lambda v: function(Z, target_of(function), **options, **value(v)), START.clone())


START = torch.tensor([0.3, 0.5, 0.4, 0.6], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("function", "module", "name"), VECTORS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_vector_gets_its_gradient(function, module, name, reduction):
    assert exact(function, lambda v: {name: v, **MORE.get(name, {})}, reduction=reduction)


@pytest.mark.parametrize("function", [losses.softmax_loss, losses.sigmoid_loss, losses.tversky_loss])
def test_sample_weights_and_soft_targets_get_their_gradients(function):
    u = torch.linspace(0.5, 1.0, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: function(Z, target_of(function), sample_weight=v), u)
    t = torch.softmax(Z, 1).clone().requires_grad_()
    function(Z, t).backward()
    assert t.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["gamma", "label_smoothing"])
def test_a_parameter_that_starts_at_zero_gets_its_gradient(name):
    """The slope of (1 − p)^γ at γ = 0 is log(1 − p); q of the other classes is 0 at ε = 0, but not its slope."""
    loss = lambda v: losses.softmax_loss(Z, Y, **{name: v}, reduction="sum")  # noqa: E731
    start = torch.zeros(C, dtype=torch.float64, requires_grad=True)
    loss(start).backward()
    step = 1e-6
    right = [(loss(step * row) - loss(torch.zeros(C, dtype=torch.float64))) / step for row in torch.eye(C).double()]
    torch.testing.assert_close(start.grad, torch.stack(right), rtol=1e-4, atol=1e-4)


def test_masked_and_single_classes_keep_the_gradients_finite():
    z = torch.tensor([[1.0, -torch.inf, 2.0], [0.5, -torch.inf, -torch.inf]])
    for name in ("class_scale", "gamma", "label_smoothing", "weight", "offset", "margin"):
        value = torch.full((3,), 0.5, requires_grad=True)
        losses.softmax_loss(z, torch.tensor([0, 0]), **{name: value, "poly": 0.5}).backward()
        assert value.grad.isfinite().all(), name


@pytest.mark.parametrize(("function", "module", "name"), NUMBERS)
def test_a_number_gets_its_gradient_where_it_may_be_a_vector(function, module, name):
    value = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    options = MORE.get(name, {})
    target = target_of(function)
    assert torch.autograd.gradcheck(lambda v: function(Z, target, **{name: v}, **options), value)
    loss = module(**{name: nn.Parameter(value.detach().clone())}, **options)
    loss(Z, target).backward()
    assert getattr(loss, name).grad.abs() > 0
    with torch.no_grad():
        torch.testing.assert_close(loss(Z, target), function(Z, target, **{name: 0.4}, **options))


@pytest.mark.parametrize(("function", "module", "name"), VECTORS)
def test_a_parameter_of_a_module_learns(function, module, name):
    given = nn.Parameter(START.detach().clone())
    loss = module(**{name: given})
    assert dict(loss.named_parameters()) == {name: given}
    assert name in loss.state_dict()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    loss(Z, target_of(function)).backward()
    optimizer.step()
    assert not torch.equal(given, START)
    assert getattr(loss.double(), name) is given
    with torch.no_grad():
        assert loss(Z, target_of(function)).isfinite()


def test_a_named_loss_learns_what_it_does_not_derive():
    given = nn.Parameter(torch.zeros(C))
    assert list(losses.LDAMLoss(class_counts=[9, 5, 3, 1], offset=given).parameters()) == [given]
    assert list(losses.FocalLoss(alpha=nn.Parameter(torch.ones(C))).state_dict()) == ["weight"]
    prior = torch.full((C,), 0.25, requires_grad=True)
    losses.logit_adjusted_loss(Z, Y, prior=prior).backward()
    assert prior.grad.abs().sum() > 0
    for refused in (
        lambda: losses.LogitAdjustedLoss(prior=[0.4, 0.3, 0.2, 0.1], offset=given),
        lambda: losses.LogitAdjustedLoss(prior=nn.Parameter(torch.full((C,), 0.25))),
        lambda: losses.BalancedSoftmaxLoss(class_counts=[9, 5, 3, 1], offset=given),
    ):
        with pytest.raises(ArgumentError, match=r"`offset` requires a gradient.*SoftmaxLoss"):
            refused()


def test_what_cannot_learn_is_refused():
    number = nn.Parameter(torch.tensor(1.0))
    for module, function, names in (
        (losses.SoftmaxLoss, losses.softmax_loss, ("scale", "poly")),
        (losses.SigmoidLoss, losses.sigmoid_loss, ("gamma_pos", "gamma_neg", "clip")),
        (losses.TverskyLoss, losses.tversky_loss, ("alpha", "beta", "gamma", "smooth")),
    ):
        for name in names:
            with pytest.raises(ArgumentError, match=f"`{name}` has no gradient"):
                module(**{name: number})
            with pytest.raises(ArgumentError, match=f"`{name}` has no gradient"):
                function(Z, target_of(function), **{name: number})
    for options in ({"prior": [0.4, 0.3, 0.2, 0.1], "tau": number},):
        with pytest.raises(ArgumentTypeError, match="`tau` must be a number"):
            losses.LogitAdjustedLoss(**options)
    with pytest.raises(ArgumentTypeError, match="`beta`"):
        losses.ClassBalancedLoss(class_counts=[9, 5, 3, 1], beta=number)
    with pytest.raises(ArgumentError, match="`class_counts` has no gradient"):
        losses.BalancedSoftmaxLoss(class_counts=torch.ones(C, requires_grad=True))
    with pytest.raises(ArgumentError, match=r"`offset` requires a gradient.*nn.Parameter"):
        losses.SoftmaxLoss(offset=torch.zeros(C, requires_grad=True))
    weight = torch.ones(C, requires_grad=True)
    with pytest.raises(ArgumentError, match=r"Pass nn\.Parameter\(weight\), or weight\.detach\(\)"):
        losses.CrossEntropyLoss(weight)
    assert list(losses.CrossEntropyLoss(nn.Parameter(weight)).state_dict()) == ["weight"]


@pytest.mark.parametrize("impl", ["closed_form", "triton"])
def test_the_implementation_must_have_the_gradient(impl):
    with pytest.raises(ArgumentError, match=r"`impl` must be .* to train `offset`"):
        losses.SoftmaxLoss(offset=nn.Parameter(torch.zeros(C)), impl=impl)
    with pytest.raises(UnsupportedError, match="requires one"):
        losses.softmax_loss(Z, Y, gamma=torch.tensor(1.0, requires_grad=True), impl=impl)


def test_a_learnt_value_out_of_bounds_is_named_and_weights_can_still_be_replaced():
    loss = losses.SoftmaxLoss(gamma=nn.Parameter(torch.tensor(0.5)), weight=nn.Parameter(torch.ones(C)))
    loss.reweight([1.0, 2.0, 3.0, 4.0])
    assert loss.weight.tolist() == [1.0, 2.0, 3.0, 4.0]
    with torch.no_grad():
        loss.gamma.fill_(-1.0)
    with pytest.raises(ArgumentError, match="`gamma` must be at least 0"):
        loss(Z, Y)
