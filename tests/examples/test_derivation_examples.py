"""The examples that derive a loss assert every step, and print the numbers of the papers."""

from __future__ import annotations

from tests.examples.test_examples import numbers, output


def test_weighted_cross_entropy() -> None:
    text = output("weighted_cross_entropy.py")
    assert "weights: [0.0297, 0.297, 2.6733]" in text  # 1/900, 1/90, 1/10, averaging 1
    words = [word.strip(",") for word in text.splitlines()[-1].split()]
    ours, torchs = (float(word) for word in words if word.startswith("0."))
    assert ours == numbers(text)["loss"] != torchs


def test_focal() -> None:
    assert "modulating factor: 0.01 for an easy image (p = 0.9), 0.81 for a hard one (p = 0.1)" in output("focal.py")


def test_focal_terms() -> None:
    lines = [line for line in output("focal_terms.py").splitlines() if "equal at α" in line]
    assert lines[0].strip() == "γ = 0.0: background  50.0000, foreground  70.0000, equal at α = 0.4167"
    alphas = [float(line.rpartition(" ")[2]) for line in lines]
    assert alphas == sorted(alphas, reverse=True)


def test_asymmetric() -> None:
    text = output("asymmetric.py")
    assert "below the margin: 0.0000" in text
    assert "a positive at logit -30: gradient -1.0000" in text


def test_class_balanced_weights() -> None:
    table = [line.split() for line in output("class_balanced_weights.py").splitlines() if ": 1" in line]
    rows = {beta: row for beta, *row in table}
    assert rows["0.9999"][:3] == ["3934.85", "99.51", "39.5"]
    assert rows["0.999"][:3] == ["993.28", "95.21", "10.4"]


def test_logit_adjusted() -> None:
    text = output("logit_adjusted.py")
    assert "cross-entropy: predicts the rare class from x = 1.100" in text
    assert "both: from x = -1.096" in text


def test_timm_drop_in() -> None:
    text = output("timm_drop_in.py")
    first, last = (float(word) for word in text.splitlines()[0].removeprefix("loss: ").split(" -> "))
    assert last < 0.6 * first
    assert text.count("timm ") == 4


def test_torchvision_retinanet() -> None:
    text = output("torchvision_retinanet.py")
    assert numbers(text)["gradient of the rare category over that of the frequent one"] > 3
