"""Contract of all samplers: one reproducible order, exact lengths, exact resumption, under every framework."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from scipy.stats import binomtest, chisquare
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, Sampler

from counterpoise.core.errors import ArgumentError
from counterpoise.samplers import (
    ClassBalancedSampler,
    OrderedSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
    ResampleSampler,
)
from counterpoise.samplers.index import stable_order

# Workers only wait here, so a machine with few cores needs no warning.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Make = Callable[..., OrderedSampler]
SAMPLERS: dict[str, Make] = {
    "balanced": ClassBalancedSampler,
    "balanced-uniform": lambda labels, **options: ClassBalancedSampler(labels, within="uniform", **options),
    "square-root": lambda labels, **options: ClassBalancedSampler(labels, power=0.5, **options),
    "progressive": lambda labels, **options: ProgressiveSampler(labels, epochs=10, **options),
    "over": ResampleSampler,
    "under": lambda labels, **options: ResampleSampler(labels, sampling_strategy="under", **options),
    "ratio": lambda labels, **options: ResampleSampler(labels, sampling_strategy=0.3, **options),
    "repeat-factor": lambda labels, **options: RepeatFactorSampler(labels, repeat_thresh=0.6, **options),
}
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [60, 25, 8, 1]))


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


def order_of(sampler: OrderedSampler) -> list[int]:
    """The whole order, without counting as a pass over the epoch."""
    return np.concatenate(list(copy.deepcopy(sampler).batches(7))).tolist()


class Indices(Dataset[int]):
    """A dataset whose items are their own indices."""

    def __init__(self, length: int = len(LABELS)) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return index


# one order


@pytest.mark.fault("S9")
def test_ints_and_batches_are_one_order_of_exactly_the_length(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    ints = list(sampler)
    assert isinstance(sampler, Sampler)
    assert all(type(index) is int for index in ints)
    assert len(ints) == len(sampler)
    for n in (1, 7, 10**6):
        batches = list(copy.deepcopy(sampler).batches(n))
        assert all(batch.dtype == np.int64 for batch in batches)
        assert [len(batch) for batch in batches[:-1]] == [n] * (len(batches) - 1)
        assert np.concatenate(batches).tolist() == ints
    assert set(ints) <= set(range(len(LABELS)))


@pytest.mark.fault("S10")
def test_the_order_is_that_of_seed_and_epoch(make: Make) -> None:
    first, again, other = make(LABELS, seed=3), make(LABELS, seed=3), make(LABELS, seed=4)
    assert order_of(first) == order_of(again)
    assert order_of(first) != order_of(other)
    zero = order_of(first)
    first.set_epoch(5)
    assert order_of(first) != zero
    again.set_epoch(2)
    list(again)
    again.set_epoch(5)
    assert order_of(again) == order_of(first)
    first.set_epoch(0)
    assert order_of(first) == zero


@pytest.mark.fault("S10")
def test_a_forgotten_set_epoch_warns_once(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    first = list(sampler)
    with pytest.warns(UserWarning, match=r"epoch 0 of the sampler is iterated again.*call set_epoch") as caught:
        assert list(sampler) == first
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(sampler) == first


def test_ordinary_use_warns_of_nothing(make: Make) -> None:
    sampler = make(LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epoch in range(3):
            sampler.set_epoch(epoch)
            next(iter(sampler))  # a look at the first
            list(sampler)
            list(sampler.batches(5))


@pytest.mark.fault("S12")
def test_no_global_generator_is_read_or_changed(make: Make) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = order_of(make(LABELS, seed=3))
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index] # noqa: NPY002
    assert order_of(make(LABELS, seed=3)) == expected
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index] # noqa: NPY002
    assert before == after


def test_the_prior_is_what_is_drawn(make: Make) -> None:
    sampler, drawn = make(LABELS, seed=6), np.zeros(4)
    expected, total = np.zeros(4), 0
    for epoch in range(400):
        sampler.set_epoch(epoch)
        held = np.bincount(LABELS[list(sampler)], minlength=4)
        drawn += held
        expected += sampler.prior * held.sum()
        total += held.sum()
    assert sampler.prior.sum() == pytest.approx(1.0)
    assert sampler.prior.dtype == np.float64
    assert (np.abs(drawn - expected) <= 5 * np.sqrt(expected) + 1e-6).all()
    assert total > 0


def test_copies_and_pickles_go_on_alike(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    sampler.set_epoch(2)
    for twin in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert twin.epoch == 2
        assert list(twin) == order_of(sampler)


PINNED = {
    "balanced": [90, 43, 11, 93, 91, 76, 93, 93],
    "balanced-uniform": [88, 7, 6, 93, 85, 67, 93, 93],
    "progressive": [76, 43, 11, 93, 62, 42, 90, 68],
    "over": [43, 11, 76, 42, 62, 4, 90, 57],
    "repeat-factor": [43, 11, 42, 76, 90, 4, 57, 62],
}


@pytest.mark.parametrize("name", PINNED)
def test_the_order_is_that_of_every_release(name: str) -> None:
    # A checkpoint of today must continue tomorrow: whoever changes these numbers changes the version in the state.
    sampler = SAMPLERS[name](np.repeat(np.arange(4), [60, 25, 8, 1]), seed=3)
    sampler.set_epoch(2)
    assert next(sampler.batches(8)).tolist() == PINNED[name]
    assert sampler.state_dict()["version"] == 1


# scale


@pytest.mark.fault("S1")
def test_two_to_the_24_plus_one_items() -> None:
    items = 2**24 + 1
    labels = np.zeros(items, dtype=np.uint8)
    labels[items // 2 : items // 2 + 1000] = 1
    labels[-1] = 2
    sampler = ClassBalancedSampler(labels, num_samples=300_000, seed=1)
    start = time.process_time()
    next(iter(sampler))
    assert time.process_time() - start < 0.5  # the limit is 0.05 s on a quiet machine: see benchmarks/samplers.py
    drawn = np.concatenate(list(sampler.batches(65_536)))
    held = np.bincount(labels[drawn], minlength=3)
    assert chisquare(held).pvalue > 1e-4
    assert set(drawn[labels[drawn] == 2].tolist()) == {items - 1}
    head = drawn[labels[drawn] == 0]
    assert len(np.unique(head)) == len(head)
    assert binomtest(int((head < items // 2).sum()), len(head)).pvalue > 1e-4
    assert binomtest(int((head % 2).sum()), len(head)).pvalue > 1e-4  # beyond 2^24 a float32 has even numbers only


@pytest.mark.fault("S1")
def test_other_samplers_beyond_two_to_the_24() -> None:
    labels = np.zeros(2**24 + 1, dtype=np.uint8)
    labels[-1000:] = 1
    over = ResampleSampler(labels, sampling_strategy="over", seed=1)
    assert len(over) == 2 * (2**24 + 1 - 1000)
    batch = next(iter(over.batches(100_000)))
    assert binomtest(int((batch >= 2**24 + 1 - 1000).sum()), 100_000).pvalue > 1e-4
    repeat = RepeatFactorSampler(labels, repeat_thresh=1e-3, seed=1)
    assert len(repeat) == pytest.approx(repeat.repeat_factors.sum(), abs=2)
    assert next(iter(repeat.batches(100_000))).max() < len(labels)


def test_the_order_of_wide_keys_is_stable() -> None:
    keys = np.random.default_rng(0).integers(0, 200_000, 50_000).astype(np.uint32)
    for wide in (keys, keys // 7, keys % 5):
        np.testing.assert_array_equal(stable_order(wide), np.argsort(wide, kind="stable"))


def test_more_classes_than_sixteen_bits_hold() -> None:
    labels = np.concatenate([np.arange(70_000), np.full(50, 69_999)])
    sampler = ClassBalancedSampler(labels, num_samples=140_000, seed=1)
    held = np.bincount(labels[np.concatenate(list(sampler.batches(50_000)))], minlength=70_000)
    assert held.sum() == 140_000
    assert chisquare(np.add.reduceat(held, np.arange(0, 70_000, 1000))).pvalue > 1e-4
    assert held.max() < 25  # Poisson of mean 2: no class is drawn for another


@pytest.mark.fault("S17")
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory of a process is read from /proc")
def test_eight_forked_workers_hold_no_copy() -> None:
    items = 2**23
    loader = DataLoader(
        PrivateMemory(items),
        sampler=ClassBalancedSampler(np.zeros(items, dtype=np.uint8), num_samples=64, seed=1),
        batch_size=2,
        num_workers=8,
        multiprocessing_context="fork",
    )
    grown = torch.cat(list(loader))
    assert len(grown) == 64
    assert grown.max() < 4 * items / 2  # half of what the sampler holds; the workers share all of it


class PrivateMemory(Indices):
    """Each item: the bytes that this worker has written to memory of its own since it started."""

    def __getitem__(self, index: int) -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


# resumption


@pytest.mark.fault("S13")
def test_it_resumes_at_every_position(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    sampler.set_epoch(2)
    whole = order_of(sampler)
    ahead = iter(sampler)
    for consumed in range(len(whole) + 1):
        state = json.loads(json.dumps(sampler.state_dict(consumed=consumed)))
        fresh = make(LABELS, seed=99)
        fresh.load_state_dict(state)
        fresh.set_epoch(2)  # as a training loop does; it must not start the epoch over
        assert len(fresh) == len(whole) - consumed
        assert list(fresh) == whole[consumed:]
        fresh.set_epoch(3)
        assert len(list(fresh)) == len(fresh)
        fresh.load_state_dict(state)
        list(fresh)
        assert len(fresh) == len(whole)  # continued to its end, the epoch is whole again
        next(ahead, None)
    fresh.set_epoch(4)
    sampler.set_epoch(4)
    assert order_of(fresh) == order_of(sampler)


@pytest.mark.fault("S13")
def test_the_samples_taken_are_counted_if_consumed_is_not_given(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    whole = order_of(sampler)
    ints = iter(sampler)
    for taken in range(len(whole)):
        assert sampler.state_dict()["consumed"] == taken
        assert next(ints) == whole[taken]
    sampler.set_epoch(1)
    batches = sampler.batches(2)
    next(batches)
    fresh = make(LABELS)
    fresh.load_state_dict(sampler.state_dict())
    assert list(fresh) == order_of(sampler)[2:]


@pytest.mark.fault("S13")
def test_it_resumes_far_into_a_long_epoch_and_across_blocks(make: Make) -> None:
    labels = np.repeat(np.arange(3), [60_000, 9_000, 31])
    sampler = make(labels, seed=3)
    whole = np.concatenate(list(copy.deepcopy(sampler).batches(10_000)))
    for consumed in (0, len(whole) // 3, len(whole) - 1):
        fresh = make(labels)
        fresh.load_state_dict(sampler.state_dict(consumed=consumed))
        np.testing.assert_array_equal(np.concatenate(list(fresh.batches(9_999))), whole[consumed:])
    assert len(json.dumps(sampler.state_dict(consumed=consumed))) < 1000  # of the size of the classes


@pytest.mark.fault("S13")
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_it_resumes_while_workers_fetch_ahead(workers: int) -> None:
    def loader(sampler: Sampler[int]) -> DataLoader[int]:
        context = "fork" if workers else None
        return DataLoader(
            Indices(), batch_size=4, sampler=sampler, num_workers=workers, multiprocessing_context=context
        )

    labels = LABELS[:22]
    sampler = ClassBalancedSampler(labels, seed=3)
    whole, states, ahead = order_of(sampler), [sampler.state_dict(consumed=0)], 0
    for step, batch in enumerate(loader(sampler)):
        consumed = min(4 * step + 4, 22)
        assert batch.tolist() == whole[4 * step : consumed]
        ahead = max(ahead, sampler.state_dict()["consumed"] - consumed)
        states.append(sampler.state_dict(consumed=consumed))
    assert (ahead > 0) == (workers > 0)
    for state in states:
        fresh = ClassBalancedSampler(labels)
        fresh.load_state_dict(state)
        rest = [index for batch in loader(fresh) for index in batch.tolist()]
        assert rest == whole[state["consumed"] :]


@pytest.mark.fault("S14")
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 8)])
def test_it_resumes_on_another_number_of_ranks(before: int, after: int) -> None:
    sampler = ClassBalancedSampler(LABELS, num_samples=96, seed=3)
    whole = order_of(sampler)
    steps, size = 4, 2
    used = joined(shards(sampler, before, size), size)[: steps * before * size]
    assert used == whole[: len(used)]
    fresh = ClassBalancedSampler(LABELS, num_samples=96)
    fresh.load_state_dict(sampler.state_dict(consumed=len(used)))
    assert joined(shards(fresh, after, size), size)[: 96 - len(used)] == whole[len(used) :]


@pytest.mark.fault("S15")
def test_other_labels_are_refused_with_both_fingerprints(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    state = sampler.state_dict(consumed=3)
    swapped = LABELS.copy()
    other = int(np.argmax(np.not_equal(LABELS, LABELS[0])))
    swapped[[0, other]] = swapped[[other, 0]]
    with pytest.raises(
        ArgumentError, match=f"other labels now; fingerprint was '{state['fingerprint']}', is '[0-9a-f]+'"
    ):
        make(swapped).load_state_dict(state)
    with pytest.raises(ArgumentError, match="items was 94, is 93"):
        make(LABELS[:-1]).load_state_dict(state)


@pytest.mark.fault("S15")
def test_a_state_of_another_sampler_is_refused() -> None:
    state = ClassBalancedSampler(LABELS).state_dict(consumed=5)
    with pytest.raises(ArgumentError, match="sampler was 'ClassBalancedSampler', is 'ResampleSampler'"):
        ResampleSampler(LABELS).load_state_dict(state)
    with pytest.raises(ArgumentError, match=r"settings was .*'power': 0.0.* is .*'power': 0.5"):
        ClassBalancedSampler(LABELS, power=0.5).load_state_dict(state)
    with pytest.raises(ArgumentError, match="version was 0, is 1"):
        ClassBalancedSampler(LABELS).load_state_dict(state | {"version": 0})
    with pytest.raises(ArgumentError, match=r"lacks \['consumed'\]"):
        ClassBalancedSampler(LABELS).load_state_dict({key: state[key] for key in state if key != "consumed"})
    with pytest.raises(ArgumentError, match="`state` has consumed 95 of an epoch of 94"):
        ClassBalancedSampler(LABELS).load_state_dict(state | {"consumed": 95})
    with pytest.raises(ArgumentError, match="`consumed` must be at most the 94 samples"):
        ClassBalancedSampler(LABELS).state_dict(consumed=95)


def test_dropping_a_loaded_state_warns() -> None:
    sampler = ClassBalancedSampler(LABELS)
    sampler.set_epoch(3)
    state = sampler.state_dict(consumed=5)
    fresh = ClassBalancedSampler(LABELS)
    fresh.load_state_dict(state)
    with pytest.warns(
        UserWarning,
        match=r"set_epoch\(0\) drops the loaded state, .* 5 samples into epoch 3; .* call set_epoch\(3\) first",
    ):
        fresh.set_epoch(0)
    assert len(fresh) == 94


# hosts


def shards(sampler: OrderedSampler, world: int, size: int, **options: Any) -> list[list[list[int]]]:
    """The batches that accelerate gives each rank."""
    batches = [list(copy.deepcopy(sampler)) for _ in range(world)]
    return [
        list(BatchSamplerShard(BatchSampler(batches[r], size, drop_last=False), world, r, **options))
        for r in range(world)
    ]


def joined(parts: list[list[list[int]]], size: int) -> list[int]:
    """Step by step, the batches of all ranks."""
    return [index for step in range(max(map(len, parts))) for part in parts for index in part[step]]


@pytest.mark.fault("S11")
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_accelerate_shards_the_global_order(make: Make, world: int) -> None:
    sampler = make(LABELS, seed=3)
    whole = order_of(sampler)
    parts = shards(sampler, world, 4)
    assert len({len(part) for part in parts}) == 1
    assert all(len(batch) == 4 for part in parts for batch in part)
    every = joined(parts, 4)
    assert every[: len(whole)] == whole  # the rest is accelerate's padding from the start
    assert set(every[len(whole) :]) <= set(whole)


@pytest.mark.fault("S11")
@pytest.mark.parametrize(("samples", "world"), [(3, 8), (8, 8), (1, 2)])
def test_fewer_samples_than_ranks_and_one_each(samples: int, world: int) -> None:
    sampler = ClassBalancedSampler(LABELS, num_samples=samples, seed=3)
    parts = shards(sampler, world, 1)
    assert [sum(map(len, part)) for part in parts] == [1] * world
    assert joined(parts, 1)[:samples] == order_of(sampler)


@pytest.mark.fault("S11")
@pytest.mark.parametrize("world", [2, 3])
def test_a_host_that_wraps_the_sampler_gets_the_same_order(world: int) -> None:
    # Lightning lists the sampler and shards the list with torch's DistributedSampler
    sampler = ResampleSampler(LABELS, seed=3)
    parts = []
    for rank in range(world):
        listed = list(copy.deepcopy(sampler))
        wrapper = DistributedSampler(listed, num_replicas=world, rank=rank, shuffle=False)  # type: ignore[arg-type]
        parts.append([listed[place] for place in wrapper])
    whole = order_of(sampler)
    assert [parts[i % world][i // world] for i in range(len(whole))] == whole


def test_accelerate_forwards_the_epoch() -> None:
    sampler = ClassBalancedSampler(LABELS, seed=3)
    expected = []
    for epoch in range(3):
        twin = ClassBalancedSampler(LABELS, seed=3)
        twin.set_epoch(epoch)
        expected.append(list(twin))
    loaders = [
        prepare_data_loader(
            DataLoader(Indices(), batch_size=4, sampler=copy.deepcopy(sampler)),
            num_processes=2,
            process_index=rank,
            put_on_device=False,
        )
        for rank in range(2)
    ]
    for epoch in range(3):
        steps = zip(*loaders, strict=True)
        drawn = [index for step in steps for batch in step for index in batch.tolist()]
        assert drawn[: len(sampler)] == expected[epoch]


@pytest.mark.fault("S12")
def test_eight_gloo_ranks_with_states_of_their_own_draw_one_order(tmp_path: Path) -> None:
    script = Path(__file__).with_name("order_of_a_rank.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "store")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.fault("S8")
@pytest.mark.fault("S9")
@pytest.mark.parametrize("size", [2, 4, 10, 1000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_of_any_size_have_exact_lengths(make: Make, size: int, drop_last: bool) -> None:
    sampler = make(LABELS, seed=3)
    loader = DataLoader(Indices(), batch_size=size, sampler=sampler, drop_last=drop_last)
    promised, whole = len(loader), order_of(sampler)
    batches = [batch.tolist() for batch in loader]
    assert len(batches) == promised == (len(whole) // size if drop_last else -(-len(whole) // size))
    assert [index for batch in batches for index in batch] == whole[: promised * size]


@pytest.mark.fault("S7")
def test_a_class_with_one_item_and_one_with_none(make: Make) -> None:
    sampler = make(np.array([0, 0, 0, 0, 2, 0, 3, 0, 3]), seed=3, num_classes=6)
    assert sampler.prior.shape == (6,)
    assert sampler.prior[[1, 4, 5]].tolist() == [0.0, 0.0, 0.0]
    drawn = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        drawn += order_of(sampler)
    assert set(drawn) == set(range(9))  # also the only item of its class, 4


class Noise(Indices):
    """Each item: a number from each of the three global generators."""

    def __getitem__(self, index: int) -> torch.Tensor:  # type: ignore[override]
        return torch.tensor([random.random(), np.random.random(), torch.rand(()).item()], dtype=torch.float64)  # noqa: NPY002


@pytest.mark.fault("S16")
def test_the_generators_of_the_workers_differ_by_worker_and_epoch(make: Make) -> None:
    sampler = make(LABELS, seed=3)
    noise = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        loader = DataLoader(Noise(), batch_size=1, sampler=sampler, num_workers=2, multiprocessing_context="fork")
        noise.append(torch.cat([batch for _, batch in zip(range(4), loader, strict=False)]))
    numbers = torch.cat(noise)
    for kind in range(3):
        assert len(numbers[:, kind].unique()) == len(numbers)


# arguments


@pytest.mark.parametrize("epoch", [-1, 1.0, True, None])
def test_an_epoch_is_a_whole_number(make: Make, epoch: Any) -> None:
    with pytest.raises((ArgumentError, TypeError), match="`epoch`"):
        make(LABELS).set_epoch(epoch)


def test_a_batch_has_at_least_one_index(make: Make) -> None:
    with pytest.raises(ArgumentError, match="`n` must be at least 1"):
        make(LABELS).batches(0)
