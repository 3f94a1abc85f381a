"""Lessons of the weighting schemes: weights against counts, and the table of the effective number."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.counts import ClassCounts
from counterpoise.core.explanation import Chart, ExplanationSection, ExplanationTable
from counterpoise.weights import class_weights
from counterpoise.weights.schemes import SCHEMES
from counterpoise.workflow.explain.lesson import COUNTS, Lesson, curve, over_counts, rounded, sheet

__all__ = ["BETAS", "LESSONS", "compared", "effective_table"]

BETAS = (0.9, 0.99, 0.999, 0.9999)
_RARE_IMAGES = (
    "The few images of a rare class are learnt by heart: its recall on training images rises further than on new ones, "
    "and the frequent classes lose images to it."
)
_CUI = "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555)"
Floats = NDArray[np.float64]


def _weights(counts: Any, scheme: str, **options: Any) -> Floats:
    named: Any = scheme
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a β does nothing is what some of these curves show
        return class_weights(counts, named, **options)


def compared() -> ExplanationSection:
    """Every scheme, for the counts of the example."""
    caption = "CIFAR-10-LT, 5,000 to 50 images. Normalised to average 1 over the classes: only ratios matter."
    curves: dict[str, Floats] = {scheme: _weights(COUNTS, scheme, normalize="mean") for scheme in SCHEMES}
    coincide = "inverse, balanced, median_frequency"
    curves = {name: values for name, values in curves.items() if name not in ("balanced", "median_frequency")}
    curves = {coincide if name == "inverse" else name: values for name, values in curves.items()}
    curves["effective_number, β = 0.999"] = _weights(COUNTS, "effective_number", beta=0.999)
    rows = []
    for scheme in SCHEMES:
        w = _weights(COUNTS, scheme, normalize="mean")
        rows.append((scheme, w[0], w[4], w[9], w[9] / w[0]))
    columns = ("Scheme", "5,000 images", "645 images", "50 images", "rarest : largest")
    return ExplanationSection(
        "Every scheme side by side",
        ("What differs between schemes is how much further the rarest class is lifted than the largest.",),
        charts=(over_counts("schemes", "Weights against counts", caption, "Weight", curves),),
        tables=(sheet("Weights of three classes", columns, rows),),
    )


def _lesson(
    summary: str, costs: tuple[str, ...], notes: tuple[str, ...], equation: str, call: str, *parts: ExplanationSection
) -> Lesson:
    code = f"from counterpoise.weights import class_weights\n\nprint(class_weights([5000, 500, 50], {call}))\n"
    return Lesson(
        summary, costs, notes, (ExplanationSection("The scheme", (), equation, code=code), *parts, compared())
    )


def uniform() -> Lesson:
    """No weights."""
    return _lesson(
        "Every class weighs the same: no correction, what the other schemes are compared with.",
        ("The prior of the training data stays in the scores.",),
        (),
        "w_c = 1",
        '"uniform"',
    )


def inverse(*, power: float | None = None) -> Lesson:
    """1/n, or a power of it."""
    powers = (0.0, 0.5, 1.0) if power is None else sorted({0.0, 0.5, 1.0, power})
    curves = {f"q = {q:g}": _weights(COUNTS, "inverse", power=q) for q in powers}
    panel = over_counts("powers", "What the power does", "w ∝ n^(−q).", "Weight", curves)
    return _lesson(
        "Each class weighs the inverse of its count, so that all classes count the same in sum.",
        (
            _RARE_IMAGES,
            "A class of ten images weighs a hundred times one of a thousand: one wrong label goes a long way.",
        ),
        ("power= makes it milder: ½ is the square root; max_weight= caps it.",),
        "w_c = 1/n_c,   or n_c^(−q) with power=q",
        '"inverse"',
        ExplanationSection("Milder by a power", charts=(panel,)),
    )


def inverse_sqrt() -> Lesson:
    """1/√n."""
    return _lesson(
        "Each class weighs the inverse square root of its count: half of the correction, in the exponent.",
        ("Half of the prior stays: of 100 : 1, 10 : 1 is left.", _RARE_IMAGES),
        ("A mild start where inverse counts are too much.",),
        "w_c = 1/√n_c",
        '"inverse_sqrt"',
    )


def effective_table() -> ExplanationTable:
    """E_n of 5,000 and 100 images, and the ratio of the weights, for each β."""
    pair = ClassCounts([5000, 100])
    rows = []
    for beta in (0.0, *BETAS, 1.0):
        number, weight = pair.effective_number(beta), _weights(pair, "effective_number", beta=beta)
        full = "∞" if beta == 1 else f"{1 / (1 - beta):,.0f}"
        rows.append((f"{beta:g}", full, number[0], number[1], weight[1] / weight[0]))
    return sheet(
        "Effective number of 5,000 and of 100 images",
        ("β", "1/(1−β)", "E of 5,000", "E of 100", "weight, rare : frequent"),
        rows,
        "β = 0 is no weighting, β = 1 the limit 1/n.",
    )


def effective_number(*, beta: float = 0.9999) -> Lesson:
    """Cui's scheme, with its table."""
    n = np.unique(np.logspace(0, 4, 41).round())
    caption = "E_n = (1 − β^n)/(1 − β) bends where n reaches 1/(1 − β); beyond it new images add nothing."
    counted = ClassCounts(n.astype(np.int64))
    curves = tuple(curve(f"β = {b:g}", counted.effective_number(b)) for b in (*BETAS, 1.0))
    number = Chart(
        "effective", "Effective number against images", caption, "Images", "Effective number", rounded(n), curves,
        x_log=True, y_log=True,
    )  # fmt: skip
    settings = dict.fromkeys((0.0, *BETAS, 1.0, beta))
    weights = {f"β = {b:g}": _weights(COUNTS, "effective_number", beta=b) for b in sorted(settings)}
    about = "CIFAR-10-LT; average 1. β = 0 is no weighting, β = 1 is 1/n."
    return _lesson(
        "Each class weighs the inverse of its effective number: of many images each new one tells less.",
        (
            _RARE_IMAGES,
            "β has to be chosen: it says from which count on images repeat each other, and nobody knows that number.",
        ),
        (f"At β = {beta:g} a class is as good as full from about {1 / (1 - beta):,.0f} images on."
         if beta < 1 else "β = 1 is inverse counts.",),
        "w_c = (1 − β)/(1 − β^n_c) = 1/E_c,   E_n = (1 − β^n)/(1 − β) = 1 + β + β² + … + β^(n−1)",
        f'"effective_number", beta={beta}',
        ExplanationSection(
            "From no weighting to inverse counts",
            ("E_n is a geometric series: the first image counts 1, each further one β times the one before.",),
            charts=(number, over_counts("betas", "Weights against counts", about, "Weight", weights)),
            tables=(effective_table(),),
            reference=_CUI,
        ),
    )  # fmt: skip


def median_frequency() -> Lesson:
    """Eigen's scheme, with pixels."""
    pixels = ClassCounts({"road": 600_000, "car": 60_000, "rider": 3_000})
    seen = {"road": 1_000_000, "car": 800_000, "rider": 50_000}
    plain = _weights(pixels, "median_frequency", normalize=None)
    with_images = _weights(pixels, "median_frequency", normalize=None, pixels_in_images=seen)
    rows = [
        (name, float(n), float(seen[name]), plain[c], with_images[c])
        for c, (name, n) in enumerate(zip(pixels.names, pixels.counts, strict=True))
    ]
    table = sheet(
        "Three classes of a street scene, an example",
        ("Class", "its pixels", "pixels of images with it", "weight, of all pixels", "weight, pixels_in_images="),
        rows,
        "A class that fills the few images in which it occurs is not rare there, and gets less weight.",
    )
    return _lesson(
        "Each class weighs the median frequency over its own: for segmentation, where pixels are counted.",
        (_RARE_IMAGES, "It wants the pixels of the images in which a class occurs; without them it is inverse counts."),
        ("A class of median frequency has weight 1.",),
        "w_c = median(f)/f_c,   f_c = pixels of c / pixels of the images that contain c",
        '"median_frequency"',
        ExplanationSection("Pixels", tables=(table,), reference="Eigen and Fergus, ICCV 2015 (arXiv:1411.4734)"),
    )


def balanced() -> Lesson:
    """scikit-learn's scale."""
    return _lesson(
        "Inverse counts on scikit-learn's scale: N/(C n_c), an average of 1 over the training images.",
        (_RARE_IMAGES,),
        ("Under reduction='mean' it is the same as inverse; under 'sum' another learning rate.",),
        "w_c = N/(C n_c)",
        '"balanced"',
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "uniform": uniform,
    "inverse": inverse,
    "inverse_sqrt": inverse_sqrt,
    "effective_number": effective_number,
    "median_frequency": median_frequency,
    "balanced": balanced,
}
