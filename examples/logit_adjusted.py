"""Bayes' rule to the adjusted logit: plus log π in training, minus log π after it, and never both."""

import torch

from counterpoise import losses, posthoc

# Two Gaussians at −1 and +1, the second nine times rarer: everything is known.
prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
x = torch.linspace(-4, 4, 2001, dtype=torch.float64)
likelihood = torch.stack([-((x + 1) ** 2) / 2, -((x - 1) ** 2) / 2], 1)  # log p(x|c), up to a constant

# Bayes: log p(c|x) = log p(x|c) + log π_c − log p(x). A plainly trained model gives the left side.
posterior = (likelihood + prior.log()).log_softmax(1)
boundary = x[(posterior[:, 1] > posterior[:, 0]).nonzero()[0, 0]].item()
print(f"plain: says 'rare' from x = {boundary:.3f} on (log 9 / 2 = {torch.log(torch.tensor(9.0)).item() / 2:.3f})")

# After training: z − τ log π. τ = 1 gives the likelihood back, and the boundary of equal classes at 0.
for tau in (0.0, 0.5, 1.0, 1.5):
    adjusted = posthoc.adjust_logits(posterior, prior, tau=tau)
    at = x[(adjusted[:, 1] > adjusted[:, 0]).nonzero()[0, 0]].item()
    print(f"after training, τ = {tau}: from x = {at:.3f} on")
    assert abs(at - (1 - tau) * 1.0986) < 0.005
assert torch.allclose(posthoc.adjust_logits(posterior, prior).log_softmax(1), likelihood.log_softmax(1))

# In training: cross-entropy of z + τ log π. What it cannot lower any more is where z + log π is the log posterior,
# that is z = log p(x|c): the model is left with the likelihood, and is used as it is.
z = likelihood.clone().requires_grad_()
y_share = posterior.exp()  # how often each class is seen at each x
loss = losses.logit_adjusted_loss(z, y_share, prior=prior, tau=1.0)
assert torch.allclose(loss, torch.nn.functional.cross_entropy(z + prior.log(), y_share))
(gradient,) = torch.autograd.grad(loss, z)
assert gradient.abs().max() < 1e-12
print(f"in training: gradient at the likelihood {gradient.abs().max().item():.0e}, so that is what is learnt")

# Both at once correct twice.
twice = posthoc.adjust_logits(likelihood, prior)
print(f"both: from x = {x[(twice[:, 1] > twice[:, 0]).nonzero()[0, 0]].item():.3f} on, where 0 is right")
