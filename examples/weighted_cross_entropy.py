"""Weighted cross-entropy derived: the loss −w_y log p_y, its gradient w_y (p − t), and the denominator of "mean"."""

import torch

from counterpoise import losses
from counterpoise.weights import class_weights

counts = [900, 90, 10]
w = torch.from_numpy(class_weights(counts))  # inverse frequency, average 1 over the classes
print("weights:", [round(x, 4) for x in w.tolist()])

torch.manual_seed(0)
z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
y = torch.tensor([0, 0, 0, 0, 1, 2])

# −log p_y = log Σ exp z − z_y, from the definition of the softmax.
nll = torch.logsumexp(z, 1) - z[torch.arange(6), y]
by_hand = (w[y] * nll).sum() / w[y].sum()  # the mean in which each image counts w_y times
ours = losses.cross_entropy(z, y, weight=w)
torchs = torch.nn.functional.cross_entropy(z, y, weight=w)
assert torch.allclose(ours, by_hand)
assert torch.allclose(ours, torchs)
print(f"loss: {ours.item():.6f}")

# d(−log p_y)/dz_c = p_c − t_c: the gradient of each class is its error.
(gradient,) = torch.autograd.grad(ours, z)
t = torch.nn.functional.one_hot(y, 3)
assert torch.allclose(gradient, w[y][:, None] * (z.softmax(1) - t) / w[y].sum())

# A row with weight 2 equals the same row twice.
twice = losses.cross_entropy(z[[0, 1, 1]], y[[0, 1, 1]])
once = losses.cross_entropy(z[[0, 1]], y[[0, 1]], sample_weight=torch.tensor([1.0, 2.0], dtype=torch.float64))
assert torch.allclose(twice, once)

# Soft labels: torch divides by N, so one-hot labels give a different loss than indices; Counterpoise gives the same.
soft = t.double()
print(f"the same labels as one-hot: Counterpoise {losses.cross_entropy(z, soft, weight=w).item():.6f}, ", end="")
print(f"torch {torch.nn.functional.cross_entropy(z, soft, weight=w).item():.6f}")
assert torch.allclose(losses.cross_entropy(z, soft, weight=w), ours)
