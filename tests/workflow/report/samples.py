"""Made-up artifacts for the report's tests: drawn from a seed, counted as real ones are."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import (
    Arm,
    AuditResult,
    CalibrationBin,
    ClassAudit,
    ClassScore,
    Comparison,
    Difference,
    Evaluation,
    Finding,
    GroupScore,
    Quarantined,
    Run,
    Spread,
    Strategy,
    Verdict,
)
from counterpoise.core.counts import ClassCounts

IntArray = NDArray[np.int64]

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "javascript:alert(3)",
    "{{7*7}}",
    "<svg onload=alert(4)>",
    "a|b `c` [d](javascript:alert(5)) *e*",
    "\u202egpj.exe",
    "${alert(6)}</style><style>*{display:none}",
    "datum' || alert(7) || '",
    "lone \udcff surrogate\nline",
)
NESTED = ("animal/cat", "animal/dog", *(f"vehicle/with a long name/of kind {i}" for i in range(8)))
STRATEGIES = {
    "baseline": (0.0, Strategy("baseline", "Plain cross-entropy.")),
    "weighted-ce": (0.45, Strategy("weighted-ce", "Cross-entropy with inverse class weights.", weights="inverse")),
    "class-balanced-focal": (
        0.4,
        Strategy(
            "class-balanced-focal",
            "Focal loss with effective-number weights.",
            loss="focal",
            loss_options={"gamma": 2.0},
            weights="effective_number",
            weight_options={"beta": 0.9999},
            reference="https://arxiv.org/abs/1901.05555",
        ),
    ),
    "logit-adjusted": (
        0.7,
        Strategy(
            "logit-adjusted",
            "Adds the log prior to the logits in training.",
            loss="logit_adjusted",
            loss_options={"tau": 1.0},
            reference="https://arxiv.org/abs/2007.07314",
        ),
    ),
    "oversample": (0.3, Strategy("oversample", "Draws rare classes more often.", sampler="resample")),
    "post-hoc-logit-adjusted": (
        0.62,
        Strategy(
            "post-hoc-logit-adjusted", "Subtracts the log prior afterwards.", posthoc="adjust_logits", reuses="baseline"
        ),
    ),
}
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "geometric_mean", "expected_calibration_error")
SETTINGS = {
    "model": "resnet20",
    "epochs": 15,
    "batch_size": 128,
    "learning_rate": 0.1,
    "pretrained": False,
    "selection_metric": "balanced_accuracy",
    "out": "/home/ann/secret-project/out",
}
ENVIRONMENT = {
    "counterpoise": "0.1.0",
    "python": "3.11.2",
    "torch": "2.15.0",
    "platform": "Linux x86_64",
    "device": "cpu",
}


def train_counts(num_classes: int, *, largest: int = 500, ratio: float = 50.0) -> IntArray:
    """Exponentially falling counts, as CIFAR-LT has them."""
    place = np.arange(num_classes) / max(num_classes - 1, 1)
    return np.maximum(1, (largest * ratio**-place).round()).astype(np.int64)


def audit(names: tuple[str, ...] = NAMES, **changes: Any) -> AuditResult:
    """The facts of a long-tailed dataset with two broken files."""
    n = train_counts(len(names))
    counts = ClassCounts(n)
    groups = {group: tuple(names[i] for i in ids) for group, ids in counts.groups().items()}
    group_of = {i: group for group, ids in counts.groups().items() for i in ids}
    classes = tuple(
        ClassAudit(name, int(n[i]), max(1, int(n[i]) // 5), 40, float(n[i] / n.sum()), group_of[i])
        for i, name in enumerate(names)
    )
    result = AuditResult(
        name="cifar10-lt",
        source="/home/ann/secret-project/cifar10-lt",
        num_images=int(n.sum() * 1.2 + 40 * len(names)),
        splits={"train": int(n.sum()), "val": int(n.sum() // 5), "test": 40 * len(names)},
        classes=classes,
        imbalance_ratio=counts.imbalance_ratio,
        groups=groups,
        reference_split="test",
        constant_class=names[0],
        constant_accuracy=1 / len(names),
        constant_balanced_accuracy=1 / len(names),
        findings=(
            Finding("imbalance", "warning", "The largest class has 50 times the images of the smallest.", (names[-1],)),
            Finding("small-validation", "warning", "3 classes have fewer than 5 validation images.", names[-3:]),
            Finding("unreadable", "info", "2 files could not be read and were left out.", ("train/cat/broken.jpg",)),
        ),
        quarantined=(
            Quarantined("train/cat/broken.jpg", "truncated: 12 of 4096 bytes", "cat", "train"),
            Quarantined("/home/ann/secret-project/cifar10-lt/train/dog/page.jpg", "not an image: HTML", "dog", "train"),
        ),
        num_files=int(n.sum() * 1.2 + 40 * len(names)) + 2,
        num_ignored=1,
    )
    return replace(result, **changes)


def draw(n_train: IntArray, support: IntArray, tilt: float, seed: int) -> tuple[IntArray, IntArray, NDArray[Any]]:
    """Labels, predictions and confidences; ``tilt`` moves recall from the large classes to the small ones."""
    rng = np.random.default_rng([seed, int(tilt * 100)])
    place = np.log(n_train / n_train.max()) / max(np.log(n_train.max() / n_train.min()), 1e-9)  # 0 largest, -1 smallest
    recall = np.clip(0.88 - 0.14 * tilt + (0.72 - 0.5 * tilt) * place + rng.normal(0, 0.03, len(n_train)), 0.03, 0.98)
    labels = np.repeat(np.arange(len(n_train)), support)
    weight = n_train ** (1 - tilt)
    others = rng.choice(len(n_train), size=len(labels), p=weight / weight.sum())
    predicted = np.where(rng.random(len(labels)) < recall[labels], labels, others)
    right = predicted == labels
    confidence = np.clip(rng.beta(6, 1.6, len(labels)) * np.where(right, 1.0, 0.82), 0.101, 0.999)
    return labels, predicted, confidence


def wilson(k: int, n: int) -> tuple[float | None, float | None, float | None]:
    """A rate with Wilson's 95 % interval."""
    if n == 0:
        return None, None, None
    z, p = 1.959963984540054, k / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, float((middle - half) / (1 + z * z / n))), min(1.0, float((middle + half) / (1 + z * z / n)))


def evaluation(
    names: tuple[str, ...] = NAMES, *, tilt: float = 0.0, seed: int = 0, split: str = "test", matrix: bool = True
) -> Evaluation:
    """An evaluation counted from drawn predictions."""
    n_train = train_counts(len(names))
    support = np.full(len(names), 40) if split == "test" else np.maximum(1, n_train // 5)
    labels, predicted, confidence = draw(n_train, support, tilt, seed + (100 if split == "val" else 0))
    c, right = len(names), predicted == labels
    given, hit = np.bincount(predicted, minlength=c), np.bincount(labels[right], minlength=c)
    groups = ClassCounts(n_train).groups()
    group_of = {i: group for group, ids in groups.items() for i in ids}
    recall = hit / support
    scores = []
    for i, name in enumerate(names):
        r, p = wilson(int(hit[i]), int(support[i])), wilson(int(hit[i]), int(given[i]))
        train = min(1.0, float(0.97 + 0.03 * tilt - 0.25 * (1 - tilt) * i / c))
        scores.append(
            ClassScore(
                name, int(support[i]), int(given[i]), int(hit[i]), int(given[i] - hit[i]), *r, *p,
                f1=float(2 * hit[i] / max(1, support[i] + given[i])), group=group_of[i],
                train_count=int(n_train[i]), train_recall=train, gap=train - float(recall[i]),
            )
        )  # fmt: skip
    balanced = float(recall.mean())
    return Evaluation(
        split=split,
        num_images=len(labels),
        confidence=0.95,
        accuracy=float(right.mean()),
        balanced_accuracy=balanced,
        balanced_error=1 - balanced,
        macro_f1=float(np.mean([score.f1 for score in scores])),
        geometric_mean=float(np.exp(np.log(np.maximum(recall, 1e-12)).mean())),
        worst_recall=float(recall.min()),
        expected_calibration_error=float(abs(confidence.mean() - right.mean())),
        classes=tuple(scores),
        groups=tuple(
            GroupScore(
                group,
                tuple(names[i] for i in ids),
                int(support[ids].sum()),
                float(recall[ids].mean()) if len(ids) else None,
            )
            for group, ids in groups.items()
        ),
        confusion=_matrix(labels, predicted, c) if matrix else (),
        calibration=_bins(confidence, right),
        findings=(
            Finding("memorised", "warning", f"{names[-1]}: recall 97 % in training, 31 % in validation.", (names[-1],)),
        )
        if split == "val" and tilt > 0.35
        else (),
    )


def _matrix(labels: IntArray, predicted: IntArray, c: int) -> tuple[tuple[int, ...], ...]:
    table = np.zeros((c, c), dtype=np.int64)
    np.add.at(table, (labels, predicted), 1)
    return tuple(tuple(row) for row in table.tolist())


def _bins(confidence: NDArray[Any], right: NDArray[Any], bins: int = 15) -> tuple[CalibrationBin, ...]:
    edges = np.linspace(0, 1, bins + 1)
    result = []
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        n = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if n else (None, None)
        result.append(CalibrationBin(float(low), float(high), n, *means))
    return tuple(result)


def spread(values: list[float | None]) -> Spread:
    """Mean and sample standard deviation over seeds."""
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(float(np.mean(known)) if known else None, sd, tuple(values))


def _scores(evaluations: tuple[Evaluation, ...]) -> dict[str, Spread]:
    scores = {metric: spread([getattr(e, metric) for e in evaluations]) for metric in METRICS}
    for group in ("many", "medium", "few"):
        scores[group] = spread([next(g.accuracy for g in e.groups if g.group == group) for e in evaluations])
    wrong = [sum(c.false_positives for c in e.classes if c.group == "few") for e in evaluations]
    rest = [sum(c.support for c in e.classes if c.group != "few") for e in evaluations]
    scores["few_false_positives"] = spread([w / r if r else None for w, r in zip(wrong, rest, strict=True)])
    return scores


def history(tilt: float, seed: int, epochs: int = 15) -> tuple[dict[str, float | None], ...]:
    """Training curves that fall and rise; the first epoch has no validation yet."""
    rng = np.random.default_rng([seed, int(tilt * 10), 7])
    rows = []
    for epoch in range(1, epochs + 1):
        t = 1 - np.exp(-epoch / 5)
        rows.append(
            {
                "epoch": float(epoch),
                "loss": float(2.3 * (1 - 0.8 * t) + rng.normal(0, 0.02)),
                "learning_rate": float(0.05 * (1 + np.cos(np.pi * epoch / epochs))),
                "val_loss": None if epoch == 1 else float(2.2 * (1 - 0.5 * t) + rng.normal(0, 0.04)),
                "val_accuracy": None if epoch == 1 else float(0.75 * t + rng.normal(0, 0.015)),
                "val_balanced_accuracy": None if epoch == 1 else float((0.5 + 0.2 * tilt) * t + rng.normal(0, 0.02)),
            }
        )
    return tuple(rows)


def arm(name: str, names: tuple[str, ...], seeds: tuple[int, ...], *, matrix: bool = True) -> Arm:
    """A finished arm."""
    tilt, strategy = STRATEGIES[name]
    test = tuple(evaluation(names, tilt=tilt, seed=s, matrix=matrix) for s in seeds)
    val = tuple(evaluation(names, tilt=tilt, seed=s, split="val", matrix=matrix) for s in seeds)
    return Arm(
        strategy=strategy,
        status="done",
        seeds=seeds,
        directories=tuple(f"runs/{name}-seed{s}" for s in seeds),
        seconds=tuple(61.5 + 3 * s for s in seeds),
        validation=val,
        test=test,
        scores={"val": _scores(val), "test": _scores(test)},
        history=tuple(history(0.0 if strategy.reuses else tilt, s) for s in seeds),  # reused: that of the model
    )


def failed(strategy: Strategy, seeds: tuple[int, ...]) -> Arm:
    """An arm whose training broke off."""
    return Arm(
        strategy, "failed", seeds, tuple(f"runs/{strategy.name}-seed{s}" for s in seeds), (4.2,) * len(seeds),
        error="the loss became NaN at step 12 (/home/ann/secret-project/loop.py); lower `learning_rate`",
    )  # fmt: skip


def _difference(one: Arm, baseline: Arm, split: str, metric: str) -> Difference:
    pairs = zip(one.scores[split][metric].values, baseline.scores[split][metric].values, strict=True)
    paired = spread([a - b for a, b in pairs if a is not None and b is not None])
    mean = paired.mean or 0.0
    half = 0.035 if split == "test" else 0.07
    return Difference(
        one.strategy.name, baseline.strategy.name, split, metric, mean, mean - half, mean + half, paired.sd,
        "images", resamples=2000,
    )  # fmt: skip


def comparison(names: tuple[str, ...] = NAMES, *, seeds: tuple[int, ...] = (0, 1), matrix: bool = True) -> Comparison:
    """Six strategies, of which one failed."""
    arms = [
        failed(STRATEGIES[key][1], seeds) if key == "oversample" else arm(key, names, seeds, matrix=matrix)
        for key in STRATEGIES
    ]
    done = {one.strategy.name: one for one in arms if one.status == "done"}
    metrics = ("balanced_accuracy", "accuracy", "many", "few")
    differences = [
        _difference(one, arms[0], "test", metric) for one in arms[1:] if one.status == "done" for metric in metrics
    ]
    chosen = done["logit-adjusted"]  # on validation, the others are compared with the choice
    differences += [_difference(one, chosen, "val", "balanced_accuracy") for one in done.values() if one is not chosen]
    return Comparison(
        audit=audit(names),
        baseline="baseline",
        metric="balanced_accuracy",
        seeds=seeds,
        arms=tuple(arms),
        differences=tuple(differences),
        verdict=Verdict(
            "clear",
            "logit-adjusted raises balanced accuracy by 12.4 points over baseline (95 % interval 8.9 to 15.9).",
            "logit-adjusted",
            ("post-hoc-logit-adjusted",),
            (
                "Recall of the classes with many images falls from 84.1 % to 75.0 %.",
                "6.2 % of the images of other classes are now taken for a rare class, against 1.9 % with baseline.",
            ),
            (
                "oversample failed and is not compared.",
                "Validation cannot tell logit-adjusted and post-hoc-logit-adjusted apart: 262 images are too few.",
                "Two seeds: the interval covers the choice of test images, not the choice of seed.",
            ),
        ),
        settings=SETTINGS,
        environment=ENVIRONMENT,
    )


def run(names: tuple[str, ...] = NAMES) -> Run:
    """One finished run."""
    return Run(
        strategy=STRATEGIES["weighted-ce"][1],
        seed=0,
        status="done",
        model="resnet20",
        settings=SETTINGS,
        environment=ENVIRONMENT,
        data={"source": "/home/ann/secret-project/cifar10-lt", "val_fraction": 0.2, "faults": []},
        classes=names,
        train_counts=tuple(int(n) for n in train_counts(len(names))),
        starts=(0,),
        steps=150,
        seconds=63.2,
        train_recall=(*(0.99 - 0.02 * i for i in range(len(names) - 1)), None),
        directory="/home/ann/secret-project/out/runs/weighted-ce-seed0",
    )


def alike() -> Comparison:
    """Class and strategy names that differ at their end only, and recalls within two points of each other."""
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
    whole = comparison(tuple(f"Anisoptera migrans subspecies {word}" for word in words), seeds=(0,))
    renamed, arms = {}, []
    for i, one in enumerate(whole.arms):
        name = one.strategy.name if i == 0 else f"class-balanced-focal:beta=0.99,gamma={i}"
        renamed[one.strategy.name] = name
        strategy = replace(one.strategy, name=name)
        scores = dict(one.scores)
        if one.scores:
            near = {"many": spread([0.962 + 0.002 * i]), "few": spread([0.958 + 0.003 * i])}
            scores["test"] = {**one.scores["test"], **near}
        arms.append(replace(one, strategy=strategy, scores=scores))
    differences = tuple(
        replace(d, strategy=renamed[d.strategy], baseline=renamed[d.baseline]) for d in whole.differences
    )
    verdict = replace(whole.verdict, recommended=renamed["logit-adjusted"])
    return replace(whole, arms=tuple(arms), differences=differences, verdict=verdict)
