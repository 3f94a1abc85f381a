import numpy as np
import pytest

from counterpoise.workflow.training.data import EpochBatches, SampleOrder, shuffled_order


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
