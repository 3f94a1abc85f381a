"""Eight gloo ranks: each draws a sampler's order with a random state of its own, and compares with the others.

Started by test_samplers.py as ``python order_of_a_rank.py STORE``; exits 0 if every rank saw the same order, and if
what accelerate gives the ranks of a world of 2, 3 and 8 is that order again.
"""

from __future__ import annotations

import datetime
import multiprocessing
import random
import sys

import numpy as np
import torch
import torch.distributed as dist
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from counterpoise.samplers import ClassBalancedSampler, OrderedSampler, RepeatFactorSampler, ResampleSampler

WORLD = 8


def samplers() -> list[OrderedSampler]:
    labels = np.repeat(np.arange(3), [70, 20, 6])
    return [
        ClassBalancedSampler(labels, seed=5, num_samples=192),
        ResampleSampler(labels, seed=5),
        RepeatFactorSampler(labels, repeat_thresh=0.5, seed=5),
    ]


def gathered(values: list[int], group: dist.ProcessGroup | None = None) -> list[list[int]]:
    out: list[list[int]] = [[] for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(out, values, group=group)
    return out


def main(rank: int, store: str) -> None:
    random.seed(rank)
    np.random.seed(rank)  # noqa: NPY002 - the point is that the global state differs
    torch.manual_seed(rank)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timeout)
    groups = {world: dist.new_group(list(range(world))) for world in (2, 3, 8)}
    for sampler in samplers():
        for epoch in (0, 3):
            sampler.set_epoch(epoch)
            order = list(sampler)
            assert all(other == order for other in gathered(order)), "the ranks drew different orders"
        for world, group in groups.items():
            if rank >= world:
                continue
            sampler.set_epoch(3 + world)
            shard = BatchSamplerShard(BatchSampler(sampler, 4, drop_last=True), world, rank, even_batches=False)
            shards = gathered([index for batch in shard for index in batch], group)
            steps = min(map(len, shards)) // 4
            joined = [index for step in range(steps) for part in shards for index in part[4 * step : 4 * step + 4]]
            assert len(joined) > 0
            assert len({len(part) for part in shards}) == 1, "the ranks got differing amounts"
            assert joined == next(sampler.batches(10**6))[: len(joined)].tolist(), "not the global order"
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")  # everything is imported once
    ranks = [fork.Process(target=main, args=(rank, sys.argv[1])) for rank in range(WORLD)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))
