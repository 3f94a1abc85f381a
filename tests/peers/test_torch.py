"""Losses against torch's own: the samples of its operator and module tests, called as torch calls its losses."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.peers import torch_samples
from tests.peers.comparing import assert_agree, assert_each
from tests.peers.conftest import AS_THE_PEER
from torch import Tensor

from counterpoise import losses
from counterpoise.core.errors import CounterpoiseError

every_dtype = pytest.mark.parametrize("dtype", torch_samples.DTYPES)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> torch_samples.Samples:
    """Torch's samples, drawn in a process of its own."""
    file = tmp_path_factory.mktemp("torch") / "samples.pt"
    done = subprocess.run(
        [sys.executable, torch_samples.__file__, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"torch's test helpers need another package: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return torch.load(file)


def decisions_of(
    target: Tensor, logits: Tensor, kwargs: dict[str, Any], softmax: bool, learn: tuple[int, ...]
) -> list[str]:
    """The documented decisions that apply to one sample, where the gradients of the inputs ``learn`` are compared."""
    weight, found = kwargs.get("weight"), []
    mean = kwargs.get("reduction", "mean") == "mean"
    if weight is not None and bool((weight < 0).any()):
        found.append("negative weights")
    if softmax and target.is_floating_point():
        off = (target.double().sum(min(1, logits.dim() - 1)) - 1).abs().max().item()
        tolerance = 1e-3 if target.dtype in (torch.float64, torch.float32) else 2e-2
        found += ["sums of targets"] * (off > tolerance) + ["weighted means"] * (mean and weight is not None)
        found += ["gradient of targets"] * (mean and (1 in learn or off > 1e-6))
    elif softmax and mean and bool((target == kwargs.get("ignore_index", -100)).all()):
        found.append("nothing to average")
    return found


def compare(
    ours: Any, theirs: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any], names: list[str], learn: tuple[int, ...]
) -> str:
    """Compare one sample as called, or as its decisions say, and return what applied."""
    if "nothing to average" in names:
        assert theirs(*inputs, **kwargs).isnan()
        assert ours(*inputs, **kwargs).item() == 0
        return names[0]
    refused = {"negative weights", "sums of targets"} & set(names)
    by_rows = {"sums of targets", "weighted means", "gradient of targets"} & set(names)
    if refused:
        with pytest.raises(CounterpoiseError, match=r"`weight`|`target`"):
            ours(*inputs, **kwargs)
    # Half precision rounds soft targets, which then do not sum to 1: torch's smoothing does not depend on the sum.
    rounded = kwargs.get("label_smoothing") and inputs[1].dtype in (torch.float16, torch.bfloat16)
    how: dict[str, Any] = {"rtol": torch.finfo(inputs[1].dtype).eps} if rounded else {}
    mine = {**kwargs, "reduction": "batchmean"} if by_rows and kwargs.get("reduction", "mean") == "mean" else kwargs
    with losses.checks("never") if refused else contextlib.nullcontext():
        assert_agree(
            lambda *x: ours(*x, **mine),
            lambda *x: theirs(*x, **in_dtype_of(x[0], kwargs)),
            *inputs,
            learn=learn,
            **how,
        )
    return names[0] if names else AS_THE_PEER


def in_dtype_of(logits: Tensor, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {n: x.to(logits.dtype) if isinstance(x, Tensor) else x for n, x in kwargs.items()}


def nll_of_log_softmax(logits: Tensor, target: Tensor, **kwargs: Any) -> Tensor:
    return F.nll_loss(F.log_softmax(logits, min(1, logits.dim() - 1)), target, **kwargs)


def parted(sample: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    logits, target = sample["args"]
    return logits, target, {**sample["init"], **sample["kwargs"]}


FUNCTIONS = {
    "cross_entropy": (losses.cross_entropy, F.cross_entropy),
    "nll_loss": (losses.cross_entropy, nll_of_log_softmax),
    "binary_cross_entropy_with_logits": (losses.binary_cross_entropy, F.binary_cross_entropy_with_logits),
}
CALLS = {
    "keywords": lambda function, z, y, options: function(z, y, **options),
    "all keywords": lambda function, z, y, options: function(input=z, target=y, **options),
    "positional weight": lambda function, z, y, options: function(
        z, y, options.get("weight"), **{name: x for name, x in options.items() if name != "weight"}
    ),
}


@every_dtype
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_on_the_samples_of_the_operator_tests(samples, cases, name, call, dtype):
    function, theirs = FUNCTIONS[name]

    def check(sample):
        logits, target, kwargs = parted(sample)
        learn = (0, 1) if target.is_floating_point() else (0,)
        names = decisions_of(target, logits, kwargs, function is losses.cross_entropy, learn)
        return compare(
            lambda z, y, **options: CALLS[call](function, z, y, options), theirs, (logits, target), kwargs, names, learn
        )

    # The samples of the operator tests are called by keywords; the other calls of the same samples count once.
    assert_each(samples[f"{name}-{dtype}"], check, cases if call == "keywords" else Counter())


@every_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_whose_random_weights_and_targets_are_made_valid(samples, name, dtype):
    """Torch draws weights below 0 and probabilities with any sum; here they are absolute and normalized."""
    function, theirs = FUNCTIONS[name]
    softmax = function is losses.cross_entropy

    def check(sample):
        logits, target, kwargs = parted(sample)
        kwargs = {n: x.abs() if isinstance(x, Tensor) else x for n, x in kwargs.items()}
        if softmax and target.is_floating_point():
            target = target / target.sum(1, keepdim=True)
        names = decisions_of(target, logits, kwargs, softmax, (0,))
        assert not {"negative weights", "sums of targets"} & set(names)
        return compare(function, theirs, (logits, target), kwargs, names, (0,))

    outcomes: Counter[str] = Counter()
    assert_each(samples[f"{name}-{dtype}"], check, outcomes)
    assert outcomes[AS_THE_PEER] > outcomes.total() / 2


MODULES = {
    "CrossEntropyLoss": (losses.CrossEntropyLoss, torch.nn.CrossEntropyLoss),
    "NLLLoss": (losses.CrossEntropyLoss, None),
    "BCEWithLogitsLoss": (losses.BinaryCrossEntropyLoss, torch.nn.BCEWithLogitsLoss),
}


@every_dtype
@pytest.mark.parametrize("name", MODULES)
def test_modules_on_the_samples_of_the_module_tests(samples, cases, name, dtype):
    module, torchs = MODULES[name]

    def ours(z, y, weight=None, **options):
        return module(weight, **options)(z, y)

    def theirs(z, y, **options):
        return nll_of_log_softmax(z, y, **options) if torchs is None else torchs(**options)(z, y)

    def check(sample):
        logits, target, kwargs = parted(sample)
        names = decisions_of(target, logits, kwargs, module is losses.CrossEntropyLoss, (0,))
        return compare(ours, theirs, (logits, target), kwargs, names, (0,))

    assert_each(samples[f"{name}-{dtype}"], check, cases)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_what_torch_refuses_is_refused(samples, cases, name):
    if f"{name}-errors" not in samples:
        pytest.skip(f"this torch has no wrong inputs of {name}")

    def check(sample):
        init, target = sample["init"], sample["args"][1]
        if target.is_floating_point() and "ignore_index" in init and target.dim() == sample["args"][0].dim():
            MODULES[name][0](**init)(*sample["args"])
            return "ignored probabilities"
        with pytest.raises(CounterpoiseError):
            MODULES[name][0](**init)(*sample["args"], **sample["kwargs"])
        return AS_THE_PEER

    assert_each(samples[f"{name}-errors"], check, cases)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_head_and_loss_on_the_samples_of_linear_cross_entropy(samples, cases, dtype):
    key = f"linear_cross_entropy-{dtype}"
    if key not in samples:
        pytest.skip("this torch has no linear_cross_entropy")

    def ours(hidden, head, target, **options):
        return losses.linear_softmax_loss(input=hidden, linear_weight=head, target=target, **options)

    def check(sample):
        hidden, head, target = sample["args"]
        kwargs = sample["kwargs"]
        soft = target.is_floating_point()
        logits = hidden.new_empty(len(hidden), len(head))
        names = decisions_of(target, logits, kwargs, True, (0, 1) if soft else (0,))
        inputs = (hidden, head, target)
        return compare(ours, F.linear_cross_entropy, inputs, kwargs, names, (0, 1, 2) if soft else (0, 1))

    plain = [s for s in samples[key] if s["args"][0].dim() == 2 and s["args"][1].dim() == 2]
    assert_each(plain, check, cases)


# What follows are cases of torch's test_nn.py, written as equations between losses.


def rows(shape=(6, 4), dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(shape, generator=g, dtype=torch.float64)
    return z.to(dtype), torch.randint(shape[1], (shape[0], *shape[2:]), generator=g)


every_shape = pytest.mark.parametrize("shape", [(6, 4), (5, 3, 4), (2, 3, 4, 2), (2, 3, 2, 2, 2)])
every_reduction = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


@every_shape
@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.15, 1.0])
def test_class_indices_are_their_one_hot_probabilities(shape, reduction, smoothing):
    z, y = rows(shape)
    one_hot = F.one_hot(y, shape[1]).movedim(-1, 1).to(z.dtype)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    ours = losses.cross_entropy(z, one_hot, **options)
    torch.testing.assert_close(ours, losses.cross_entropy(z, y, **options))
    torch.testing.assert_close(ours, F.cross_entropy(z, y, **options))


@every_shape
@every_reduction
@pytest.mark.parametrize("soft", [False, True])
def test_unit_weights_are_no_weights(shape, reduction, soft):
    z, y = rows(shape)
    target = torch.softmax(z.flip(0), 1) if soft else y
    weighted = losses.cross_entropy(z, target, torch.ones(shape[1]), reduction=reduction)
    torch.testing.assert_close(weighted, losses.cross_entropy(z, target, reduction=reduction))
    torch.testing.assert_close(weighted, F.cross_entropy(z, target, reduction=reduction))


@every_shape
@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_label_smoothing_with_weights_and_ignored_rows(shape, reduction, smoothing, cases):
    z, y = rows(shape)
    y.view(-1)[::3] = -100
    w = torch.linspace(0.5, 2.0, shape[1], dtype=z.dtype)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    assert_agree(lambda z: losses.cross_entropy(z, y, w, **options), lambda z: F.cross_entropy(z, y, w, **options), z)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("soft", [False, True])
@every_reduction
def test_no_batch_dimension(soft, smoothing, reduction):
    z, y = rows()
    target = torch.softmax(z[1], 0) if soft else y[0]
    options = {"label_smoothing": smoothing, "reduction": reduction}
    assert_agree(
        lambda z: losses.cross_entropy(z, target, **options), lambda z: F.cross_entropy(z, target, **options), z[0]
    )


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_label_smoothing_outside_0_and_1_is_refused(smoothing):
    z, y = rows()
    with pytest.raises(CounterpoiseError, match=r"`label_smoothing`"):
        losses.cross_entropy(z, y, label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1, 2]), "`target`"),
        (torch.zeros(6, 2, dtype=torch.int64), "`target`"),
        (torch.tensor([0, 1, 2, 3, 4, 0]), "row 4 is 4"),
        (torch.tensor([0, 1, 2, 3, -1, 0]), "row 4 is -1"),
    ],
)
def test_a_wrong_target_is_refused(target, message):
    with pytest.raises(CounterpoiseError, match=message):
        losses.cross_entropy(rows()[0], target)


@pytest.mark.parametrize("ignore_index", [-1, 255, 2])
@every_reduction
def test_any_ignore_index(ignore_index, reduction):
    z, y = rows()
    y[[0, 3]] = ignore_index
    options = {"ignore_index": ignore_index, "reduction": reduction}
    assert_agree(lambda z: losses.cross_entropy(z, y, **options), lambda z: F.cross_entropy(z, y, **options), z)


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(6, 4), torch.ones(4, 1)])
def test_a_weight_of_another_shape_is_refused(weight):
    z, y = rows()
    with pytest.raises(RuntimeError):
        F.cross_entropy(z, y, weight)
    with pytest.raises(CounterpoiseError, match=r"`weight`"):
        losses.cross_entropy(z, y, weight)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16, torch.int8])
def test_class_indices_of_every_integer_dtype(dtype):
    z, y = rows()
    torch.testing.assert_close(losses.cross_entropy(z, y.to(dtype)), F.cross_entropy(z, y))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 5), (0, 3, 5, 7), (2, 3, 0)])
@every_reduction
def test_a_batch_without_rows(shape, reduction, cases):
    z, y = rows(shape)
    ours, theirs = losses.cross_entropy(z, y, reduction=reduction), F.cross_entropy(z, y, reduction=reduction)
    assert ours.shape == theirs.shape
    if reduction == "mean":
        assert theirs.isnan()
        assert ours.item() == 0
        cases["nothing to average"] += 1
    else:
        assert ours.sum() == theirs.sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_large_batch_of_low_precision(dtype):
    z, y = rows((4096, 50), dtype)
    assert_agree(lambda z: losses.cross_entropy(z, y), lambda z: F.cross_entropy(z, y), z)


def labels(shape=(8, 4), dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    z = 2 * torch.randn(shape, generator=g, dtype=torch.float64)
    return z.to(dtype), torch.rand(shape, generator=g, dtype=torch.float64).to(dtype)


bce, torchs_bce = losses.binary_cross_entropy, F.binary_cross_entropy_with_logits


def test_labels_of_another_shape_are_refused():
    with pytest.raises(CounterpoiseError, match=r"`target`"):
        bce(torch.rand(5, 2), torch.rand(5))
    with pytest.raises(CounterpoiseError, match=r"`target`"):
        bce(torch.rand(5, 1), torch.rand(5))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (64, 4), (2, 3, 4)])
@every_reduction
def test_it_is_the_sigmoid_and_its_cross_entropy(shape, reduction):
    z, t = labels(shape)
    assert_agree(
        lambda z, t: bce(z, t, reduction=reduction),
        lambda z, t: F.binary_cross_entropy(z.sigmoid(), t, reduction=reduction),
        z,
        t,
        rtol=1e-6,
    )


@pytest.mark.parametrize("pos_weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64), 2.0])
def test_gradient_at_zero(pos_weight):
    z, t = torch.zeros(3, 4, dtype=torch.float64), labels((3, 4))[1]
    theirs = torch.tensor(pos_weight, dtype=torch.float64) if isinstance(pos_weight, float) else pos_weight
    assert_agree(
        lambda z: bce(z, t, pos_weight=pos_weight, reduction="sum"),
        lambda z: torchs_bce(z, t, pos_weight=theirs, reduction="sum"),
        z,
    )


@pytest.mark.parametrize("shape", [(4,), (1, 4), (8, 1), (8, 4), (1,), ()])
@every_reduction
@pytest.mark.parametrize("module", [False, True])
def test_weights_broadcast(shape, reduction, module):
    z, t = labels()
    w = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=z.dtype)
    options = {"reduction": reduction}
    assert_agree(
        (lambda z: losses.BinaryCrossEntropyLoss(w, **options)(z, t)) if module else lambda z: bce(z, t, w, **options),
        lambda z: torchs_bce(z, t, w, **options),
        z,
    )


def test_unit_pos_weight_is_none():
    z, t = labels()
    torch.testing.assert_close(bce(z, t, pos_weight=torch.ones(4)), torchs_bce(z, t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_logits(dtype):
    z, t = torch.tensor([[0.0, -120.0]], dtype=dtype), torch.tensor([[0.0, 1.0]], dtype=dtype)
    ours = bce(z, t, reduction="none")
    torch.testing.assert_close(ours, torch.tensor([[0.5, 1.0]], dtype=dtype).neg().log1p().abs().nan_to_num(posinf=120))
    torch.testing.assert_close(bce(z, t, pos_weight=torch.ones(2), reduction="none"), ours)


ATTRIBUTES = [
    (losses.CrossEntropyLoss, torch.nn.CrossEntropyLoss, ("weight", "ignore_index", "reduction", "label_smoothing")),
    (losses.BinaryCrossEntropyLoss, torch.nn.BCEWithLogitsLoss, ("weight", "pos_weight", "reduction")),
]


@pytest.mark.parametrize(("ours", "theirs", "names"), ATTRIBUTES)
def test_attributes_have_torchs_names_and_defaults(ours, theirs, names):
    for name in names:
        assert getattr(ours(), name) == getattr(theirs(), name)
    w = torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert torch.equal(ours(w).weight, theirs(w).weight)
    assert list(ours(w).state_dict()) == list(theirs(w).state_dict())


@pytest.mark.parametrize(("ours", "theirs", "names"), ATTRIBUTES)
def test_attributes_that_are_set_take_effect(ours, theirs, names):
    """Setting an attribute is making the loss with it; so is loading a state dict of torch's loss."""
    z, y = rows() if ours is losses.CrossEntropyLoss else labels()
    w = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=z.dtype)
    values = {"weight": w, "pos_weight": w, "ignore_index": 2, "reduction": "none", "label_smoothing": 0.2}
    for name in names:
        mine, its = ours(), theirs()
        setattr(mine, name, values[name])
        setattr(its, name, values[name])
        torch.testing.assert_close(mine(z, y), its(z, y))
    mine = ours(torch.ones(4, dtype=z.dtype))
    mine.load_state_dict(theirs(w).state_dict())
    torch.testing.assert_close(mine(z, y), theirs(w)(z, y))
