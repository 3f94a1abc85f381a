import numpy as np
import pytest
import torch

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.training.data import ImageTensors, fit_to_square


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
