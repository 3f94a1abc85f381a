"""The differences from other libraries that are decisions: each with its reason, its remedy, and a proof.

`docs/peers.md` shows this table; `test_decisions.py` holds the page to it and runs every proof.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise import losses, metrics
from counterpoise.core.errors import ArgumentError, ArgumentTypeError

D = torch.float64


@dataclass(frozen=True)
class Decision:
    """One difference: what the library does, what Counterpoise does, why, and how to get the library's number."""

    name: str
    library: str
    theirs: str
    ours: str
    reason: str
    instead: str
    proof: Callable[[], None]


def single(dtype: torch.dtype = D) -> tuple[Tensor, Tensor]:
    """Logits ``(6, 4)`` and class indices."""
    g = torch.Generator().manual_seed(0)
    return (2 * torch.randn(6, 4, generator=g, dtype=D)).to(dtype), torch.randint(4, (6,), generator=g)


def soft() -> tuple[Tensor, Tensor]:
    z, _ = single()
    return z, torch.softmax(z.flip(0), 1)


def multi() -> tuple[Tensor, Tensor]:
    z, y = single()
    return z, (F.one_hot(y, 4) + F.one_hot(y.flip(0), 4)).clamp(max=1).to(D)


def dense() -> tuple[Tensor, Tensor]:
    """Logits ``(2, 3, 4, 5)`` and a mask with every class in both images."""
    g = torch.Generator().manual_seed(0)
    return 2 * torch.randn(2, 3, 4, 5, generator=g, dtype=D), torch.arange(40).reshape(2, 4, 5) % 3


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-6, atol=1e-9)


def different(a: Tensor, b: Tensor) -> None:
    assert not torch.allclose(a.to(D), b.to(D), rtol=1e-3)


W = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=D)


def half_precision() -> None:
    z, y = single(torch.bfloat16)
    assert losses.cross_entropy(z, y).dtype == torch.float32
    assert F.cross_entropy(z, y).dtype == torch.bfloat16
    same(losses.cross_entropy(z, y).to(z.dtype), F.cross_entropy(z.float(), y).to(z.dtype))


def weighted_means() -> None:
    z, t = soft()
    different(losses.cross_entropy(z, t, weight=W), F.cross_entropy(z, t, W))
    same(losses.cross_entropy(z, t, weight=W, reduction="batchmean"), F.cross_entropy(z, t, W))
    y = single()[1]
    same(losses.cross_entropy(z, F.one_hot(y, 4).to(D), weight=W), F.cross_entropy(z, y, W))


def gradient_of_targets() -> None:
    z, t = soft()
    ours, theirs, batchmean = (
        torch.autograd.grad(loss(z, leaf), leaf)[0]
        for leaf in [t.clone().requires_grad_()]
        for loss in (
            losses.cross_entropy,
            F.cross_entropy,
            losses.CrossEntropyLoss(reduction="batchmean"),
        )
    )
    same(losses.cross_entropy(z, t), F.cross_entropy(z, t))
    different(ours, theirs)
    same(batchmean, theirs)
    same(ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True))


def negative_weights() -> None:
    z, y = single()
    w = W - 1.0
    with pytest.raises(ArgumentError, match=r"`weight` must be .*at least 0; class 2 has -0\.5"):
        losses.cross_entropy(z, y, weight=w, reduction="sum")
    with losses.checks("never"):
        same(losses.cross_entropy(z, y, weight=w, reduction="sum"), F.cross_entropy(z, y, w, reduction="sum"))


def sums_of_targets() -> None:
    z, t = soft()
    with pytest.raises(ArgumentError, match=r"`target` of probabilities must .* sum to 1"):
        losses.cross_entropy(z, 2 * t)
    with losses.checks("never"):
        same(losses.cross_entropy(z, 2 * t, reduction="batchmean"), F.cross_entropy(z, 2 * t))


def range_of_labels() -> None:
    z, y = multi()
    with pytest.raises(ArgumentError, match=r"`target` of labels must be in \[0, 1\]"):
        losses.binary_cross_entropy(z, 2 * y)
    with losses.checks("never"):
        same(losses.binary_cross_entropy(z, 2 * y), F.binary_cross_entropy_with_logits(z, 2 * y))


def nothing_to_average() -> None:
    z, y = single()
    ignored = torch.full_like(y, -100)
    for logits, target in ((z, ignored), (z[:0], y[:0])):
        assert F.cross_entropy(logits, target).isnan()
        leaf = logits.clone().requires_grad_()
        loss = losses.cross_entropy(leaf, target)
        loss.backward()
        assert loss.item() == 0
        assert not leaf.grad.any()
        assert (loss / (target != -100).any()).isnan()
    assert F.binary_cross_entropy_with_logits(z[:0], z[:0]).isnan()
    assert losses.binary_cross_entropy(z[:0], z[:0]).item() == 0
    with pytest.warns(UserWarning, match="`weight` is 0 for every class in this batch"):
        assert losses.cross_entropy(z, y, weight=torch.zeros(4)).item() == 0


def ignored_probabilities() -> None:
    z, t = soft()
    with pytest.raises(RuntimeError, match="ignore_index is not supported for floating point target"):
        F.cross_entropy(z, t, ignore_index=1)
    same(losses.cross_entropy(z, t, ignore_index=1), F.cross_entropy(z, t))


def ignored_labels() -> None:
    z, y = multi()
    y[0, 0] = -100
    kept = y != -100
    same(
        losses.binary_cross_entropy(z, y),
        F.binary_cross_entropy_with_logits(z[kept], y[kept]),
    )
    with losses.checks("never"):
        same(losses.binary_cross_entropy(z, y, ignore_index=-1), F.binary_cross_entropy_with_logits(z, y))


def masked_targets() -> None:
    z, y = single()
    z[0, y[0]] = -math.inf
    assert F.cross_entropy(z, y).isinf()
    with pytest.raises(ArgumentError, match="`target` must not be a class that is masked"):
        losses.cross_entropy(z, y)
    with losses.checks("never"):
        assert losses.cross_entropy(z, y).isinf()


def float_class_indices() -> None:
    z, y = single()
    for function in (losses.cross_entropy, losses.sigmoid_focal_loss):
        with pytest.raises(ArgumentTypeError, match=r"`target` .*class indices .*integer dtype.*Pass target.long\(\)"):
            function(z, y.float())
    same(losses.cross_entropy(z, y.float().long()), F.cross_entropy(z, y))


def deprecated_arguments() -> None:
    z, y = single()
    with pytest.raises(TypeError, match="size_average"):
        losses.cross_entropy(z, y, size_average=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = F.cross_entropy(z, y, size_average=False)
    same(losses.cross_entropy(z, y, reduction="sum"), theirs)


def default_reduction() -> None:
    from torchvision.ops import sigmoid_focal_loss

    z, y = multi()
    assert sigmoid_focal_loss(z, y).shape == z.shape
    assert losses.sigmoid_focal_loss(z, y).dim() == 0
    same(losses.sigmoid_focal_loss(z, y, reduction="none"), sigmoid_focal_loss(z, y))


def no_alpha() -> None:
    from torchvision.ops import sigmoid_focal_loss

    z, y = multi()
    with pytest.raises(ArgumentError, match="`alpha` must be at least 0 and at most 1"):
        losses.sigmoid_focal_loss(z, y, alpha=-1)
    same(losses.sigmoid_focal_loss(z, y, alpha=None), sigmoid_focal_loss(z, y, alpha=-1, reduction="mean"))


def fractional_labels() -> None:
    from torchvision.ops import sigmoid_focal_loss

    z, t = multi()[0], soft()[1]
    different(losses.sigmoid_focal_loss(z, t), sigmoid_focal_loss(z, t, reduction="mean"))
    positive, negative = (losses.sigmoid_focal_loss(z, torch.full_like(z, y), reduction="none") for y in (1.0, 0.0))
    same(losses.sigmoid_focal_loss(z, t, reduction="none"), t * positive + (1 - t) * negative)
    bce = losses.sigmoid_focal_loss(z, t, alpha=None, gamma=0.0)
    same(bce, sigmoid_focal_loss(z, t, alpha=-1, gamma=0.0, reduction="mean"))
    from timm.loss import AsymmetricLossMultiLabel

    different(losses.asymmetric_loss(z, t, reduction="batchmean"), AsymmetricLossMultiLabel()(z, t))
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    different(losses.sigmoid_focal_loss(z, t, alpha=None), smp.FocalLoss("binary")(z, t))
    same(losses.sigmoid_focal_loss(z, t > 0.5, alpha=None), smp.FocalLoss("binary")(z, (t > 0.5).to(D)))


def one_alpha_for_a_softmax() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z, y = single()
    with pytest.raises(ArgumentError, match="`alpha` must have one value per class"):
        losses.focal_loss(z, y, alpha=0.25)
    ours = losses.focal_loss(z, y, alpha=[0.75, 0.25, 0.25, 0.25], reduction="sum")
    same(ours, kornia.focal_loss(z, y, 0.25, 2.0, "sum"))


def mean_over_rows_and_classes() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z, y = single()
    y[0] = -100
    theirs = kornia.focal_loss(z, y, None, 2.0, "mean")
    different(losses.focal_loss(z, y), theirs)
    same(losses.focal_loss(z, y, normalizer=z.numel()), theirs)
    rows = kornia.focal_loss(z, y, None, 2.0, "none")
    same(losses.focal_loss(z, y, reduction="none"), rows.sum(1))


def ignored_in_the_mean() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z, y = multi()
    y[0] = -100
    theirs = kornia.binary_focal_loss_with_logits(z, y, 0.25, 2.0, "mean")
    different(losses.sigmoid_focal_loss(z, y), theirs)
    same(losses.sigmoid_focal_loss(z, y, normalizer=z.numel()), theirs)


def reduction_of_asl() -> None:
    from timm.loss import AsymmetricLossMultiLabel

    z, y = multi()
    theirs = AsymmetricLossMultiLabel(disable_torch_grad_focal_loss=True)(z.float(), y.float())
    different(losses.asymmetric_loss(z, y), theirs)
    same(losses.asymmetric_loss(z.float(), y, reduction="batchmean"), theirs)


def focus_of_asl() -> None:
    from timm.loss import AsymmetricLossMultiLabel

    z, y = (x.float() for x in multi())
    leaves = [z.clone().requires_grad_() for _ in range(3)]
    for leaf, loss in zip(
        leaves,
        (
            AsymmetricLossMultiLabel(),
            losses.AsymmetricLoss(reduction="batchmean"),
            losses.AsymmetricLoss(reduction="batchmean", detach_focus=False),
        ),
        strict=True,
    ):
        loss(leaf, y).backward()
    different(leaves[1].grad, leaves[0].grad)
    torch.testing.assert_close(leaves[2].grad, leaves[0].grad, rtol=1e-4, atol=1e-6)


def clamped_probabilities() -> None:
    from timm.loss import AsymmetricLossMultiLabel

    z, y = torch.tensor([[-19.0]], requires_grad=True), torch.ones(1, 1)
    AsymmetricLossMultiLabel(disable_torch_grad_focal_loss=True)(z, y).backward()
    assert z.grad.item() == 0
    z.grad = None
    losses.asymmetric_loss(z, y).backward()
    assert z.grad.item() == pytest.approx(-1, rel=1e-6)
    z.grad = None
    loss = losses.asymmetric_loss(z.clamp(min=-18.42), y)
    loss.backward()
    assert z.grad.item() == 0
    torch.testing.assert_close(loss, AsymmetricLossMultiLabel()(z, y), rtol=1e-4, atol=0)


def smoothed_labels() -> None:
    from timm.loss import BinaryCrossEntropy

    z, y = single()
    labels = F.one_hot(y, 4) * 0.9 + 0.1 / 4
    with pytest.raises(TypeError, match="label_smoothing"):
        losses.binary_cross_entropy(z, y, label_smoothing=0.1)
    same(losses.binary_cross_entropy(z, labels), BinaryCrossEntropy(smoothing=0.1)(z, y))


def focal_of_segmentation_models() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    z, y = dense()
    theirs = smp.FocalLoss("multiclass", alpha=0.25)(z, y)
    different(losses.focal_loss(z, y), theirs)
    same(losses.sigmoid_focal_loss(z, y, alpha=0.25), theirs)


def absent_classes() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    z, y = dense()
    y = y.clamp(max=1)  # class 2 does not occur
    theirs = smp.DiceLoss("multiclass")(z, y)
    different(losses.dice_loss(z, y, smooth=0.0), theirs)
    same(losses.dice_loss(z, y, smooth=0.0, reduction="none").mean(), theirs)


def ignored_images() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z, y = dense()
    y[1] = -100
    options = {"batch": False, "smooth": 0.0}
    one = losses.dice_loss(z[:1], y[:1], **options)
    same(losses.dice_loss(z, y, **options), one)
    torch.testing.assert_close(kornia.dice_loss(z, y, "macro"), (one + 1) / 2, rtol=1e-4, atol=1e-5)


def defaults_of_overlap_losses() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z, y = dense()
    theirs = kornia.dice_loss(z, y)
    different(losses.dice_loss(z, y), theirs)
    torch.testing.assert_close(losses.dice_loss(z, y, average="micro", batch=False), theirs, rtol=1e-4, atol=1e-5)


def smoothing_of_overlap_losses() -> None:
    kornia = pytest.importorskip("kornia.losses")
    z = torch.tensor([[[[100.0, 100.0]], [[-100.0, -100.0]]]])
    y = torch.tensor([[[0, 1]]])  # class 1 is never predicted; with beta = 0 that costs nothing
    given = {"alpha": 1.0, "beta": 0.0}
    assert kornia.tversky_loss(z, y, **given, eps=1e-8).item() == pytest.approx(0.75)
    assert losses.tversky_loss(z, y, **given, smooth=1e-8).item() == pytest.approx(0.25)
    assert losses.tversky_loss(z, y, alpha=1.0, beta=1e-8, smooth=0.0).item() == pytest.approx(0.75)
    dice = losses.dice_loss(*dense(), smooth=0.0)
    same(dice, losses.dice_loss(*dense(), smooth=1e-8))


def exponent_per_class() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    z, y = dense()
    z[:, 0] += 4.0  # the losses of the classes differ
    theirs = smp.TverskyLoss("multiclass", gamma=2.0)(z, y)
    different(losses.tversky_loss(z, y, gamma=2.0, smooth=0.0), theirs)
    same(losses.tversky_loss(z, y, smooth=0.0) ** 2.0, theirs)
    per_class = losses.tversky_loss(z, y, smooth=0.0, reduction="none")
    same(losses.tversky_loss(z, y, gamma=2.0, smooth=0.0), (per_class**2).mean())


def probabilities_as_input() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    z, y = dense()
    with pytest.raises(TypeError, match="from_logits"):
        losses.dice_loss(z, y, from_logits=False)
    p = torch.softmax(z, 1)
    same(losses.dice_loss(p.log(), y, smooth=0.0), smp.DiceLoss("multiclass", from_logits=False)(p, y))
    p = z[:, :1].sigmoid()
    mask = y[:, None] == 0
    ours = losses.dice_loss(p.logit(), mask, activation="sigmoid", smooth=0.0)
    same(ours, smp.DiceLoss("binary", from_logits=False)(p, mask))


def logarithm_of_the_index() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    z, y = dense()
    with pytest.raises(TypeError, match="log_loss"):
        losses.dice_loss(z, y, log_loss=True)
    ours = -torch.log(1 - losses.dice_loss(z, y, smooth=0.0, reduction="none")).mean()
    same(ours, smp.DiceLoss("multiclass", log_loss=True)(z, y))


OTHER_OPTIONS = {
    losses.dice_loss: ("squared_pred", "other_act", "smooth_nr", "soft_label"),
    losses.sigmoid_focal_loss: ("normalized", "reduced_threshold"),
    losses.binary_cross_entropy: ("target_threshold", "sum_classes"),
}


def other_options() -> None:
    z, y = multi()
    for function, names in OTHER_OPTIONS.items():
        for name in names:
            with pytest.raises(TypeError, match=name):
                function(z, y, **{name: True})
    from timm.loss import BinaryCrossEntropy

    theirs = BinaryCrossEntropy(smoothing=0.0, sum_classes=True, target_threshold=0.3)
    t = soft()[1]
    same(losses.binary_cross_entropy(z, t > 0.3, reduction="batchmean"), theirs(z, t))


def one_class() -> None:
    z = single()[0][:, 0]
    y = torch.tensor([0.0, 1, 1, 0, 1, 0], dtype=D)
    with pytest.raises(ValueError, match="Target size"):
        F.binary_cross_entropy_with_logits(z, y[:, None])
    same(losses.binary_cross_entropy(z, y[:, None]), F.binary_cross_entropy_with_logits(z, y))


def vectors_of_dense_logits() -> None:
    z, y = dense()
    t = F.one_hot(y, 3).movedim(-1, 1).to(D)
    w = torch.tensor([1.0, 2.0, 0.5], dtype=D)
    with pytest.raises(RuntimeError, match="must match"):
        F.binary_cross_entropy_with_logits(z, t, w)
    same(losses.binary_cross_entropy(z, t, w), F.binary_cross_entropy_with_logits(z, t, w.reshape(3, 1, 1)))
    columns = torch.linspace(0.5, 2.0, 5, dtype=D)
    with pytest.raises(ArgumentError, match="`weight` must have one value for each of the 3 classes"):
        losses.binary_cross_entropy(z, t, columns)
    same(losses.binary_cross_entropy(z, t, columns[None]), F.binary_cross_entropy_with_logits(z, t, columns))


def shapes_of_pos_weight() -> None:
    z, y = dense()
    t = F.one_hot(y, 3).movedim(-1, 1).to(D)
    w = torch.tensor([1.0, 2.0, 0.5], dtype=D)
    theirs = F.binary_cross_entropy_with_logits(z, t, pos_weight=w.reshape(3, 1, 1))
    with pytest.raises(ArgumentError, match="`pos_weight`"):
        losses.binary_cross_entropy(z, t, pos_weight=w.reshape(3, 1, 1))
    same(losses.binary_cross_entropy(z, t, pos_weight=w), theirs)
    each = torch.linspace(0.5, 2.0, z.numel(), dtype=D).reshape(z.shape)
    t = torch.softmax(z.flip(0), 1)
    positives = losses.binary_cross_entropy(z, t, each, neg_weight=0.0)
    negatives = losses.binary_cross_entropy(z, t, pos_weight=0.0)
    same(positives + negatives, F.binary_cross_entropy_with_logits(z, t, pos_weight=each))


def asymmetric_loss_of_probabilities() -> None:
    z = torch.tensor([[5.0, -5.0, 0.0], [5.0, -5.0, 0.0]], dtype=D)
    y = torch.tensor([0, 1])
    p, one_hot = torch.softmax(z, 1), F.one_hot(y, 3)
    theirs = F.binary_cross_entropy(p, one_hot.to(D))
    assert theirs.item() == pytest.approx(2.5045, abs=1e-4)  # the value of mmpretrain's tests
    ours = losses.asymmetric_softmax_loss(z, y, gamma_pos=0.0, gamma_neg=0.0, label_smoothing=0.0)
    same(ours, F.cross_entropy(z, y))
    different(ours, theirs)


def script() -> None:
    z, y = single()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated both
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            torch.jit.script(losses.CrossEntropyLoss())
        traced = torch.jit.trace(losses.CrossEntropyLoss(), (z, y))
    same(traced(z, y), F.cross_entropy(z, y))


def macro_f1_over_labels() -> None:
    from sklearn.metrics import f1_score

    labels, predictions = [0, 0, 1, 1], [0, 2, 1, 1]
    theirs = f1_score(labels, predictions, average="macro", zero_division=0)
    assert metrics.macro_f1(labels, predictions) != pytest.approx(theirs)
    assert metrics.macro_f1(labels, predictions, classes="union") == pytest.approx(theirs)


def average_precision_without_positives() -> None:
    from sklearn.metrics import average_precision_score

    labels, scores = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.2], [0.3, 0.1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = average_precision_score(labels, scores, average=None)
    ours = metrics.average_precision(labels, scores, average=None)
    assert theirs.tolist() == [1.0, 0.0]
    assert math.isnan(ours[1])
    assert metrics.average_precision(labels, scores) == 1.0
    np.testing.assert_allclose(np.nan_to_num(ours), theirs)


def geometric_mean_over_labels() -> None:
    theirs = pytest.importorskip("imblearn.metrics")
    labels, predictions = [0, 0, 1, 1], [0, 2, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = theirs.geometric_mean_score(labels, predictions)
    assert wanted == 0
    assert metrics.geometric_mean(labels, predictions) == pytest.approx(0.5**0.5)
    assert metrics.geometric_mean(labels, predictions, classes="union") == wanted


def nan_of_a_class() -> None:
    from sklearn.metrics import precision_score

    labels, predictions = [0, 0, 1], [0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = precision_score(labels, predictions, average=None)
    assert math.isnan(metrics.per_class_precision(labels, predictions).estimate[1])
    ours = metrics.per_class_precision(labels, predictions, zero_division=0).estimate
    np.testing.assert_allclose(ours, theirs)


DECISIONS = (
    Decision(
        "half precision",
        "torch",
        "returns the loss in the dtype of the logits",
        "returns float32 for float16 and bfloat16 logits; the gradient has the dtype of the logits",
        "a sum over a batch in half precision loses rare classes",
        "`loss.to(logits.dtype)`",
        half_precision,
    ),
    Decision(
        "weighted means",
        "torch, mmpretrain",
        'divide the "mean" of weighted probabilities (torch) or of any weighted rows (mmpretrain) by N',
        "divides by the summed weight of the targets, for class indices and probabilities alike",
        "the same labels give the same loss as class indices and as one-hot probabilities",
        '`reduction="batchmean"`',
        weighted_means,
    ),
    Decision(
        "gradient of targets",
        "torch",
        'divides the "mean" of probabilities by N, so that the gradient of the target does not contain the mean',
        "divides by the sum of the probabilities: the value is the same where they sum to 1, and the gradient of the "
        "target differs by one number per row, which a softmax removes",
        "the denominator is the weight of the targets, see weighted means",
        '`reduction="batchmean"`',
        gradient_of_targets,
    ),
    Decision(
        "negative weights",
        "torch",
        "accepts class weights below 0",
        "raises an error that names the class",
        "a loss with such a weight has no minimum",
        '`with losses.checks("never"):`',
        negative_weights,
    ),
    Decision(
        "sums of targets",
        "torch, timm",
        "accept probabilities that do not sum to 1",
        "raises an error that names the row",
        "these are independent labels, which belong to the sigmoid losses, or logits",
        '`with losses.checks("never"):` and `reduction="batchmean"`',
        sums_of_targets,
    ),
    Decision(
        "range of labels",
        "torch",
        "accepts labels outside [0, 1] in binary cross-entropy",
        "raises an error that names the element",
        "the loss has no minimum; 255 and −1 are often labels to ignore",
        '`with losses.checks("never"):`, or `ignore_index=255`',
        range_of_labels,
    ),
    Decision(
        "nothing to average",
        "torch",
        'returns NaN as the "mean" of an empty batch, or if all rows are ignored or have weight 0',
        "returns 0 with gradient 0, and warns if the classes of the batch have weight 0",
        "one such batch would set all parameters to NaN",
        "`loss / (target != ignore_index).any()`",
        nothing_to_average,
    ),
    Decision(
        "ignored probabilities",
        "torch",
        "raises an error for `ignore_index` of at least 0 with probabilities as the target",
        "ignores no row of probabilities, whatever `ignore_index` is",
        "one loss object can be used for plain batches and for batches of mixup",
        "leave out `ignore_index`",
        ignored_probabilities,
    ),
    Decision(
        "ignored labels",
        "torch",
        "has no `ignore_index` in binary cross-entropy",
        "leaves out labels of −100, and does not count them in the mean",
        "multi-label data often has unknown labels",
        '`with losses.checks("never"):` and another `ignore_index`',
        ignored_labels,
    ),
    Decision(
        "masked targets",
        "torch",
        "returns inf if the logit of the target is −inf",
        "raises an error that names the row and the class",
        "the mask and the label contradict each other",
        '`with losses.checks("never"):`',
        masked_targets,
    ),
    Decision(
        "float class indices",
        "mmpretrain",
        "accepts class indices as floating-point numbers",
        "refuses them, as torch does",
        "a floating-point target of this shape may as well hold labels or probabilities",
        "`target.long()`",
        float_class_indices,
    ),
    Decision(
        "deprecated arguments",
        "torch",
        "accepts `size_average` and `reduce`",
        "has only `reduction`",
        "torch has deprecated them",
        '`reduction="sum"` for `size_average=False`, `reduction="none"` for `reduce=False`',
        deprecated_arguments,
    ),
    Decision(
        "script",
        "torch",
        "compiles its losses with `torch.jit.script`",
        "supports `torch.compile`, `torch.export` and `torch.jit.trace`, but not `torch.jit.script`",
        "torch has deprecated `torch.jit.script`",
        "`torch.jit.trace` or `torch.compile`",
        script,
    ),
    Decision(
        "default reduction",
        "torchvision, kornia",
        'return the loss of each element by default (`reduction="none"`)',
        'returns the mean by default (`reduction="mean"`)',
        "all losses have the default of torch.nn",
        '`reduction="none"`',
        default_reduction,
    ),
    Decision(
        "no alpha",
        "torchvision",
        "takes `alpha=-1` for focal loss without α",
        "refuses values outside [0, 1]",
        "weights below 0 are refused in all losses, and None says that there is no weight",
        "`alpha=None`",
        no_alpha,
    ),
    Decision(
        "fractional labels",
        "torchvision, timm, segmentation-models-pytorch",
        "compute one modulating factor from the mixture of both labels",
        "weighs the loss of the positive by t and that of the negative by 1 − t, each with its own factor",
        "the loss is linear in the label, as binary cross-entropy is; for labels of 0 and 1 both are the same",
        "threshold the labels, or use `gamma=0`",
        fractional_labels,
    ),
    Decision(
        "one alpha for a softmax",
        "kornia, MONAI",
        "accept one number as `alpha` of a softmax focal loss: 1 − α for class 0, and α for every other class",
        "refuses one number",
        "it depends on which class is number 0; without background it only rescales the loss",
        "`alpha=[1 - a, a, a, …]`",
        one_alpha_for_a_softmax,
    ),
    Decision(
        "mean over rows and classes",
        "kornia, MONAI",
        'divide the "mean" of softmax focal loss by N·C and return `(N, C, …)` for "none"',
        'divides by the weight of the rows and returns `(N, …)` for "none"',
        "with γ = 0 focal loss is cross-entropy",
        "`normalizer=logits.numel()`",
        mean_over_rows_and_classes,
    ),
    Decision(
        "ignored in the mean",
        "kornia, mmdetection, segmentation-models-pytorch",
        'count ignored elements in the denominator of "mean"',
        "does not count them",
        "the loss does not depend on how many pixels are ignored, as in torch",
        "`normalizer=logits.numel()` for sigmoid losses, `normalizer=target.numel()` for softmax losses",
        ignored_in_the_mean,
    ),
    Decision(
        "focal loss of a multiclass mask",
        "segmentation-models-pytorch",
        "computes a sigmoid per class",
        "`focal_loss` computes a softmax over the classes",
        "a sigmoid per class is another loss, which has its own name",
        "`sigmoid_focal_loss(logits, target)` with class indices",
        focal_of_segmentation_models,
    ),
    Decision(
        "defaults of overlap losses",
        "kornia, MONAI",
        'sum the counts per image, kornia over all classes at once (`average="micro"`)',
        "sums the counts over the batch, per class",
        "an image has few pixels of a rare class, or none; the mean over classes gives each the same weight",
        '`average="micro"`, `batch=False`',
        defaults_of_overlap_losses,
    ),
    Decision(
        "absent classes",
        "segmentation-models-pytorch, MONAI",
        "count a class without pixels in the mean: its loss is 0, or close to 1 in MONAI",
        "leaves the class out of the mean",
        "its loss does not depend on the model, or only on its false positives",
        '`loss(…, reduction="none").mean()` for segmentation-models-pytorch',
        absent_classes,
    ),
    Decision(
        "ignored images",
        "kornia",
        "counts an image whose pixels are all ignored with loss 1",
        "leaves the image out of the mean",
        "the loss does not depend on the model",
        "`(k * loss + n - k) / n` for k of n images with pixels that are not ignored",
        ignored_images,
    ),
    Decision(
        "smoothing of overlap losses",
        "kornia, MONAI",
        "add a small number to the denominator only, or another one to the numerator",
        "adds `smooth` to both",
        "the index is 1 where nothing is wrong; the losses differ by less than the number, unless α or β is 0",
        "`smooth=0.0`, with α and β above 0",
        smoothing_of_overlap_losses,
    ),
    Decision(
        "exponent per class",
        "segmentation-models-pytorch",
        "raises the mean over the classes to the power γ",
        "raises the loss of each class to the power γ, and takes the mean",
        "Abraham and Khan (2019) define the focal Tversky loss in this way",
        "`tversky_loss(…) ** gamma`",
        exponent_per_class,
    ),
    Decision(
        "probabilities as input",
        "segmentation-models-pytorch",
        "accepts probabilities (`from_logits=False`)",
        "takes logits",
        "1 − p cannot be computed from a rounded p near 1",
        "`p.log()` for a softmax, `p.logit()` for a sigmoid",
        probabilities_as_input,
    ),
    Decision(
        "logarithm of the index",
        "segmentation-models-pytorch",
        "has `log_loss`, the mean of −log of the index",
        "has 1 − index",
        "the logarithm is one line",
        '`-torch.log(1 - loss(…, reduction="none")).mean()`',
        logarithm_of_the_index,
    ),
    Decision(
        "other options",
        "MONAI, segmentation-models-pytorch, timm",
        "have squared Dice, other activations, normalized and reduced focal loss, label thresholds, sums over classes",
        "does not have them",
        "they are other losses, or one line",
        '`target > threshold`, and `reduction="batchmean"` for sums over classes; the others are not available',
        other_options,
    ),
    Decision(
        "vectors of dense logits",
        "torch",
        "broadcasts a `weight` of one dimension over the last dimension of the logits in binary cross-entropy",
        "takes it as one value per class, dimension 1 of the logits `(N, C, H, W)`, as in cross-entropy",
        "class weights mean the same in all losses",
        "`weight[None]` for the last dimension",
        vectors_of_dense_logits,
    ),
    Decision(
        "shapes of pos_weight",
        "torch",
        "broadcasts `pos_weight` of any shape, such as `(C, 1, 1)` for logits `(N, C, H, W)`",
        "takes a number or `(C,)`",
        "class weights mean the same in all losses",
        "`pos_weight.flatten()`; for one value per element "
        "`bce(logits, target, pos_weight, neg_weight=0.0) + bce(logits, target, pos_weight=0.0)`",
        shapes_of_pos_weight,
    ),
    Decision(
        "asymmetric loss on a softmax",
        "mmpretrain",
        "takes each probability of a softmax as that of a binary label (`use_sigmoid=False`)",
        "`asymmetric_softmax_loss` is cross-entropy with focusing, as in timm and in the authors' code",
        "without focusing it is cross-entropy",
        "not available",
        asymmetric_loss_of_probabilities,
    ),
    Decision(
        "labels of one class",
        "torch",
        "refuses labels `(N, 1)` for logits `(N,)`",
        "accepts them",
        "they can mean only one thing; broadcasting to `(N, N)`, against which torch protects, does not happen",
        "none is needed",
        one_class,
    ),
    Decision(
        "reduction of the asymmetric loss",
        "timm",
        "sums over classes and averages over images by default; the authors' code sums over both",
        'averages over images and classes by default (`reduction="mean"`)',
        "all losses have the default of torch.nn",
        '`reduction="batchmean"` for timm, `reduction="sum"` for the authors',
        reduction_of_asl,
    ),
    Decision(
        "gradient of the modulating factor",
        "timm",
        "differentiates the modulating factor of the asymmetric loss by default",
        "treats it as a constant by default (`detach_focus=True`)",
        "the training script of the authors has this setting",
        "`detach_focus=False`",
        focus_of_asl,
    ),
    Decision(
        "clamped probabilities",
        "timm",
        "clamps probabilities to at least 1e-8 before the logarithm",
        "computes the logarithm of the sigmoid from the logit",
        "the clamp sets the gradient of a confidently wrong positive to 0",
        "`logits.clamp(min=-18.42)` for positives (log 1e-8)",
        clamped_probabilities,
    ),
    Decision(
        "smoothed labels",
        "timm, segmentation-models-pytorch",
        "smooth the labels of the sigmoid losses by an argument, each library with another formula",
        "has `label_smoothing` for the softmax losses only; the sigmoid losses take labels in [0, 1]",
        "there is no common definition",
        "pass smoothed labels, such as `one_hot * (1 - e) + e / C` or `labels * (1 - e) + e / 2`",
        smoothed_labels,
    ),
    Decision(
        "labels of macro F1",
        "scikit-learn",
        "averages over the classes that occur in the labels or in the predictions",
        "averages over those that occur in the labels",
        "a class without images has no recall; predicting it already lowers the recall of another class",
        '`classes="union"`',
        macro_f1_over_labels,
    ),
    Decision(
        "undefined ratios",
        "scikit-learn",
        "sets the precision or recall of a class to 0 if its denominator is 0, and warns",
        "returns NaN, which averages leave out",
        "0 says that all were wrong; there were none",
        "`zero_division=0`",
        nan_of_a_class,
    ),
    Decision(
        "average precision without positives",
        "scikit-learn",
        "sets the average precision of a class without positives to 0, and warns",
        "returns NaN for the class, and leaves it out of the mean",
        "the value says nothing about the model, and lowers the mean",
        "`np.nan_to_num(average_precision(…, average=None))`",
        average_precision_without_positives,
    ),
    Decision(
        "labels of the geometric mean",
        "imbalanced-learn",
        "takes the recall of a class that is only predicted as 0, so that the geometric mean is 0",
        "averages over the classes that occur in the labels",
        "a class without images has no recall",
        '`classes="union"`',
        geometric_mean_over_labels,
    ),
)
