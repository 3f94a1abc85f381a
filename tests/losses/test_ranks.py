"""The weighted mean is one mean: one process, several ranks and accumulated micro-batches give the same gradient."""

from __future__ import annotations

import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from counterpoise import losses

WEIGHT = torch.tensor([1.0, 100.0], dtype=torch.float64)


def batch():
    """Eight rows; the rare class is alone in its half."""
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return z, torch.tensor([0, 0, 0, 1, 0, 0, 0, 0])


def gradient_of_all(z, y):
    leaf = z.clone().requires_grad_()
    losses.cross_entropy(leaf, y, weight=WEIGHT).backward()
    return leaf.grad


@pytest.mark.fault("L34")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_add_up_to_the_batch(size):
    z, y = batch()
    targets = y.split(size)
    normalizer = losses.global_normalizer(targets, weight=WEIGHT)
    leaf = z.clone().requires_grad_()
    for logits, target in zip(leaf.split(size), targets, strict=True):
        losses.cross_entropy(logits, target, weight=WEIGHT, normalizer=normalizer).backward()
    torch.testing.assert_close(leaf.grad, gradient_of_all(z, y), rtol=1e-12, atol=0)


def test_a_mean_per_micro_batch_is_another_gradient():
    """What is lost otherwise: the rare row outweighs a common one 100 times, or about 4.5 times in the plain mean."""
    z, y = batch()
    plain = []
    for rows in (slice(0, 4), slice(4, 8)):
        leaf = z[rows].clone().requires_grad_()
        losses.cross_entropy(leaf, y[rows], weight=WEIGHT).backward()
        plain.append(leaf.grad / 2)
    assert not torch.allclose(torch.cat(plain), gradient_of_all(z, y), rtol=0.1)


def _rank(rank, world, path, rendezvous):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    try:
        z, y = batch()
        share = slice(rank * 8 // world, (rank + 1) * 8 // world)
        leaf = z[share].clone().requires_grad_()
        normalizer = losses.global_normalizer(y[share], weight=WEIGHT)
        losses.cross_entropy(leaf, y[share], weight=WEIGHT, normalizer=normalizer).backward()
        torch.save(leaf.grad / world, f"{path}/{rank}.pt")  # DDP averages gradients over ranks
    finally:
        dist.destroy_process_group()


@pytest.mark.fault("L34")
def test_two_ranks_give_the_gradient_of_one(tmp_path):
    context = mp.spawn(_rank, (2, str(tmp_path), str(tmp_path / "rendezvous")), nprocs=2, join=False)
    end = time.monotonic() + 120
    while not context.join(timeout=5):  # returns after each rank that ends
        assert time.monotonic() < end, "the ranks did not finish in two minutes"
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(shares), gradient_of_all(*batch()), rtol=1e-12, atol=0)
