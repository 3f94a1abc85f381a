"""Every name that people search for leads somewhere."""

import pytest

from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import HYPERPARAMETERS
from counterpoise.core.names import ALIASES, did_you_mean, resolve, simplified
from counterpoise.workflow.strategy import CATALOG

SEARCHED = [
    "INS",
    "ISNS",
    "ENS",
    "WCE",
    "ASL",
    "LA",
    "BER",
    "DRW",
    "DRS",
    "cRT",
    "decoupling",
    "LWS",
    "oversampling",
    "undersampling",
    "SMOTE",
    "RFS",
    "repeat-factor",
    "class_weight",
    "pos_weight",
    "sample_weight",
    "alpha",
    "gamma",
    "beta",
    "tau",
    "margin",
    "long-tailed",
    "IF",
    "cost-sensitive",
]
SEARCHED += [
    "weighted cross-entropy", "asymmetric loss", "CB loss", "class-balanced loss", "logit adjustment",
    "logit-adjusted softmax", "balanced error", "accuracy paradox", "imbalance ratio", "imbalance factor",
    "operating point", "threshold moving", "prior shift", "label shift",
]  # fmt: skip


@pytest.mark.parametrize("name", SEARCHED)
def test_the_table_has_every_name_of_the_field(name):
    assert simplified(name) in {simplified(other) for alias in ALIASES for other in alias.names}


def test_no_name_stands_for_two_things():
    keys = [simplified(name) for alias in ALIASES for name in {simplified(n): n for n in alias.names}.values()]
    assert len(keys) == len(set(keys))


def test_the_table_leads_only_to_what_exists():
    for alias in ALIASES:
        assert alias.strategy in ("", *CATALOG), alias.names
        assert alias.weights in ("", *HYPERPARAMETERS["weights"]), alias.names
        assert alias.loss in ("", *HYPERPARAMETERS["loss"]), alias.names
        assert alias.sampler in ("", *HYPERPARAMETERS["sampler"]), alias.names


@pytest.mark.parametrize(
    ("name", "kind", "choices", "wanted"),
    [
        ("ins", "weights", HYPERPARAMETERS["weights"], "inverse"),
        ("Effective-Number", "weights", HYPERPARAMETERS["weights"], "effective_number"),
        ("cRT", "strategy", CATALOG, "decoupled"),
        ("ASL", "loss", HYPERPARAMETERS["loss"], "asymmetric"),
        ("logit_adjusted", "strategy", CATALOG, "logit-adjusted"),
    ],
)
def test_names_resolve(name, kind, choices, wanted):
    assert resolve(name, choices, kind=kind, argument="name") == wanted


def test_a_name_of_another_kind_leads_to_its_explanation():
    for name, kind, choices in (("WCE", "weights", HYPERPARAMETERS["weights"]), ("SMOTE", "strategy", CATALOG)):
        with pytest.raises(
            ArgumentError, match=f"`x` cannot be '{name}'; `counterpoise explain {name}` says what it is"
        ):
            resolve(name, choices, kind=kind, argument="`x`")
    assert resolve("class_balanced", HYPERPARAMETERS["weights"], kind="weights", argument="`x`") == "effective_number"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ArgumentError, match=r"strategy 'logit' is unknown; did you mean logit-adjusted\?"):
        resolve("logit", CATALOG, kind="strategy", argument="strategy")
    assert did_you_mean("mixup-x", ["remixup", "mixup"]).startswith("did you mean mixup")
    assert did_you_mean("adjusted", ["adjuster", "post-hoc", "logit-adjusted"]) == (
        "did you mean logit-adjusted or adjuster?"
    )
    assert did_you_mean("xyzzy", ["focal", "poly"]) == "expected one of focal, poly"
