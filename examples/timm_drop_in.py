"""A timm model in a plain loop: one line for the loss, one for the sampler; and what replaces timm's own losses."""

import timm
import timm.loss
import torch
from torch.utils.data import DataLoader, TensorDataset

import counterpoise as cp

digits = cp.load("digits")
train = digits.subset("train")
counts = digits.counts("train")
pixels = torch.stack([torch.from_numpy(train[i]) for i in range(len(train))]).permute(0, 3, 1, 2) / 255
labels = torch.tensor(train.labels)

torch.manual_seed(0)
model = timm.create_model("test_resnet.r160_in1k", num_classes=counts.num_classes)
sampler = cp.samplers.ClassBalancedSampler(train.labels, power=0.5)
criterion = cp.losses.LogitAdjustedLoss(prior=sampler.prior)  # instead of nn.CrossEntropyLoss(); the prior as sampled
loader = DataLoader(TensorDataset(pixels, labels), batch_size=64, sampler=sampler)
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
losses = []
for epoch in range(3):
    sampler.set_epoch(epoch)
    for images, target in loader:
        loss = criterion(model(torch.nn.functional.interpolate(images, size=32)), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
print(f"loss: {losses[0]:.2f} -> {sum(losses[-3:]) / 3:.2f}")

# timm's losses and ours, on the same logits.
z, y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 5
several = torch.nn.functional.one_hot(y, 5).float()
pairs = {
    "label smoothing": (
        timm.loss.LabelSmoothingCrossEntropy(0.1)(z, y),
        cp.losses.CrossEntropyLoss(label_smoothing=0.1)(z, y),
    ),
    "soft targets": (timm.loss.SoftTargetCrossEntropy()(z, several), cp.losses.CrossEntropyLoss()(z, several)),
    "binary": (timm.loss.BinaryCrossEntropy(smoothing=0.0)(z, several), cp.losses.BinaryCrossEntropyLoss()(z, several)),
    "asymmetric": (
        timm.loss.AsymmetricLossMultiLabel()(z, several),
        cp.losses.AsymmetricLoss(gamma_neg=4.0, gamma_pos=1.0, clip=0.05, reduction="batchmean")(z, several),
    ),
}
for name, (theirs, ours) in pairs.items():
    print(f"{name}: timm {theirs.item():.4f}, ours {ours.item():.4f}")
    assert torch.allclose(theirs, ours, rtol=1e-4)
