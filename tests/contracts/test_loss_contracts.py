"""What every loss does besides being right: memory, graph, modes, compilation, copies, precision of its buffers."""

from __future__ import annotations

import copy
import pickle
import weakref
from functools import partial

import pytest
import torch
from tests.contracts.loss_specs import EQUATIONS, EVERY_FORM, FUSED, SPECS, form_id, one_hot, sample, value_and_gradient

from counterpoise import losses
from counterpoise.core.errors import UnsupportedError
from counterpoise.kernels import dispatch

every_form = pytest.mark.parametrize(("spec", "impl"), EVERY_FORM, ids=form_id)
every_loss = pytest.mark.parametrize("spec", SPECS, ids=form_id)
closed = pytest.mark.parametrize("spec", [s for s, impl in EQUATIONS if impl == "closed_form"], ids=form_id)
fused = pytest.mark.parametrize(("spec", "impl"), [form for form in EQUATIONS if form[1] in FUSED], ids=form_id)


@fused
def test_a_fused_implementation_is_one_node_and_saves_one_tensor(spec, impl, monkeypatch):
    """If the reference ran instead, autograd would record its operations and save their inputs."""
    logits, target = sample((6, 4), dtype=torch.float32)
    ran, computed = [], dispatch._computed
    monkeypatch.setattr(dispatch, "_computed", lambda *arguments: ran.append(arguments[:2]) or computed(*arguments))
    for y in (target, one_hot(target, 4, torch.float32)):
        leaf = logits.clone().requires_grad_()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            value = spec.loss(4, impl, weight=torch.ones(4))(leaf, y)
        assert [t.shape for t in saved] == [logits.shape]
        assert ran.pop() == (impl, spec.family)
        assert not ran
        assert value.grad_fn.name() == "_FusedLossBackward"
        assert [type(node).__name__ for node, _ in value.grad_fn.next_functions if node] == ["AccumulateGrad"]


@fused
def test_the_gradient_is_the_saved_tensor_itself(spec, impl):
    """One tensor of the logits' size in forward and backward together, unless the graph is kept."""
    logits, target = sample((6, 4), dtype=torch.float32)
    leaf, saved = logits.clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.data_ptr()) or t, lambda t: t):
        value = spec.loss(4, impl)(leaf, target)
    (3.0 * value).backward()
    assert [leaf.grad.data_ptr()] == saved


@pytest.mark.fault("L27")
@every_form
def test_backward_twice_and_any_upstream_gradient(spec, impl):
    logits, target = sample((6, 4))
    for reduction in ("mean", "none"):
        leaf = logits.clone().requires_grad_()
        value = spec.loss(4, impl, reduction=reduction)(leaf, target)
        upstream = torch.linspace(1.0, 2.0, value.numel(), dtype=torch.float64).reshape(value.shape)
        first, again, tripled = (
            torch.autograd.grad(value, leaf, k * upstream, retain_graph=True)[0] for k in (1.0, 1.0, 3.0)
        )
        (last,) = torch.autograd.grad(value, leaf, upstream)
        assert torch.equal(first, again)
        assert torch.equal(first, last)
        torch.testing.assert_close(tripled, 3.0 * first)
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(value, leaf, upstream)


@pytest.mark.fault("L27")
@fused
def test_a_loss_scale_beyond_float16_keeps_small_gradients(spec, impl):
    """GradScaler starts at 65536, which float16 cannot hold, and a mean over many rows has gradients it cannot hold."""
    logits, target = sample((4096, 3), dtype=torch.float16)
    leaf = logits.clone().requires_grad_()
    (spec.loss(3, impl)(leaf, target) * 65536.0).backward()
    _, exact = value_and_gradient(spec.loss(3, "reference"), logits.double(), target)
    torch.testing.assert_close(leaf.grad.double(), exact * 65536.0, rtol=4e-3, atol=1e-4)


@pytest.mark.fault("L26")
@every_form
def test_inputs_are_left_alone(spec, impl):
    """A second consumer of the logits (distillation, a metric) sees what the network gave."""
    logits, target = sample((6, 4), dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    hidden = leaf * 1.0
    value = spec.loss(4, impl)(hidden, target)
    assert hidden._version == 0
    assert torch.equal(hidden.detach(), logits)
    (value + hidden.pow(2).sum()).backward()
    _, alone = value_and_gradient(spec.loss(4, impl), logits, target)
    torch.testing.assert_close(leaf.grad, alone + 2 * logits)


@pytest.mark.fault("L29")
@every_form
def test_modes_are_respected_and_left_as_they_were(spec, impl):
    logits, target = sample((6, 4), dtype=torch.float32)
    want = spec.loss(4, impl)(logits, target)
    leaf = logits.clone().requires_grad_()
    loss = spec.loss(4, impl)
    with torch.no_grad():
        assert torch.equal(loss(leaf, target), want)
        assert not loss(leaf, target).requires_grad
        with pytest.raises(ValueError, match="target"):
            loss(leaf, target[:3])
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert torch.equal(loss(leaf, target), want)
        assert torch.is_inference_mode_enabled()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, gradient = value_and_gradient(loss, logits, target)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert inside.dtype == torch.float32
    torch.testing.assert_close((inside, gradient), value_and_gradient(loss, logits, target))


@pytest.mark.fault("L29")
@fused
def test_under_autocast_a_bfloat16_head_works(spec, impl):
    torch.manual_seed(0)
    head, (features, target) = torch.nn.Linear(5, 3), sample((8, 3))
    features = torch.cat([features, features[:, :2]], 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features)
        value = spec.loss(3, impl)(logits, target)
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert head.weight.grad.isfinite().all()
    assert head.weight.grad.any()


@pytest.mark.fault("L28")
@fused
def test_double_backward_refuses(spec, impl):
    logits, target = sample((3, 3))
    value = spec.loss(3, impl)(leaf := logits.clone().requires_grad_(), target)
    with pytest.raises(UnsupportedError, match=r'create_graph=True.*impl="reference"') as caught:
        torch.autograd.grad(value, leaf, create_graph=True)
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.fault("L28")
@pytest.mark.parametrize("spec", [s for s in SPECS if "reference" in s.impls], ids=form_id)
def test_the_reference_differentiates_twice(spec):
    logits, target = sample((3, 3))
    loss = spec.loss(3, "reference")
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits.clone().requires_grad_(), fast_mode=True)


@pytest.mark.fault("L28")
@every_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_auto_differentiates_twice(spec, reduction):
    """Behind a layer, so that the logits are no leaf: the product of Hessian and vector is that of the reference."""
    inputs, target = sample((4, 3))
    assert torch.autograd.gradgradcheck(
        lambda z: spec.loss(3, None, reduction=reduction)(z, target), inputs.clone().requires_grad_(), fast_mode=True
    )
    products = []
    for impl in (None, *(["reference"] if "reference" in spec.impls else [])):
        matrix = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).reshape(3, 3).requires_grad_()
        value = spec.loss(3, impl, reduction=reduction)(inputs @ matrix, target).sum()
        value.backward(retain_graph=True)  # a first backward that keeps the graph, and then one that is differentiated
        first, matrix.grad = matrix.grad, None
        (gradient,) = torch.autograd.grad(value, matrix, create_graph=True)
        torch.testing.assert_close(gradient, first)
        products += torch.autograd.grad((gradient * matrix.detach().cos()).sum(), matrix)
        assert products[-1].any()
    torch.testing.assert_close(products[0], products[-1])


def test_what_double_backward_keeps_is_kept_until_the_backward_and_checked():
    logits, target = sample((4, 3))

    def loss(**options):
        hidden = logits.clone().requires_grad_() * 1.0
        return hidden, losses.cross_entropy(hidden, target, **options)

    hidden, value = loss()
    kept = weakref.ref(hidden)
    del hidden
    assert kept() is not None  # needed if the gradient is differentiated
    value.backward()
    assert kept() is None

    hidden, value = loss()
    hidden.detach().mul_(2.0)  # changes nothing for an ordinary backward, whose gradient is there already
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, hidden, create_graph=True)

    hidden, value = loss(inplace=True)
    with pytest.raises(UnsupportedError, match="`inplace=True`, which overwrites the logits"):
        value.backward(create_graph=True)


@pytest.mark.fault("L28")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # torch's own jvp uses it
@fused
def test_transforms_fall_back_or_refuse(spec, impl):
    logits, target = sample((4, 3))
    _, want = value_and_gradient(spec.loss(3, "reference"), logits, target)
    auto, strict = (spec.loss(3, form) for form in ("auto", impl))
    torch.testing.assert_close(torch.func.grad(lambda z: auto(z, target))(logits), want)
    rows = torch.func.vmap(lambda z, y: auto(z.unsqueeze(0), y.unsqueeze(0)))(logits, target)
    torch.testing.assert_close(rows[1], auto(logits[1:2], target[1:2]))
    tangent = torch.ones_like(logits)
    _, slope = torch.func.jvp(lambda z: auto(z, target), (logits,), (tangent,))
    torch.testing.assert_close(slope, (want * tangent).sum())
    with pytest.raises(UnsupportedError, match=r"torch\.func.*reference"):
        torch.func.grad(lambda z: strict(z, target))(logits)


@fused
def test_learnt_weights_fall_back_or_refuse(spec, impl):
    logits, target = sample((4, 3))
    u = torch.ones(4, dtype=torch.float64, requires_grad=True)
    spec.loss(3, "auto")(logits, target, sample_weight=u).backward()
    assert u.grad.isfinite().all()
    with pytest.raises(UnsupportedError, match="requires one"):
        spec.loss(3, impl)(logits, target, sample_weight=u)


@pytest.mark.fault("L36")
@closed
def test_without_a_gpu_auto_is_the_closed_form_and_triton_says_why_not(spec, monkeypatch):
    logits, target = sample((4, 3))
    same = [value_and_gradient(spec.loss(3, impl), logits, target) for impl in ("auto", "closed_form")]
    assert torch.equal(same[0][0], same[1][0])
    assert torch.equal(same[0][1], same[1][1])
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UnsupportedError, match=r'impl="triton".*needs (Triton|logits on a GPU).*"auto"'):
        spec.function(logits, target, **spec.options(3), impl="triton")


@pytest.mark.fault("L31")
@every_form
def test_compiles_without_a_graph_break(spec, impl):
    torch._dynamo.reset()
    logits, target = sample((6, 4), dtype=torch.float32)
    for weight in ({"weight": torch.ones(4)}, {}):
        module = spec.module(**spec.options(4), **({} if impl is None else {"impl": impl}), **weight)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        want = value_and_gradient(module, logits, target)
        torch.testing.assert_close(value_and_gradient(compiled, logits, target), want)


@pytest.mark.fault("L31")
@pytest.mark.parametrize(
    "function",
    [losses.focal_loss, losses.sigmoid_focal_loss, losses.asymmetric_loss, losses.binary_cross_entropy],
    ids=lambda function: function.__name__,
)
def test_functions_compile_without_a_graph_break(function):
    torch._dynamo.reset()
    logits, target = sample((6, 4), dtype=torch.float32)
    target = target if function is losses.focal_loss else torch.nn.functional.one_hot(target, 4).float()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    want = value_and_gradient(function, logits, target)
    torch.testing.assert_close(value_and_gradient(compiled, logits, target), want)


@pytest.mark.fault("L31")
@pytest.mark.parametrize("loss", [losses.FocalLoss, losses.SigmoidFocalLoss])
def test_modules_with_other_hyperparameters_compile_in_the_same_process(loss):
    """From the second value on, torch.compile takes a number as symbolic."""
    torch._dynamo.reset()
    logits, target = sample((6, 4), dtype=torch.float32)
    target = target if loss is losses.FocalLoss else torch.nn.functional.one_hot(target, 4).float()
    for gamma in (2.0, 1.5, 0.5):
        module = loss(gamma=gamma)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        want = value_and_gradient(module, logits, target)
        torch.testing.assert_close(value_and_gradient(compiled, logits, target), want)


@pytest.mark.fault("L31")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs and sync_debug_mode need a GPU")
@fused
def test_on_cuda_nothing_waits_for_the_device(spec, impl):
    logits, target = (x.cuda() for x in sample((6, 4), dtype=torch.float32))
    module = spec.module(**spec.options(4), impl=impl).cuda()
    want = value_and_gradient(spec.loss(4, "reference"), logits.cpu(), target.cpu())
    torch.cuda.set_sync_debug_mode("error")
    try:
        value, gradient = value_and_gradient(module, logits, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close((value.cpu(), gradient.cpu()), want)


@pytest.mark.fault("L33")
@every_form
def test_twice_is_bit_equal(spec, impl):
    logits, target = sample((64, 10), dtype=torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (value_and_gradient(spec.loss(10, impl), logits, target) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@every_loss
def test_module_is_the_function(spec):
    logits, target = sample((6, 4))
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    module = spec.module(**spec.options(4), weight=weight)
    want = spec.loss(4, None, weight=weight)(logits, target, sample_weight=torch.arange(6.0))
    assert torch.equal(module(logits, target, sample_weight=torch.arange(6.0)), want)
    for name in spec.per_class:
        assert name in repr(module) or name in ("class_counts", "prior")


@pytest.mark.fault("L30")
@every_loss
def test_modules_copy_pickle_and_persist(spec):
    logits, target = sample((6, 4))
    module = spec.module(**spec.options(4), weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    want = module(logits.requires_grad_(), target).detach()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(logits, target), want)
    fresh = spec.module(**spec.options(4), weight=torch.ones(4))
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(logits, target), want)
    moved = copy.deepcopy(module).to("meta")
    assert all(buffer.device.type == "meta" for buffer in moved.buffers())
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Sequential(module), use_buffers=True)
    averaged.update_parameters(torch.nn.Sequential(module))
    assert torch.equal(averaged.module[0](logits, target), want)


@pytest.mark.fault("W5")
@every_loss
def test_a_half_precision_model_keeps_full_precision_weights(spec):
    """1e-8 is 0 in float16, and 1e6 infinite."""
    weight = torch.tensor([1e-8, 1.0, 1e6])
    logits, target = sample((6, 3))
    module = spec.module(**spec.options(3), weight=weight)
    want = module(logits.half().float(), target)
    for half in (copy.deepcopy(module).half(), copy.deepcopy(module).to(torch.bfloat16)):
        assert all(buffer.dtype in (torch.float32, torch.float64) for buffer in half.buffers())
        torch.testing.assert_close(half(logits.half(), target), want)


@pytest.mark.fault("L9")
@every_form
def test_every_integer_dtype_is_an_index(spec, impl):
    logits, target = sample((6, 2))
    want = spec.loss(2, impl)(logits, target)
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        assert torch.equal(spec.loss(2, impl)(logits, target.to(dtype)), want)


@pytest.mark.parametrize("function", [partial(losses.cross_entropy), partial(losses.binary_cross_entropy)])
def test_blocks_change_nothing(function, monkeypatch):
    """Many small blocks, one block: the same numbers, also for images split in the middle."""
    logits, target = sample((5, 3, 4, 2))
    soft = torch.softmax(sample((5, 3, 4, 2), seed=3)[0], 1)
    for y in (target, soft):
        for extra in ({}, {"reduction": "none"}):
            want = value_and_gradient(partial(function, **extra), logits, y)
            for size in (3, 7, 24, 50):
                monkeypatch.setattr("counterpoise.kernels.closed_softmax._HARD_BLOCK", size)
                monkeypatch.setattr("counterpoise.kernels.closed_softmax._SOFT_BLOCK", size)
                monkeypatch.setattr("counterpoise.kernels.closed_softmax._CPU_BLOCK", size)
                monkeypatch.setattr("counterpoise.kernels.closed_sigmoid._BLOCK", size)
                monkeypatch.setattr("counterpoise.kernels.closed_sigmoid._SMALLEST_BLOCK", size)
                torch.testing.assert_close(value_and_gradient(partial(function, **extra), logits, y), want)
            monkeypatch.undo()
