"""The torch module of a trained model: networks and the steps to final logits in one, for inference and export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoise.core.artifacts import LogitTransform
from counterpoise.hierarchy import ClassTree
from counterpoise.models import leaf_log_probabilities
from counterpoise.posthoc import adjust_logits


class NodeClassifiers(nn.Module):
    """One classifier for each inner node of a class tree: images → edge logits ``(N, E)``.

    The edges of a node without a classifier, which has one child with training images, get the logit 0.

    Args:
        classifiers: the classifier of each node number; its classes are the children of the node.
        tree: the class tree, with E edges.
    """

    def __init__(self, classifiers: dict[int, nn.Module], tree: ClassTree) -> None:
        super().__init__()
        self.classifiers = nn.ModuleDict({f"node{node}": module for node, module in classifiers.items()})
        self.num_edges = tree.num_edges
        self.first_edges = [int(tree.children(node)[0]) - 1 for node in classifiers]

    def forward(self, images: Tensor) -> Tensor:
        parts = [module(images) for module in self.classifiers.values()]
        logits: Tensor = parts[0].new_zeros(images.shape[0], self.num_edges)
        for first, part in zip(self.first_edges, parts, strict=True):
            logits[:, first : first + part.shape[1]] = part
        return logits


class LogitStep(nn.Module):
    """One step from the output of a network to final logits, as torch operations that can be exported.

    The same as `counterpoise.posthoc.TRANSFORMS`, in float32.

    Args:
        transform: the step.
        num_classes: C.
    """

    def __init__(self, transform: LogitTransform, num_classes: int) -> None:
        super().__init__()
        self.method, self.tree = transform.method, None
        tensors, self._step = _STEPS[transform.method](num_classes, **transform.parameters)
        if "tree" in transform.parameters:
            self.tree = ClassTree.from_dict(transform.parameters["tree"])
        for name, values in tensors.items():
            self.register_buffer(name, torch.as_tensor(values))

    def forward(self, logits: Tensor) -> Tensor:
        transformed: Tensor = self._step(self, logits)
        return transformed

    def extra_repr(self) -> str:
        return self.method


class ImageClassifier(nn.Module):
    """A network and the steps that follow it: images in [0, 1] ``(N, 3, S, S)`` → final logits float32 ``(N, C)``.

    The images are normalised inside. The predicted class is the argmax of the logits; a class that is never predicted
    has -inf.

    Args:
        network: images → logits of classes ``(N, C)`` or of the edges of a tree.
        transforms: the steps from there to the final logits.
        num_classes: C.
    """

    def __init__(self, network: nn.Module, transforms: Sequence[LogitTransform], num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.steps = nn.Sequential(*(LogitStep(transform, num_classes) for transform in transforms))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.steps(self.network(images).float())
        return logits


_Step = Callable[[Any, Tensor], Tensor]
_Parts = tuple[dict[str, Any], _Step]


def _float32(values: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float64), dtype=torch.float32)


def _log_sigmoid(num_classes: int) -> _Parts:
    return {}, lambda step, z: F.logsigmoid(z)


def _leaves(num_classes: int, *, tree: Any, empty: Sequence[int]) -> _Parts:
    masked = torch.zeros(ClassTree.from_dict(tree).num_edges, dtype=torch.bool)
    masked[list(empty)] = True
    return {"masked": masked}, lambda step, z: leaf_log_probabilities(z.masked_fill(step.masked, -torch.inf), step.tree)


def _exclude(num_classes: int, *, classes: Sequence[int]) -> _Parts:
    masked = torch.zeros(num_classes, dtype=torch.bool)
    masked[list(classes)] = True
    return {"masked": masked}, lambda step, z: z.masked_fill(step.masked, -torch.inf)


def _adjust(num_classes: int, *, prior: Any, tau: float, target_prior: Any = None) -> _Parts:
    options: Any = {"tau": tau, "target_prior": target_prior, "empty": "exclude"}
    offset = adjust_logits(np.zeros(num_classes), prior, **options)
    return {"offset": _float32(offset)}, lambda step, z: z + step.offset


def _scale(num_classes: int, *, scale: float) -> _Parts:
    return {}, lambda step, z: z * scale


def _normalize_head(num_classes: int, *, tau: float, norm: Sequence[float], bias: Sequence[float]) -> _Parts:
    tensors = {"bias": _float32(bias), "divisor": _float32(np.asarray(norm) ** tau)}
    return tensors, lambda step, z: (z - step.bias) / step.divisor


def _thresholds(num_classes: int, *, thresholds: Sequence[float]) -> _Parts:
    return {"log_threshold": _float32(np.log(thresholds))}, lambda step, z: z.log_softmax(1) - step.log_threshold


def _temperature(num_classes: int, *, temperature: Any) -> _Parts:
    per_class = np.broadcast_to(np.asarray(temperature, dtype=np.float64), num_classes)
    return {"temperature": _float32(per_class)}, lambda step, z: z / step.temperature[z.argmax(1, keepdim=True)]


_STEPS: dict[str, Callable[..., _Parts]] = {
    "log_sigmoid": _log_sigmoid,
    "leaf_log_probabilities": _leaves,
    "exclude": _exclude,
    "adjust_logits": _adjust,
    "scale_logits": _scale,
    "tau_normalize": _normalize_head,
    "tune_thresholds": _thresholds,
    "temperature": _temperature,
}
