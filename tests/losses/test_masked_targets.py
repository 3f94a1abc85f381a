"""A target in a masked class: refused where values may be read, otherwise an infinite loss, as in torch."""

from __future__ import annotations

import pytest
import torch
from tests.contracts.loss_specs import FORMS
from tests.contracts.loss_specs import placed_losses as losses

from counterpoise.core.errors import ArgumentError
from counterpoise.losses import linear_softmax_loss

INF = float("inf")
Z = torch.tensor([[0.5, 1.0, -1.0], [-INF, 0.0, 1.0], [2.0, -INF, 0.3], [-INF, -INF, -INF]])
SOFT = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
OPTIONS = [{}, {"gamma": 2.0}, {"label_smoothing": 0.1}, {"weight": [0.0, 1.0, 2.0], "poly": 1.0}]


@pytest.mark.parametrize("impl", FORMS)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_row_and_the_class_are_named(options, impl):
    with pytest.raises(ArgumentError, match=r"`target`.*masked.*row 1 is class 0.*`ignore_index`"):
        losses.cross_entropy(Z[:2], torch.tensor([1, 0]), impl=impl, **options)
    with pytest.raises(ArgumentError, match=r"`target`.*row 1 has 0\.25 on class 0"):
        losses.cross_entropy(Z[:2], SOFT[:2], impl=impl, **options)


@pytest.mark.parametrize("impl", FORMS)
def test_a_masking_offset_is_found_like_a_masked_logit(impl):
    z, y = torch.zeros(2, 3, 2), torch.tensor([[0, 0], [0, 1]])
    with pytest.raises(ArgumentError, match=r"row \(1, 1\) is class 1"):
        losses.softmax_loss(z, y, offset=[0.0, -INF, 0.0], impl=impl)
    with pytest.raises(ArgumentError, match="row 2 is class 1"):
        losses.balanced_softmax_loss(
            torch.zeros(3, 3), torch.tensor([0, 2, 1]), class_counts=[9, 0, 3], empty="exclude", impl=impl
        )


@pytest.mark.parametrize("impl", ["reference", "closed_form"])
@pytest.mark.parametrize("mask", ["bias", "offset"])
def test_head_and_loss_in_one_find_masked_targets(mask, impl):
    hidden, head, y = torch.ones(2, 4), torch.ones(3, 4), torch.tensor([0, 1])
    options = {mask: torch.tensor([0.0, -INF, 0.0]), "impl": impl}
    with pytest.raises(ArgumentError, match="row 1 is class 1"):
        linear_softmax_loss(hidden, head, y, **options)
    with losses.checks("never"):
        assert linear_softmax_loss(hidden, head, y, **options) == INF


@pytest.mark.parametrize("impl", FORMS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_without_checks_the_loss_of_the_row_is_infinite(dtype, options, impl):
    """The other rows and their gradients are as they are alone; the row itself has gradient 0."""
    for target, hidden in ((torch.tensor([0, 0, 2, 1]), [1, 3]), (SOFT, [1, 3])):
        z = Z.to(dtype, copy=True).requires_grad_()
        alone = Z[[0, 2]].to(dtype).requires_grad_()
        with losses.checks("never"):
            rows = losses.softmax_loss(z, target, reduction="none", impl=impl, **options)
            right = losses.softmax_loss(alone, target[[0, 2]], reduction="none", impl=impl, **options)
            mean = losses.softmax_loss(Z.to(dtype), target, impl=impl, **options)
            summed = losses.softmax_loss(Z[:2].to(dtype).requires_grad_(), target[:2], reduction="sum", impl=impl)
        assert rows[hidden].tolist() == [INF, INF]
        assert mean == INF
        assert summed == INF
        rows[[0, 2]].sum().backward()
        right.sum().backward()
        torch.testing.assert_close(rows[[0, 2]], right)
        torch.testing.assert_close(z.grad[[0, 2]], alone.grad)
        assert not z.grad[hidden].any()


@pytest.mark.parametrize("impl", FORMS)
def test_loss_and_torch_agree_on_what_is_infinite(impl):
    z, y = Z[:3], torch.tensor([0, 0, 2])
    with losses.checks("never"):
        for target in (y, SOFT[:3]):
            right = torch.nn.functional.cross_entropy(z, target, reduction="none")
            found = losses.cross_entropy(z, target, reduction="none", impl=impl)
            known = ~right.isnan()  # torch gives NaN for mass 0 on a masked class: 0 times infinity
            torch.testing.assert_close(found[known], right[known])


@pytest.mark.parametrize("impl", FORMS)
@pytest.mark.parametrize("options", [*OPTIONS, {"offset": [-INF, 0.0, 0.0]}])
def test_ignored_rows_and_no_mass_are_no_targets_of_a_masked_class(options, impl):
    z = Z.clone().requires_grad_()
    loss = losses.cross_entropy(z, torch.tensor([1, -100, 2, -100]), impl=impl, **options)
    loss = loss + losses.cross_entropy(z[1:2], torch.tensor([[0.0, 0.25, 0.75]]), impl=impl, **options)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()
    assert not z.grad[3].any()


def test_compiled_and_transformed_losses_are_infinite():
    y = torch.tensor([1, 0])
    rows = torch.func.vmap(lambda z, t: losses.cross_entropy(z[None], t[None]))(Z[:2], y)
    assert rows[1] == INF
    assert rows[0].isfinite()
