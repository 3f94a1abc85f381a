"""Worked examples with two classes: prior and boundary, the terms of focal loss, accuracy, corrections after training.

The two classes are x ~ N(0, 1) and N(2, 1), so that their posterior is known. Every number is exact up to a sum over a
fine grid, and comes from Counterpoise's own losses, corrections and metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from torch import Tensor

from counterpoise import metrics, posthoc
from counterpoise.core.explanation import Chart, ExplanationTable
from counterpoise.core.text import percent
from counterpoise.losses import cross_entropy, logit_adjusted_loss, sigmoid_loss
from counterpoise.workflow.explain.page import Content
from counterpoise.workflow.explain.series import COUNTS, LOGITS, chart, class_chart, derivative, table

_MEANS = (0.0, 2.0)
_SKEWED = (0.9, 0.1)
"""Means and training prior of the two classes."""
_TAUS = (0.0, 0.5, 1.0, 1.5)
_X = torch.linspace(-7.0, 9.0, 3201, dtype=torch.float64)
_SHOWN = (_X >= -3.0) & (_X <= 5.0) & (torch.arange(len(_X)) % 16 == 0)


def _log_likelihood() -> Tensor:
    """log p(x|c), ``(G, 2)``."""
    return -0.5 * (_X[:, None] - torch.tensor(_MEANS)) ** 2 - 0.5 * math.log(2 * math.pi)


def _logits(prior: tuple[float, float]) -> Tensor:
    """log p(x|c) + log π_c, ``(G, 2)``: the logits of the best model of data with this prior."""
    return _log_likelihood() + torch.tensor(prior, dtype=torch.float64).log()


def _boundary(logits: Tensor) -> float:
    """The x above which the rare class has the larger logit, by linear interpolation between two grid points."""
    gap = logits[:, 1] - logits[:, 0]
    i = int((gap > 0).nonzero()[0])
    return float(_X[i - 1] - gap[i - 1] * (_X[i] - _X[i - 1]) / (gap[i] - gap[i - 1]))


def _recalls(x: float) -> tuple[float, float]:
    """Recall of both classes where every image above x is predicted as the rare class."""
    below = [0.5 * math.erfc((mean - x) / math.sqrt(2)) for mean in _MEANS]
    return below[0], 1.0 - below[1]


def _mean_losses(logits: Tensor, prior: tuple[float, float]) -> tuple[float, float]:
    """Mean cross-entropy of all images, and of those of the rare class, under this prior."""
    mass = _log_likelihood().exp() * (_X[1] - _X[0])

    def mean(c: int) -> float:
        target = torch.full((len(_X),), c)
        return float(cross_entropy(logits, target, sample_weight=mass[:, c], reduction="sum") / mass[:, c].sum())

    frequent, rare = mean(0), mean(1)
    return prior[0] * frequent + prior[1] * rare, rare


def _trained_boundary(tau: float) -> float:
    """The boundary of the raw logits of a linear model after training it with `logit_adjusted_loss`."""
    model = torch.nn.Linear(1, 2).double()
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    mass = _log_likelihood().exp() * (_X[1] - _X[0]) * torch.tensor(_SKEWED, dtype=torch.float64)
    x, weight = _X[:, None].repeat(2, 1), mass.T.reshape(-1)
    target = torch.arange(2).repeat_interleave(len(_X))
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=100, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = logit_adjusted_loss(model(x), target, prior=_SKEWED, tau=tau, sample_weight=weight, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return _boundary(model(_X[:, None]))


def _prior() -> Content:
    """The log odds of an image as the sum of likelihood and prior."""
    both, image = _logits(_SKEWED), posthoc.adjust_logits(_logits(_SKEWED), _SKEWED)
    likelihood, prior, total = ((z[:, 1] - z[:, 0])[_SHOWN] for z in (image, both - image, both))
    split = chart(
        "split",
        ("x, the feature that the model sees", "Log odds of the rare class"),
        _X[_SHOWN],
        {"likelihood ratio of the image": likelihood, "log prior odds": prior, "sum: log odds of the model": total},
        {"boundary without the prior": _boundary(image), "boundary with the prior": _boundary(both)},
    )
    values = {"log_odds": -prior[0], "corrected_boundary": _boundary(image), "skewed_boundary": _boundary(both)}
    return Content(charts=(split,), values=values)


def _losses_at(share: float) -> tuple[float, ...]:
    """Mean loss of three models where the frequent class has this share; of the last two also on the rare class."""
    prior = (share, 1.0 - share)
    uniform = torch.zeros(len(_X), 2, dtype=torch.float64)
    prior_only = torch.tensor(prior, dtype=torch.float64).log().expand(len(_X), 2)
    every, rare = zip(*(_mean_losses(z, prior) for z in (uniform, prior_only, _logits(prior))), strict=True)
    return (*every, *rare[1:])


def prior_and_loss() -> Content:
    """The log odds as a sum, and how far the prior alone lowers the loss."""
    shares, titles = torch.linspace(0.5, 0.99, 50, dtype=torch.float64), ("Share of the frequent class", "Mean loss")
    losses = np.array([_losses_at(float(share)) for share in shares])
    names = ("uniform prediction", "prior only", "prior and image")
    charts = tuple(
        chart(id, titles, shares, dict(zip(names, losses[:, columns].T, strict=True)))
        for id, columns in (("prior-loss", [0, 1, 2]), ("prior-loss-rare", [0, 3, 4]))
    )
    columns = ("Frequent class", *names, *(f"{name}, rare class" for name in names[1:]))
    rows = [(percent(share, 0), *_losses_at(share)) for share in (0.5, 0.8, 0.9, 0.99)]
    values = {"prior_loss": rows[-1][2], "prior_loss_rare": rows[-1][4]}
    return _prior() | Content(charts=charts, tables={"prior-loss": table(columns, rows)}, values=values)


def _adjusted_boundary(tau: float) -> float:
    return _boundary(posthoc.adjust_logits(_logits(_SKEWED), _SKEWED, tau=tau))


def prior_and_boundary(*, likelihood: bool = True) -> Content:
    """How τ moves the boundary, and what each class gains or loses; with the log odds as a sum before it."""
    density, taus = _logits(_SKEWED).exp()[_SHOWN], np.linspace(0.0, 2.0, 41)
    recalls = np.array([_recalls(_adjusted_boundary(float(tau))) for tau in taus])
    boundary = chart(
        "boundary",
        ("x, the feature that the model sees", "Density of training images"),
        _X[_SHOWN],
        {"frequent class": density[:, 0], "rare class": density[:, 1]},
        {f"τ = {tau:g}": _adjusted_boundary(tau) for tau in _TAUS},
    )
    rates = {
        "recall, frequent class": recalls[:, 0],
        "recall, rare class": recalls[:, 1],
        "balanced accuracy": recalls.mean(1),
        "accuracy, training prior": recalls @ np.array(_SKEWED),
    }
    charts = (boundary, chart("tau", ("τ", "Rate"), taus, rates))
    content = Content(charts=charts, tables={"boundary": _boundary_table()})
    return _prior() | content if likelihood else content


def _boundary_table() -> ExplanationTable:
    columns = (
        "τ", "boundary, subtracted after training", "boundary, added in training", "recall, frequent", "recall, rare",
        "balanced accuracy", "accuracy, training prior",
    )  # fmt: skip
    rows = []
    for tau in _TAUS:
        adjusted = _adjusted_boundary(tau)
        frequent, rare = _recalls(adjusted)
        mean = _SKEWED[0] * frequent + _SKEWED[1] * rare
        rows.append((f"{tau:g}", adjusted, _trained_boundary(tau), frequent, rare, (frequent + rare) / 2, mean))
    return table(columns, rows)


_EASY, _HARD = 0.9, 0.1
"""Probability of the true class of an easy image and of a hard one."""
_BACKGROUND, _FOREGROUND = 1000, 100
"""Easy background images and hard foreground images."""
_GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def focal_example(gamma: float) -> Content:
    """The two terms of the gradient, easy backgrounds against hard foregrounds, and why α falls as γ rises."""
    gammas = torch.linspace(0.0, 5.0, 51, dtype=torch.float64)
    share = _BACKGROUND / (_BACKGROUND + _FOREGROUND)
    alphas = {
        "inverse counts": [share] * len(gammas),
        "equal gradient magnitudes": [_focal_balance(float(g))["equal_alpha"] for g in gammas],
    }
    rows = {g: _focal_balance(g) for g in _GAMMAS}
    columns = (
        "γ", "loss, background", "loss, foreground", "gradient magnitude, background",
        "gradient magnitude, foreground", "gradient ratio, foreground : background",
    )  # fmt: skip
    cells = ([f"{g:g}", *list(row.values())[:5]] for g, row in rows.items())
    values = {f"{name}_{g:.0f}": value for g in (0.0, 2.0) for name, value in rows[g].items()}
    values |= {"easy": _EASY, "hard": _HARD, "backgrounds": _BACKGROUND, "foregrounds": _FOREGROUND, "share": share}
    terms = (_terms_chart(gamma, positive=True), _terms_chart(gamma, positive=False))
    charts = (*terms, chart("alpha", ("γ", "α"), gammas, alphas))
    return Content(charts=charts, tables={"focal-example": table(columns, cells)}, values=values)


def focal_terms(gamma: float, *, positive: bool, at: Tensor = LOGITS) -> dict[str, Tensor]:
    """The modulating factor and both terms of the gradient, from `sigmoid_loss` with and without ``detach_focus``.

    ``at`` is the logit of the true class against the other: z for a positive, −z for a negative.
    """
    z, label = (at, 1.0) if positive else (-at, 0.0)

    def loss(focus: float, *, detached: bool = False) -> tuple[Tensor, Tensor]:
        def rows(z: Tensor) -> Tensor:
            target = torch.full((len(z), 1), label, dtype=z.dtype)
            gammas: dict[str, Any] = {"gamma_pos": focus, "gamma_neg": focus, "detach_focus": detached}
            return sigmoid_loss(z[:, None], target, reduction="none", **gammas)[:, 0]

        return derivative(rows, z)

    plain, focused, first = loss(0.0), loss(gamma), loss(gamma, detached=True)[1]
    return {
        "cross_entropy": plain[1],
        "factor": focused[0] / plain[0],
        "first": first,
        "second": focused[1] - first,
        "total": focused[1],
    }


def _terms_chart(gamma: float, *, positive: bool) -> Chart:
    # A negative's probability of the positive class is 1 − p of its true class: reversed, so that the axis rises.
    terms = {name: term if positive else term.flip(0) for name, term in focal_terms(gamma, positive=positive).items()}
    factor, side = ("(1−p)^γ", "positive") if positive else ("p^γ", "negative")
    names = (
        "gradient of cross-entropy",
        f"modulating factor {factor}",
        "first term: factor × gradient of cross-entropy",
        "second term: derivative of the factor",
        "total gradient",
    )
    titles = ("Probability p of the positive class", "∂loss/∂z, and the modulating factor")
    return chart(f"terms-{side}", titles, torch.sigmoid(LOGITS), dict(zip(names, terms.values(), strict=True)))


def _focal_balance(gamma: float) -> dict[str, float]:
    """Summed losses and gradient magnitudes of the example, and the α at which both sides have the same gradient."""
    logit = torch.logit(torch.tensor([_EASY, _HARD], dtype=torch.float64))
    easy, hard = focal_terms(gamma, positive=False, at=logit[:1]), focal_terms(gamma, positive=True, at=logit[1:])
    losses = [
        float(sigmoid_loss(z.reshape(1, 1), torch.ones(1, 1, dtype=z.dtype), gamma_pos=gamma, reduction="sum"))
        for z in logit
    ]
    background, foreground = _BACKGROUND * abs(float(easy["total"])), _FOREGROUND * abs(float(hard["total"]))
    inverse = _BACKGROUND / (_BACKGROUND + _FOREGROUND)
    return {
        "background_loss": _BACKGROUND * losses[0],
        "foreground_loss": _FOREGROUND * losses[1],
        "background_gradient": background,
        "foreground_gradient": foreground,
        "gradient_ratio": foreground / background,
        "inverse_ratio": inverse * foreground / ((1 - inverse) * background),
        "equal_alpha": background / (background + foreground),
    }


_IMAGES = 10_000
_MODELS = {
    "always predicts the frequent class": (1.0, 0.0),
    "recall 90 % and 90 %": (0.9, 0.9),
    "recall 99 % and 50 %": (0.99, 0.5),
}
"""Recall of the frequent and of the rare class."""


def accuracy(**_: object) -> Content:
    """Accuracy and balanced error of three models over the share of the frequent class."""
    shares = np.arange(0.5, 0.995, 0.01)
    scores = {name: [_scores(float(share), recalls) for share in shares] for name, recalls in _MODELS.items()}

    def over_shares(id: str, title: str, column: int) -> Chart:
        curves = {name: np.array(values)[:, column] for name, values in scores.items()}
        return chart(id, ("Share of the frequent class", title), shares, curves)

    rows = [
        (f"{frequent}:{rare}", name, *_scores(frequent / 100, recalls))
        for frequent, rare in ((99, 1), (90, 10), (80, 20))
        for name, recalls in _MODELS.items()
    ]
    columns = ("Class ratio", "Model", "accuracy", "balanced error", "F1 of the rare class")
    charts = (over_shares("accuracy", "Accuracy", 0), over_shares("balanced-error", "Balanced error", 1))
    return Content("accuracy", charts, {"models": table(columns, rows)}, {"images": _IMAGES})


def _scores(share: float, recalls: tuple[float, float]) -> tuple[float, float, float]:
    """Accuracy, balanced error and F1 of the rare class where the frequent class has this share of 10,000 images."""
    frequent = round(_IMAGES * share)
    labels: NDArray[np.int64] = np.repeat([0, 1], [frequent, _IMAGES - frequent])
    predicted = labels.copy()
    predicted[: frequent - round(frequent * recalls[0])] = 1
    missed = (_IMAGES - frequent) - round((_IMAGES - frequent) * recalls[1])
    predicted[frequent : frequent + missed] = 0
    f1 = float(metrics.per_class_f1(labels, predicted)[1])
    return metrics.accuracy(labels, predicted), 1.0 - metrics.balanced_accuracy(labels, predicted), f1


def adjust_logits(**_: Any) -> Content:
    """Logits minus τ log π."""
    return Content("adjust_logits") | prior_and_boundary()


def tau_normalize(**_: Any) -> Content:
    """Norms of the head's weight vectors for several τ, on an invented head."""
    norms = (COUNTS.counts / COUNTS.counts[-1]) ** 0.25
    head = norms[:, None] * np.eye(COUNTS.num_classes)
    curves = {f"τ = {tau:g}": np.linalg.norm(posthoc.tau_normalize(head, tau=tau), axis=1) for tau in (0.0, 0.5, 1.0)}
    return Content("tau_normalize", (class_chart("norms", "Norm", curves),))


def tune_thresholds(**_: Any) -> Content:
    """F1 and balanced accuracy over the threshold, and the thresholds that `posthoc.tune_thresholds` chooses."""
    probability, labels = _validation()
    thresholds = np.linspace(0.01, 0.99, 99)
    predicted = [(probability >= t).astype(np.int64) for t in thresholds]
    curves = {
        "F1 of the rare class": [metrics.per_class_f1(labels, p)[1] for p in predicted],
        "balanced accuracy": [metrics.balanced_accuracy(labels, p) for p in predicted],
    }
    both = np.stack([1 - probability, probability], axis=1)
    lines = {
        "tuned for F1": float(posthoc.tune_thresholds(both, labels, metric="f1")[1]),
        "tuned for balanced accuracy": float(posthoc.tune_thresholds(both, labels, metric="balanced_accuracy")[1]),
    }
    titles = ("Threshold on the probability of the rare class", "Metric")
    return Content("tune_thresholds", (chart("thresholds", titles, thresholds, curves, lines),))


def _validation() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probability of the rare class and labels, at the quantiles of both normal distributions instead of at random."""
    x = np.concatenate([ndtri((np.arange(n) + 0.5) / n) + mean for n, mean in zip((900, 100), _MEANS, strict=True)])
    labels = np.repeat([0, 1], [900, 100])
    return expit(2 * x - 2 + np.log(_SKEWED[1] / _SKEWED[0])), labels


def scale_logits(*, scale: float, **_: Any) -> Content:
    """Probability of one class over the difference of two cosines, for several scales."""
    gap = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64)
    one = torch.ones(len(gap), 1, dtype=torch.float64)
    curves = {
        f"scale {s:g}": torch.exp(-sigmoid_loss(s * gap[:, None], one, reduction="none")[:, 0])
        for s in (1.0, 10.0, scale)
    }
    return Content("scale_logits", (chart("scale", ("Difference of the two cosines", "Probability"), gap, curves),))


def separate(**_: Any) -> Content:
    """Images and imbalance ratio of each model of an example tree."""
    rows = [
        ("one model of four classes", "dog, cat, car, truck", 5050.0, 4500 / 50),
        ("node: animal or vehicle", "500 and 4,550", 5050.0, 4550 / 500),
        ("node: dog or cat", "400 and 100", 500.0, 400 / 100),
        ("node: car or truck", "4,500 and 50", 4550.0, 4500 / 50),
    ]
    return Content(
        "separate", tables={"nodes": table(("Model", "Classes or images", "in all", "imbalance ratio"), rows)}
    )


_FUNCTIONS: tuple[Callable[..., Content], ...] = (adjust_logits, scale_logits, tau_normalize, tune_thresholds)
POSTHOC_PAGES = {function.__name__: function for function in _FUNCTIONS}
"""The content of each correction; a function has its name."""
