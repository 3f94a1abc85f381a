"""Bad input to the losses: each case of the fault table with its message. Those that laws prove are marked there."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contracts.loss_specs import FORMS, FUSED
from tests.contracts.loss_specs import placed_losses as losses

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, CounterpoiseError

SOFTMAX, SIGMOID = losses.cross_entropy, losses.binary_cross_entropy
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def refused(message, loss, *arguments, kind=ArgumentError, **options):
    with pytest.raises(kind, match=message) as caught:
        loss(*arguments, **options)
    assert isinstance(caught.value, CounterpoiseError)


@pytest.mark.fault("L1")
@pytest.mark.parametrize("loss", [SOFTMAX, losses.sigmoid_focal_loss, losses.dice_loss])
@pytest.mark.parametrize("bad", [3, -1, 200])
def test_a_target_out_of_range_names_value_row_and_classes(loss, bad):
    target = torch.tensor([0, 1, bad, 2])
    refused(rf"`target` must be in 0 \.\. 2 \(C = 3\).*row 2 is {bad}", loss, torch.zeros(4, 3), target)


@CUDA
@pytest.mark.fault("L1")
def test_a_target_out_of_range_is_named_on_cuda_when_checks_are_asked_for():
    with losses.checks("always"):
        refused("row 1 is 9", SOFTMAX, torch.zeros(2, 3, device="cuda"), torch.tensor([0, 9], device="cuda"))
    assert torch.cuda.FloatTensor([1.0]).item() == 1.0


@pytest.mark.fault("L2")
@pytest.mark.parametrize("impl", FORMS)
def test_an_ignore_index_that_is_a_class_is_honoured(impl):
    z = torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    kept = SOFTMAX(z[1:], torch.tensor([1]), impl=impl)
    torch.testing.assert_close(SOFTMAX(z, torch.tensor([0, 1]), ignore_index=0, impl=impl), kept)


@pytest.mark.fault("L5")
def test_targets_whose_weights_are_all_zero_give_zero_and_one_warning():
    z = torch.zeros(2, 3, requires_grad=True)
    with pytest.warns(UserWarning, match="weight") as caught:
        loss = SOFTMAX(z, torch.tensor([0, 0]), weight=[0.0, 1.0, 1.0])
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()
    assert len(caught) == 1
    assert "0" in str(caught[0].message)


@pytest.mark.fault("L2")
@pytest.mark.parametrize("bad", [None, 1.5, True, "255"])
@pytest.mark.parametrize("name", [
    "cross_entropy", "focal_loss", "binary_cross_entropy", "sigmoid_focal_loss", "asymmetric_loss", "dice_loss",
    "asymmetric_softmax_loss",
])  # fmt: skip
def test_an_ignore_index_that_is_no_whole_number_is_refused_by_functions_as_by_modules(name, bad):
    message = rf"`ignore_index` must be a whole number; got {bad!r}\. To ignore no row, pass -100"
    refused(message, getattr(losses, name), *ok(), ignore_index=bad, kind=ArgumentTypeError)
    refused(message, losses.global_normalizer, [ok()[1]], ignore_index=bad, kind=ArgumentTypeError)
    refused(message, losses.CrossEntropyLoss, ignore_index=bad, kind=ArgumentTypeError)


@pytest.mark.fault("L6")
def test_a_weight_of_the_wrong_length_shows_both():
    refused(
        r"`weight` must have one value for each of the 3 classes; got shape \(2,\)", SOFTMAX, *ok(), weight=[1.0, 2.0]
    )
    refused(r"`pos_weight` must have one value for each of the 3", SIGMOID, *ok(), pos_weight=[1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"each of the 3 classes; got shape \(2,\) \(where a loss takes `prior`"):
        losses.logit_adjusted_loss(*ok(), prior=[0.5, 0.5])


@pytest.mark.fault("L6")
def test_a_vector_of_the_wrong_shape_says_what_to_pass():
    images = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    refused(r"Pass pos_weight\.flatten\(\) for one value", SIGMOID, *images, pos_weight=torch.ones(3, 1, 1))
    refused(r"Pass one number, such as pos_weight\.item\(\), for all", SIGMOID, *ok(), pos_weight=torch.tensor([2.0]))
    for logits, target in (ok(), (torch.zeros(3), torch.tensor(0))):
        wrong = r"^`alpha` must have one value for each of the 3 classes; got shape \(2,\)$"
        refused(wrong, losses.focal_loss, logits, target, alpha=[0.25, 0.75])
        assert losses.focal_loss(logits, target, alpha=[0.25, 0.75, 0.5]).isfinite()


@pytest.mark.fault("L8")
def test_text_in_place_of_a_number_or_a_vector_is_refused():
    refused(
        "`gamma` must be a number or a vector of numbers; got str", losses.FocalLoss, gamma="2", kind=ArgumentTypeError
    )


def ok():
    return torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.fault("L7")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_weight_that_is_no_weight_names_its_class(bad):
    refused(f"`weight` must be .*; class 1 has {bad:g}", SOFTMAX, *ok(), weight=[1.0, bad, 1.0])
    refused(
        "`sample_weight` must be finite and at least 0; row 1", SOFTMAX, *ok(), sample_weight=torch.tensor([1.0, bad])
    )


@pytest.mark.fault("L8")
def test_weights_of_other_dtypes_are_taken_as_they_are():
    z, y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    expected = SOFTMAX(z, y, weight=torch.tensor([1.0, 2.0, 3.0]))
    for weight in ([1, 2, 3], torch.tensor([1, 2, 3]), torch.tensor([1.0, 2, 3], dtype=torch.float16)):
        torch.testing.assert_close(SOFTMAX(z, y, weight=weight), expected)
    refused("`weight` must be a vector of numbers", SOFTMAX, z, y, weight="balanced", kind=ArgumentTypeError)
    refused("`weight` must be real", SOFTMAX, z, y, weight=torch.ones(3) * 1j, kind=ArgumentTypeError)


@pytest.mark.fault("L10")
@pytest.mark.parametrize("loss", [SOFTMAX, SIGMOID, losses.dice_loss])
def test_float_class_indices_say_how_to_convert(loss):
    refused(r"Pass target\.long\(\)", loss, torch.zeros(2, 3), torch.tensor([0.0, 1.0]), kind=ArgumentTypeError)


@pytest.mark.fault("L11")
@pytest.mark.parametrize("bad", [[0.5, 0.4, 0.0], [1.2, -0.2, 0.0]])
def test_probabilities_that_are_none_name_their_row(bad):
    target = torch.tensor([[1.0, 0.0, 0.0], bad])
    refused("must be at least 0 and sum to 1 over the classes; row 1 has", SOFTMAX, torch.zeros(2, 3), target)
    with losses.checks("never"):
        assert SOFTMAX(torch.zeros(2, 3), target).isfinite()


@pytest.mark.fault("L11")
def test_labels_in_place_of_probabilities_name_the_loss_or_the_activation_that_takes_them():
    refused("for independent labels use the sigmoid losses$", SOFTMAX, torch.zeros(2, 3), torch.ones(2, 3))
    masks = torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)
    refused('for independent labels pass activation="sigmoid"$', losses.dice_loss, *masks)
    assert losses.dice_loss(*masks, activation="sigmoid").isfinite()


@pytest.mark.fault("L11")
def test_labels_outside_zero_and_one_are_named():
    refused(
        r"must be in \[0, 1\].*the label at \(0, 1\) is 2", SIGMOID, torch.zeros(1, 3), torch.tensor([[0.0, 2.0, 1.0]])
    )


@pytest.mark.fault("L12")
def test_one_hot_as_integers_and_indices_as_a_column_suggest_the_right_form():
    refused(r"`target`.*\.float\(\)|probabilit", SOFTMAX, torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 1, 0]]))
    refused("`target`", SOFTMAX, torch.zeros(2, 3), torch.tensor([[0], [1]]))


@pytest.mark.fault("L13")
@pytest.mark.parametrize(
    ("logits", "target"),
    [((4, 3), (5,)), ((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4, 4), (2,)), ((4, 3), (4, 2))],
)
def test_shapes_that_do_not_fit_show_both(logits, target):
    dtype = torch.float32 if len(target) == len(logits) and target[1] != 5 and len(logits) == 2 else torch.int64
    with pytest.raises(CounterpoiseError) as caught:
        SOFTMAX(torch.zeros(logits), torch.zeros(target, dtype=dtype))
    message = str(caught.value)
    assert "`target`" in message
    assert str(target) in message
    assert any(str(shape) in message for shape in (logits, (logits[0], *logits[2:])))


@pytest.mark.fault("L14")
def test_nan_logits_are_never_hidden_and_found_on_request():
    z = torch.tensor([[0.0, math.nan, 0.0], [0.0, 0.0, 0.0]])
    assert SOFTMAX(z, torch.tensor([0, 1])).isnan()
    assert SIGMOID(z, torch.tensor([0, 1])).isnan()
    with losses.checks("always"):
        refused(r"`logits` must not be NaN or \+inf; the value at \(0, 1\)", SOFTMAX, z, torch.tensor([0, 1]))


@pytest.mark.fault("L17")
@pytest.mark.parametrize(
    ("loss", "option", "message"),
    [
        (losses.focal_loss, {"gamma": -1.0}, "`gamma` must be at least 0; got -1"),
        (losses.focal_loss, {"alpha": 0.25}, "`alpha` must have one value per class"),
        (losses.sigmoid_focal_loss, {"alpha": 1.5}, "`alpha` must be at least 0 and at most 1; got 1.5"),
        (SOFTMAX, {"label_smoothing": 1.1}, "`label_smoothing` must be at least 0 and at most 1; got 1.1"),
        (SOFTMAX, {"label_smoothing": -0.1}, "`label_smoothing`"),
        (SOFTMAX, {"reduction": "avg"}, "`reduction` must be one of 'mean', 'batchmean'"),
        (SOFTMAX, {"impl": "cuda"}, "`impl` must be one of 'auto'"),
        (SOFTMAX, {"normalizer": -1.0}, "`normalizer` must be at least 0"),
        (SOFTMAX, {"normalizer": 1.0, "reduction": "sum"}, "`normalizer` replaces the denominator"),
        (losses.asymmetric_loss, {"clip": 1.5}, "`clip`"),
        (losses.tversky_loss, {"alpha": -0.5}, "`alpha` must be at least 0; got -0.5"),
    ],
)
def test_a_number_out_of_range_names_its_argument(loss, option, message):
    refused(message, loss, *ok(), **option)


COUNTED = [
    losses.class_balanced_loss,
    losses.balanced_softmax_loss,
    losses.vector_scaling_loss,
    losses.ldam_loss,
    losses.class_balanced_sigmoid_loss,
]


@pytest.mark.fault("L19")
@pytest.mark.parametrize("loss", COUNTED, ids=lambda loss: loss.__name__)
def test_a_class_without_images_is_named_or_left_out(loss):
    counts = {"cat": 5, "dog": 3, "emu": 0}
    refused("emu", loss, *ok(), class_counts=counts)
    z = torch.zeros(2, 3, requires_grad=True)
    value = loss(z, torch.tensor([0, 1]), class_counts=counts, empty="exclude")
    value.backward()
    assert value.isfinite()
    assert z.grad.isfinite().all()
    if loss is not losses.class_balanced_sigmoid_loss and loss is not losses.class_balanced_loss:
        assert not z.grad[:, 2].any()


@pytest.mark.fault("L19")
def test_a_prior_of_zero_is_named_or_left_out():
    refused("`prior` of class 2 is 0", losses.logit_adjusted_loss, *ok(), prior=[0.6, 0.4, 0.0])
    kept = losses.logit_adjusted_loss(*ok(), prior=[0.6, 0.4, 0.0], empty="exclude")
    torch.testing.assert_close(kept, losses.logit_adjusted_loss(torch.zeros(2, 2), ok()[1], prior=[0.6, 0.4]))


@pytest.mark.fault("L20")
def test_a_positive_weight_for_a_class_without_positives_is_named():
    from counterpoise import weights

    refused("emu", weights.pos_weight, {"cat": 5, "emu": 0}, total=10)
    assert weights.pos_weight({"cat": 5, "emu": 0}, total=10, empty="exclude")[0] == 1.0


@CUDA
@pytest.mark.slow
@pytest.mark.fault("L24")
def test_more_than_two_to_the_31_logits():
    z = torch.zeros(2**15 + 1, 2**16, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    SOFTMAX(z, torch.zeros(len(z), dtype=torch.int64, device="cuda")).backward()
    assert z.grad[-1, -1].item() > 0


@pytest.mark.fault("L35")
@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("seed", range(30))
def test_random_shapes_dtypes_and_options_agree_with_double_precision(seed, impl):
    """Draws a case; the form in the drawn dtype against the reference in float64 on the same values."""
    g = torch.Generator().manual_seed(seed)

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (1,), generator=g))]

    n, c, dtype = pick(1, 3, 17), pick(1, 2, 7, 33), pick(torch.float32, torch.bfloat16, torch.float16, torch.float64)
    shape = (n, c, *pick((), (), (2, 3)))
    z = (torch.randn(shape, generator=g) * pick(1.0, 10.0, 100.0)).to(dtype)
    y = torch.randint(c, (n, *shape[2:]), generator=g)
    options = {
        "gamma": pick(0.0, 0.5, 1.0, 2.0, 5.0),
        "weight": torch.rand(c, generator=g) + 0.1,
        "label_smoothing": pick(0.0, 0.1),
        "poly": pick(0.0, 1.0),
        "offset": torch.randn(c, generator=g),
        "reduction": pick("mean", "sum", "batchmean"),
    }
    ours, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    value = losses.softmax_loss(ours, y, impl=impl, **options)
    truth = losses.softmax_loss(exact, y, impl="reference", **options)
    value.backward()
    truth.backward()
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 1e-2)
    assert ours.grad.dtype == dtype
    assert value.item() == pytest.approx(truth.item(), rel=max(tolerance * 0.1, 1e-5), abs=1e-6)
    scale = exact.grad.abs().max().item() or 1.0
    assert (ours.grad.double() - exact.grad).abs().max().item() <= tolerance * scale + 1e-7
