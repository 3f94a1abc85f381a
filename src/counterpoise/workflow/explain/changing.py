"""Lessons of what changes while training goes on: weights that move, augmentation by class, mixed images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import augment, samplers
from counterpoise.core.explanation import Chart, ExplanationSection
from counterpoise.weights import adapt_weights, class_weights
from counterpoise.workflow.explain.lesson import COUNTS, Lesson, curve, over_counts, rounded

__all__ = ["LESSONS"]

Floats = NDArray[np.float64]


def deferred(*, start: float = 0.8, beta: float = 0.9999) -> Lesson:
    """DRW."""
    percent = f"{100 * start:.0f} %"
    curves = {
        f"first {percent} of the epochs": class_weights(COUNTS, "uniform"),
        f"last {100 - 100 * start:.0f} %": class_weights(COUNTS, "effective_number", beta=beta),
    }
    return Lesson(
        f"No weights for the first {percent} of the training, effective-number weights after it.",
        ("Two numbers to choose, and a shorter time for what the weights are to do.",),
        ("Features are learnt from all images alike before the decision is moved.",),
        (
            ExplanationSection(
                "Weights that come late",
                (),
                f"w_c = 1 before {percent} of the epochs,   (1 − β)/(1 − β^n_c) after it,   β = {beta:g}",
                (over_counts("deferred", "Weights before and after", "CIFAR-10-LT.", "Weight", curves),),
                reference="Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, "
                "NeurIPS 2019 (arXiv:1906.07413)",
            ),
        ),
    )


def retrained_head(*, share: float = 0.2, power: float = 0.0) -> Lesson:
    """cRT."""
    percent = f"{100 * share:.0f} %"
    labels = np.repeat(np.arange(COUNTS.num_classes), COUNTS.counts)
    balanced = samplers.ClassBalancedSampler(labels, power=power).prior * COUNTS.total
    curves = {
        "features, from the images as they come": COUNTS.counts.astype(np.float64),
        f"a new head, for the last {percent}": balanced,
    }
    return Lesson(
        "Features learn from the images as they come, a new head on them from every class equally often.",
        (
            "The rare images repeat in front of a head that cannot change the features: it may learn them by heart. "
            "The features have less time, since both stages share one budget.",
        ),
        (
            "The backbone is frozen in the second stage, its batch statistics too.",
            "The scores hold the prior of the second stage, uniform: nothing is left to subtract.",
        ),
        (
            ExplanationSection(
                "Two stages",
                ("Imbalance harms the last layer more than the features: so only the last layer is balanced.",),
                "1: θ, W from p(class) ∝ n_c      2: θ frozen, W drawn anew, from p(class) ∝ n_c^q",
                (over_counts("stages", "Draws of each class in an epoch", "CIFAR-10-LT.", "Draws", curves),),
                reference="Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217)",
            ),
        ),
    )


def adaptive(*, budget: float = 0.05) -> Lesson:
    """Weights that follow validation, on a made-up course of recall."""
    epochs = np.arange(31)
    weight = class_weights(COUNTS, "inverse_sqrt")
    courses: list[Floats] = [weight]
    for epoch in epochs[1:]:
        recall = np.linspace(0.9, 0.3 + 0.02 * min(epoch, 15), COUNTS.num_classes)
        excess = np.where(np.arange(COUNTS.num_classes) == 9, 0.08 if epoch > 15 else 0.0, 0.01)
        weight = adapt_weights(weight, recall, excess, budget=budget)
        courses.append(weight)
    drawn = np.array(courses)
    panel = Chart(
        "adaptive",
        "Weights from epoch to epoch",
        "A course made up for this page: the rarest class lags behind; from epoch 16 on it costs 8 % false positives.",
        "Epoch",
        "Weight",
        rounded(epochs),
        tuple(curve(f"{COUNTS.counts[c]:,} images", drawn[:, c]) for c in (0, 4, 9)),
    )
    return Lesson(
        "A class weighs more while validation misses it, and less once its false positives exceed a budget.",
        (
            "Validation is used up: it can no longer judge this strategy fairly, and few validation images of a class "
            "make its weight wander.",
        ),
        (f"The budget is a share of the images of other classes: {budget:.0%}.".replace("%.", " %."),
         "No weight more than doubles or halves at once."),
        (
            ExplanationSection(
                "Weights that follow",
                (),
                "w_c ← clip(w_c · exp(η (r̄ − recall_c) − η' (FP_c − budget)₊)), average 1",
                (panel,),
                code="import numpy as np\n\nfrom counterpoise.weights import AdaptiveWeights\n\n"
                f"adaptive = AdaptiveWeights([900, 100], budget={budget})\n"
                "print(adaptive.update(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])))\n",
            ),
        ),
    )  # fmt: skip


def by_repeats(*, half: float = 4.0) -> Lesson:
    """Strength from repeats."""
    labels = np.repeat(np.arange(COUNTS.num_classes), COUNTS.counts)
    prior = samplers.ClassBalancedSampler(labels).prior
    values = augment.repeat_strength(COUNTS, prior, half=half)
    return _strength(
        "Images are changed the more, the more often they repeat.",
        f"After a class-balanced sampler. An image that comes r times an epoch gets (r − 1)/(r + {half - 2:g}).",
        "strength = (r − 1)/(r + half − 2),   r times an epoch",
        values,
    )


def by_rarity() -> Lesson:
    """Strength from counts."""
    return _strength(
        "Images are changed the more, the rarer their class.",
        "Nothing for the largest class, full strength for the rarest, between them by the logarithm of the count.",
        "strength_c = log(n_max/n_c) / log(n_max/n_min)",
        augment.rarity_strength(COUNTS),
    )


def _strength(summary: str, caption: str, equation: str, values: Floats) -> Lesson:
    panel = over_counts("strength", "Strength for each class", caption, "Strength", {"strength": values}, y_log=False)
    return Lesson(
        summary,
        ("Rare classes come to look changed: if strong changes look like another class, they cost recall.",),
        ("Only symmetries that keep the labels of a dataset are used; say them with --symmetries.",),
        (ExplanationSection("Strength by class", (), equation, (panel,)),),
    )


def _mixed(mix: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]) -> Floats:
    """(share of the first image, share of its label) of many pairs, by mixing them: image one is 1, the other 0."""
    images = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    found = []
    for seed in range(400):
        mixed, target = mix(images.clone(), torch.tensor([0, 1]), torch.Generator().manual_seed(seed))
        found.append((float(mixed[0].mean()), float(target[0, 0])))
    pairs = np.array(sorted(found))
    return pairs[pairs[:, 0] < 1][::3]  # an image mixed with itself says nothing


def _mixing_part(
    title: str, text: str, equation: str, courses: dict[str, Floats], reference: str
) -> ExplanationSection:
    """The same seeds draw the same shares of the images for all."""
    panel = Chart(
        "mixing",
        "Label against image",
        "Pairs of images were mixed, and share and label read off.",
        "Share of the first image in the mixture",
        "Share of its class in the label",
        rounded(next(iter(courses.values()))[:, 0]),
        tuple(curve(name, pairs[:, 1]) for name, pairs in courses.items()),
    )
    return ExplanationSection(title, (text,), equation, (panel,), reference=reference)


def mixup(*, alpha: float = 1.0) -> Lesson:
    """Images and labels averaged."""
    pairs = _mixed(lambda x, y, g: augment.mixup(x, y, num_classes=2, alpha=alpha, generator=g))
    return Lesson(
        "Two images and their labels are averaged into one.",
        ("Rare classes are mixed mostly with frequent ones, whose share of the labels stays what it was.",),
        ("Predictions become less sure; with a skewed prior that alone repairs little.",),
        (
            _mixing_part(
                "The mixture",
                "The label has the share of the image.",
                "x = λ x_i + (1−λ) x_j,   y = λ y_i + (1−λ) y_j,   λ ~ Beta(α, α)",
                {"mixup": pairs},
                "Zhang et al., mixup, ICLR 2018 (arXiv:1710.09412)",
            ),
        ),
    )


def remix(*, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> Lesson:
    """The label goes to the rarer class."""

    def of(counts: list[int]) -> Floats:
        return _mixed(
            lambda x, y, g: augment.remix(x, y, class_counts=counts, alpha=alpha, kappa=kappa, tau=tau, generator=g)
        )

    courses = {
        "classes of one size (mixup)": of([100, 100]),
        "first class frequent, 900 : 100": of([900, 100]),
        "first class rare, 100 : 900": of([100, 900]),
    }
    return Lesson(
        "Mixup whose label goes to the rarer of two uneven classes as long as it can be seen.",
        ("Images that are half of a frequent class are called rare: recall rises, and false positives with it.",),
        (f"It acts where counts differ by {kappa:g} or more, and up to a share of {tau:g}.",),
        (
            _mixing_part(
                "The label of a mixture",
                "Beyond the threshold τ the label is that of mixup.",
                "λ_y = 0 if n_i/n_j ≥ κ and λ < τ;   1 if n_i/n_j ≤ 1/κ and 1−λ < τ;   else λ",
                courses,
                "Chou et al., Remix, ECCV Workshops 2020 (arXiv:2007.03943)",
            ),
        ),
    )


def cmo(*, alpha: float = 1.0, probability: float = 0.5) -> Lesson:
    """Rare foregrounds on ordinary backgrounds."""
    labels = np.repeat(np.arange(COUNTS.num_classes), COUNTS.counts)
    shares = {"backgrounds, as the data are": COUNTS.prior()}
    shares["foregrounds, p ∝ 1/n"] = samplers.ClassBalancedSampler(labels, power=-1.0).prior
    shares["their labels together"] = (1 - probability / 2) * shares["backgrounds, as the data are"] + (
        probability / 2
    ) * shares["foregrounds, p ∝ 1/n"]
    caption = (
        f"CIFAR-10-LT; {100 * probability:.0f} % of the batches are mixed, and about half of a mixed image is "
        "foreground."
    )
    return Lesson(
        "A part of an image of a rare class is pasted on an ordinary image: the context of the many for the few.",
        ("Twice the images are read for a mixed batch, and a paste may hide what the background's label says.",),
        (
            f"Mixed are {100 * probability:.0f} % of the batches; the label has the share of the pasted area "
            f"(α = {alpha:g}).",
        ),
        (
            ExplanationSection(
                "Which classes come together",
                ("Foregrounds are drawn with the inverse of the count: the rarest class most often.",),
                "x = background with a rectangle of the foreground,   y = (1−a) y_back + a y_front,   a its area",
                (over_counts("cmo", "Share of each class", caption, "Share", shares),),
                reference="Park et al., The Majority Can Help the Minority, CVPR 2022 (arXiv:2112.00412)",
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "adaptive": adaptive,
    "by_rarity": by_rarity,
    "by_repeats": by_repeats,
    "cmo": cmo,
    "deferred": deferred,
    "head": retrained_head,
    "mixup": mixup,
    "remix": remix,
}
