"""Heads that are trained together equal heads that are trained alone, and plain loops of PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from counterpoise import losses
from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.dataset import load
from counterpoise.workflow.strategy import CATALOG, strategy_named
from counterpoise.workflow.training.data import shuffled_order
from counterpoise.workflow.training.frozen.arms import Arm, check_available, reason_unavailable
from counterpoise.workflow.training.frozen.features import Features
from counterpoise.workflow.training.frozen.heads import HeadStack
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.settings import ResolvedSettings

SETTINGS = ResolvedSettings(
    model="none", epochs=4, batch_size=64, learning_rate=1e-2, optimizer="sgd", momentum=0.9, weight_decay=0.1,
    warmup=0.1, frozen=True, pairs=((1e-2, 0.1), (3e-3, 0.1)),
    image_size=8, resize="crop", augment=(), pretrained=False, precision="no", cache_gib=4.0, steps_per_epoch=0,
)  # fmt: skip
TRAINED = [s for s in CATALOG.values() if s.reuses is None and reason_unavailable(s, views=2) is None]


def setup_of_digits(*, views: int = 0, width: int = 64, **settings) -> FrozenSetup:
    """The digits with their pixels as features, and noisy copies of them as views."""
    data, values, random = load("digits"), {}, np.random.default_rng(0)
    for split in ("train", "val", "test"):
        images = data.subset(split)
        pixels = np.stack([images[i][..., 0].reshape(-1) for i in range(len(images))])[:, :width] / 16
        copies = 1 + (views if split == "train" else 0)
        noise = random.normal(size=(copies, *pixels.shape)) * (np.arange(copies) > 0)[:, None, None]
        values[split] = (pixels + 0.3 * noise).transpose(1, 0, 2).astype(np.float32)
    resolved = replace(SETTINGS, **settings)
    steps = -(-len(values["train"]) // resolved.batch_size)
    return FrozenSetup(data, replace(resolved, steps_per_epoch=steps), {}, features=Features(values, {}, None))


def trained(setup: FrozenSetup, arms: list[Arm], **options) -> HeadStack:
    stack = HeadStack(setup, arms, **options)
    while not stack.finished:
        stack.run_epoch(lambda steps: None)
    return stack


def states(stack: HeadStack) -> dict[Arm, dict[str, torch.Tensor]]:
    return {(h.arm.strategy.name, h.arm.seed, h.arm.learning_rate): h.model_state() for h in stack.heads}


@pytest.mark.parametrize("views", [0, 2])
def test_an_arm_trained_alone_equals_the_arm_in_the_stack(views):
    setup = setup_of_digits(views=views, epochs=3)
    strategies = [s for s in TRAINED if s.name != "balanced-softmax" and reason_unavailable(s, views=views) is None]
    arms = [Arm(s, seed, rate, 0.1) for s in strategies for seed in (0, 1) for rate in (1e-2, 3e-3)]
    together = states(trained(setup, arms, dtype=torch.float64))
    assert len(together) == len(arms) == 4 * len(strategies)
    for arm in arms[views :: 9 if views else 5]:
        alone = states(trained(setup, [arm], dtype=torch.float64))
        ((key, state),) = alone.items()
        for name, value in state.items():
            torch.testing.assert_close(together[key][name], value, rtol=0, atol=1e-10)
    different = {tuple(v["head.weight"].flatten()[:8].tolist()) for v in together.values()}
    assert len(different) == len(arms), "some arms ended with the same weights"


def test_the_stack_equals_a_plain_loop_with_torch_adamw():
    setup = setup_of_digits()
    arms = [Arm(strategy_named(name), 3, 1e-2, 0.1) for name in ("baseline", "logit-adjusted", "weighted-ce")]
    stack = trained(setup, arms, dtype=torch.float64)
    (head,) = (h for h in stack.heads if h.arm.strategy.name == "weighted-ce")
    n = setup.counts.counts
    weight = torch.from_numpy(1 / n)
    train = setup.tensors("train", torch.float64)
    torch.manual_seed(3)
    layer = nn.Linear(64, 10).double()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=0.1)
    settings, order = setup.settings, shuffled_order(len(train), 3)
    rows = np.concatenate([order.draw(n) for n in range(5)])
    for step in range(settings.steps):
        part = rows[step * 64 : (step + 1) * 64]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        loss = nn.functional.cross_entropy(
            layer(train.batch(torch.from_numpy(part))), train.labels[part], weight=weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(head.model_state()["head.weight"], layer.weight.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(head.model_state()["head.bias"], layer.bias.detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("name", ["focal", "sigmoid_focal", "class_balanced"])
def test_the_loss_of_each_head_is_that_of_the_module(name, reduction):
    from counterpoise.workflow.training.frozen.stack import HeadLoss

    make = {
        "focal": lambda: losses.FocalLoss(weight=[1.0, 2.0, 5.0], reduction=reduction),
        "sigmoid_focal": lambda: losses.SigmoidFocalLoss(reduction=reduction),
        "class_balanced": lambda: losses.ClassBalancedLoss(class_counts=[50, 5, 1], reduction=reduction),
    }[name]
    family = "sigmoid" if name == "sigmoid_focal" else "softmax"
    logits, target = torch.randn(7, 4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 0, 1, 0])
    found = HeadLoss(make(), family)(torch.stack([logits, -logits]), torch.stack([target, target]))[0]
    for k in range(4):
        torch.testing.assert_close(found[k], make()(logits[:, k], target))


def test_soft_targets_of_mixup_are_weighted_as_in_the_module():
    from counterpoise.workflow.training.frozen.stack import HeadLoss

    weight = [1.0, 2.0, 5.0]
    logits, target = torch.randn(7, 4, 3), torch.rand(7, 3).softmax(1)
    found = HeadLoss(losses.CrossEntropyLoss(weight=weight), "softmax")(logits[None], target[None])[0]
    for k in range(4):
        torch.testing.assert_close(found[k], losses.CrossEntropyLoss(weight=weight)(logits[:, k], target))


def test_an_arm_that_diverges_is_stopped_and_the_others_are_unharmed():
    setup = setup_of_digits()
    names = ("baseline", "focal", "logit-adjusted")
    arms = [Arm(strategy_named(name), 0, 1e-2, 0.1) for name in names]
    alone = states(trained(setup, arms))
    stack = trained(setup, [*arms, Arm(strategy_named("baseline"), 0, 1e38, 0.1)])
    (bad,) = (h for h in stack.heads if h.error)
    assert "`learning_rate`, now 1e+38" in bad.error
    assert bad.history[-1]["loss"] is not None
    assert not bad.model_state()["head.weight"].any()
    for key, state in alone.items():
        torch.testing.assert_close(states(stack)[key]["head.weight"], state["head.weight"], rtol=1e-4, atol=1e-5)
    assert all(h.history[-1]["val_balanced_accuracy"] > 0.5 for h in stack.heads if not h.error)


def test_a_stack_continues_from_its_state_bit_for_bit():
    setup = setup_of_digits(views=1)
    arms = [Arm(s, 0, 1e-2, 0.1) for s in TRAINED]
    whole = trained(setup, arms)
    for epochs in (1, 3):  # before and after the second stage of decoupled training begins
        first = HeadStack(setup, arms)
        for _ in range(epochs):
            first.run_epoch(lambda steps: None)
        tensors, metadata = first.state_dict()
        tensors = {name: value.clone() for name, value in tensors.items()}
        for _ in range(setup.settings.epochs - epochs):
            first.run_epoch(lambda steps: None)
        second = HeadStack(setup, arms)
        second.load_state_dict(tensors, metadata)
        while not second.finished:
            second.run_epoch(lambda steps: None)
        for a, b in zip(whole.heads, second.heads, strict=True):
            assert a.history == b.history
            assert a.class_weight_history == b.class_weight_history
            assert all(torch.equal(v, b.model_state()[k]) for k, v in a.model_state().items()), a.arm.strategy.name


def test_the_state_of_other_heads_is_refused():
    setup = setup_of_digits()
    tensors, metadata = HeadStack(setup, [Arm(strategy_named("focal"), 0, 1e-2, 0.1)]).state_dict()
    stack = HeadStack(setup, [Arm(strategy_named("ldam"), 0, 1e-2, 0.1)])
    with pytest.raises(ValueError, match="other heads"):
        stack.load_state_dict(tensors, metadata)


@pytest.mark.parametrize("name", ["cmo", "hierarchical-separate", "minority-augment"])
def test_what_needs_pixels_is_named_with_the_reason(name):
    with pytest.raises(
        ArgumentError, match=f"strategy '{name}' cannot be trained on frozen features: it|strategy .cmo"
    ):
        check_available(CATALOG[name], views=0)
    assert (reason_unavailable(CATALOG["minority-augment"], views=2)) is None


def test_decoupled_trains_a_second_head_on_balanced_classes():
    setup = setup_of_digits(epochs=5)
    arms = [Arm(strategy_named(n), 0, 1e-2, 0.1) for n in ("baseline", "decoupled")]
    stack = HeadStack(setup, arms)
    weights = []
    while not stack.finished:
        stack.run_epoch(lambda steps: None)
        weights.append({h.arm.strategy.name: h.model_state()["head.weight"].clone() for h in stack.heads})
    shares = [h.recipe.retraining.start_epoch for h in stack.heads if h.recipe.retraining]
    (start,) = shares
    assert 0 < start < 5
    rates = {h.arm.strategy.name: [row["learning_rate"] for row in h.history] for h in stack.heads}
    assert rates["decoupled"][start - 1] < 1e-4 < rates["decoupled"][start]  # the schedule starts anew
    prior = next(h.prior for h in stack.heads if h.arm.strategy.name == "decoupled")
    np.testing.assert_allclose(prior.sampling_prior, 0.1)


def test_a_custom_strategy_with_adjustment_after_training_is_scored_after_it():
    strategy = Strategy("mine", "focal", posthoc="adjust_logits")
    setup = setup_of_digits()
    stack = trained(setup, [Arm(strategy, 0, 1e-2, 0.1), Arm(CATALOG["baseline"], 0, 1e-2, 0.1)])
    by_name = {h.arm.strategy.name: h for h in stack.heads}
    outputs = dict(zip((h.arm.strategy.name for h in stack.heads), stack.outputs("val").values(), strict=True))
    final = by_name["mine"].final_predictions({"val": outputs["mine"]})[0]["val"].logits
    assert not np.allclose(final, outputs["mine"])
    np.testing.assert_allclose(outputs["mine"], outputs["baseline"], atol=1e-5)


@pytest.mark.parametrize("views", [0, 2])
def test_features_that_do_not_fit_in_memory_give_the_same_heads(views):
    setup = setup_of_digits(views=views, epochs=2)
    small = setup_of_digits(views=views, epochs=2, cache_gib=1e-6)
    arms = [Arm(CATALOG[name], 0, 1e-2, 0.1) for name in ("baseline", "mixup", "logit-adjusted")]
    whole, parts = trained(setup, arms), trained(small, arms)
    assert parts.train._ready is None
    assert whole.train._ready is not None
    for a, b in zip(whole.heads, parts.heads, strict=True):
        assert all(torch.equal(v, b.model_state()[k]) for k, v in a.model_state().items())
    for split in ("val", "test", "train"):
        for a, b in zip(whole.outputs(split).values(), parts.outputs(split).values(), strict=True):
            np.testing.assert_array_equal(a, b)
