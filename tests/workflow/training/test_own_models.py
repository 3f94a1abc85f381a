"""Models that a function of the caller makes: training, resumption, deployment, and what is refused with a reason."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from tests.workflow.blobs import blobs
from torch import nn

from counterpoise.core.artifacts import Predictions, Run
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.models import CosineHead, HierarchicalHead, build_model, inspect_model
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.deployment import load_model
from counterpoise.workflow.training import Settings, train


class Interrupted(Exception):
    pass


class Net(nn.Module):
    """A small network, as in tutorials: it flattens with `view`, which needs the default memory format."""

    def __init__(self, num_classes, width=8):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2))
        self.fc = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        x = self.features(x)
        return self.fc(x.view(x.size(0), -1))


class WithLogSoftmax(Net):
    def forward(self, x):
        return super().forward(x).log_softmax(1)


class TwoHeads(Net):
    """The classifier is not the last linear layer that it has."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.auxiliary = nn.Linear(4, num_classes)


class Auxiliary(Net):
    """Returns two outputs in training, as GoogLeNet does."""

    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class NoBias(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.fc = nn.Linear(128, num_classes, bias=False)


def resnet(num_classes):
    return torchvision.models.resnet18(num_classes=num_classes)


def inspected(factory, size=8, classes=3):
    return inspect_model(factory, classes, image_size=size)


@pytest.mark.parametrize(
    ("factory", "classifier", "size"),
    [
        (Net, "fc", 8),
        (TwoHeads, "fc", 8),
        (lambda n: Net(n), "fc", 8),
        (lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes)), "1", 8),
        (functools.partial(timm.create_model, "resnet10t"), "fc", 32),
        (functools.partial(timm.create_model, "vit_tiny_patch16_224", img_size=32), "head", 32),
        (functools.partial(timm.create_model, "convnext_atto"), "head.fc", 32),
        (torchvision.models.resnet18, "fc", 32),
        (torchvision.models.mobilenet_v3_small, "classifier.3", 32),
        (torchvision.models.efficientnet_b0, "classifier.1", 32),
        (WithLogSoftmax, None, 8),
        (torchvision.models.squeezenet1_1, None, 64),
    ],
)
def test_the_classifier_of_common_models_is_found(factory, classifier, size):
    found = inspected(factory, size)
    assert found.classifier == classifier
    model, images = build_model(found, 3).eval(), torch.rand(2, 3, size, size)
    with torch.inference_mode():
        logits = model(images)
        if classifier is not None:
            assert isinstance(build_model(found, 3, head="cosine").head, CosineHead)
            normal = (images - model.mean) / model.std
            torch.testing.assert_close(logits, model.head(model.backbone(normal)))
    assert logits.shape == (2, 3)


def test_a_split_model_computes_what_the_whole_one_does():
    found = inspected(Net)
    torch.manual_seed(3)
    whole = Net(3).eval()
    torch.manual_seed(3)
    split = build_model(found, 3, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(split(images.contiguous(memory_format=torch.channels_last)), whole(images))
    assert not found.channels_last
    assert inspected(resnet, 32).channels_last


def test_looking_at_a_model_draws_no_random_numbers_of_the_caller():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    inspected(Net)
    assert torch.equal(torch.rand(3), expected)


STRATEGIES = ["baseline", "ldam", "decoupled", "tau-norm", "sigmoid-focal", "hierarchical", "hierarchical-separate"]


@pytest.mark.fault("C7")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_kind_of_strategy_trains_resumes_and_predicts_with_a_model_of_the_caller(dataset, tmp_path, strategy):
    def stop(done, total):
        if done == 5:
            raise Interrupted

    train(strategy, dataset, model=Net, epochs=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(strategy, dataset, model=Net, epochs=3, out=tmp_path / "parts", progress=stop)
    train(strategy, dataset, model=Net, epochs=3, out=tmp_path / "parts", resume=True)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()
    predicted = load_model(tmp_path / "whole", model=Net).predict(dataset.subset("test"))
    saved = Predictions.load(tmp_path / "whole/predictions-test.npz")
    np.testing.assert_array_equal(predicted.logits, saved.logits)


def test_the_heads_of_strategies_replace_the_classifier(dataset):
    from counterpoise.hierarchy import from_paths

    found = inspected(Net)
    assert isinstance(
        build_model(found, 3, head="hierarchical", tree=from_paths(["a/x", "a/y", "b"])).head, HierarchicalHead
    )
    assert build_model(found, 3).head.in_features == 128
    assert build_model(inspected(NoBias), 3).head.bias is not None


def test_training_a_model_of_the_caller_learns(dataset, tmp_path):
    train("baseline", blobs(noise=10.0), model=Net, epochs=20, out=tmp_path / "run", augment="none")
    test = Predictions.load(tmp_path / "run/predictions-test.npz")
    assert (test.logits.argmax(1) == test.labels).mean() > 0.9


def test_the_run_records_the_function_and_the_architecture(dataset, tmp_path):
    run = train("baseline", dataset, model=Net, epochs=1, out=tmp_path / "run")
    assert run.model == run.settings["model"]
    assert run.model.endswith("test_own_models.Net")
    assert re.fullmatch("[0-9a-f]{64}", run.settings["model_digest"])
    json.dumps(Run.load(tmp_path / "run/run.json").settings)
    again = train("baseline", dataset, model=Net, epochs=1, out=tmp_path / "run", resume=True)
    assert dataclasses.replace(again, directory="") == dataclasses.replace(run, directory="")
    with pytest.raises(ArtifactError, match=r"its settings has model = '.*Net', and '.*partial.* was asked"):
        train("baseline", dataset, model=functools.partial(Net, width=9), epochs=1, out=tmp_path / "run", resume=True)


def test_a_function_of_the_same_name_that_makes_something_else_is_another_run(dataset, tmp_path):
    def train_width(width, **more):
        return train("baseline", dataset, model=lambda n: Net(n, width), epochs=1, out=tmp_path / "run", **more)

    train_width(8)
    with pytest.raises(ArtifactError, match="its settings has model_digest = "):
        train_width(9, resume=True)
    load_model(tmp_path / "run", model=lambda num_classes: Net(num_classes))
    with pytest.raises(ArgumentError, match=r"makes modules with other parameters than .*train_width"):
        load_model(tmp_path / "run", model=lambda num_classes: Net(num_classes, 9))


def test_loading_needs_the_function_and_only_where_there_is_one(dataset, tmp_path):
    train("baseline", dataset, model=Net, epochs=1, out=tmp_path / "own")
    train("baseline", dataset, epochs=1, out=tmp_path / "named")
    with pytest.raises(ArgumentError, match=r"was made by the function .*Net, .*load_model\(run, model=function\)"):
        load_model(tmp_path / "own")
    with pytest.raises(ArgumentTypeError, match=r"`model` is a module \(Net\)"):
        load_model(tmp_path / "own", model=Net(3))
    with pytest.raises(ArgumentError, match=r"`model` must be the function .*Net .*; got 'resnet20'"):
        load_model(tmp_path / "own", model="resnet20")
    with pytest.raises(ArgumentError, match=r"`model`: the run in .* was trained with 'resnet20'; leave `model` out"):
        load_model(tmp_path / "named", model=Net)


def test_the_export_of_a_model_of_the_caller_predicts_the_same(dataset, tmp_path):
    train("logit-adjusted", dataset, model=Net, epochs=1, out=tmp_path / "run")
    model = load_model(tmp_path / "run", model=Net)
    program = torch.export.load(model.export(tmp_path / "model.pt2"))
    images = torch.stack([model.transform(dataset.subset("test")[i]) for i in range(5)])
    torch.testing.assert_close(program.module()(images)[0], model.module(images))


def returns_the_same(num_classes, made=[]):  # noqa: B006
    made[:] = made or [Net(num_classes)]
    return made[0]


def fails(num_classes):
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: Net(3), "takes no argument; it must take the number of classes, such as model=lambda num_classes"),
        (fails, "fails raised KeyError for 3 classes: 'weights'; it must make a module from the number of classes"),
        (timm.create_model, "create_model raised .*functools.partial"),
        (lambda n: None, "must return a torch.nn.Module; it returned NoneType"),
        (lambda n: Net(7), r"must return logits \(N, C\), here \(2, 3\); in eval mode it returned \(2, 7\)"),
        (Auxiliary, "in training mode it returned tuple"),
        (lambda n: nn.Sequential(nn.Flatten(), nn.Linear(5, n)), r"cannot process images \(2, 3, 8, 8\) in eval mode"),
        (lambda n: nn.Sequential(nn.Flatten(), nn.LazyLinear(n)), "has lazy layers"),
        (returns_the_same, "returns the same module or shares parameters between calls; make a new module each time"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_training(dataset, tmp_path, factory, message):
    with pytest.raises(ArgumentError, match=f"(?s)`model` .*{message}"):
        train("baseline", dataset, model=factory, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.json"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Net(3), r"`model` is a module \(Net\), and every run needs a new one; .*model=lambda num_classes: Net\("),
        (3, "`model` must be a name, .*, or a function that makes a torch.nn.Module .*; got int"),
        (None, "`model` must be a name, .*; got NoneType"),
    ],
)
def test_something_else_than_a_name_or_a_function_is_refused(model, message):
    with pytest.raises(ArgumentTypeError, match=message):
        Settings(model=model)


@pytest.mark.parametrize(
    ("strategy", "needs"),
    [
        ("ldam", "a cosine head"),
        ("hierarchical", "a head for the class tree"),
        ("decoupled", "to train its linear classifier again"),
        ("tau-norm", "the weights of its linear classifier"),
    ],
)
def test_a_strategy_that_needs_a_linear_classifier_is_refused_by_name(dataset, tmp_path, strategy, needs):
    train("baseline", dataset, model=WithLogSoftmax, epochs=1, out=tmp_path / "works")
    with pytest.raises(ArgumentError, match=f"strategy '{strategy}' needs {needs}, and the output of `model` .*Soft"):
        train(strategy, dataset, model=WithLogSoftmax, epochs=2, out=tmp_path / "run")
    with pytest.raises(ArgumentError, match=f"strategy '{strategy}' needs {needs}"):
        compare(dataset, strategies=[strategy], model=WithLogSoftmax, epochs=2, out=tmp_path / "result")


def test_a_comparison_starts_every_run_from_new_weights_and_is_deployed(dataset, tmp_path):
    compare(dataset, strategies="tau-norm", seeds=2, model=Net, epochs=2, augment="none", out=tmp_path / "c")
    alone = train("baseline", dataset, model=Net, epochs=2, seed=1, augment="none", out=tmp_path / "alone")
    other = tmp_path / "c/runs/baseline-seed1/model.safetensors"
    assert other.read_bytes() == (tmp_path / "alone/model.safetensors").read_bytes()
    assert alone.settings["model_digest"]
    assert load_model(tmp_path / "c", strategy="tau-norm", model=Net).predict(dataset.subset("test")).labels.size == 30


def test_what_cannot_be_sent_to_other_processes_runs_in_this_one_with_a_warning(dataset, tmp_path):
    options = {"strategies": "focal", "seeds": 1, "epochs": 1}
    with pytest.warns(UserWarning, match="one after another, because `model` .*<lambda> cannot be sent to other proc"):
        result = compare(dataset, **options, model=lambda n: Net(n), jobs=2, out=tmp_path / "lambda")
    assert [arm.status for arm in result.arms] == ["done", "done"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare(dataset, **options, model=resnet, optimizer=torch.optim.Adam, jobs=2, out=tmp_path / "sent")
        assert [arm.status for arm in result.arms] == ["done", "done"]
        compare(dataset, **options, model=lambda n: Net(n), jobs=None, out=tmp_path / "auto")
