"""Asymmetric loss derived: two focusing parameters, a margin for negatives, and a factor without gradient."""

import torch

from counterpoise import losses

torch.manual_seed(0)
gamma_neg, gamma_pos, clip = 4.0, 1.0, 0.05
z = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
y = (torch.rand(4, 6) < 0.3).double()

# Positive: (1 − p)^γ⁺ (−log p). Negative: p^m = max(p − m, 0), (p^m)^γ⁻ (−log(1 − p^m)).
p = z.sigmoid()
shifted = (p - clip).clamp(min=0)
positive, negative = (1 - p) ** gamma_pos, shifted**gamma_neg
elements = -y * positive * p.log() - (1 - y) * negative * (1 - shifted).log()
ours = losses.asymmetric_loss(z, y, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, reduction="sum")
assert torch.allclose(ours, elements.sum())
print(f"loss, sum: {ours.item():.6f}")

# The paper keeps the modulating factors constant in the gradient, as in weighted binary cross-entropy.
(gradient,) = torch.autograd.grad(ours, z)
fixed = -y * positive.detach() * p.log() - (1 - y) * negative.detach() * (1 - shifted).log()
(by_hand,) = torch.autograd.grad(fixed.sum(), z, retain_graph=True)
assert torch.allclose(gradient, by_hand)
whole = losses.asymmetric_loss(
    z, y, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, detach_focus=False, reduction="sum"
)
assert torch.allclose(torch.autograd.grad(whole, z)[0], torch.autograd.grad(elements.sum(), z)[0])

# Without focusing and margin it is binary cross-entropy.
plain = losses.asymmetric_loss(z, y, gamma_neg=0.0, gamma_pos=0.0, clip=0.0)
assert torch.allclose(plain, torch.nn.functional.binary_cross_entropy_with_logits(z, y))

# Negatives below the margin have a loss of 0. A positive with a very low logit keeps its gradient; the code published
# with the paper clamps it to 0.
easy = losses.asymmetric_loss(torch.tensor([-3.0]), torch.tensor([0.0]))
print(f"a negative at p = {torch.tensor(-3.0).sigmoid():.3f}, below the margin: {easy.item():.4f}")
far = torch.tensor([-30.0], requires_grad=True)
losses.asymmetric_loss(far, torch.tensor([1.0]), gamma_pos=0.0).backward()
print(f"a positive at logit -30: gradient {far.grad.item():.4f}")
assert easy.item() == 0.0
assert far.grad.item() == -1.0
