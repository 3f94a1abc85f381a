"""Focal loss taken apart: the throttle, the two terms of its derivative, and why α falls as γ rises."""

import math

import torch

from counterpoise import losses


def terms(p: float, gamma: float) -> tuple[float, float, float]:
    """Of −(1−p)^γ log p, derived by log-odds: the throttled cross-entropy, the throttle's own change, their sum."""
    throttled = (1 - p) ** gamma * (p - 1)
    moving = gamma * (1 - p) ** gamma * p * math.log(p)
    return throttled, moving, throttled + moving


def derivative(p: float, gamma: float, target: float) -> float:
    """The same from our loss and autograd, at the logit where the true class has probability p."""
    z = torch.tensor([math.log(p / (1 - p)) * (1 if target else -1)], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([target], dtype=torch.float64)
    losses.sigmoid_focal_loss(z, y, alpha=None, gamma=gamma, reduction="sum").backward()
    return z.grad.item()


print("p of the true class: throttled term + moving term = derivative, γ = 2")
for p in (0.1, 0.5, 0.9, 0.99):
    throttled, moving, total = terms(p, 2.0)
    assert math.isclose(total, derivative(p, 2.0, 1.0), rel_tol=1e-9)  # of the positive class
    assert math.isclose(-total, derivative(p, 2.0, 0.0), rel_tol=1e-9)  # and of the negative, with the other sign
    print(f"  {p:4}: {throttled:9.6f} + {moving:9.6f} = {total:9.6f}")


def pull(p: float, gamma: float) -> float:
    return abs(terms(p, gamma)[2])


print("1,000 easy backgrounds (p = 0.95) against 100 hard foregrounds (p = 0.3): gradients summed")
for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
    background, foreground = 1000 * pull(0.95, gamma), 100 * pull(0.3, gamma)
    alpha = background / (background + foreground)  # α·foreground = (1 − α)·background: both pull alike
    print(f"  γ = {gamma}: background {background:8.4f}, foreground {foreground:8.4f}, α that evens them {alpha:.4f}")
    if gamma == 0.0:
        assert math.isclose(background, 50.0)
        assert math.isclose(foreground, 70.0)
        before = alpha
    assert alpha <= before  # the throttle has done α's work already
    before = alpha
