"""RetinaNet of torchvision with class-balanced focal loss: rare categories weigh by their effective number."""

import torch
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from counterpoise import losses
from counterpoise.weights import class_weights


class BalancedClassificationHead(RetinaNetClassificationHead):
    """The head with a weight for each category; with equal weights it is torchvision's."""

    category_weight: Tensor

    def compute_loss(self, targets, head_outputs, matched_idxs) -> Tensor:
        per_image = []
        for target, logits, matched in zip(targets, head_outputs["cls_logits"], matched_idxs, strict=True):
            found = matched >= 0
            wanted = torch.zeros_like(logits)
            wanted[found, target["labels"][matched[found]]] = 1.0
            counted = matched != self.BETWEEN_THRESHOLDS
            loss = losses.sigmoid_focal_loss(
                logits[counted],
                wanted[counted],
                weight=self.category_weight,
                reduction="mean",
                normalizer=max(1, int(found.sum())),  # RetinaNet divides by the boxes found, not by all anchors
            )
            per_image.append(loss)
        return sum(per_image) / len(targets)


def scene(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Two boxes in noise, of a frequent category (1) and a rare one (3)."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, 2, generator=g) * 60
    boxes = torch.cat([corner, corner + 40], 1)
    return torch.rand(3, 128, 128, generator=g), {"boxes": boxes, "labels": torch.tensor([1, 3])}


torch.manual_seed(0)
model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=128, max_size=128)
batch = [scene(seed) for seed in range(2)]
images, targets = [image for image, _ in batch], [target for _, target in batch]
plain = model(images, targets)["classification"]

head = model.head.classification_head
head.__class__ = BalancedClassificationHead
head.register_buffer("category_weight", torch.ones(4))
same = model(images, targets)["classification"]
print(f"equal counts: torchvision {plain.item():.4f}, ours {same.item():.4f}")
assert torch.allclose(plain, same, rtol=1e-4)

counts = [0, 10_000, 1_000, 20]  # boxes of each category in the training set; category 0 is nobody's
weights = class_weights(counts, "effective_number", beta=0.999, empty="exclude")
head.category_weight.copy_(torch.from_numpy(weights))
balanced = model(images, targets)["classification"]
balanced.backward()
rare, frequent = (head.cls_logits.bias.grad.view(-1, 4)[:, c].abs().sum().item() for c in (3, 1))
print(f"weights: {[round(w, 3) for w in head.category_weight.tolist()]}")
print(f"gradient of the rare category over that of the frequent one: {rare / frequent:.1f}")
assert rare > frequent
