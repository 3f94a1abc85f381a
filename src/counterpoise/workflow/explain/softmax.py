"""Lessons of the softmax family: what each loss does to an easy image, a hard one, and one of a rare class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from counterpoise import losses
from counterpoise.core.explanation import Chart, ExplanationSection
from counterpoise.weights import class_weights
from counterpoise.workflow.explain import focusing, priors
from counterpoise.workflow.explain.curves import loss_panels, softmax_panels
from counterpoise.workflow.explain.lesson import COUNTS, PICKED, Lesson, images, over_counts

__all__ = ["LESSONS"]

_C = COUNTS.num_classes
_ABOUT = "Ten classes; those that are not true share the rest of the probability."
_BY_CLASS = f"{_ABOUT} One curve for an image of the largest class, of one in the middle, and of the rarest."
_PRIOR = COUNTS.prior()
_PROBABILITY = "p is the softmax of the raw logits, the ones to predict with."


def _classes(loss: Callable[..., Tensor], **options: Any) -> dict[str, tuple[Callable[..., Tensor], int, Any]]:
    return {images(c): (loss, c, options) for c in PICKED}


def softmax() -> Lesson:
    """The equation itself, a letter at a time."""
    one = losses.softmax_loss
    letters: dict[str, dict[str, Any]] = {
        "cross-entropy": {},
        "weight 2": {"weight": [2.0] * _C},
        "gamma 2": {"gamma": 2.0},
        "poly 1": {"poly": 1.0},
        "margin 2": {"margin": 2.0},
        "label_smoothing 0.2": {"label_smoothing": 0.2},
    }
    panels = softmax_panels(
        "letters", {name: (one, 0, letter) for name, letter in letters.items()}, classes=_C, about=_ABOUT
    )
    return Lesson(
        "One equation of which every loss of the softmax family is a case: each letter changes the curve in "
        "its own way.",
        ("More letters than anyone should set at once: a named loss sets the ones that belong together.",),
        ("A weight scales, gamma bends the easy end, a margin shifts the curve towards the true class.",),
        (
            ExplanationSection(
                "The equation",
                (
                    "A weight multiplies loss and gradient alike. A margin or an offset moves the point at which the "
                    "loss is content. Gamma takes the pull from images that are already right, poly adds some to "
                    "those that are not, and smoothing pulls back images that are too sure.",
                ),
                "z'_c = s · a_c · (z_c − m_c·t_c) + b_c\n"
                "q_c  = (1 − ε_c)·t_c + (Σ_k ε_k t_k)/C\n"
                "loss = u · Σ_c w_c q_c · [ (1 − p_c)^γ (−log p_c) + κ (1 − p_c)^(γ+1) ],   p = softmax(z')",
                panels,
                code="import torch\n\nfrom counterpoise.losses import softmax_loss\n\n"
                "loss = softmax_loss(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]), weight=[1, 2, 4], gamma=1.0)\n",
            ),
        ),
    )


def cross_entropy(*, weights: str | None = None, weight_options: Mapping[str, Any] | None = None) -> Lesson:
    """Plain, or weighted by a scheme."""
    scheme: Any = weights or "inverse"
    weight = class_weights(COUNTS, scheme, **(weight_options or {}))
    settings: dict[str, tuple[Callable[..., Tensor], int, Any]] = {"unweighted": (losses.cross_entropy, 0, {})}
    settings |= {f"{images(c)}, weight {weight[c]:.2g}": (losses.cross_entropy, c, {"weight": weight}) for c in PICKED}
    called = f"weights {scheme!r}"
    equation = (
        "loss = −w_y log p_y,   p = softmax(z)\n∂loss/∂z_c = w_y (p_c − t_c),   t one-hot: 1 for the true class y"
    )
    code = (
        "import torch\n\nfrom counterpoise import losses, weights\n\n"
        f'w = weights.class_weights([900, 90, 10], "{scheme}")\n'
        "criterion = losses.CrossEntropyLoss(weight=w)\n"
        "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n"
    )
    part = ExplanationSection(
        "Loss and gradient",
        (
            "The pull of an image is 1 − p, whatever its class: 5,000 images pull a hundred times as much as 50. A "
            "weight multiplies the pull of every image of a class, the easy and the hard ones, the right and the "
            "mislabelled ones.",
        ),
        equation,
        softmax_panels(
            "ce", settings, classes=_C, about=f"{_ABOUT} Plain, and with {called} for the example's counts."
        ),
        code=code,
    )
    if weights is None:
        return Lesson(
            "Cross-entropy is the log-likelihood of the training set: honest about its prior, and so biased "
            "towards the "
            "frequent classes.",
            ("Where a class is rare, the cheapest way to a low loss is to say it never occurs.",),
            ("Its scores hold the training prior, which can be taken out afterwards without training.",),
            (part, priors.split(), priors.cheat()),
        )
    return Lesson(
        "Every image of a class counts w times; with inverse counts each class counts the same in sum.",
        (),
        ("Weights come from the training counts, once; validation loss stays unweighted.",),
        (part,),
    )


def focal(*, gamma: float = 2.0) -> Lesson:
    """Focal loss, with its terms and why α falls."""
    gammas = sorted({0.0, 0.5, 1.0, 2.0, 5.0, gamma})
    settings = {f"γ = {g:g}": (losses.focal_loss, 0, {"gamma": g}) for g in gammas}
    return Lesson(
        "An image that is already right pulls less: the loss is multiplied by (1 − p)^γ.",
        (
            "What is easy is not what is frequent: a skewed prior stays in the scores, and in which form is "
            "not defined. "
            "Mislabelled images, which never become easy, gain influence.",
        ),
        (
            "γ = 0 is cross-entropy. Raise γ and lower α together: the throttle already holds back the majority.",
            "α is one value a class here; one number for all would only change the learning rate.",
        ),
        (
            ExplanationSection(
                "Loss and gradient",
                ("At p = 0.9 and γ = 2 the loss is a hundredth of cross-entropy's; at p = 0.1 it is four fifths.",),
                "loss = −α_y (1 − p_y)^γ log p_y,   p = softmax(z)",
                softmax_panels("focal", settings, classes=_C, about=_ABOUT),
                code="import torch\n\nfrom counterpoise.losses import FocalLoss\n\n"
                f"criterion = FocalLoss(gamma={gamma})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002)",
            ),
            *focusing.parts(gamma),
        ),
    )


def class_balanced(*, beta: float = 0.9999, gamma: float = 0.0) -> Lesson:
    """Effective-number weights, and optionally focal."""
    more = ", and easy images weigh less" if gamma else ""
    options = {"class_counts": COUNTS, "beta": beta, "gamma": gamma}
    return Lesson(
        f"Each class weighs the inverse of its effective number of images{more}.",
        (
            "As with all weights, a rare class's few images are learnt by heart; β decides how far the weights go, and "
            "the best β is not known beforehand.",
        ),
        (
            "β does nothing once every class has far more than 1/(1 − β) images; class_weights then says so.",
            "The paper divides by the number of images: reduction='batchmean'.",
        ),
        (
            ExplanationSection(
                "Loss and gradient",
                (f"β = {beta:g}{f', γ = {gamma:g}' if gamma else ''}. Weights are normalised to average 1.",),
                "loss = −w_y (1 − p_y)^γ log p_y,   w_c ∝ (1 − β)/(1 − β^n_c)",
                softmax_panels("cb", _classes(losses.class_balanced_loss, **options), classes=_C, about=_BY_CLASS),
                code="import torch\n\nfrom counterpoise.losses import ClassBalancedLoss\n\n"
                f"criterion = ClassBalancedLoss(class_counts=[900, 90, 10], beta={beta}, gamma={gamma})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 "
                "(arXiv:1901.05555)",
            ),
        ),
    )


_AFTER = "Predict with the raw logits: nothing is subtracted afterwards. Doing both corrects the prior twice."
_COST = (
    "Images of frequent classes are lost to the rare ones, as in every correction towards balanced accuracy: where the "
    "test data are as skewed as the training data, plain accuracy falls."
)


_TAU = "The larger τ, the longer an image of the rarest class goes on pulling once it is right."


def logit_adjusted(*, tau: float = 1.0) -> Lesson:
    """The log prior added in training."""
    taus = sorted({0.0, 0.5, 1.0, 1.5, tau})
    by_tau = {f"τ = {t:g}": (losses.logit_adjusted_loss, 9, {"prior": _PRIOR, "tau": t}) for t in taus}
    by_class = _classes(losses.logit_adjusted_loss, prior=_PRIOR, tau=tau)
    rare = f"{_ABOUT} An image of the rarest class."
    return Lesson(
        "The log prior is added to the logits in training, so that the model need not learn it.",
        (_COST,),
        (_AFTER, "The prior is that of training as sampled: after a balanced sampler there is nothing to add."),
        (
            ExplanationSection(
                "Loss and gradient",
                (
                    "The model is scored as if the prior had spoken first. A rare class has to be right by a margin of "
                    "its log odds before the loss is content; a frequent one is excused.",
                ),
                "loss = −log softmax(z + τ log π)_y\n∂loss/∂z = softmax(z + τ log π) − t",
                softmax_panels("la", by_class, classes=_C, about=f"{_BY_CLASS} τ = {tau:g}. {_PROBABILITY}"),
                code="import torch\n\nfrom counterpoise.losses import LogitAdjustedLoss\n\n"
                f"criterion = LogitAdjustedLoss(prior=[0.90, 0.09, 0.01], tau={tau})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314)",
            ),
            ExplanationSection("What τ does", (_TAU,), charts=softmax_panels("la-tau", by_tau, classes=_C, about=rare)),
            priors.split(),
            priors.boundary(),
        ),
    )


def balanced_softmax() -> Lesson:
    """Logit adjustment with τ = 1."""
    by_class = _classes(losses.balanced_softmax_loss, class_counts=COUNTS)
    return Lesson(
        "The log counts are added to the logits in training: logit adjustment with τ = 1.",
        (_COST,),
        (_AFTER, "log n and log π differ by a constant, which a softmax does not see."),
        (
            ExplanationSection(
                "Loss and gradient",
                ("A softmax in which each class enters as often as it has images.",),
                "loss = −log ( n_y e^z_y / Σ_c n_c e^z_c )",
                softmax_panels("bs", by_class, classes=_C, about=f"{_BY_CLASS} {_PROBABILITY}"),
                code="import torch\n\nfrom counterpoise.losses import BalancedSoftmaxLoss\n\n"
                "criterion = BalancedSoftmaxLoss(class_counts=[900, 90, 10])\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020 "
                "(arXiv:2007.10740)",
            ),
            priors.boundary(),
        ),
    )


def vector_scaling(*, gamma: float = 0.3, tau: float = 1.0) -> Lesson:
    """Offset and per-class scale."""
    loss, options = losses.vector_scaling_loss, {"class_counts": COUNTS, "tau": tau}
    gammas = sorted({0.0, 0.15, 0.3, gamma})
    by_gamma = {f"γ = {g:g}": (loss, 9, {**options, "gamma": g}) for g in gammas}
    return Lesson(
        "The log prior is added, and the logits of rare classes are scaled down in training, so that they "
        "have to grow.",
        (_COST, "Two strengths, γ and τ, that work on the same imbalance and have to be chosen together."),
        (_AFTER, "γ = 0 is logit adjustment; τ = 0 is class-dependent temperature. Here γ focuses nothing."),
        (
            ExplanationSection(
                "Loss and gradient",
                (
                    "The offset moves the boundary early in training; once the training images are separated it no "
                    "longer does, and the scale takes over.",
                ),
                "loss = −log softmax(a ⊙ z + τ log π)_y,   a_c = (n_c/n_max)^γ",
                softmax_panels(
                    "vs", _classes(loss, **options, gamma=gamma), classes=_C, about=f"{_BY_CLASS} {_PROBABILITY}"
                ),
                code="import torch\n\nfrom counterpoise.losses import VectorScalingLoss\n\n"
                f"criterion = VectorScalingLoss(class_counts=[900, 90, 10], gamma={gamma}, tau={tau})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Kini et al., Label-Imbalanced and Group-Sensitive Classification under "
                "Overparameterization, NeurIPS 2021 (arXiv:2103.01550)",
            ),
            ExplanationSection(
                "What γ does",
                charts=softmax_panels("vs-gamma", by_gamma, classes=_C, about="An image of the rarest class."),
            ),
        ),
    )


def ldam(*, max_margin: float = 0.5, scale: float = 30.0) -> Lesson:
    """Margins on cosines."""
    cosines = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64)
    options: dict[str, Any] = {"class_counts": COUNTS, "max_margin": max_margin, "scale": scale, "reduction": "none"}

    def of(true: int) -> Callable[[Tensor], Tensor]:
        def rows(x: Tensor) -> Tensor:
            logits = torch.zeros(len(x), _C, dtype=x.dtype).index_fill(1, torch.tensor([true]), 1.0) * x[:, None]
            return losses.ldam_loss(logits, torch.full(x.shape, true), **options)

        return rows

    title = "Cosine of image and true class"
    panels = loss_panels(
        "ldam",
        {images(c): of(c) for c in PICKED},
        at=cosines,
        x=cosines,
        x_title=title,
        about="Ten classes; the cosines of those that are not true are 0.",
        derivative="∂loss/∂cosine of the true class",
    )
    return Lesson(
        "The rarer a class, the larger the margin by which its images must be right.",
        ("It needs a cosine head: on free logits a scale of 30 diverges. Margin and scale have to be chosen.",),
        (
            "The margin is taken from the true class before scaling, in training only.",
            "The paper's best results add weights late in training: ldam-drw.",
        ),
        (
            ExplanationSection(
                "Loss and gradient",
                ("A rare class's image has to stand further on its side of the boundary before the loss falls.",),
                "loss = −log softmax(s (z − m_y·t))_y,   m_c = max_m (n_min/n_c)^¼,   z cosines",
                panels,
                code="import torch\n\nfrom counterpoise.losses import LDAMLoss\n\n"
                f"criterion = LDAMLoss(class_counts=[900, 90, 10], max_margin={max_margin}, scale={scale})\n"
                "cosines = torch.zeros(4, 3)  # of a models.CosineHead\n"
                "loss = criterion(cosines, torch.tensor([0, 0, 1, 2]))\n",
                reference="Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, "
                "NeurIPS 2019 (arXiv:1906.07413)",
            ),
            ExplanationSection("Margins", charts=(_margins(max_margin),)),
        ),
    )


def _margins(max_margin: float) -> Chart:
    """The margin of each class, read off the loss: with scale 1, exp(loss) − 1 grows by e^m for two classes."""

    def margin(c: int) -> float:
        alone, zero = torch.zeros(1, _C, dtype=torch.float64), torch.tensor([c])
        loss = losses.ldam_loss(alone, zero, class_counts=COUNTS, max_margin=max_margin, scale=1.0)
        return float(torch.log((loss.exp() - 1) / (_C - 1)))

    values = [margin(c) for c in range(_C)]
    caption = "Read off the loss itself. The fourth root keeps the margins of the frequent classes from vanishing."
    return over_counts("margins", "Margin of each class", caption, "Margin", {"margin": values}, y_log=False)


def poly(*, epsilon: float = 1.0) -> Lesson:
    """One term of the Taylor series more."""
    settings = {
        f"ε = {e:g}".replace("-", "−"): (losses.poly_loss, 0, {"epsilon": e})
        for e in sorted({0.0, -1.0, 1.0, 3.0, epsilon}, key=lambda e: (e != 0, e))
    }
    return Lesson(
        "Cross-entropy with more weight on the first term of its series in 1 − p.",
        ("One more number to choose: the best ε differs from task to task, and can be negative.",),
        ("It knows nothing of classes: combine it with weights or an offset where the prior is skewed.",),
        (
            ExplanationSection(
                "Loss and gradient",
                (
                    "−log p is the sum of (1 − p)^j / j. The first term alone has a constant slope in p; more of it "
                    "keeps pulling where cross-entropy has nearly stopped.",
                ),
                "loss = −log p_y + ε (1 − p_y)",
                softmax_panels("poly", settings, classes=_C, about=_ABOUT),
                code="import torch\n\nfrom counterpoise.losses import PolyLoss\n\n"
                f"loss = PolyLoss(epsilon={epsilon})(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Leng et al., PolyLoss, ICLR 2022 (arXiv:2204.12511)",
            ),
        ),
    )


def label_aware_smoothing(*, head: float = 0.4, tail: float = 0.1) -> Lesson:
    """More smoothing for the head."""
    loss, options = losses.label_aware_smoothing_loss, {"class_counts": COUNTS, "head": head, "tail": tail}
    return Lesson(
        "The larger a class, the more its labels are smoothed: a model is surest, and too sure, of the "
        "frequent classes.",
        (
            "It repairs confidences rather than recall; smoothing the tail too would cost the little that is "
            "known of it.",
        ),
        ("Where the gradient crosses zero, the loss is content: beyond that p the image is pulled back.",),
        (
            ExplanationSection(
                "Loss and gradient",
                ("The loss is least where p is what the smoothed label says, not at p = 1.",),
                "loss = −Σ_c q_c log p_c,   q_y = 1 − ε_y + ε_y/C,   q_c = ε_y/C\n"
                "ε_c = tail + (head − tail) sin(π/2 · (n_c − n_min)/(n_max − n_min))",
                softmax_panels("las", _classes(loss, **options), classes=_C, about=_BY_CLASS),
                code="import torch\n\nfrom counterpoise.losses import LabelAwareSmoothingLoss\n\n"
                f"criterion = LabelAwareSmoothingLoss(class_counts=[900, 90, 10], head={head}, tail={tail})\n"
                "loss = criterion(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))\n",
                reference="Zhong et al., Improving Calibration for Long-Tailed Recognition (MiSLAS), CVPR 2021 "
                "(arXiv:2104.00466)",
            ),
        ),
    )


LESSONS: dict[str, Callable[..., Lesson]] = {
    "softmax": softmax,
    "cross_entropy": cross_entropy,
    "focal": focal,
    "class_balanced": class_balanced,
    "logit_adjusted": logit_adjusted,
    "balanced_softmax": balanced_softmax,
    "vector_scaling": vector_scaling,
    "ldam": ldam,
    "poly": poly,
    "label_aware_smoothing": label_aware_smoothing,
}
