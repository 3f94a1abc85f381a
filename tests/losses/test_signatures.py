"""Signatures of the losses: explicit, alike for function and module, and held to the table of hyperparameters."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
import timm.loss
import torch
import torch.nn.functional as F
import torchvision
from tests.contracts.loss_specs import SPECS, form_id

from counterpoise import losses
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, AttributeUseError
from counterpoise.core.hyperparameters import HYPERPARAMETERS
from counterpoise.hierarchy import from_paths

LOSSES = HYPERPARAMETERS["loss"]
OF_A_BATCH = {"logits", "target", "sample_weight", "hidden", "head_weight", "bias"}
EQUATIONS = ("softmax", "sigmoid", "tversky")
PAIRS = [(spec.function, spec.module) for spec in SPECS] + [(losses.hierarchical_loss, losses.HierarchicalLoss)]
every_pair = pytest.mark.parametrize(("function", "module"), PAIRS, ids=lambda x: getattr(x, "__name__", None))


def table_name(function):
    """The name under which the table lists a loss: "focal" for `focal_loss`."""
    name = function.__name__.removesuffix("_loss")
    assert name in LOSSES, f"{name} is not in the table of hyperparameters"
    return name


def keywords(callable_):
    """Name to default of every argument that is not one of a batch; no argument may hide behind ``**options``."""
    parameters = inspect.signature(callable_).parameters.values()
    assert not [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return {p.name: p.default for p in parameters if p.name not in OF_A_BATCH}


@every_pair
def test_function_and_module_have_the_same_keywords_and_defaults(function, module):
    assert keywords(function) == keywords(module)
    typed = {name: p.annotation for name, p in inspect.signature(function).parameters.items() if name not in OF_A_BATCH}
    assert typed == {name: p.annotation for name, p in inspect.signature(module).parameters.items()}


@every_pair
def test_every_hyperparameter_of_the_table_is_in_the_signature_with_its_default(function, module):
    given = keywords(function)
    for parameter in LOSSES[table_name(function)]:
        assert given[parameter.name] == parameter.default, parameter.name


@every_pair
def test_every_number_in_a_signature_is_in_the_table(function, module):
    numbers = {name for name, default in keywords(function).items() if isinstance(default, float | bool)} - {"inplace"}
    assert numbers <= {parameter.name for parameter in LOSSES[table_name(function)]}


def test_every_loss_of_the_table_exists():
    assert set(LOSSES) == {table_name(function) for function, _ in PAIRS}


def test_the_linear_loss_takes_the_keywords_of_the_softmax_equation():
    assert keywords(losses.linear_softmax_loss) == keywords(losses.softmax_loss)


@pytest.mark.parametrize(
    "public", [x for pair in PAIRS for x in pair] + [losses.linear_softmax_loss], ids=lambda x: x.__name__
)
def test_the_docstring_lists_every_argument_in_the_order_of_the_signature(public):
    text = inspect.getdoc(public)
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^    (\w+): ", section, re.MULTILINE) == list(inspect.signature(public).parameters)
    assert "Raises:\n" in text
    assert ">>> " in text
    assert "Returns:\n" in text or inspect.isclass(public)


def documented(loss, parameter):
    default = "" if parameter.default is None else f"`{parameter.default!r}`".replace("'", '"')
    allowed = parameter.bounds + ("; also `(C,)`" if parameter.per_class else "")
    return f"| `{loss}` | `{parameter.name}` | {parameter.symbol} | {default} | {allowed} | {parameter.meaning} |"


def test_the_guide_lists_the_hyperparameters_as_the_table_does():
    """All of the equations, and of the named losses those that differ from their equation."""
    guide = (Path(__file__).parents[2] / "docs" / "losses.md").read_text("utf-8")
    shared = {parameter for equation in EQUATIONS for parameter in LOSSES[equation]}
    named = [(function.__name__, LOSSES[table_name(function)]) for function, _ in PAIRS]
    wanted = [documented(n, p) for n, row in named for p in row if p not in shared or n[:-5] in EQUATIONS]
    assert not [line for line in wanted if line not in guide.splitlines()]


MISTAKES = [
    (losses.FocalLoss, {"gama": 2}, TypeError, "gama"),
    (losses.FocalLoss, {"gamma": -1.0}, ArgumentError, "`gamma` must be at least 0; got -1"),
    (losses.FocalLoss, {"gamma": float("nan")}, ArgumentError, "`gamma`"),
    (losses.FocalLoss, {"gamma": [1.0, -1.0]}, ArgumentError, "`gamma` must be finite and at least 0; class 1 has -1"),
    (losses.FocalLoss, {"gamma": "2"}, ArgumentTypeError, "`gamma`"),
    (losses.FocalLoss, {"alpha": 0.25}, ArgumentError, "`alpha` must have one value per class"),
    (losses.CrossEntropyLoss, {"reduction": "meen"}, ArgumentError, "`reduction` must be one of 'mean'"),
    (losses.CrossEntropyLoss, {"impl": "x"}, ArgumentError, "`impl` must be one of 'auto'"),
    (losses.CrossEntropyLoss, {"label_smoothing": 2}, ArgumentError, "`label_smoothing` must be .*at most 1; got 2"),
    (losses.CrossEntropyLoss, {"scale": 0.0}, ArgumentError, "`scale` must be above 0"),
    (losses.CrossEntropyLoss, {"poly": float("inf")}, ArgumentError, "`poly` must be finite"),
    (losses.CrossEntropyLoss, {"ignore_index": 0.5}, ArgumentTypeError, "`ignore_index`"),
    (losses.CrossEntropyLoss, {"inplace": 1}, ArgumentTypeError, "`inplace`"),
    (losses.CrossEntropyLoss, {"normalizer": -1.0}, ArgumentError, "`normalizer`"),
    (losses.CrossEntropyLoss, {"normalizer": 1.0, "reduction": "sum"}, ArgumentError, "`normalizer` replaces"),
    (losses.CrossEntropyLoss, {"weight": [1.0, -1.0]}, ArgumentError, "`weight` must be .*; class 1 has -1"),
    (losses.CrossEntropyLoss, {"weight": [[1.0, 2.0]]}, ArgumentError, r"`weight` must have shape \(C,\)"),
    (losses.CrossEntropyLoss, {"offset": [0.0, float("inf")]}, ArgumentError, "`offset` must be .*; class 1 has inf"),
    (losses.CrossEntropyLoss, {"class_scale": [1.0, 0.0]}, ArgumentError, "`class_scale` must be .*above 0; class 1"),
    (losses.CrossEntropyLoss, {"weight": [1.0] * 3, "offset": [0.0] * 2}, ArgumentError, "`weight` has 3, `offset`"),
    (losses.LogitAdjustedLoss, {"prior": [0.9, 0.1], "tau": -1.0}, ArgumentError, "`tau` must be at least 0; got -1"),
    (losses.LogitAdjustedLoss, {"prior": [1.0, 0.0]}, ArgumentError, "`prior` of class 1 is 0"),
    (losses.LogitAdjustedLoss, {"prior": [0.9, 0.1], "weight": [1.0] * 3}, ArgumentError, "`weight` has 3.*`prior`"),
    (losses.LogitAdjustedLoss, {"prior": [0.9, 0.1], "offset": [0.0] * 3}, ArgumentError, "`offset`.*each of the 2"),
    (losses.BalancedSoftmaxLoss, {"class_counts": [9, 0]}, ArgumentError, "`class_counts` of class '1' is 0"),
    (losses.VectorScalingLoss, {"class_counts": [9, 1], "tau": -1.0}, ArgumentError, "`tau`"),
    (losses.ClassBalancedLoss, {"class_counts": [9, 1], "beta": 2.0}, ArgumentError, "`beta`"),
    (losses.LDAMLoss, {"class_counts": [9, 1], "scale": 0.0}, ArgumentError, "`scale` must be above 0; got 0"),
    (losses.LDAMLoss, {"class_counts": [9, 1], "max_margin": -0.1}, ArgumentError, "`max_margin`"),
    (losses.LDAMLoss, {"class_counts": [9, 1], "margin": 0.1}, TypeError, "margin"),
    (losses.LabelAwareSmoothingLoss, {"class_counts": [9, 1], "head": 1.0}, ArgumentError, "`head`"),
    (losses.PolyLoss, {"epsilon": float("nan")}, ArgumentError, "`epsilon`"),
    (losses.AsymmetricLoss, {"clip": -1}, ArgumentError, "`clip` must be at least 0"),
    (losses.AsymmetricLoss, {"detach_focus": "yes"}, ArgumentTypeError, "`detach_focus`"),
    (losses.SigmoidFocalLoss, {"alpha": 1.5}, ArgumentError, "`alpha` must be at least 0 and at most 1"),
    (losses.ClassBalancedSigmoidLoss, {"class_counts": [9, 1], "weight": [1.0] * 3}, ArgumentError, "`weight`"),
    (losses.BinaryCrossEntropyLoss, {"pos_weight": [-1.0, 1.0]}, ArgumentError, "`pos_weight` must be .*class 0"),
    (losses.TverskyLoss, {"gamma": 0.0}, ArgumentError, "`gamma` must be above 0"),
    (losses.DiceLoss, {"reduction": "batchmean"}, ArgumentError, "`reduction`"),
]


@pytest.mark.parametrize(("module", "options", "kind", "message"), MISTAKES)
def test_a_mistake_is_refused_when_the_module_is_made(module, options, kind, message):
    with pytest.raises(kind, match=message):
        module(**options)


@pytest.mark.parametrize("module", [losses.TverskyLoss, losses.DiceLoss, losses.JaccardLoss, losses.FocalTverskyLoss])
def test_a_normalizer_of_a_loss_without_one_is_refused(module):
    logits, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    with pytest.raises(ArgumentTypeError, match=rf"{module.__name__}.forward\(\) takes no `normalizer`.*; omit it"):
        module()(logits, target, normalizer=2.0)


@pytest.mark.parametrize("spec", SPECS, ids=form_id)
def test_the_attributes_are_what_forward_uses(spec):
    """Changing an attribute changes the loss, and repr shows it; wrong values are refused at the next call."""
    logits, target = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    made = spec.module(**spec.options(4), weight=torch.ones(4))
    assert (made.reduction, made.ignore_index) == ("mean", -100)
    changed = copy.deepcopy(made)
    changed.reduction, changed.ignore_index = "none", 2
    changed.weight = made.weight * torch.arange(1.0, 5.0)
    want = spec.function(
        logits, target, **spec.options(4), reduction="none", ignore_index=2, weight=torch.arange(1.0, 5.0)
    )
    for module in (changed, pickle.loads(pickle.dumps(changed))):
        assert torch.equal(module(logits, target), want)
        assert "reduction='none'" in repr(module)
    with pytest.raises(ArgumentError, match="`reduction`"):
        changed.reduction = "meen"
    assert changed.reduction == "none"


def test_a_weight_can_be_set_on_a_module_made_without_one_and_moves_with_it():
    module = losses.CrossEntropyLoss()
    module.weight = torch.tensor([1.0, 3.0])
    assert "weight" in module.state_dict()
    logits, target = torch.zeros(2, 2), torch.tensor([0, 1])
    assert torch.equal(module(logits, target), losses.cross_entropy(logits, target, weight=[1.0, 3.0]))
    module.reweight([2.0, 0.0])
    assert module.keywords["weight"].tolist() == [2.0, 0.0]
    with pytest.raises(ArgumentError, match="`weight` must be finite and at least 0; class 1 has -1"):
        module.reweight([1.0, -1.0])
    with pytest.raises(ArgumentError, match="`reweight` needs a loss that was made with `weight`"):
        losses.FocalLoss().reweight([1.0, 1.0])


POSITIONAL = {
    "softmax_loss": ["weight"],
    "cross_entropy": ["weight"],
    "focal_loss": ["alpha", "gamma", "reduction"],
    "poly_loss": ["epsilon"],
    "sigmoid_loss": ["weight"],
    "binary_cross_entropy": ["weight"],
    "sigmoid_focal_loss": ["alpha", "gamma", "reduction"],
    "asymmetric_loss": ["gamma_neg", "gamma_pos", "clip"],
    "asymmetric_softmax_loss": ["gamma_pos", "gamma_neg", "label_smoothing"],
}


@every_pair
def test_only_the_arguments_that_the_guide_names_are_positional(function, module):
    def positional(callable_):
        parameters = inspect.signature(callable_).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in OF_A_BATCH]

    want = POSITIONAL.get(function.__name__, [])
    assert positional(function) == positional(module) == want
    guide = (Path(__file__).parents[2] / "docs" / "losses.md").read_text("utf-8")
    for name, arguments in POSITIONAL.items():
        assert f"`{name}({', '.join(['logits', 'target', *arguments])})`" in guide


def test_positional_arguments_are_those_of_torch_torchvision_kornia_and_timm():
    torch.manual_seed(0)
    z, y, w = torch.randn(6, 3), torch.arange(6) % 3, torch.tensor([1.0, 2.0, 3.0])
    labels = (torch.randn(6, 3) > 0).float()
    same = torch.testing.assert_close
    same(losses.cross_entropy(z, y, w), F.cross_entropy(z, y, w))
    same(losses.CrossEntropyLoss(w)(z, y), torch.nn.CrossEntropyLoss(w)(z, y))
    same(losses.binary_cross_entropy(z, labels, w), F.binary_cross_entropy_with_logits(z, labels, w))
    same(losses.BinaryCrossEntropyLoss(w)(z, labels), torch.nn.BCEWithLogitsLoss(w)(z, labels))
    focal = torchvision.ops.sigmoid_focal_loss(z, labels, 0.3, 1.5, "sum")
    same(losses.sigmoid_focal_loss(z, labels, 0.3, 1.5, "sum"), focal)
    same(losses.SigmoidFocalLoss(0.3, 1.5, "sum")(z, labels), focal)
    softmax_focal = (w[y] * (1 - z.softmax(1)[range(6), y]) ** 1.5 * F.cross_entropy(z, y, reduction="none")).sum()
    same(losses.focal_loss(z, y, w, 1.5, "sum"), softmax_focal)
    same(losses.FocalLoss(w, 1.5, "sum")(z, y), softmax_focal)
    asymmetric = timm.loss.AsymmetricLossMultiLabel(3, 0.5, 0.1)(z, labels)
    same(losses.asymmetric_loss(z, labels, 3, 0.5, 0.1, reduction="batchmean"), asymmetric)
    same(losses.AsymmetricLoss(3, 0.5, 0.1, reduction="batchmean")(z, labels), asymmetric)
    same(losses.AsymmetricSoftmaxLoss(0.5, 3, 0.2)(z, y), timm.loss.AsymmetricLossSingleLabel(0.5, 3, 0.2)(z, y))


@pytest.mark.parametrize("call", [lambda: losses.FocalLoss(2.0), lambda: losses.SigmoidFocalLoss(2.0, 0.25)])
def test_the_order_gamma_alpha_is_refused(call):
    with pytest.raises(ArgumentError, match="`alpha` must"):
        call()


@pytest.mark.parametrize("spec", SPECS, ids=form_id)
def test_the_first_argument_is_also_input(spec):
    logits, target = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    want = spec.function(logits, target, **spec.options(4))
    module = spec.module(**spec.options(4))
    assert torch.equal(spec.function(input=logits, target=target, **spec.options(4)), want)
    assert torch.equal(module(input=logits, target=target), want)
    for call in (spec.function, module):
        options = {} if call is module else spec.options(4)
        for arguments, keywords in (((logits,), {}), ((), {"logits": logits})):
            with pytest.raises(ArgumentTypeError, match="`input` is another name of `logits`; pass only one of them"):
                call(*arguments, **keywords, target=target, input=logits, **options)


def test_the_linear_loss_takes_the_names_of_torch():
    torch.manual_seed(0)
    hidden, target, head = torch.randn(6, 3), torch.arange(6) % 4, torch.nn.Linear(3, 4)
    want = losses.linear_softmax_loss(hidden, head.weight, target, bias=head.bias)
    found = losses.linear_softmax_loss(input=hidden, linear_weight=head.weight, target=target, linear_bias=head.bias)
    assert torch.equal(found, want)
    labels = torch.ones(2, 3)
    named = losses.sigmoid_focal_loss(inputs=torch.zeros(2, 3), targets=labels)
    assert torch.equal(named, losses.sigmoid_focal_loss(torch.zeros(2, 3), labels))


@pytest.mark.parametrize("spec", SPECS, ids=form_id)
def test_every_argument_of_the_constructor_takes_effect_as_an_attribute_or_is_refused(spec):
    """A value that is set is used, shown and checked; one from which others were computed says to make a new loss."""
    logits, target = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    other = {"gamma": 1.75, "poly": 0.7, "label_smoothing": 0.3, "scale": 2.5, "margin": 0.2, "clip": 0.3,
             "gamma_pos": 0.3, "gamma_neg": 3.0, "pos_weight": 2.5, "neg_weight": 0.5, "epsilon": 3.0, "smooth": 0.5,
             "alpha": 0.9, "beta": 0.2, "weight": [1.0, 2.0, 3.0, 5.0], "offset": [0.0, 1.0, 2.0, 0.5],
             "class_scale": [1.0, 2.0, 3.0, 0.5], "detach_focus": spec.name != "asymmetric_loss"}  # fmt: skip
    options = {**spec.options(4), "ignore_index": 0}
    made = 0
    for name in inspect.signature(spec.module).parameters:
        if name not in other:
            continue
        module = spec.module(**options)
        if isinstance(getattr(spec.module, name, None), property) or name in module.defaults:
            setattr(module, name, other[name])
            made += 1
        else:
            with pytest.raises(AttributeUseError, match=rf"Make a new loss, {spec.module.__name__}\({name}=\.\.\.\)"):
                setattr(module, name, other[name])
            assert f" {name}=" not in repr(module).replace("(", " ")
            continue
        want = spec.module(**{**options, name: other[name]})
        if name in ("weight", "offset", "pos_weight", "neg_weight"):
            # The constructor combines these with those of the loss; the attribute is what both together are.
            assert torch.as_tensor(module.keywords[name]).tolist() == pytest.approx(other[name])
            assert not torch.equal(module(logits, target), spec.module(**options)(logits, target))
            want = copy.deepcopy(module)
        assert torch.equal(module(logits, target), want(logits, target))
        assert repr(module) == repr(want)
        assert torch.equal(pickle.loads(pickle.dumps(module))(logits, target), want(logits, target))
    assert made >= 2


DERIVED = [
    (losses.LogitAdjustedLoss(prior=[0.9, 0.1]), ["tau", "prior", "empty"]),
    (losses.ClassBalancedLoss(class_counts=[9, 1]), ["beta", "class_counts", "empty"]),
    (losses.VectorScalingLoss(class_counts=[9, 1]), ["gamma", "tau"]),
    (losses.LDAMLoss(class_counts=[9, 1]), ["max_margin", "class_counts"]),
    (losses.LabelAwareSmoothingLoss(class_counts=[9, 1]), ["head", "tail"]),
    (losses.FocalLoss(), ["alpha"]),
    (losses.SigmoidFocalLoss(), ["alpha"]),
    (losses.HierarchicalLoss(tree=from_paths(["a/x", "a/y", "b"])), ["tree", "balance", "class_counts"]),
]


@pytest.mark.parametrize(("module", "names"), DERIVED, ids=lambda x: type(x).__name__)
def test_what_is_not_stored_cannot_be_set(module, names):
    for name in names:
        with pytest.raises(AttributeUseError, match=f"`{name}` of {type(module).__name__} cannot be set.*Make a new"):
            setattr(module, name, 0.5)
    with pytest.raises(ArgumentError, match="`reduction` must be one of"):
        module.reduction = "meen"
    with pytest.raises(ArgumentTypeError, match="`ignore_index` must be a whole number"):
        module.ignore_index = 0.5


def test_a_misspelt_attribute_is_refused_and_other_attributes_are_not():
    module = losses.FocalLoss()
    for wrong, right in (("gama", "gamma"), ("reductoin", "reduction"), ("weights", "weight")):
        with pytest.raises(AttributeUseError, match=f"FocalLoss has no attribute `{wrong}`; did you mean `{right}`"):
            setattr(module, wrong, 1.0)
    with pytest.raises(ArgumentError, match="`gamma` must be at least 0; got -1"):
        module.gamma = -1.0
    for other, names in (
        (losses.AsymmetricLoss(), ("gamma", "eps", "disable_torch_grad_focal_loss")),
        (losses.DiceLoss(), ("alpha", "beta")),
        (losses.SigmoidFocalLoss(), ("clip",)),
        (losses.CrossEntropyLoss(), ("smoothing", "alpha", "pos_weight", "class_counts", "size_average")),
        (losses.LDAMLoss(class_counts=[50, 30, 5]), ("s",)),
    ):
        for name in names:
            with pytest.raises(AttributeUseError, match=f"`{name}`"):
                setattr(other, name, 0.3)
    module.step, module.note, module._gama = 3, "warm-up", 1
    module.head = torch.nn.Linear(2, 2)
    module.register_buffer("seen", torch.zeros(1))
    module.register_forward_hook(lambda *_: None)
    assert module(torch.zeros(1, 2), torch.tensor([0])) > 0

    class Annealed(losses.LogitAdjustedLoss):
        def __init__(self, tau, prior):
            super().__init__(tau=tau, prior=prior)
            self.tau, self.gammas, self.prior = tau, [1.0], prior

    assert Annealed(0.5, [0.9, 0.1]).tau == 0.5


def test_numbers_and_vectors_and_parameters_replace_each_other():
    logits, target = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    module = losses.FocalLoss(gamma=2.0)
    for gamma in ([0.5, 1.0, 2.0], torch.nn.Parameter(torch.ones(3)), 1.5, torch.tensor([1.0, 2.0, 0.0])):
        module.gamma = gamma
        assert torch.equal(module(logits, target), losses.focal_loss(logits, target, gamma=gamma))
        assert ("gamma" in dict(module.named_parameters())) == isinstance(gamma, torch.nn.Parameter)
        assert ("gamma" in dict(module.named_buffers())) == (isinstance(gamma, list) or type(gamma) is torch.Tensor)
    state = {name: 2 * value for name, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    assert module.gamma.tolist() == [2.0, 4.0, 0.0]
    with pytest.raises(ArgumentError, match="`gamma` requires a gradient"):
        module.gamma = torch.ones(3, requires_grad=True)
    module.weight = None
    assert module.weight is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.FocalLoss(gama=2), r"FocalLoss has no argument `gama`; did you mean gamma\?"),
        (
            lambda: losses.LogitAdjustedLoss(priors=[0.5, 0.5]),
            r"LogitAdjustedLoss has .* `priors`; did you mean prior\?",
        ),
        (lambda: losses.CrossEntropyLoss(class_weight=[1, 2]), r"`class_weight`; did you mean weight\?"),
        (lambda: losses.DiceLoss(xyzzy=1), "DiceLoss has no argument `xyzzy`; expected one of"),
        (lambda: losses.focal_loss(LOGITS, LABELS, gama=2), r"focal_loss has no argument `gama`; did you mean gamma\?"),
    ],
)
def test_a_misspelt_argument_gets_the_nearest_name(call, message):
    with pytest.raises(TypeError, match=message) as raised:
        call()
    assert isinstance(raised.value, ArgumentTypeError)


LOGITS, LABELS = torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    "loss",
    [
        losses.CrossEntropyLoss(),
        losses.FocalLoss(),
        losses.LogitAdjustedLoss(prior=[0.5, 0.3, 0.2]),
        losses.AsymmetricSoftmaxLoss(),
        losses.SigmoidFocalLoss(),
        losses.DiceLoss(),
        losses.softmax_loss,
        losses.sigmoid_loss,
    ],
    ids=lambda loss: getattr(loss, "__name__", type(loss).__name__),
)
@pytest.mark.parametrize("labels", [LABELS, torch.zeros(2, 3, dtype=torch.int64)], ids=["indices", "rows"])
def test_swapped_arguments_are_named(loss, labels):
    with pytest.raises(ArgumentTypeError, match=r"got torch.int64. The logits come first: loss\(logits, target\)"):
        loss(labels, LOGITS)


def test_a_loss_of_a_user_keeps_its_constructor():
    class Mine(losses.FocalLoss):
        def __init__(self, **options):
            super().__init__(gamma=options.pop("my_gamma"), **options)

    assert Mine(my_gamma=1.5).gamma == 1.5
    with pytest.raises(TypeError, match="did you mean gamma"):
        Mine(my_gamma=1.5, gama=2)
