"""The gradient of focal loss: the modulating factor, both terms of the derivative, and why α falls as γ rises."""

import math

import torch

from counterpoise import losses


def terms(p: float, gamma: float) -> tuple[float, float, float]:
    """Both terms of the derivative of −(1−p)^γ log p by the log odds of p, and their sum."""
    first = (1 - p) ** gamma * (p - 1)  # modulating factor × gradient of cross-entropy
    second = gamma * (1 - p) ** gamma * p * math.log(p)  # derivative of the modulating factor × cross-entropy
    return first, second, first + second


def derivative(p: float, gamma: float, target: float) -> float:
    """The same from Counterpoise's loss and autograd, at the logit where the true class has probability p."""
    z = torch.tensor([math.log(p / (1 - p)) * (1 if target else -1)], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([target], dtype=torch.float64)
    losses.sigmoid_focal_loss(z, y, alpha=None, gamma=gamma, reduction="sum").backward()
    return z.grad.item()


print("p of the true class: first term + second term = derivative, γ = 2")
for p in (0.1, 0.5, 0.9, 0.99):
    first, second, total = terms(p, 2.0)
    assert math.isclose(total, derivative(p, 2.0, 1.0), rel_tol=1e-9)  # of the positive class
    assert math.isclose(-total, derivative(p, 2.0, 0.0), rel_tol=1e-9)  # and of the negative, with the other sign
    print(f"  {p:4}: {first:9.6f} + {second:9.6f} = {total:9.6f}")


def gradient_magnitude(p: float, gamma: float) -> float:
    return abs(terms(p, gamma)[2])


print("summed gradient magnitudes of 1,000 easy backgrounds (p = 0.95) and 100 hard foregrounds (p = 0.3)")
for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
    background, foreground = 1000 * gradient_magnitude(0.95, gamma), 100 * gradient_magnitude(0.3, gamma)
    alpha = background / (background + foreground)  # then α·foreground = (1 − α)·background
    print(f"  γ = {gamma}: background {background:8.4f}, foreground {foreground:8.4f}, equal at α = {alpha:.4f}")
    if gamma == 0.0:
        assert math.isclose(background, 50.0)
        assert math.isclose(foreground, 70.0)
        before = alpha
    assert alpha <= before  # the modulating factor already reduces the gradient of the background
    before = alpha
