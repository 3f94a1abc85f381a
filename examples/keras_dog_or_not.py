"""Dog or not dog: 1,000 dogs among 10,000 images. Always predicting "not dog" is 90 % accurate and has recall 0.

Uses the CIFAR-10 test images if COUNTERPOISE_DATA names the folder that contains cifar10-lt, otherwise random noise
with a tint for the dogs. On JAX:

    KERAS_BACKEND=jax python examples/keras_dog_or_not.py --epochs 3
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from PIL import Image

from counterpoise.integrations.keras import class_weight


def images(limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 32, 32, 3) in [0, 1] and labels (N,): class 0 is the dog, one image in ten; class 1 is the rest."""
    root = os.environ.get("COUNTERPOISE_DATA")
    if not root:
        rng = np.random.default_rng(0)
        y = np.repeat([0, 1], [limit // 10, limit - limit // 10])
        x = rng.normal(0.5, 0.25, (len(y), 32, 32, 3)) + 0.01 * (y == 0)[:, None, None, None] * [1, 0, -1]
        return x.clip(0, 1).astype("float32"), y
    folders = sorted((Path(root) / "cifar10-lt" / "test").iterdir())
    files = [(file, folder.name) for folder in folders for file in sorted(folder.iterdir())[: limit // 10]]
    x = np.stack([np.asarray(Image.open(file), dtype="float32") / 255 for file, _ in files])
    return x, np.array([0 if name == "dog" else 1 for _, name in files])


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--limit", type=int, default=int(os.environ.get("LIMIT", "10000")), help="number of images")
options = parser.parse_args()

x, y = images(options.limit)
order = np.random.default_rng(0).permutation(len(y))
train, test = np.array_split(order, [int(0.8 * len(y))])
weights = class_weight(labels=y, scheme="balanced")
print(f"{keras.backend.backend()} backend, weights: { ({k: round(w, 3) for k, w in weights.items()}) }")

for name, given in (("without weights", None), ("with weights", weights)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(16, 3, strides=2),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    model.fit(x[train], y[train], batch_size=64, epochs=options.epochs, class_weight=given, verbose=0)
    predicted = model.predict(x[test], verbose=0).argmax(1)
    dogs, others = ((predicted == y[test])[y[test] == c].mean() for c in (0, 1))
    accuracy = (predicted == y[test]).mean()
    print(f"{name}: accuracy {accuracy:.3f}, recall of dogs {dogs:.3f}, balanced accuracy {(dogs + others) / 2:.3f}")
