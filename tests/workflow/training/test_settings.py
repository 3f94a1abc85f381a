import dataclasses
import math

import numpy as np
import pytest

from counterpoise.core.errors import ArgumentError, CounterpoiseError
from counterpoise.workflow.training import Settings


def test_what_is_left_open_is_decided_from_the_data(dataset):
    resolved = Settings().resolve(dataset)
    assert (resolved.model, resolved.image_size, resolved.augment) == ("resnet20", 8, ("crop", "hflip"))
    assert (resolved.batch_size, resolved.steps_per_epoch) == (32, 2)
    assert resolved.learning_rate == pytest.approx(0.1 * 32 / 128)


def test_the_learning_rate_rises_then_follows_a_cosine(dataset):
    resolved = dataclasses.replace(Settings(epochs=50, learning_rate=1.0, warmup=0.1).resolve(dataset))
    assert resolved.steps == 100
    assert [resolved.learning_rate_at(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert resolved.learning_rate_at(10) == pytest.approx(1.0)
    assert resolved.learning_rate_at(55) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert resolved.learning_rate_at(99) < 1e-3


def test_an_augmentation_that_changes_labels_is_refused_by_name(dataset):
    with pytest.raises(ArgumentError, match=r"'rot90' is not label-preserving for blobs .*: hflip"):
        Settings(augment=("crop", "rot90")).resolve(dataset)
    dataset.symmetries = frozenset()
    with pytest.raises(ArgumentError, match=r"'hflip' is not label-preserving for blobs .*: none"):
        Settings(augment=("hflip",)).resolve(dataset)
    assert Settings().resolve(dataset).augment == ("crop",)


def test_an_unknown_augmentation_is_refused_when_the_settings_are_made():
    with pytest.raises(ArgumentError, match=r"`augment` must be one of 'crop', .*; got 'blur'"):
        Settings(augment=("blur",))
    with pytest.raises(ArgumentError, match=r"`augment` must be one of 'crop', .*; got 'blur'"):
        Settings(augment="crop,blur")
    with pytest.raises(ArgumentError, match="`augment` 'none' stands alone"):
        Settings(augment=["none", "crop"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("none", ()),
        ("hflip", ("hflip",)),
        ("crop, hflip", ("crop", "hflip")),
        (["crop"], ("crop",)),
        ([], ()),
        ("auto", ("crop", "hflip")),
        (np.flip, (np.flip,)),
        (["hflip", np.flip], ("hflip", np.flip)),
    ],
)
def test_an_augmentation_is_a_string_a_list_or_a_function(dataset, given, meant):
    assert Settings(augment=given).resolve(dataset).augment == meant


def test_lr_is_another_name_of_the_learning_rate(dataset):
    assert Settings.from_options({"lr": 0.3}) == Settings(learning_rate=0.3)
    with pytest.raises(ArgumentError, match="`lr` and `learning_rate` are the same setting; give one of them"):
        Settings.from_options({"lr": 0.3, "learning_rate": 0.3})


def test_adamw_has_defaults_of_its_own(dataset):
    resolved = Settings(optimizer="adamw").resolve(dataset)
    assert resolved.learning_rate == pytest.approx(1e-3 * (32 / 128) ** 0.5)
    assert resolved.weight_decay == 0.05
    assert Settings().resolve(dataset).weight_decay == 5e-4
    given = Settings(optimizer="adamw", learning_rate=0.01, weight_decay=0.0).resolve(dataset)
    assert (given.learning_rate, given.weight_decay) == (0.01, 0.0)
    assert given.to_dict()["momentum"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "`epoch` is an unknown training setting; did you mean epochs"),
        ({"epochs": 0}, "`epochs` must be at least 1; got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"learning_rate": -1.0}, "`learning_rate` must be above 0"),
        ({"momentum": 0}, "`momentum` must be above 0 and below 1; got 0"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0; got -1"),
        ({"warmup": 1.0}, "`warmup` must be at least 0 and below 1; got 1"),
        ({"resize": "stretch"}, "`resize` must be one of 'crop', 'pad', 'squash'; got 'stretch'"),
        ({"bs": 8}, "`bs` is an unknown training setting; did you mean batch_size"),
        ({"opt": "adamw"}, "`opt` is an unknown training setting; did you mean optimizer"),
        ({"transform": "crop"}, "`transform` is an unknown training setting; did you mean augment"),
        ({"lr": "0.1"}, "`learning_rate` must be a number; got str"),
        ({"epochs": "3"}, "`epochs` must be a whole number; got '3'"),
        ({"augment": 3}, "`augment` must be a string, .*, a function of one image, or a list .*; got int"),
        ({"augment": [3]}, "`augment` must be one of 'crop', .*; got 3"),
        ({"augment": None}, "`augment` must be a string.*'none'.*; got NoneType"),
        ({"pretrained": "yes"}, "`pretrained` must be True or False; got 'yes'"),
        ({"tree": 3}, "`tree` must be a string; got int"),
        ({"optimizer": "adam"}, "`optimizer` must be one of 'sgd', 'adamw'; got 'adam'"),
        ({"optimizer": 3}, r"`optimizer` must be 'sgd' or 'adamw', or a function that makes it .*; got int"),
        ({"optimizer": max, "weight_decay": 0.1}, "`weight_decay` has no effect on an optimiser of your own"),
        ({"precision": "fp8"}, "`precision` must be one of 'no', 'bf16', 'fp16'; got 'fp8'"),
    ],
)
def test_a_wrong_setting_names_itself(options, message):
    with pytest.raises(CounterpoiseError, match=message):
        Settings.from_options(options)


def test_one_training_image_is_too_few(dataset):
    with pytest.raises(ArgumentError, match="blobs has 1 training images; training needs at least two"):
        Settings().resolve(dataset._rows(np.array([0])))
