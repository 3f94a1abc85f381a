"""Focal loss derived, binary and multiclass: (1 − p)^γ (−log p) of the true class, and its gradient."""

import torch
from torchvision.ops import sigmoid_focal_loss

from counterpoise import losses

torch.manual_seed(0)
gamma, alpha = 2.0, 0.25

# Binary: p_t = σ(z) for a positive and σ(−z) for a negative, α for a positive and 1 − α for a negative.
z = torch.randn(8, dtype=torch.float64, requires_grad=True)
y = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0], dtype=torch.float64)
p_t = torch.where(y == 1, z.sigmoid(), (-z).sigmoid())
a_t = torch.where(y == 1, alpha, 1 - alpha)
by_hand = -a_t * (1 - p_t) ** gamma * p_t.log()
ours = losses.sigmoid_focal_loss(z, y, alpha=alpha, gamma=gamma, reduction="none")
assert torch.allclose(ours, by_hand)
assert torch.allclose(ours, sigmoid_focal_loss(z, y, alpha=alpha, gamma=gamma))
print(f"binary, sum: {ours.sum().item():.6f}")

# Its gradient: dL/dz = ±α_t (1 − p_t)^γ (γ p_t log p_t + p_t − 1), + for a positive.
(gradient,) = torch.autograd.grad(ours.sum(), z)
sign = torch.where(y == 1, 1.0, -1.0)
assert torch.allclose(gradient, sign * a_t * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1))

# Multiclass: p_t is the softmax of the true class. The modulating factor does not contain the class weight.
z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
y = torch.tensor([0, 1, 2, 3, 0])
w = torch.tensor([0.4, 0.8, 1.2, 1.6], dtype=torch.float64)
p = z.softmax(1)[torch.arange(5), y]
by_hand = -(w[y] * (1 - p) ** gamma * p.log()).sum() / w[y].sum()
ours = losses.focal_loss(z, y, gamma=gamma, weight=w)
assert torch.allclose(ours, by_hand)
print(f"multiclass, mean: {ours.item():.6f}")

# γ = 0 is cross-entropy; two classes of the softmax form are the binary form on the difference of their logits.
assert torch.allclose(losses.focal_loss(z, y, gamma=0.0), torch.nn.functional.cross_entropy(z, y))
two, label = torch.randn(5, 2, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0])
binary = losses.sigmoid_focal_loss(two[:, 1] - two[:, 0], label.double(), alpha=None, gamma=gamma, reduction="mean")
assert torch.allclose(losses.focal_loss(two, label, gamma=gamma), binary)
easy, hard = (1 - 0.9) ** gamma, (1 - 0.1) ** gamma
print(f"modulating factor: {easy:.2f} for an easy image (p = 0.9), {hard:.2f} for a hard one (p = 0.1)")
