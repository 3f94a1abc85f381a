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
    with pytest.raises(ArgumentError, match="`augment` must be one of 'auto'; got 'crop'"):
        Settings(augment="crop")


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
        ({"precision": "fp8"}, "`precision` must be one of 'no', 'bf16', 'fp16'; got 'fp8'"),
    ],
)
def test_a_wrong_setting_names_itself(options, message):
    with pytest.raises(CounterpoiseError, match=message):
        Settings.from_options(options)


def test_one_training_image_is_too_few(dataset):
    with pytest.raises(ArgumentError, match="blobs has 1 training images; training needs at least two"):
        Settings().resolve(dataset._rows(np.array([0])))
