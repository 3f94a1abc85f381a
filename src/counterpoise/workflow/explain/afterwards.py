"""Lessons of corrections after training, and of what stands between features and scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from counterpoise import metrics, posthoc
from counterpoise.core.explanation import Chart, ExplanationSection, VerticalLine
from counterpoise.losses import sigmoid_loss
from counterpoise.workflow.explain import priors
from counterpoise.workflow.explain.lesson import COUNTS, Lesson, curve, over_counts, rounded, sheet

__all__ = ["LESSONS"]

_VALIDATION = (
    "It is chosen on validation images: with a handful of a class its choice is noise, and on test images a fraud."
)
Floats = NDArray[np.float64]


def adjust_logits(*, tau: float = 1.0) -> Lesson:
    """Minus τ log π."""
    return Lesson(
        "The log prior is subtracted from the scores of a plainly trained model; nothing is trained.",
        (
            "Images of frequent classes are lost to the rare ones; where the test data are as skewed as the training "
            "data, plain accuracy falls.",
        ),
        (
            "The prior is that of training as sampled and weighted. After a balanced sampler there is nothing to take "
            "out; after logit adjustment in training neither.",
            "For focal loss and margins the prior in the scores is not defined: let tune_tau find a strength.",
        ),
        (
            ExplanationSection(
                "The correction",
                (f"With honest scores and τ = 1 it is Bayes' rule exactly. Here τ = {tau:g}.",),
                "z − τ log π,   or  z − τ (log π − log π_target) for another prior than the uniform one",
                code="import numpy as np\n\nfrom counterpoise.posthoc import adjust_logits\n\n"
                f"print(adjust_logits(np.array([[2.0, 1.0]]), [0.9, 0.1], tau={tau}))\n",
                reference="Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314)",
            ),
            priors.split(),
            priors.boundary(),
        ),
    )


def tau_normalize() -> Lesson:
    """Rows of the head brought towards one length."""
    norms = (COUNTS.counts / COUNTS.counts[-1]) ** 0.25
    head = norms[:, None] * np.eye(COUNTS.num_classes)
    taus = (0.0, 0.5, 1.0)
    curves = {f"τ = {tau:g}": np.linalg.norm(posthoc.tau_normalize(head, tau=tau), axis=1) for tau in taus}
    caption = (
        "A head made up for this page: lengths grow with the fourth root of the count, as they tend to in training."
    )
    return Lesson(
        "The weight vectors of the head are brought towards one length: training gives frequent classes longer ones.",
        (_VALIDATION, "The bias is dropped, and how long a vector was is only a stand-in for the prior."),
        ("τ = 0 leaves the head as it is, τ = 1 makes every vector a unit vector.",),
        (
            ExplanationSection(
                "Lengths of the weight vectors",
                (),
                "w_c / ‖w_c‖^τ,   scores = features · w",
                (over_counts("norms", "Length of each class's vector", caption, "Length", curves),),
                code="import numpy as np\n\nfrom counterpoise.posthoc import tau_normalize\n\n"
                "print(tau_normalize(np.array([[3.0, 4.0], [0.0, 1.0]]), tau=1.0))\n",
                reference="Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217)",
            ),
        ),
    )


def tune_thresholds() -> Lesson:
    """A threshold a class."""
    probability, labels = _validation()
    thresholds = np.linspace(0.01, 0.99, 99)
    said = [probability >= t for t in thresholds]
    f1 = [metrics.per_class_f1(labels, answer.astype(np.int64))[1] for answer in said]
    balanced = [metrics.balanced_accuracy(labels, answer.astype(np.int64)) for answer in said]
    scores = np.stack([1 - probability, probability], axis=1)
    rules = [
        VerticalLine(f"tuned for {name}", round(float(posthoc.tune_thresholds(scores, labels, metric=metric)[1]), 4))  # type: ignore[arg-type]
        for name, metric in (("F1", "f1"), ("balanced accuracy", "balanced_accuracy"))
    ]
    panel = Chart(
        "thresholds",
        "The rare class against the other, by threshold",
        "900 and 100 validation images on the line of the other pages, scored by the exact posterior. A tuned "
        "threshold is pulled towards the common one of all classes.",
        "Threshold on the rare class's probability",
        "Score",
        rounded(thresholds),
        (curve("F1 of the rare class", f1), curve("balanced accuracy", balanced)),
        tuple(rules),
    )
    return Lesson(
        "A threshold for each class on its probability, in place of one half or the largest.",
        (_VALIDATION, "Different metrics want different thresholds: what is best for F1 is not best for recall."),
        (
            "A class with n validation images keeps n/(n + 10) of its own threshold, and takes the rest from "
            "the common one.",
        ),
        (
            ExplanationSection(
                "Where the threshold goes",
                ("One half is right where both errors cost the same and the prior stays what it was.",),
                "t_c = (n_c t̂_c + k t)/(n_c + k),   predict argmax_c log p_c − log t_c",
                (panel,),
                code="import numpy as np\n\nfrom counterpoise.posthoc import tune_thresholds\n\n"
                "p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])\n"
                'print(tune_thresholds(p, [0, 0, 1, 1], metric="balanced_accuracy", shrinkage=0.0))\n',
            ),
        ),
    )


def _validation() -> tuple[Floats, NDArray[np.int64]]:
    """Images at the quantiles of both normal distributions, so that no random draw decides."""
    both = [_quantiles(n) + mean for n, mean in zip((900, 100), priors.MEANS, strict=True)]
    x, labels = np.concatenate(both), np.repeat([0, 1], [900, 100])
    odds = 2 * x - 2 + np.log(priors.SKEWED[1] / priors.SKEWED[0])
    return 1 / (1 + np.exp(-odds)), labels


def _quantiles(n: int) -> Floats:
    p = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    values: Floats = torch.special.ndtri(p).numpy()
    return values


def scale_logits(*, scale: float = 30.0) -> Lesson:
    """Cosines have to be scaled to be probabilities."""
    gap = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64)
    one = torch.ones(len(gap), 1, dtype=torch.float64)
    curves = tuple(
        curve(f"scale {s:g}", torch.exp(-sigmoid_loss(s * gap[:, None], one, reduction="none")[:, 0]))
        for s in (1.0, 10.0, scale)
    )
    panel = Chart(
        "scale",
        "Probability of one class against another",
        "exp(−loss) of our sigmoid loss.",
        "Difference of the two cosines",
        "Probability",
        rounded(gap),
        curves,
    )
    return Lesson(
        "Cosines are multiplied by the scale of the loss, so that their softmax is the model's probability.",
        (),
        (
            "Scaling changes no prediction; without it no model of cosines could ever be sure.",
            "Margins are not applied to the scores: they belong to training.",
        ),
        (
            ExplanationSection(
                "Cosine head and scale", ("Cosines lie in [−1, 1].",), "scores = s · cos(features, w_c)", (panel,)
            ),
        ),
    )


def separate() -> Lesson:
    """A model for each node."""
    rows = [
        ("one model of four classes", "dog, cat, car, truck", 5050.0, 4500 / 50),
        ("node: animal or vehicle", "500 and 4,550", 5050.0, 4550 / 500),
        ("node: dog or cat", "400 and 100", 500.0, 400 / 100),
        ("node: car or truck", "4,500 and 50", 4550.0, 4500 / 50),
    ]
    table = sheet("A tree of four classes, an example", ("Model", "Images", "in all", "largest : smallest"), rows)
    return Lesson(
        "A model of its own for each node of the class tree, trained on that node's images.",
        ("As many models as inner nodes to train, store and run; nodes with few images have little to learn from.",),
        ("Near the root the imbalance is that of groups, which is often milder than that of classes.",),
        (
            ExplanationSection(
                "Imbalance node by node", tables=(table,), equation="p(leaf) = Π_nodes on the path p(child | node)"
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "adjust_logits": adjust_logits,
    "scale_logits": scale_logits,
    "separate": separate,
    "tau_normalize": tau_normalize,
    "tune_thresholds": tune_thresholds,
}
