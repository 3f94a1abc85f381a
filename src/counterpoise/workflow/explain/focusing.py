"""Focal loss taken apart: the throttle, its derivative's two terms, a worked example, why α falls as γ rises."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.core.explanation import Chart, ExplanationSection, ExplanationTable
from counterpoise.losses import sigmoid_loss
from counterpoise.workflow.explain.curves import U, slope
from counterpoise.workflow.explain.lesson import curve, rounded, sheet

__all__ = ["balance", "parts", "terms"]

EASY, HARD = 0.9, 0.1
"""Probability of the true class of an easy image and of a hard one."""
BACKGROUND, FOREGROUND = 1000, 100
"""Easy background images and hard foreground images of the worked example."""
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def parts(gamma: float) -> tuple[ExplanationSection, ...]:
    """What follows the curves on the page of every focal loss."""
    return (_terms_part(gamma), _worked(), _falling())


def terms(gamma: float, *, positive: bool, at: Tensor = U) -> dict[str, Tensor]:
    """The throttle and the parts of the derivative by z, from our loss: with its focus as a constant, and without.

    ``at`` is the logit of the true class against the other: z for a positive, −z for a negative.
    """
    z, label = (at, 1.0) if positive else (-at, 0.0)

    def loss(focus: float, *, detached: bool = False) -> tuple[Tensor, Tensor]:
        def rows(z: Tensor) -> Tensor:
            target = torch.full((len(z), 1), label, dtype=z.dtype)
            return sigmoid_loss(
                z[:, None], target, gamma_pos=focus, gamma_neg=focus, detach_focus=detached, reduction="none"
            )[:, 0]

        return slope(rows, z)

    plain, focused = loss(0.0)[0], loss(gamma)
    constant = loss(gamma, detached=True)[1]
    return {
        "throttle": focused[0] / plain,
        "constant": constant,
        "own": focused[1] - constant,
        "total": focused[1],
        "cross-entropy": loss(0.0)[1],
    }


def _terms_part(gamma: float) -> ExplanationSection:
    return ExplanationSection(
        "The throttle and its derivative",
        (
            "The derivative has two terms. The first is cross-entropy's, throttled; the second comes from the throttle "
            "itself, which falls as p rises, and pulls the same way. For a negative everything is mirrored: p is the "
            "probability of the class that is not there.",
        ),
        "positive:  loss  = −(1−p)^γ log p\n"
        "           ∂/∂z = −(1−p)^γ (1−p) + γ (1−p)^γ p log p\n"
        "negative:  loss  = −p^γ log(1−p)\n"
        "           ∂/∂z =  p^γ p − γ p^γ (1−p) log(1−p)",
        (_terms_panel(gamma, positive=True), _terms_panel(gamma, positive=False)),
    )


def _terms_panel(gamma: float, *, positive: bool) -> Chart:
    # A negative's probability of the positive class runs the other way: reversed, so that it rises as well.
    found = {name: value if positive else value.flip(0) for name, value in terms(gamma, positive=positive).items()}
    sign, name = ("(1−p)", "positive") if positive else ("p", "negative")
    return Chart(
        f"terms-{name}",
        f"A {name}, γ = {gamma:g}",
        "Terms by autograd: with the throttle held constant, and without.",
        "Probability p of the positive class",
        "∂loss/∂z, and the throttle",
        rounded(torch.sigmoid(U)),
        (
            curve("cross-entropy's gradient", found["cross-entropy"]),
            curve(f"throttle {sign}^γ", found["throttle"]),
            curve("throttled cross-entropy", found["constant"]),
            curve("derivative of the throttle", found["own"]),
            curve("total", found["total"]),
        ),
    )


def balance(gamma: float) -> dict[str, float]:
    """Summed losses and gradients of the worked example, and the α at which both sides pull equally."""
    logit = torch.logit(torch.tensor([EASY, HARD], dtype=torch.float64))
    back, fore = terms(gamma, positive=False, at=logit[:1]), terms(gamma, positive=True, at=logit[1:])
    loss_back, loss_fore = (_loss(gamma, z) for z in logit)
    pull_back, pull_fore = BACKGROUND * abs(float(back["total"])), FOREGROUND * abs(float(fore["total"]))
    inverse = BACKGROUND / (BACKGROUND + FOREGROUND)
    return {
        "loss of the background": BACKGROUND * loss_back,
        "loss of the foreground": FOREGROUND * loss_fore,
        "pull of the background": pull_back,
        "pull of the foreground": pull_fore,
        "foreground : background": pull_fore / pull_back,
        "with inverse counts as α": inverse * pull_fore / ((1 - inverse) * pull_back),
        "α at which both pull equally": pull_back / (pull_back + pull_fore),
    }


def _loss(gamma: float, logit: Tensor) -> float:
    target = torch.ones(1, 1, dtype=torch.float64)
    return float(sigmoid_loss(logit.reshape(1, 1), target, gamma_pos=gamma, gamma_neg=gamma, reduction="sum"))


def _worked() -> ExplanationSection:
    rows = {gamma: balance(gamma) for gamma in GAMMAS}
    quantities = [
        "loss of the background",
        "loss of the foreground",
        "pull of the background",
        "pull of the foreground",
    ]
    quantities += ["foreground : background"]
    table: ExplanationTable = sheet(
        f"{BACKGROUND:,} easy backgrounds (p = {EASY}) and {FOREGROUND} hard foregrounds (p = {HARD})",
        ("γ", "loss, background", "loss, foreground", "pull, background", "pull, foreground", "pull, fg : bg"),
        ([f"{gamma:g}", *(row[name] for name in quantities)] for gamma, row in rows.items()),
        "p is the probability of the true class; loss and pull (|∂loss/∂z|) are summed over the images, without α.",
    )
    plain, two = rows[0.0], rows[2.0]
    return ExplanationSection(
        "An easy background of 1,000, a hard foreground of 100",
        (
            f"Under cross-entropy the easy backgrounds pull with {plain['pull of the background']:.0f}, the hard "
            f"foregrounds with {plain['pull of the foreground']:.0f}: more than half of the gradient is spent "
            "on what is "
            f"already right. At γ = 2 it is {two['pull of the background']:.2g} against "
            f"{two['pull of the foreground']:.0f}.",
        ),
        tables=(table,),
    )


def _falling() -> ExplanationSection:
    gammas = torch.linspace(0.0, 5.0, 51, dtype=torch.float64)
    rows = [balance(float(gamma)) for gamma in gammas]
    share = BACKGROUND / (BACKGROUND + FOREGROUND)
    panel = Chart(
        "alpha",
        "The α at which both sides pull equally",
        f"The worked example. α is the weight of the foreground, 1 − α that of the background; inverse counts give "
        f"α = {share:.3f}.",
        "γ",
        "α",
        rounded(gammas),
        (
            curve("inverse counts", [share] * len(gammas)),
            curve("both pull equally", [row["α at which both pull equally"] for row in rows]),
        ),
    )
    at_two = balance(2.0)
    return ExplanationSection(
        "Why α falls as γ rises",
        (
            "The throttle takes the pull from the easy majority, so less is left for α to correct. With inverse counts "
            f"as α and γ = 2 the foreground would pull {at_two['with inverse counts as α']:.0f} times as hard as the "
            f"background; both pull equally at α = {at_two['α at which both pull equally']:.3f}. In training the "
            "foreground becomes easy as well, which is why the paper ends between the two, at α = 0.25 for γ = 2.",
        ),
        charts=(panel,),
    )
