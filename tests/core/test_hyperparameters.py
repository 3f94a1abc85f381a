"""The table of hyperparameters is complete, consistent, and refuses what it should."""

import pytest

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import HYPERPARAMETERS, check_options, defaults, hyperparameters

ENTRIES = [
    pytest.param(parameter, id=f"{kind}-{method}-{parameter.name}")
    for kind, methods in HYPERPARAMETERS.items()
    for method, parameters in methods.items()
    for parameter in parameters
]


@pytest.mark.parametrize("parameter", ENTRIES)
def test_every_default_is_allowed_and_every_meaning_is_one_clause(parameter):
    assert parameter.check(parameter.default) == parameter.default
    assert parameter.meaning
    assert not parameter.meaning.endswith(".")
    assert parameter.bounds


def test_no_method_lists_a_name_twice():
    for methods in HYPERPARAMETERS.values():
        for method, parameters in methods.items():
            names = [parameter.name for parameter in parameters]
            assert len(names) == len(set(names)), method


@pytest.mark.parametrize(
    ("kind", "method", "options", "message"),
    [
        ("loss", "focal", {"gama": 2}, r"loss 'focal' has no hyperparameter `gama`; did you mean gamma\?"),
        ("loss", "focal", {"gamma": -1}, "`gamma` must be at least 0; got -1"),
        ("loss", "cross_entropy", {"label_smoothing": 1.5}, "`label_smoothing` must be at least 0 and at most 1"),
        ("loss", "asymmetric", {"reduction": "meen"}, "`reduction` must be one of 'mean'"),
        ("loss", "fokal", {}, r"loss 'fokal' is unknown; did you mean focal"),
        ("posthoc", "tau_normalize", {"tau": 1}, "it has none"),
        ("sampler", "resample", {"sampling_strategy": 1.5}, "`sampling_strategy` must be above 0 and at most 1"),
        ("sampler", "resample", {"sampling_strategy": "most"}, "must be one of 'over', 'under'"),
    ],
)
def test_wrong_options_are_refused_with_the_name(kind, method, options, message):
    with pytest.raises(ArgumentError, match=message):
        check_options(kind, method, options)


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(ArgumentTypeError, match="`detach_focus` must be true or false"):
        check_options("loss", "asymmetric", {"detach_focus": 1.0})
    with pytest.raises(ArgumentTypeError, match="`gamma` must be a number"):
        check_options("loss", "focal", {"gamma": "2"})


def test_defaults_come_from_the_table():
    assert defaults("loss", "class_balanced", "beta", "gamma") == {"beta": 0.9999, "gamma": 0.0}
    assert hyperparameters("sampler", "resample")["sampling_strategy"].check(0.5) == 0.5
