"""A comparison on disk, recomputed with scikit-learn from its predictions alone; and a wrong one noticed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Arm, Predictions, Strategy
from counterpoise.workflow.comparison.statistics import arm_scores, differences
from counterpoise.workflow.evaluation import evaluate

from ..evaluation.recompute import recompute_comparison

COUNTS = ClassCounts([900, 50, 12, 300], ["a", "b", "c", "d"])


def write(directory, seeds):
    """What `compare` leaves, as far as numbers go: two arms that finished and one that did not."""
    predictions = {"val": {}, "test": {}}
    arms = []
    for name, quality in (("baseline", 0.6), ("x", 0.75)):
        folders = tuple(f"runs/{name}-seed{s}" for s in range(seeds))
        for split in predictions:
            predictions[split][name] = [scores(split, quality, s) for s in range(seeds)]
            for folder, p in zip(folders, predictions[split][name], strict=True):
                p.save(directory / folder / f"predictions-{split}.npz")
        v, t = (
            [evaluate(p, split=s, train_counts=COUNTS, train_recall=[1.0] * 4) for p in predictions[s][name]]
            for s in predictions
        )
        arms.append(
            Arm(Strategy(name, ""), "done", tuple(range(seeds)), folders, (), tuple(v), tuple(t), arm_scores(v, t))
        )
    arms.append(Arm(Strategy("z", ""), "failed", tuple(range(seeds)), (), (), error="diverged"))
    found = differences(arms, predictions, baseline="baseline", train_counts=COUNTS, resamples=50)
    document = {"arms": [plain(arm) for arm in arms], "differences": [asdict(d) for d in found]}
    (directory / "comparison.json").write_text(json.dumps(document))


def plain(arm):
    evaluations = {key: [e.to_dict() for e in getattr(arm, key)] for key in ("validation", "test")}
    return asdict(replace(arm, validation=(), test=())) | evaluations


def scores(split, quality, seed):
    rng = np.random.default_rng((seed, round(100 * quality), len(split)))
    labels = np.repeat(np.arange(4), 12)
    said = np.where(rng.random(48) < quality, labels, rng.integers(4, size=48))
    logits = (np.eye(4)[said] * 2 + rng.normal(size=(48, 4))).astype(np.float32)
    return Predictions(logits, labels, np.array([f"{split}/{i}" for i in range(48)]), np.array(COUNTS.names))


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_scikit_learn_recomputes_every_number_of_a_comparison(tmp_path, seeds):
    write(tmp_path, seeds)
    assert recompute_comparison(tmp_path) == 2 * 2 * seeds


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["arms"][1]["scores"]["test"]["few"].update(mean=0.5),
        lambda c: c["arms"][1]["scores"]["val"]["accuracy"].update(sd=0.5),
        lambda c: c["arms"][0]["scores"]["test"]["medium_false_positives"]["values"].__setitem__(0, 0.5),
        lambda c: c["arms"][1]["test"][1].update(macro_f1=0.5),
        lambda c: c["arms"][1]["validation"][0]["classes"][2].update(recall_high=0.5),
        lambda c: c["differences"][0].update(estimate=0.5),
        lambda c: c["differences"][-1].update(seed_sd=0.5),
        lambda c: c["differences"][0].update(strategy="baseline"),
        lambda c: c["differences"][0].update(method="images-and-seeds"),
        lambda c: c["arms"].reverse() or c["arms"][1].update(directories=c["arms"][2]["directories"]),
    ],
)
def test_a_wrong_number_is_noticed(tmp_path, change):
    write(tmp_path, 2)
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    change(comparison)
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    with pytest.raises(AssertionError):
        recompute_comparison(tmp_path)
