"""Logit adjustment derived from Bayes' rule: add log π in training, or subtract it after training, but not both."""

import math

import torch

from counterpoise import losses, posthoc

# Two normal distributions at −1 and +1 with a class ratio of 9:1, so that the posterior is known.
prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
x = torch.linspace(-4, 4, 2001, dtype=torch.float64)
likelihood = torch.stack([-((x + 1) ** 2) / 2, -((x - 1) ** 2) / 2], 1)  # log p(x|c), up to a constant

# Bayes: log p(c|x) = log p(x|c) + log π_c − log p(x). A model trained with cross-entropy approaches the left side.
posterior = (likelihood + prior.log()).log_softmax(1)
boundary = x[(posterior[:, 1] > posterior[:, 0]).nonzero()[0, 0]].item()
print(f"cross-entropy: predicts the rare class from x = {boundary:.3f} (log 9 / 2 = {math.log(9) / 2:.3f})")

# After training: z − τ log π. τ = 1 recovers the likelihood, and the boundary of equally frequent classes at 0.
for tau in (0.0, 0.5, 1.0, 1.5):
    adjusted = posthoc.adjust_logits(posterior, prior, tau=tau)
    at = x[(adjusted[:, 1] > adjusted[:, 0]).nonzero()[0, 0]].item()
    print(f"adjusted after training, τ = {tau}: from x = {at:.3f}")
    assert abs(at - (1 - tau) * 1.0986) < 0.005
assert torch.allclose(posthoc.adjust_logits(posterior, prior).log_softmax(1), likelihood.log_softmax(1))

# In training: cross-entropy of z + τ log π. It is minimal where z + log π is the log posterior, that is for
# z = log p(x|c): the logits approach the log-likelihood, and are used without a correction.
z = likelihood.clone().requires_grad_()
y_share = posterior.exp()  # the share of each class at each x
loss = losses.logit_adjusted_loss(z, y_share, prior=prior, tau=1.0)
assert torch.allclose(loss, torch.nn.functional.cross_entropy(z + prior.log(), y_share))
(gradient,) = torch.autograd.grad(loss, z)
assert gradient.abs().max() < 1e-12
print(f"in training: gradient at the likelihood {gradient.abs().max().item():.0e}, so the model learns the likelihood")

# Doing both compensates the class prior twice.
twice = posthoc.adjust_logits(likelihood, prior)
print(f"both: from x = {x[(twice[:, 1] > twice[:, 0]).nonzero()[0, 0]].item():.3f}, where 0 is correct")
