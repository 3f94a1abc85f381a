"""Likelihood and prior: what of a score comes from the image, how a model cheats, and where the boundary goes.

Two classes on a line, x ~ N(0, 1) and N(2, 1): everything is known, so that every number is exact up to a sum over a
fine grid, and each comes from our own cross-entropy, logit adjustment and training loss.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.explanation import Chart, ExplanationSection, ExplanationTable, VerticalLine
from counterpoise.losses import cross_entropy, logit_adjusted_loss
from counterpoise.posthoc import adjust_logits
from counterpoise.workflow.explain.lesson import curve, rounded, sheet

__all__ = ["boundary", "cheat", "crossing", "loss_of", "recalls", "scores", "split", "trained_boundary"]

MEANS = (0.0, 2.0)
SKEWED = (0.9, 0.1)
TAUS = (0.0, 0.5, 1.0, 1.5)
X = torch.linspace(-7.0, 9.0, 3201, dtype=torch.float64)
_DRAWN = (X >= -3.0) & (X <= 5.0) & (torch.arange(len(X)) % 16 == 0)
_HEAD, _RARE = "frequent class", "rare class"


def _likelihood() -> Tensor:
    """log p(x|c), ``(G, 2)``."""
    return -0.5 * (X[:, None] - torch.tensor(MEANS)) ** 2 - 0.5 * math.log(2 * math.pi)


def scores(prior: tuple[float, float]) -> Tensor:
    """log p(x|c) + log π_c, ``(G, 2)``: the logits of the best model of data with this prior."""
    return _likelihood() + torch.tensor(prior, dtype=torch.float64).log()


def crossing(logits: Tensor) -> float:
    """Where the rare class takes over, by linear interpolation between two points of the grid."""
    gap = logits[:, 1] - logits[:, 0]
    i = int((gap > 0).nonzero()[0])
    return float(X[i - 1] - gap[i - 1] * (X[i] - X[i - 1]) / (gap[i] - gap[i - 1]))


def recalls(x: float) -> tuple[float, float]:
    """Recall of both classes if everything right of x is given to the rare one: normal distributions, exactly."""
    below = [0.5 * math.erfc((mean - x) / math.sqrt(2)) for mean in MEANS]
    return below[0], 1.0 - below[1]


def loss_of(logits: Tensor, prior: tuple[float, float]) -> tuple[float, float]:
    """Mean cross-entropy of all images, and of those of the rare class, under this prior."""
    mass = _likelihood().exp() * (X[1] - X[0])

    def mean(c: int) -> float:
        target = torch.full((len(X),), c)
        return float(cross_entropy(logits, target, sample_weight=mass[:, c], reduction="sum") / mass[:, c].sum())

    head, rare = mean(0), mean(1)
    return prior[0] * head + prior[1] * rare, rare


def trained_boundary(tau: float, prior: tuple[float, float] = SKEWED) -> float:
    """Where the raw logits of a linear model cross after training it with `logit_adjusted_loss`."""
    model = torch.nn.Linear(1, 2).double()
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    mass = _likelihood().exp() * (X[1] - X[0]) * torch.tensor(prior, dtype=torch.float64)
    x, weight = X[:, None].repeat(2, 1), mass.T.reshape(-1)
    target = torch.arange(2).repeat_interleave(len(X))
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=100, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = logit_adjusted_loss(model(x), target, prior=prior, tau=tau, sample_weight=weight, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return crossing(model(X[:, None]))


def split() -> ExplanationSection:
    """The log odds of an image as a sum."""
    both, image = scores(SKEWED), adjust_logits(scores(SKEWED), SKEWED)
    x = X[_DRAWN]
    odds = [(z[:, 1] - z[:, 0])[_DRAWN] for z in (image, both - image, both)]
    names = ("likelihood: what the image says", "prior: what was known before", "sum: the model's log odds")
    panel = Chart(
        "split",
        "Log odds of the rare class, and where they come from",
        "Two classes on a line, N(0, 1) and N(2, 1), nine images of the first for each of the second.",
        "x, what the model sees of an image",
        "Log odds of the rare class",
        rounded(x),
        tuple(curve(name, value) for name, value in zip(names, odds, strict=True)),
        lines=(
            VerticalLine("boundary without the prior", round(crossing(image), 4)),
            VerticalLine("boundary with it", round(crossing(both), 4)),
        ),
    )
    return ExplanationSection(
        "Likelihood and prior",
        (
            "A model trained on skewed data says the sum of two things: how much better the rare class explains the "
            f"image, and how rare it was in training. The prior is log(0.1/0.9) = −{-odds[1][0]:.2f} for every image, "
            f"and moves the boundary from x = {crossing(image):.2f} to {crossing(both):.2f}.",
        ),
        "log p(y|x) = log p(x|y) + log π_y − log p(x)\nlog odds   = log p(x|rare)/p(x|frequent) + log "
        "π_rare/π_frequent",
        (panel,),
    )


def cheat() -> ExplanationSection:
    """What of a low loss is the prior alone."""
    shares = torch.linspace(0.5, 0.99, 50, dtype=torch.float64)
    table = [_cheating(float(share)) for share in shares]
    curves = {name: [row[name] for row in table] for name in table[0]}
    rows = [(f"{share:.0%}".replace("%", " %"), *_cheating(share).values()) for share in (0.5, 0.8, 0.9, 0.99)]
    return ExplanationSection(
        "How a model cheats",
        (
            "The prior alone lowers the loss, without a look at any image: a bias in the last layer suffices, and it "
            "is learnt first. At 99 : 1 a loss of "
            f"{_cheating(0.99)[_PRIOR_ALONE]:.3f} looks like success and is nothing but the prior; on images of the "
            f"rare class the same model has {_cheating(0.99)[_RARE_PRIOR]:.2f}.",
        ),
        "prior alone:      mean loss  H(π) = −Σ_c π_c log π_c\nprior and image:  mean loss  H(π) − I(x; y)",
        (
            _loss_panel("cheat", "Mean loss of all images", shares, curves, (_NOTHING, _PRIOR_ALONE, _BOTH)),
            _loss_panel(
                "cheat-rare", "… of the rare class's images", shares, curves, (_NOTHING, _RARE_PRIOR, _RARE_BOTH)
            ),
        ),
        (
            sheet(
                "Loss of three models, by the share of the frequent class",
                ("Frequent class", _NOTHING, _PRIOR_ALONE, _BOTH, _RARE_PRIOR, _RARE_BOTH),
                rows,
                "The best model is the exact posterior of the two classes on the line above.",
            ),
        ),
    )


_NOTHING, _PRIOR_ALONE, _BOTH = "knows nothing", "prior alone", "prior and image"
_RARE_PRIOR, _RARE_BOTH = "prior alone, rare class", "prior and image, rare class"


def _cheating(share: float) -> dict[str, float]:
    prior = (share, 1.0 - share)
    constant = torch.tensor(prior, dtype=torch.float64).log().expand(len(X), 2)
    alone, best = loss_of(constant, prior), loss_of(scores(prior), prior)
    nothing = loss_of(torch.zeros(len(X), 2, dtype=torch.float64), prior)[0]
    return {_NOTHING: nothing, _PRIOR_ALONE: alone[0], _BOTH: best[0], _RARE_PRIOR: alone[1], _RARE_BOTH: best[1]}


def _loss_panel(id: str, title: str, x: Tensor, values: dict[str, list[float]], names: tuple[str, ...]) -> Chart:
    drawn = tuple(curve(name.removesuffix(", rare class"), values[name]) for name in names)
    return Chart(id, title, "By our cross-entropy.", "Share of the frequent class", "Mean loss", rounded(x), drawn)


def boundary() -> ExplanationSection:
    """Where the boundary goes as τ grows, and what each class gains or loses."""
    return ExplanationSection(
        "The boundary that τ moves",
        (
            "After training τ log π is subtracted from the scores; in training it is added to the logits, and the raw "
            "logits then lack it. Both put the boundary at the same place. τ = 0 leaves it where the prior put it; "
            "τ = 1 is Bayes' rule for equally frequent classes; above 1 the rare class gets more than its due.",
        ),
        "after training:  z − τ log π\nin training:     cross-entropy of z + τ log π, predict with z",
        (_boundary_panel(), _recall_panel()),
        (_boundary_sheet(),),
    )


def _after(tau: float) -> float:
    return crossing(adjust_logits(scores(SKEWED), SKEWED, tau=tau))


def _boundary_panel() -> Chart:
    mass = scores(SKEWED).exp()[_DRAWN]
    return Chart(
        "boundary",
        "Training images, and the boundary for each τ",
        "Right of its rule everything is given to the rare class. Height: how many training images are at x.",
        "x, what the model sees of an image",
        "Density of training images",
        rounded(X[_DRAWN]),
        (curve(_HEAD, mass[:, 0]), curve(_RARE, mass[:, 1])),
        tuple(VerticalLine(f"τ = {tau:g}", round(_after(tau), 4)) for tau in TAUS),
    )


def _recall_panel() -> Chart:
    taus: NDArray[np.float64] = np.linspace(0.0, 2.0, 41)
    both = np.array([recalls(_after(float(tau))) for tau in taus])
    return Chart(
        "tau",
        "What each class gains or loses",
        "Balanced accuracy is highest at τ = 1, accuracy under the training prior at τ = 0.",
        "τ",
        "Rate",
        rounded(taus),
        (
            curve(f"recall, {_HEAD}", both[:, 0]),
            curve(f"recall, {_RARE}", both[:, 1]),
            curve("balanced accuracy", both.mean(1)),
            curve("accuracy, training prior", both @ np.array(SKEWED)),
        ),
    )


def _boundary_sheet() -> ExplanationTable:
    rows = []
    for tau in TAUS:
        after = _after(tau)
        head, rare = recalls(after)
        rows.append(
            (
                f"{tau:g}",
                after,
                trained_boundary(tau),
                head,
                rare,
                (head + rare) / 2,
                SKEWED[0] * head + SKEWED[1] * rare,
            )
        )
    return sheet(
        "The boundary, computed both ways",
        (
            "τ",
            "boundary, minus after training",
            "boundary, plus in training",
            "recall, frequent",
            "recall, rare",
            "balanced accuracy",
            "accuracy, training prior",
        ),
        rows,
        "Plus in training: a linear model trained with logit_adjusted_loss until it no longer changes.",
    )
