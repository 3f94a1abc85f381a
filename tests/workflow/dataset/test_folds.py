"""Folds: rare classes in as many as possible, dependent images together, and never a class without training images."""

from __future__ import annotations

import numpy as np
import pytest
from tests.workflow.blobs import blobs

import counterpoise as cp
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.workflow.dataset.folds import ALWAYS_TRAIN, assign_folds, draw_folds, units_of, with_validation


def names(number):
    return [f"{i}.png" for i in range(number)]


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_every_class_is_spread_evenly_over_the_folds(folds):
    sizes = (300, 41, 8, 3, 2)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    ids = assign_folds(labels, names(len(labels)), units=np.arange(len(labels)), folds=folds, seed=0)
    assert set(ids) == set(range(folds))
    for c, size in enumerate(sizes):
        held_out = np.bincount(ids[labels == c], minlength=folds)
        assert held_out.max() - held_out.min() <= 1, c
        assert (held_out > 0).sum() == min(size, folds)
    totals = np.bincount(ids)
    assert totals.max() - totals.min() <= 1


def test_the_only_image_of_a_class_is_always_in_training():
    labels = np.array([0] * 6 + [1] + [2] * 2)
    units = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7])  # the images of class 2 are one unit
    ids = assign_folds(labels, names(9), units=units, folds=3, seed=0)
    assert ids[6:].tolist() == [ALWAYS_TRAIN] * 3
    assert sorted(ids[:6]) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("seed", range(25))
def test_units_of_several_classes_stay_together_and_leave_training_images_of_every_class(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, size=120, p=[0.6, 0.25, 0.1, 0.03, 0.02])
    units = np.unique(rng.integers(0, 40, len(labels)), return_inverse=True)[1]
    ids = assign_folds(labels, names(len(labels)), units=units, folds=5, seed=seed)
    for unit in np.unique(units):
        assert len(set(ids[units == unit])) == 1
    for c in np.unique(labels):
        assert set(ids[labels == c]) == {ALWAYS_TRAIN} or len(set(ids[labels == c])) > 1


def test_the_folds_do_not_depend_on_the_order_of_the_images_but_on_the_seed():
    rng = np.random.default_rng(0)
    labels, paths, units = rng.integers(0, 4, 90), names(90), rng.integers(0, 60, 90)
    order = rng.permutation(90)
    ids = assign_folds(labels, paths, units=units, folds=4, seed=3)
    mixed = assign_folds(labels[order], [paths[i] for i in order], units=units[order], folds=4, seed=3)
    assert mixed.tolist() == ids[order].tolist()
    assert assign_folds(labels, paths, units=units, folds=4, seed=4).tolist() != ids.tolist()


def test_units_join_groups_and_copies():
    assert units_of(4, [], None).tolist() == [0, 1, 2, 3]
    groups = np.array(["p", "q", "p", "r", "s", "q"])
    assert units_of(6, [[1, 3], [4]], groups).tolist() == [0, 1, 0, 1, 2, 1]
    assert units_of(5, [[1, 2], [2, 4]], None).tolist() == [0, 1, 1, 2, 1]


def test_train_and_val_are_divided_and_copies_and_groups_stay_together():
    data = blobs({"train": (20, 8, 3), "val": (4, 2, 1), "test": (5, 5, 5)})
    pixels = data.pixels.copy()
    train, val = np.flatnonzero(data.splits == "train"), np.flatnonzero(data.splits == "val")
    pixels[val[0]] = pixels[train[0]]  # a copy in the other split
    pixels[data.splits == "test"] = pixels[train[1]]  # copies in test have no part in it
    data.pixels = pixels
    pooled = with_validation(data)
    assert pooled.counts("train").counts.tolist() == [24, 10, 4]
    assert pooled.counts("val").total == 0
    assert pooled.counts("test").counts.tolist() == [5, 5, 5]
    folds = draw_folds(pooled, 4)
    rows = np.flatnonzero(pooled.splits == "train")
    of = dict(zip(rows.tolist(), folds.ids.tolist(), strict=True))
    assert of[int(train[0])] == of[int(val[0])] != ALWAYS_TRAIN
    assert len(np.unique(folds.units)) == 37
    data.groups = np.array([f"patient {i % 9}" for i in range(len(data))])
    grouped = draw_folds(with_validation(data), 4)
    for name in np.unique(data.groups):
        assert len(set(grouped.ids[data.groups[rows] == name])) == 1


def test_a_view_of_a_fold_has_the_images_of_its_source():
    data = with_validation(blobs())
    folds = draw_folds(data, 3)
    scored = []
    for fold in range(3):
        view = folds.split(data, fold)
        held_out, rest = view.subset("val"), view.subset("train")
        assert len(held_out) + len(rest) == 72
        assert not set(held_out.paths) & set(rest.paths)
        i = len(held_out) // 2
        original = data.paths.index(held_out.paths[i])
        np.testing.assert_array_equal(held_out[i], data[original])
        assert held_out.labels[i] == data.labels[original]
        assert view.counts("val").total == len(held_out)
        assert view.to_dict()["fold"] == fold
        scored += held_out.paths
    assert sorted(scored) == sorted(data.subset("train").paths)
    kept = folds.split(data, 0).quarantine({2: "it is broken"})
    assert len(kept) == len(data) - 1
    assert data.paths[2] not in kept.paths
    assert [(item.path, item.reason) for item in kept.quarantined] == [(data.paths[2], "it is broken")]
    assert [kept.labels[i] for i in (1, 2)] == [data.labels[i] for i in (1, 3)]


def test_the_folds_follow_the_seed_of_the_splits():
    one, same, other = (draw_folds(with_validation(cp.load("digits", seed=s)), 5).ids.tolist() for s in (0, 0, 1))
    assert one == same
    assert one != other


def test_folds_that_cannot_be_are_refused():
    data = with_validation(blobs())
    for number in (1, 0, -3):
        with pytest.raises(ArgumentError, match=f"`folds` must be at least 2; got {number}"):
            draw_folds(data, number)
    with pytest.raises(ArgumentTypeError, match="`folds`"):
        draw_folds(data, "5")
    with pytest.raises(ArgumentError, match=r"`folds` must be at most the number of images of the largest class, 52 "):
        draw_folds(data, 53)
    assert draw_folds(data, 52).number == 52
    data.groups = np.array(["one"] * 50 + [f"{i}" for i in range(len(data) - 50)])
    with pytest.raises(ArgumentError, match="largest class"):
        draw_folds(data, 40)


def test_classes_that_are_never_held_out_are_named():
    data = with_validation(blobs({"train": (8, 1, 1), "val": (2, 1, 0), "test": (5, 5, 5)}))
    (sentence,) = draw_folds(data, 4).never_scored(data)
    assert sentence.startswith("no image of 'rarest' was held out in any fold")
    assert draw_folds(with_validation(blobs()), 4).never_scored(with_validation(blobs())) == []
