"""Images as tensors, and the batches of every epoch."""

import numpy as np
import pytest
import torch

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.training.data import EpochBatches, ImageTensors, SampleOrder, fit_to_square, shuffled_order


def test_cached_and_uncached_images_are_the_same_batch(dataset):
    cached, uncached = (ImageTensors(dataset, size=6, cache_bytes=limit) for limit in (1e9, 0))
    assert cached.decoded is not None
    assert uncached.decoded is None
    assert (cached.workers, uncached.workers > 0) == (0, True)
    a, b = cached.__getitems__([5, 0, 5]), uncached.__getitems__([5, 0, 5])
    assert all(torch.equal(a[key], b[key]) for key in ("images", "labels", "rows"))
    assert a["images"].shape == (3, 3, 6, 6)
    assert a["labels"].tolist() == dataset.labels[[5, 0, 5]].tolist()


def test_channels_and_rows_are_where_they_belong(dataset):
    batch = ImageTensors(dataset, size=8, cache_bytes=1e9).__getitems__([3])
    np.testing.assert_array_equal(batch["images"][0].permute(1, 2, 0).numpy(), dataset[3])


def test_the_centre_is_cut_out():
    image = np.zeros((10, 30, 3), dtype=np.uint8)
    image[:, 10:20] = 200
    assert (fit_to_square(image, 10) == 200).all()
    assert (fit_to_square(image.transpose(1, 0, 2), 5) == 200).all()


def test_the_whole_image_is_kept_with_borders_or_squashed():
    image = np.full((10, 30, 3), 200, dtype=np.uint8)
    image[:, :5] = 80
    padded = fit_to_square(image, 12, "pad")
    assert (padded[[*range(4), *range(8, 12)]] == 0).all()
    assert (padded[4:8, :1] == 80).all()
    assert (padded[4:8, 3:] == 200).all()
    np.testing.assert_array_equal(fit_to_square(image.transpose(1, 0, 2), 12, "pad"), padded.transpose(1, 0, 2))
    squashed = fit_to_square(image, 12, "squash")
    assert (squashed[:, :1] == 80).all()
    assert (squashed[:, 3:] == 200).all()
    assert fit_to_square(np.full((1, 900, 3), 7, np.uint8), 12, "pad")[5:7].max() == 7


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_images_in_memory_and_decoded_again_are_resized_alike(resize):
    class Wide:
        labels, pixels = np.zeros(3, int), np.random.default_rng(0).integers(0, 256, (3, 9, 20, 3), dtype=np.uint8)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return self.pixels[index]

    one, two = (ImageTensors(Wide(), size=8, resize=resize, cache_bytes=limit) for limit in (0, 1e9))
    expected = np.stack([fit_to_square(image, 8, resize) for image in Wide.pixels])
    for tensors in (one, two):
        np.testing.assert_array_equal(tensors.__getitems__([0, 1, 2])["images"].permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize("limit", [0, 1e9])
def test_images_that_cannot_be_decoded_are_found_with_their_reasons(dataset, limit):
    class Damaged:
        labels, paths = dataset.labels[:4], dataset.paths[:4]

        def __len__(self):
            return 4

        def __getitem__(self, index):
            if index == 2:
                raise DatasetError("image 2 is truncated")
            return dataset[index]

    assert ImageTensors(Damaged(), size=8, cache_bytes=limit).faults == {2: "image 2 is truncated"}


def epochs(order, count, *, steps, batch_size):
    stream = EpochBatches(order, steps=steps, batch_size=batch_size)
    out = []
    for epoch in range(count):
        stream.set_epoch(epoch)
        out.append(list(stream))
    return out


@pytest.mark.parametrize("length", [1, 3, 7, 12, 25])
def test_epochs_are_equally_long_and_follow_one_another_whatever_a_pass_is(length):
    drawn = epochs(SampleOrder(length, lambda number: number * 100 + np.arange(length)), 4, steps=3, batch_size=4)
    assert all(len(batches) == 3 and all(len(batch) == 4 for batch in batches) for batches in drawn)
    whole = [i for batches in drawn for batch in batches for i in batch]
    assert whole == [p * 100 + i for p in range(1 + 48 // length) for i in range(length)][:48]


def test_an_epoch_can_be_entered_directly():
    whole = epochs(shuffled_order(10, seed=3), 5, steps=2, batch_size=3)
    stream = EpochBatches(shuffled_order(10, seed=3), steps=2, batch_size=3)
    stream.set_epoch(4)
    assert list(stream) == whole[4]


def test_shuffled_passes_are_permutations_and_differ():
    order = shuffled_order(50, seed=1)
    first = order.draw(0).tolist()
    assert sorted(first) == list(range(50))
    assert first != order.draw(1).tolist()
    assert first == shuffled_order(50, seed=1).draw(0).tolist()
    assert first != shuffled_order(50, seed=2).draw(0).tolist()


def test_two_orders_alternate_in_pairs_and_each_goes_on_where_it_ended():
    orders = [SampleOrder(n, lambda number, n=n: 100 * n + number * n + np.arange(n)) for n in (3, 5)]
    alone = [
        [i for batches in epochs(order, 4, steps=3, batch_size=2) for batch in batches for i in batch]
        for order in orders
    ]
    stream = EpochBatches(*orders, steps=3, batch_size=2)
    assert (stream.batch_size, len(stream)) == (4, 3)
    paired = []
    for epoch in range(4):
        stream.set_epoch(epoch)
        paired += [i for batch in stream for i in batch]
    assert [paired[0::2], paired[1::2]] == alone


def test_the_order_of_a_subset_draws_its_rows(dataset):
    rows = np.array([7, 2, 5])
    assert shuffled_order(3, seed=0).within(rows).draw(4).tolist() == rows[shuffled_order(3, seed=0).draw(4)].tolist()
    images = ImageTensors(dataset, size=8, cache_bytes=1e9)
    labels = np.arange(len(dataset))
    batch, before = images.with_labels(labels).__getitems__([7, 2]), images.__getitems__([7, 2])
    assert batch["labels"].tolist() == [7, 2]
    assert torch.equal(batch["images"], before["images"])
    assert before["labels"].tolist() == dataset.labels[[7, 2]].tolist()
