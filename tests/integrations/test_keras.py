"""Keras on torch, JAX and TensorFlow, each in a process of its own, since the backend is fixed at import."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

# Not imported here: the backend is fixed at import.
pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
HERE = Path(__file__).parent
# TensorFlow, which alone has as many files as the rest, is in an environment of its own: `make test-tensorflow`.
BACKENDS = [
    "torch",
    pytest.param("jax", marks=pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")),
    pytest.param(
        "tensorflow",
        marks=pytest.mark.skipif(find_spec("tensorflow") is None, reason="make test-tensorflow runs this"),
    ),
]


def environment(backend):
    root = str(HERE.parents[1] / "src")
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    on_cpu = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **on_cpu, "KERAS_BACKEND": backend, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def told(script, backend, *arguments):
    env = environment(backend)
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_gradients_are_those_of_our_torch_losses(backend):
    errors = told("keras_against_torch.py", backend, {"torch": "2", "jax": "13", "tensorflow": "29"}[backend])
    assert len(errors) > 40
    # TensorFlow computes in a graph, whose optimiser changes the order of float32 operations.
    wrong = {case: pair for case, pair in errors.items() if max(pair) > (2e-6 if backend == "tensorflow" else 1e-6)}
    assert not wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_fit_takes_the_weights_and_a_saved_model_keeps_the_loss(backend):
    found = told("keras_fit.py", backend)
    for name in ("class_weight", "sample_weight", "logit-adjusted"):
        assert found[name] > found["plain"] + 0.1, name
    assert found["weights"]["sample_weight"] < 1e-5  # the same step for step
    assert found["weights"].get("loader", 0.0) < 1e-5
    assert found["config"][0] == found["config"][1]
    assert found["config"][0]["alpha"] == [0.7, 0.3]
    assert found["evaluated"][0] == pytest.approx(found["evaluated"][1], rel=1e-6)


WARNINGS = """
import json, warnings
import keras, numpy as np
from counterpoise.integrations import keras as ours

def warned(loss, y, z, times=2):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(times):
            loss(y, z)
    return [str(w.message) for w in found if "looks like" in str(w.message)]

def fitted(activation):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation=activation)])
    net.compile(loss=ours.FocalLoss(), run_eagerly=True)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        net.fit(np.random.default_rng(0).normal(size=(32, 2)), np.arange(32) % 3, epochs=2, verbose=0)
    return sum("looks like probabilities" in str(w.message) for w in found)

z = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
softmax = np.exp(z) / np.exp(z).sum(1, keepdims=True)
y, labels = np.arange(8) % 3, np.eye(3, dtype="float32")[np.arange(8) % 3]
print(json.dumps({
    "softmax": warned(ours.CrossEntropyLoss(), y, softmax),
    "sigmoid": warned(ours.BinaryCrossEntropyLoss(), labels, 1 / (1 + np.exp(-z))),
    "logits": warned(ours.CrossEntropyLoss(), y, z) + warned(ours.BinaryCrossEntropyLoss(), labels, z),
    "shares": warned(ours.CrossEntropyLoss(), y, softmax * 0.9),
    "few": warned(ours.CrossEntropyLoss(), y[:2], softmax[:2]),
    "declared": warned(ours.CrossEntropyLoss(from_logits=False), y, softmax),
    "fit": [fitted("softmax"), fitted(None)],
}))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_probabilities_taken_for_logits_give_one_warning(backend):
    done = run(WARNINGS, **environment(backend))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for family in ("softmax", "sigmoid"):
        (message,) = found[family]
        assert f"`y_pred` looks like probabilities (the output of a {family} layer)" in message
        assert "pass `from_logits=False` to the loss, or remove the activation" in message
    assert found["logits"] == found["shares"] == found["few"] == found["declared"] == []
    assert found["fit"][1] == 0
    assert found["fit"][0] == (1 if backend == "torch" else found["fit"][0])


def run(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "torch", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_keras_the_command_that_installs_it_is_named():
    hide = "import sys; sys.modules['keras'] = None\n"
    done = run(hide + "import counterpoise.integrations.keras")
    assert "MissingExtraError" in done.stderr
    assert "pip install -e '.[keras]'" in done.stderr
    assert run("import counterpoise, sys; counterpoise.losses; assert 'keras' not in sys.modules").returncode == 0


CASES = """
from counterpoise.integrations import keras as k
import numpy as np, json
def told(call):
    try: call()
    except Exception as e: return type(e).__name__ + ': ' + str(e)
print(json.dumps([
    k.class_weight([1000, 9000], 'balanced'),
    k.class_weight(labels=[0]*1000 + [1]*9000, scheme='balanced'),
    told(lambda: k.class_weight()),
    told(lambda: k.class_weight([10, 0])),
    told(lambda: k.class_weight([0, 1, 1, 2])),
    told(lambda: k.class_weight(labels=[0, 0, 2])),
    told(lambda: k.class_weight(labels=np.array([[1], [1], [3], [2]]))),
    k.class_weight(labels=[1, 1, 2], empty="exclude"),
    told(lambda: k.FocalLoss(alpha=0.25)),
    told(lambda: k.CrossEntropyLoss(reduction='mean')),
    told(lambda: k.CrossEntropyLoss(weight=[1.0, 2.0])([0], [[0.0, 0.0, 0.0]])),
    told(lambda: k.sample_weight([0, 2], {0: 1.0, 1: 2.0})),
    told(lambda: k.with_sample_weight([1, 2], {0: 1.0})),
]))
"""


def test_weights_by_hand_and_mistakes_by_name():
    counted, labelled, *mistakes = json.loads(run(CASES).stdout)
    assert mistakes.pop(5) == {"0": 0.0, "1": pytest.approx(2 / 3), "2": pytest.approx(4 / 3)}
    theirs = compute_class_weight("balanced", classes=np.arange(2), y=[0] * 1000 + [1] * 9000)
    assert counted == labelled == {"0": pytest.approx(theirs[0]), "1": pytest.approx(theirs[1])}
    expected = (
        "either `counts`",
        "class",
        "these look like labels; give them as labels=",
        "is 0 for class",
        "`labels` are from 1 to 3, and Keras counts classes from 0: subtract 1",
        "alpha",
        '"sum_over_batch_size"',
        "`weight` has 2 values",
        "row 1 is 2",
        "`data` must be a torch DataLoader",
    )
    for mistake, words in zip(mistakes, expected, strict=True):
        assert words in mistake


SIGNATURES = """
import inspect, json
from counterpoise import losses, weights
from counterpoise.integrations import keras as ours
def defaults(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
pairs = [(getattr(ours, name), getattr(losses, name)) for name in ours.__all__ if name.endswith("Loss")]
wrong = []
for keras_loss, torch_loss in [*pairs, (ours.class_weight, weights.class_weights)]:
    theirs, mine = defaults(torch_loss), defaults(keras_loss)
    missing = theirs.keys() - mine.keys() - {"normalizer", "impl", "inplace", "pixels_in_images"}
    differing = [n for n in mine.keys() & theirs.keys() - {"reduction"} if mine[n] != theirs[n]]
    wrong += [(keras_loss.__name__, sorted(missing), differing)] if missing or differing else []
print(json.dumps([len(pairs), wrong]))
"""


def test_signatures_state_the_hyperparameters_and_defaults_of_the_torch_losses():
    number, wrong = json.loads(run(SIGNATURES).stdout)
    assert number == 13
    assert wrong == []
