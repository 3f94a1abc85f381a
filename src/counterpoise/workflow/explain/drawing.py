"""Lessons of the samplers: how often a class, and an image of it, is drawn in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise import samplers
from counterpoise.core.explanation import ExplanationSection
from counterpoise.workflow.explain.lesson import COUNTS, Lesson, over_counts

__all__ = ["LESSONS", "draws"]

_LABELS = np.repeat(np.arange(COUNTS.num_classes), COUNTS.counts)
_KANG = "Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217)"
_MEMORY = (
    "Repeats of an image teach nothing new: what comes often and is few is learnt by heart. Strong augmentation of the "
    "repeated images helps (minority-augment)."
)
_NOTE = "Scores then hold the sampler's prior, not the data's: sampler.prior is what logit adjustment must be given."


def draws(sampler: Any, *, epoch: int = 0) -> NDArray[np.float64]:
    """How many images of each class one epoch of a sampler yields: counted, not computed."""
    sampler.set_epoch(epoch)
    order = np.concatenate(list(sampler.batches(1 << 16)))
    return np.bincount(_LABELS[order], minlength=COUNTS.num_classes).astype(np.float64)


def _part(
    title: str, text: str, equation: str, settings: dict[str, Any], code: str, reference: str = ""
) -> ExplanationSection:
    n = COUNTS.counts.astype(np.float64)
    counted = {"as the data are": n, **settings}
    caption = "CIFAR-10-LT. One epoch was drawn and counted."
    often = {name: values / n for name, values in counted.items()}
    return ExplanationSection(
        title,
        (text,),
        equation,
        (
            over_counts("draws", "Draws of each class in an epoch", caption, "Draws", counted),
            over_counts(
                "repeats", "How often an image of the class comes", "Draws over images.", "Times an epoch", often
            ),
        ),
        code=f"from counterpoise.samplers import {code}",
        reference=reference,
    )


def class_balanced(*, power: float = 0.0) -> Lesson:
    """p(class) ∝ n^power."""
    balanced = {
        f"power {q:g}": draws(samplers.ClassBalancedSampler(_LABELS, power=q)) for q in sorted({0.0, 0.5, power})
    }
    equal = power == 0.0
    return Lesson(
        "Every class is drawn equally often."
        if equal
        else f"A class is drawn as often as its count to the power {power:g}.",
        (_MEMORY,),
        (_NOTE, "A class is drawn first, then the next of its images, so that none comes twice before all came once."),
        (
            _part(
                "Draws of a class",
                "Power 0 draws every class alike, ½ by the square root of its count, 1 as the data are.",
                "p(class c) ∝ n_c^power",
                balanced,
                f"ClassBalancedSampler\n\nsampler = ClassBalancedSampler([0] * 90 + [1] * 10, power={power})\n"
                "print(sampler.prior)\n",
                _KANG,
            ),
        ),
    )


def resample(*, sampling_strategy: Any = "over") -> Lesson:
    """Over and under."""
    settings = {kind: draws(samplers.ResampleSampler(_LABELS, sampling_strategy=kind)) for kind in ("over", "under")}
    over = sampling_strategy == "over"
    return Lesson(
        "Images of the smaller classes are repeated up to the largest class."
        if over
        else "Images of the larger classes are left out down to the smallest class.",
        (
            f"An epoch grows from {COUNTS.total:,} to {int(settings['over'].sum()):,} images here. {_MEMORY}"
            if over
            else f"Of {COUNTS.total:,} images an epoch here shows {int(settings['under'].sum()):,}: what is left "
            "out is not learnt from, though other images come in every epoch.",
        ),
        (_NOTE,),
        (
            _part(
                "Draws of a class",
                "Both give every class the same number of draws; they differ in how long an epoch is.",
                "over:   n_max draws of every class\nunder:  n_min draws of every class",
                {{"over": "oversample", "under": "undersample"}[kind]: values for kind, values in settings.items()},
                "ResampleSampler\n\n"
                f'sampler = ResampleSampler([0] * 90 + [1] * 10, sampling_strategy="{sampling_strategy}")\n'
                "print(len(sampler))\n",
            ),
        ),
    )


def progressive() -> Lesson:
    """From one to the other."""
    sampler = samplers.ProgressiveSampler(_LABELS, epochs=10)
    settings = {f"epoch {epoch} of 10": draws(sampler, epoch=epoch) for epoch in (0, 5, 10)}
    return Lesson(
        "Images as they come at first, every class equally often at the end.",
        ("Late epochs repeat the rare images as often as class-balanced sampling does.", _MEMORY),
        (_NOTE, "Call set_epoch before every epoch, or it stays at the beginning."),
        (
            _part(
                "Draws of a class",
                "Features are learnt from the data as they are, the decision from balanced ones.",
                "p(class c) = (1 − e/E) n_c/N + (e/E)/C",
                settings,
                "ProgressiveSampler\n\nsampler = ProgressiveSampler([0] * 90 + [1] * 10, epochs=10)\n"
                "sampler.set_epoch(5)\nprint(sampler.prior)\n",
                _KANG,
            ),
        ),
    )


def repeat_factor(*, repeat_thresh: float = 0.1, power: float = 0.5) -> Lesson:
    """LVIS."""
    settings = {
        f"t = {t:g}": draws(samplers.RepeatFactorSampler(_LABELS, repeat_thresh=t, power=power))
        for t in sorted({0.01, repeat_thresh})
    }
    return Lesson(
        "Images that hold a rare class come more often; for images with several classes, as in detection.",
        ("The classes that stand beside a rare one are repeated with it.", _MEMORY),
        (_NOTE, "Classes in a larger share of the images than t are not repeated at all."),
        (
            _part(
                "Draws of a class",
                "A class below the share t is repeated by the square root of how far it is below.",
                "r_c = max(1, √(t/f_c)),   an image comes as often as the largest r of its classes",
                settings,
                "RepeatFactorSampler\n\nsampler = RepeatFactorSampler([[0]] * 96 + [[0, 1]] * 4, repeat_thresh=0.36)\n"
                "print(len(sampler))\n",
                "Gupta et al., LVIS, CVPR 2019 (arXiv:1908.03195)",
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "class_balanced": class_balanced,
    "progressive": progressive,
    "resample": resample,
    "repeat_factor": repeat_factor,
}
