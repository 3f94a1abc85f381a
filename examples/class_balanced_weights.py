"""The effective number of samples as a geometric series, and the class weights that follow from it."""

import math

import torch

from counterpoise import ClassCounts, losses
from counterpoise.weights import class_weights

# Each image adds β times as much as the one before: E_n = 1 + β + … + β^(n−1) = (1 − β^n)/(1 − β).
for beta, n in ((0.9, 5), (0.99, 100), (0.999, 5000)):
    series = sum(beta**i for i in range(n))
    assert math.isclose(ClassCounts([n]).effective_number(beta)[0], series, rel_tol=1e-9)

print("   β        E(5000)   E(100)   ratio of the weights")
for beta in (0.0, 0.99, 0.999, 0.9999, 0.99999):
    large, small = ClassCounts([5000, 100]).effective_number(beta)
    weights = class_weights([5000, 100], "effective_number", beta=beta, normalize=None)
    assert math.isclose(weights[1] / weights[0], large / small, rel_tol=1e-12)
    print(f"{beta:8}  {large:9.2f}  {small:7.2f}   {large / small:5.1f} : 1")

# β = 0 gives all classes the same weight; β → 1 gives inverse-frequency weights, 50 : 1 here.
near = class_weights([5000, 100], "effective_number", beta=1 - 1e-12, normalize=None)
assert math.isclose(near[1] / near[0], 50.0, rel_tol=1e-6)

# The class-balanced loss is cross-entropy with these weights, normalized to Σ w = C.
counts = [5000, 500, 50]
z, y = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
raw = torch.tensor([(1 - 0.9999) / (1 - 0.9999**n) for n in counts], dtype=torch.float64)
w = raw / raw.sum() * 3
ours = losses.class_balanced_loss(z, y, class_counts=counts, beta=0.9999)
assert torch.allclose(ours, torch.nn.functional.cross_entropy(z, y, weight=w))
print("weights of 5000, 500, 50 images:", [round(x, 3) for x in w.tolist()])
