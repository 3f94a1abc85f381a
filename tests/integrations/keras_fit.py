"""Run in a process of its own: what `fit` makes of weights and losses, and what a saved model keeps. Prints JSON."""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from counterpoise.integrations import keras as ours


def points(n, seed):
    y = np.repeat([0, 1], [n // 10, n - n // 10])
    x = np.random.default_rng(seed).normal(size=(n, 2)) + 1.5 * (y == 0)[:, None]
    return x.astype("float32"), y


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def recall(net, x, y):
    return float((np.asarray(net.predict(x, verbose=0)).argmax(1) == y)[y == 0].mean())


def fitted(loss, **options):
    net = model()
    net.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss)
    net.fit(**options, epochs=6, verbose=0, shuffle=False)
    return net


def main() -> None:
    (x, y), (test_x, test_y) = points(1000, 0), points(1000, 1)
    balanced = ours.class_weight(labels=y, scheme="balanced")
    plain = ours.CrossEntropyLoss()
    nets = {
        "plain": fitted(plain, x=x, y=y),
        "class_weight": fitted(plain, x=x, y=y, class_weight=balanced),
        "sample_weight": fitted(plain, x=x, y=y, sample_weight=ours.sample_weight(y, balanced)),
        "logit-adjusted": fitted(ours.LogitAdjustedLoss(prior=[0.1, 0.9]), x=x, y=y),
    }
    if keras.backend.backend() == "torch":
        loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=32)
        nets["loader"] = fitted(plain, x=ours.with_sample_weight(loader, balanced))
    found = {name: recall(net, test_x, test_y) for name, net in nets.items()}
    with tempfile.TemporaryDirectory() as folder:
        net = fitted(ours.FocalLoss(gamma=1.5, alpha=[0.7, 0.3]), x=x, y=y)
        net.save(Path(folder) / "m.keras")
        again = keras.saving.load_model(Path(folder) / "m.keras")
        found["config"] = [loss.get_config() for loss in (net.loss, again.loss)]
        found["evaluated"] = [float(n.evaluate(test_x, test_y, verbose=0)) for n in (net, again)]
    found["weights"] = {
        name: np.abs(np.asarray(nets["class_weight"].get_weights()[0]) - np.asarray(nets[name].get_weights()[0])).max()
        for name in nets
    }
    json.dump(found, sys.stdout, default=float)


if __name__ == "__main__":
    main()
