"""Values per class: weights, draws of a sampler, weights that change in training, augmentation and mixing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import augment, samplers
from counterpoise.core.counts import ClassCounts
from counterpoise.core.explanation import ExplanationPictures, ExplanationTable, Picture
from counterpoise.core.hyperparameters import Kind
from counterpoise.core.text import percent
from counterpoise.weights import adapt_weights, class_weights
from counterpoise.weights.schemes import SCHEMES
from counterpoise.workflow.dataset import load
from counterpoise.workflow.explain.page import Content
from counterpoise.workflow.explain.series import COUNTS, LABELS, SELECTED, chart, class_chart, class_name, table
from counterpoise.workflow.report.thumbnails import data_uri

Floats = NDArray[np.float64]
_DIGIT, _STRENGTHS, _VARIANTS, _ENLARGED = 3, (0.25, 0.5, 0.9), 5, 16
_BETAS = (0.9, 0.99, 0.999, 0.9999)


def _weights(counts: Any, scheme: str, **options: Any) -> Floats:
    named: Any = scheme
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some curves show a β that has no effect
        return class_weights(counts, named, **options)


def _schemes() -> Content:
    """Every scheme on the example, normalized to mean 1."""
    weights = {scheme: _weights(COUNTS, scheme, normalize="mean") for scheme in SCHEMES}
    equal = {"inverse": "inverse, balanced, median_frequency", "balanced": "", "median_frequency": ""}
    curves = {equal.get(name, name): w for name, w in weights.items() if equal.get(name, name)}
    curves["effective_number, β = 0.999"] = _weights(COUNTS, "effective_number", beta=0.999)
    columns = ("Scheme", "5,000 images", "645 images", "50 images", "rarest : largest")
    rows = [(scheme, *w[list(SELECTED)], w[9] / w[0]) for scheme, w in weights.items()]
    return Content(charts=(class_chart("schemes", "Weight", curves),), tables={"schemes": table(columns, rows)})


def _only_schemes(page: str) -> Callable[..., Content]:
    """The page of a scheme that has no curves of its own."""
    return lambda **_: Content(page) | _schemes()


def inverse(*, power: float | None, **_: Any) -> Content:
    """Inverse counts, and powers of them."""
    powers = sorted({0.0, 0.5, 1.0, *(() if power is None else (power,))})
    curves = {f"q = {q:g}": _weights(COUNTS, "inverse", power=q) for q in powers}
    return Content("inverse", (class_chart("powers", "Weight", curves),)) | _schemes()


def effective_number(*, beta: float, **_: Any) -> Content:
    """The effective number over the number of images, and the weights over the class counts, for several β."""
    betas = sorted({0.0, *_BETAS, 1.0, beta})
    weights = {f"β = {b:g}": _weights(COUNTS, "effective_number", beta=b) for b in betas}
    charts, values = (class_chart("betas", "Weight", weights),), {"saturation": _saturation(beta)}
    return Content("effective_number", charts, values=values) | effective_numbers() | _schemes()


def effective_numbers() -> Content:
    """The effective number over the number of images, as curves and as a table, for several β."""
    counts = ClassCounts(np.unique(np.logspace(0, 4, 41).round()).astype(np.int64))
    curves = {f"β = {b:g}": counts.effective_number(b) for b in (*_BETAS, 1.0)}
    numbers = chart("effective", ("Images", "Effective number"), counts.counts, curves, x_log=True, y_log=True)
    return Content(charts=(numbers,), tables={"effective": _effective_table()})


def _saturation(beta: float) -> str:
    """1/(1 − β), the limit of the effective number."""
    return "∞" if beta == 1 else f"{1 / (1 - beta):,.0f}"


def _effective_table() -> ExplanationTable:
    pair, rows = ClassCounts([5000, 100]), []
    for beta in (0.0, *_BETAS, 1.0):
        number, weight = pair.effective_number(beta), _weights(pair, "effective_number", beta=beta)
        rows.append((f"{beta:g}", _saturation(beta), number[0], number[1], weight[1] / weight[0]))
    return table(("β", "1/(1−β)", "E of 5,000", "E of 100", "weight, rare : frequent"), rows)


def median_frequency(**_: Any) -> Content:
    """Median frequency of pixels, with and without the pixels of the images that contain the class."""
    pixels = ClassCounts({"road": 600_000, "car": 60_000, "rider": 3_000})
    containing = {"road": 1_000_000, "car": 800_000, "rider": 50_000}
    plain = _weights(pixels, "median_frequency", normalize=None)
    with_images = _weights(pixels, "median_frequency", normalize=None, pixels_in_images=containing)
    columns = ("Class", "its pixels", "pixels of images with it", "weight, all pixels", "weight, pixels_in_images=")
    rows = zip(pixels.names, pixels.counts, containing.values(), plain, with_images, strict=True)
    return Content("median_frequency", tables={"pixels": table(columns, rows)}) | _schemes()


def _draws(sampler: Any, *, epoch: int = 0) -> Floats:
    """How many images of each class one epoch of a sampler yields, counted."""
    sampler.set_epoch(epoch)
    order = np.concatenate(list(sampler.batches(1 << 16)))
    return np.bincount(LABELS[order], minlength=COUNTS.num_classes).astype(np.float64)


def _sampling(page: str, settings: Mapping[str, Floats], values: Mapping[str, object] | None = None) -> Content:
    counted = {"instance-balanced": COUNTS.counts.astype(np.float64), **settings}
    repeats = {name: draws / COUNTS.counts for name, draws in counted.items()}
    charts = (class_chart("draws", "Draws", counted), class_chart("repeats", "Draws per image", repeats))
    return Content(page, charts, values=values or {})


def class_balanced(*, power: float, **_: Any) -> Content:
    """p(class) ∝ n^power, for several powers."""
    powers = sorted({0.0, 0.5, power})
    settings = {f"power {q:g}": _draws(samplers.ClassBalancedSampler(LABELS, power=q)) for q in powers}
    return _sampling("class_balanced_sampler", settings)


def resample(*, sampling_strategy: Any, sampling_type: Any = None, **_: Any) -> Content:
    """Random oversampling and undersampling side by side; the page is that of the direction chosen."""
    over, under = (_draws(samplers.ResampleSampler(LABELS, sampling_strategy=way)) for way in ("over", "under"))
    removes = "under" in (sampling_strategy, sampling_type) or sampling_strategy == "majority"
    page = "undersample" if removes else "oversample"
    values = {"images": COUNTS.total, "over_draws": int(over.sum()), "under_draws": int(under.sum())}
    return _sampling(page, {"oversample": over, "undersample": under}, values)


def progressive(**_: Any) -> Content:
    """Progressively-balanced sampling at the start, in the middle and at the end of training."""
    sampler = samplers.ProgressiveSampler(LABELS, epochs=10)
    return _sampling("progressive", {f"epoch {e} of 10": _draws(sampler, epoch=e) for e in (0, 5, 10)})


def repeat_factor(*, power: float, **_: Any) -> Content:
    """Repeat-factor sampling for two thresholds above the share of the example's rarest class."""
    settings = {
        f"t = {t:g}": _draws(samplers.RepeatFactorSampler(LABELS, repeat_thresh=t, power=power)) for t in (0.01, 0.1)
    }
    return _sampling("repeat_factor", settings)


def deferred(*, start: float, beta: float, **_: Any) -> Content:
    """Weights before and after the start of deferred re-weighting."""
    before, after = percent(start, 0), percent(1 - start, 0)
    curves = {
        f"first {before} of the epochs": class_weights(COUNTS, "uniform"),
        f"last {after}": class_weights(COUNTS, "effective_number", beta=beta),
    }
    return Content("deferred", (class_chart("deferred", "Weight", curves),), values={"before": before, "after": after})


def adaptive(*, budget: float, **_: Any) -> Content:
    """Weights of adaptive re-weighting over an invented course of recall and false positives."""
    rare, epochs = np.arange(COUNTS.num_classes) == COUNTS.num_classes - 1, np.arange(31)
    weight = class_weights(COUNTS, "inverse_sqrt")
    courses: list[Floats] = [weight]
    for epoch in epochs[1:]:
        recall = np.linspace(0.9, 0.3 + 0.02 * min(epoch, 15), COUNTS.num_classes)
        false_positives = np.where(rare, 0.08 if epoch > 15 else 0.0, 0.01)
        weight = adapt_weights(weight, recall, false_positives, budget=budget)
        courses.append(weight)
    curves = {class_name(c): np.array(courses)[:, c] for c in SELECTED}
    drawn = chart("adaptive", ("Epoch", "Weight"), epochs, curves)
    return Content("adaptive", (drawn,), values={"budget_percent": percent(budget, 0)})


def retrained_head(*, share: float, power: float, **_: Any) -> Content:
    """Draws per class in both stages of decoupled training."""
    balanced = samplers.ClassBalancedSampler(LABELS, power=power).prior * COUNTS.total
    last = percent(share, 0)
    curves = {"first stage: features": COUNTS.counts, f"second stage: new head, last {last} of the epochs": balanced}
    return Content("retrained_head", (class_chart("stages", "Draws", curves),), values={"last": last})


def by_repeats(*, half: float, **_: Any) -> Content:
    """Augmentation strength by how often an image repeats under class-balanced sampling."""
    strength = augment.repeat_strength(COUNTS, samplers.ClassBalancedSampler(LABELS).prior, half=half)
    drawn = class_chart("strength", "Strength", {"strength": strength}, y_log=False)
    return Content("by_repeats", (drawn,), values={"offset": half - 2}) | _variants()


def by_rarity(**_: Any) -> Content:
    """Augmentation strength by the number of images of the class."""
    curves = {"strength": augment.rarity_strength(COUNTS)}
    return Content("by_rarity", (class_chart("strength", "Strength", curves, y_log=False),)) | _variants()


def _variants() -> Content:
    """An embedded digit and variants of it at three strengths."""
    digits = load("digits")
    index = int(np.flatnonzero(digits.labels == _DIGIT)[0])
    image = torch.from_numpy(digits[index]).permute(2, 0, 1).float() / 255

    def picture(pixels: Tensor) -> str:
        eight = (pixels.permute(1, 2, 0) * 255).round().byte().numpy()
        return data_uri(eight.repeat(_ENLARGED, 0).repeat(_ENLARGED, 1), size=8 * _ENLARGED)

    rows = []
    for strength in _STRENGTHS:
        generator, amount = torch.Generator().manual_seed(0), torch.full((_VARIANTS,), strength)
        same = image.expand(_VARIANTS, -1, -1, -1)
        made = augment.strengthened(same, amount, generator=generator, symmetries=digits.symmetries)
        label = f"strength {strength:g}"
        rows.append((Picture("original", picture(image)), *(Picture(label, picture(one)) for one in made)))
    return Content(pictures={"variants": ExplanationPictures("", tuple(rows))})


def _mixed_shares(mix: Callable[..., tuple[Tensor, Tensor]], **options: Any) -> Floats:
    """(share of the first image, share of its label) of 400 mixed pairs, measured on images of ones and of zeros."""
    images, found = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2), []
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        mixed, target = mix(images.clone(), torch.tensor([0, 1]), generator=generator, **options)
        found.append((float(mixed[0].mean()), float(target[0, 0])))
    pairs = np.array(sorted(found))
    return pairs[pairs[:, 0] < 1][::3]  # without images that were mixed with themselves


def _mixing(page: str, courses: Mapping[str, Floats]) -> Content:
    """The same seeds give the same shares of the images for every curve."""
    titles = ("Share of the first image in the mixture", "Share of its class in the label")
    curves = {name: pairs[:, 1] for name, pairs in courses.items()}
    return Content(page, (chart("mixing", titles, next(iter(courses.values()))[:, 0], curves),))


def mixup(*, alpha: float, **_: Any) -> Content:
    """Share of the label over share of the image under mixup."""
    return _mixing("mixup", {"mixup": _mixed_shares(augment.mixup, num_classes=2, alpha=alpha)})


def remix(*, alpha: float, kappa: float, tau: float, **_: Any) -> Content:
    """Share of the label over share of the image under Remix, for equal, frequent and rare classes."""

    def course(counts: list[int]) -> Floats:
        return _mixed_shares(augment.remix, class_counts=counts, alpha=alpha, kappa=kappa, tau=tau)

    courses = {
        "equal class sizes (mixup)": course([100, 100]),
        "first class frequent, 900:100": course([900, 100]),
        "first class rare, 100:900": course([100, 900]),
    }
    return _mixing("remix", courses)


def cmo(*, probability: float, **_: Any) -> Content:
    """Share of each class among backgrounds, foregrounds and labels."""
    backgrounds, foregrounds = COUNTS.prior(), samplers.ClassBalancedSampler(LABELS, power=-1.0).prior
    labels = (1 - probability / 2) * backgrounds + (probability / 2) * foregrounds
    shares = {"backgrounds, instance-balanced": backgrounds, "foregrounds, p ∝ 1/n": foregrounds, "labels": labels}
    return Content("cmo", (class_chart("cmo", "Share", shares),), values={"mixed": percent(probability, 0)})


PAGES: Mapping[Kind, Mapping[str, Callable[..., Content]]] = {
    "weights": {
        "uniform": _only_schemes("uniform"),
        "inverse": inverse,
        "inverse_sqrt": _only_schemes("inverse_sqrt"),
        "effective_number": effective_number,
        "median_frequency": median_frequency,
        "balanced": _only_schemes("balanced"),
    },
    "sampler": {
        "class_balanced": class_balanced,
        "progressive": progressive,
        "resample": resample,
        "repeat_factor": repeat_factor,
    },
    "reweighting": {"deferred": deferred, "adaptive": adaptive},
    "retraining": {"head": retrained_head},
    "augment": {"by_rarity": by_rarity, "by_repeats": by_repeats},
    "mixing": {"mixup": mixup, "remix": remix, "cmo": cmo},
}
"""The content of each method by kind."""
