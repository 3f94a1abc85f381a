"""For the docstring examples: Keras needs a backend, and torch is the one that is there."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
