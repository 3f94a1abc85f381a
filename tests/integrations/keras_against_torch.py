"""Run in a process of its own: `KERAS_BACKEND=… python keras_against_torch.py [every nth case]`.

Holds the Keras losses against the torch losses of `counterpoise.losses`: values, gradients, reductions. Prints one
JSON object, {case: [largest error of the value, of the gradient]}, errors relative to max(1, |what is right|).
"""

import json
import sys

import keras
import numpy as np
import torch

from counterpoise import losses
from counterpoise.integrations import keras as ours

N, C = 12, 5
COUNTS = [500, 200, 90, 20, 3]
SOFTMAX = {
    "SoftmaxLoss": {
        "offset": np.linspace(-1.0, 1.0, C),
        "class_scale": np.linspace(0.5, 1.5, C),
        "scale": 1.5,
        "margin": np.linspace(0.0, 0.5, C),
        "gamma": np.linspace(0.0, 2.0, C),
        "poly": 0.5,
        "label_smoothing": np.linspace(0.1, 0.3, C),
        "weight": np.linspace(0.5, 2.0, C),
    },
    "CrossEntropyLoss": {"weight": np.linspace(0.0, 2.0, C)},
    "FocalLoss": {},
    "FocalLoss half": {"gamma": 0.5, "alpha": np.linspace(0.5, 1.5, C)},
    "FocalLoss tenth": {"gamma": 0.1, "label_smoothing": 0.1},
    "ClassBalancedLoss": {"class_counts": COUNTS, "gamma": 0.7},
    "LogitAdjustedLoss": {"prior": np.array(COUNTS) / sum(COUNTS), "tau": 1.5},
    "BalancedSoftmaxLoss": {"class_counts": COUNTS},
    "BalancedSoftmaxLoss masked": {"class_counts": [500, 0, 90, 20, 3], "empty": "exclude", "label_smoothing": 0.1},
    "VectorScalingLoss": {"class_counts": COUNTS},
    "LDAMLoss": {"class_counts": COUNTS},
    "PolyLoss": {"gamma": 0.5},
}
SIGMOID = {
    "SigmoidLoss": {
        "weight": np.linspace(0.5, 2.0, C),
        "pos_weight": np.linspace(1.0, 3.0, C),
        "neg_weight": 0.5,
        "gamma_pos": 0.5,
        "gamma_neg": 0.3,
    },
    "SigmoidLoss clipped": {"gamma_pos": 0.0, "gamma_neg": 2.0, "clip": 0.1},
    "BinaryCrossEntropyLoss": {"pos_weight": np.linspace(1.0, 9.0, C)},
    "SigmoidFocalLoss": {},
    "AsymmetricLoss": {},
    "AsymmetricLoss whole": {"detach_focus": False},
}
REDUCTIONS = {  # ours in Keras: ours in torch
    "softmax": {"sum_over_batch_size": "batchmean", "weighted_mean": "mean", "sum": "sum", "none": "none"},
    "sigmoid": {"sum_over_batch_size": "mean"},
}


def logits(size: float, *, masked: bool = False) -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(N, C)) * size
    z[0], z[1, 0], z[2] = 0.0, 3.0 * size, size * np.eye(C)[1]  # ties, confident rows
    z[3] = -size * np.eye(C)[2]
    if size > 1e3:
        z = np.clip(z, -1e4, 1e4)
        z[4] = [1e4, -1e4, 1e4, -1e4, 0.0]
        z[5] = [18.5, -18.5, 17.0, -88.5, 103.0]
    if masked:
        z[::2, 4] = -np.inf  # no target is class 4 there
        z[7, :4] = -np.inf
    return z.astype(np.float32)


def index(masked: bool) -> np.ndarray:
    y = np.arange(N) % C
    y[7] = 4
    return np.where(masked & (np.arange(N) % 2 == 0) & (y == 4), 0, y)


def soft(y: np.ndarray) -> np.ndarray:
    t = 0.75 * np.eye(C)[y] + 0.25 * np.eye(C)[np.roll(y, 1)]
    return t.astype(np.float32)


def value_and_gradient(loss, y, z, u):
    if keras.backend.backend() == "torch":
        leaf = torch.tensor(z, requires_grad=True)
        value = loss(y, leaf, u)
        value.sum().backward()
        return value.detach().numpy(), leaf.grad.numpy()
    if keras.backend.backend() == "jax":
        import jax

        # Value and gradient from one trace; compiling each of these cases would take minutes.
        value, back = jax.vjp(lambda x: loss(y, x, u), z)
        return np.asarray(value), np.asarray(back(np.ones_like(value))[0])
    import tensorflow as tf

    x = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.function(lambda x: loss(y, x, u))(x)
    return value.numpy(), tape.gradient(value, x).numpy()


def right(name, options, y, z, u, reduction):
    module = getattr(losses, name.split()[0])(**options, reduction=reduction)
    leaf = torch.tensor(z, requires_grad=True)
    value = module(leaf, torch.as_tensor(y), sample_weight=None if u is None else torch.as_tensor(u))
    value.sum().backward()
    return value.detach().numpy(), leaf.grad.numpy()


def error(got, expected):
    if not (np.isfinite(got).all() and got.shape == expected.shape):
        return float("inf")
    return float((np.abs(got - expected) / np.maximum(1.0, np.abs(expected))).max())


def cases():
    u = np.linspace(0.0, 2.0, N).astype(np.float32)
    for size in (1.0, 30.0, 1e4):
        for name, options in SOFTMAX.items():
            masked = name == "SoftmaxLoss" or size == 30.0
            if name == "LDAMLoss" and size > 1e3:
                continue
            y, z = index(masked), logits(size, masked=masked)
            if "masked" in name:
                y = np.where(y == 1, 0, y)
            targets = {"index": y, "column": y[:, None].astype(np.float32), "one-hot": np.eye(C, dtype=np.float32)[y]}
            probabilities = soft(y) * np.isfinite(z) * (np.arange(C) != 1 if "masked" in name else 1)
            targets["soft"] = probabilities / probabilities.sum(1, keepdims=True)
            for kind, target in targets.items():
                for host, torch_reduction in REDUCTIONS["softmax"].items():
                    theirs = y if kind == "column" else target
                    yield f"{name} {size:g} {kind} {host}", name, options, target, theirs, z, u, host, torch_reduction
        yield from sigmoid_cases(size, u)


def sigmoid_cases(size, u):
    for name, options in SIGMOID.items():
        y, z = index(False), logits(size)
        several = (np.random.default_rng(1).random((N, C)) < 0.4).astype(np.float32)
        several[3, :2] = 0.3
        ignored = several.copy()
        ignored[5, :3] = ignored[6] = -100
        for kind, target in {"index": y, "labels": several, "ignored": ignored}.items():
            yield f"{name} {size:g} {kind}", name, options, target, target, z, u, "sum_over_batch_size", "mean"


def main() -> None:
    errors = {}
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for title, name, options, target, theirs, z, u, host, reduction in list(cases())[::every]:
        loss = getattr(ours, name.split()[0])(**options, reduction=host)
        loss = type(loss).from_config(json.loads(json.dumps(loss.get_config())))
        for weights in (None, u):
            value, gradient = value_and_gradient(loss, target, z, weights)
            expected, slope = right(name, options, theirs, z, weights, reduction)
            errors[f"{title}{'' if weights is None else ' weighted'}"] = [
                error(value, expected),
                error(gradient, slope),
            ]
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
