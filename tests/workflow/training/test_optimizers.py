"""Optimisers by name and by function: what they do, that they resume bit for bit, and what is refused."""

from __future__ import annotations

import copy
import csv
import functools
import json

import pytest
import safetensors.torch
import torch

from counterpoise.core.artifacts import Run
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.workflow.training import RunFolder, Settings, TrainingSetup, train
from counterpoise.workflow.training.loop import TrainingLoop


class Interrupted(Exception):
    pass


class Counting(torch.optim.Optimizer):
    """An optimiser with numbers in its groups, and counters, flags, other dtypes and None in its state."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr, "k": 0, "speed": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            group["speed"] *= 0.97
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["sum"] = state.get("sum", torch.zeros_like(p, dtype=torch.float64)) + p.grad.double()
                state["seen"] = state.get("seen", torch.tensor(0)) + 1
                state["odd"], state["nothing"], state["rate"] = state["count"] % 2 == 1, None, 1 / 3
                p -= group["lr"] * group["speed"] / state["seen"] * state["sum"].to(p.dtype) / group["k"]


def two_groups(params, lr):
    params = list(params)
    return torch.optim.SGD([{"params": params[:-2], "lr": lr / 10}, {"params": params[-2:]}], lr=lr, momentum=0.9)


OPTIMIZERS = {
    "adamw": "adamw",
    "Adam": torch.optim.Adam,
    "NAdam": torch.optim.NAdam,
    "Adafactor": functools.partial(torch.optim.Adafactor, lr=0.01),
    "ASGD": torch.optim.ASGD,
    "plain SGD": lambda params: torch.optim.SGD(params, lr=0.05),
    "Counting": Counting,
    "two groups": functools.partial(two_groups, lr=0.02),
}


def stop_after(step):
    def stop(done, total):
        if done == step:
            raise Interrupted

    return stop


@pytest.mark.fault("C7")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes_to_the_bits_of_an_uninterrupted_run(dataset, tmp_path, name):
    strategy = "decoupled" if name == "adamw" else "baseline"  # with an optimiser of the head only at the end
    options = {"epochs": 3, "optimizer": OPTIMIZERS[name]}
    train(strategy, dataset, out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(strategy, dataset, out=tmp_path / "parts", progress=stop_after(5), **options)
    run = train(strategy, dataset, out=tmp_path / "parts", resume=True, **options)
    assert run.starts == (0, 4)
    for file in ("model.safetensors", "history.csv"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_adamw_takes_the_steps_of_torch(dataset):
    chosen = Settings(epochs=2, optimizer="adamw", learning_rate=0.01, weight_decay=0.1, augment="none", warmup=0.0)
    loop = loop_of(TrainingSetup.prepare(dataset, chosen))
    twin = copy.deepcopy(loop.model)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1)
    batches = list(loop.loader)
    for step, batch in enumerate(batches):
        theirs.param_groups[0]["lr"] = loop.settings.learning_rate_at(step)
        theirs.zero_grad()
        loop.loss(twin.train()(batch["images"].float().div(255)), batch["labels"]).backward()
        theirs.step()
    loop.run_epoch(lambda done: None)
    for ours, other in zip(loop.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


def loop_of(setup):
    from counterpoise.models import build_model
    from counterpoise.workflow.strategy import CATALOG
    from counterpoise.workflow.training.recipe import build_recipe

    torch.manual_seed(0)
    recipe = build_recipe(
        CATALOG["baseline"], setup.train_labels, setup.counts, symmetries=frozenset(), seed=0, epochs=1
    )
    model = build_model("resnet20", 3)
    return TrainingLoop(model, recipe.loss, setup.settings, 0, setup.images["train"], recipe.order, recipe.transform)


def test_the_schedule_multiplies_the_rate_of_every_group(dataset):
    settings = Settings(epochs=4, optimizer=two_groups, learning_rate=0.2, warmup=0.25)
    loop = loop_of(TrainingSetup.prepare(dataset, settings))
    seen = []
    step = loop.optimizer.optimizer.step
    loop.optimizer.optimizer.step = lambda *a, **k: (
        seen.append([group["lr"] for group in loop.optimizer.param_groups]),
        step(*a, **k),
    )
    for _ in range(4):
        loop.run_epoch(lambda done: None)
    expected = [loop.settings.learning_rate_at(n) for n in range(8)]
    assert expected[0] == pytest.approx(0.1)
    assert max(expected) == pytest.approx(0.2)
    assert [rates[1] for rates in seen] == pytest.approx(expected)
    assert [rates[0] for rates in seen] == pytest.approx([rate / 10 for rate in expected])


def test_a_function_keeps_its_own_rate_unless_one_is_given(dataset, tmp_path):
    own = functools.partial(torch.optim.Adam, lr=3e-4)
    assert Settings(optimizer=own).resolve(dataset).learning_rate == 3e-4
    assert Settings(optimizer=own, learning_rate=0.1).resolve(dataset).learning_rate == 0.1
    train("baseline", dataset, epochs=1, optimizer=own, lr=0.1, out=tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open() as lines:
        assert float(next(csv.DictReader(lines))["learning_rate"]) == pytest.approx(0.1 * 0.5)
    settings = Run.load(tmp_path / "run" / "run.json").settings
    assert settings["optimizer"] == "functools.partial(torch.optim.adam.Adam, lr=0.0003)"
    assert (settings["learning_rate"], settings["weight_decay"], settings["momentum"]) == (0.1, None, None)


def test_another_optimizer_is_another_run(dataset, tmp_path):
    train("baseline", dataset, epochs=1, optimizer="adamw", out=tmp_path / "run")
    with pytest.raises(ArtifactError, match="its settings has optimizer = 'adamw', and 'sgd' was asked for"):
        train("baseline", dataset, epochs=1, out=tmp_path / "run", resume=True)


def test_a_run_and_a_checkpoint_of_an_earlier_version_are_resumed(dataset, tmp_path):
    train("baseline", dataset, epochs=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=3, out=tmp_path / "parts", progress=stop_after(5))
    record = json.loads((tmp_path / "parts" / "run.json").read_text())
    del record["settings"]["optimizer"]
    (tmp_path / "parts" / "run.json").write_text(json.dumps(record))
    file = tmp_path / "parts" / "checkpoint.safetensors"
    tensors, metadata = RunFolder(file.parent).read_tensors(file.name)
    old = {
        f"momentum.{name.split('.')[1]}" if name.endswith(".momentum_buffer") else name: tensor
        for name, tensor in tensors.items()
    }
    assert sum(name.startswith("momentum.") for name in old) > 10
    metadata.pop("sha256")
    safetensors.torch.save_file(old, file, metadata)
    assert train("baseline", dataset, epochs=3, out=tmp_path / "parts", resume=True).starts == (0, 4)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()


@pytest.mark.parametrize("drop", ["optimizer.0.exp_avg", "optimizer.3.step"])
def test_a_checkpoint_without_a_part_of_the_state_is_refused(dataset, tmp_path, drop):
    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=3, optimizer="adamw", out=tmp_path, progress=stop_after(3))
    file = tmp_path / "checkpoint.safetensors"
    tensors, metadata = RunFolder(tmp_path).read_tensors(file.name)
    metadata.pop("sha256")
    del tensors[drop]
    safetensors.torch.save_file(tensors, file, metadata)
    with pytest.raises(ArtifactError, match=rf"checkpoint.safetensors is damaged \(tensor '{drop}' does not fit"):
        train("baseline", dataset, epochs=3, optimizer="adamw", out=tmp_path, resume=True)


class KeepsAList(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["past"] = [1.0]


@pytest.mark.parametrize(
    ("optimizer", "more", "message"),
    [
        (lambda params, lr: torch.optim.SGD(params, lr=lr), {}, "missing 1 required.*give `learning_rate` as well"),
        (lambda params: torch.optim.SGD(params, lr=1.0), {"lr": 0.1}, "`learning_rate` has no effect, because the"),
        (lambda params: None, {}, "must return a torch.optim.Optimizer; it returned NoneType"),
        (lambda: None, {}, "raised TypeError: .*it gets a list of parameters"),
        (torch.optim.LBFGS, {}, r"cannot take a step without a closure .*whose step\(closure=None\) needs none"),
        (lambda params: torch.optim.SGD(params, lr=0.0), {}, "has the learning rate 0; it must be above 0"),
        (functools.partial(KeepsAList, lr=0.1), {}, r"keeps a list \('past'\) in its state.*tensors and numbers only"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_training(dataset, tmp_path, optimizer, more, message):
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        train("baseline", dataset, epochs=1, optimizer=optimizer, out=tmp_path / "run", **more)
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_optimizer_in_place_of_a_function_is_refused():
    made = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ArgumentTypeError, match=r"`optimizer` must be .* a function .* such as torch.optim.Adam.*SGD"):
        Settings(optimizer=made)
