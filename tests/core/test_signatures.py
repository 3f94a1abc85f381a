"""The signatures of weights, samplers, post-hoc corrections and augmentation have the defaults of the table."""

import inspect

import pytest

from counterpoise import augment, posthoc, samplers, weights
from counterpoise.core.hyperparameters import HYPERPARAMETERS

CALLABLES = {
    ("sampler", "class_balanced"): samplers.ClassBalancedSampler,
    ("sampler", "progressive"): samplers.ProgressiveSampler,
    ("sampler", "repeat_factor"): samplers.RepeatFactorSampler,
    ("sampler", "resample"): samplers.ResampleSampler,
    ("posthoc", "adjust_logits"): posthoc.adjust_logits,
    ("posthoc", "tune_thresholds"): posthoc.tune_thresholds,
    ("augment", "by_rarity"): augment.rarity_strength,
    ("augment", "by_repeats"): augment.repeat_strength,
    ("mixing", "mixup"): augment.mixup,
    ("mixing", "cutmix"): augment.cutmix,
    ("mixing", "remix"): augment.remix,
    ("mixing", "cmo"): augment.cmo,
    ("reweighting", "deferred"): weights.DeferredWeights,
    ("reweighting", "adaptive"): weights.AdaptiveWeights,
    **{("weights", scheme): weights.class_weights for scheme in weights.SCHEMES},
}
ELSEWHERE = {
    "probability",  # of mixing a batch: decided by the training loop
    "beta",  # DeferredWeights passes the options of the scheme on
}


def test_every_method_of_these_kinds_has_a_signature_here():
    kinds = {kind for kind, _ in CALLABLES}
    methods = {(kind, method) for kind in kinds for method in HYPERPARAMETERS[kind]}
    assert methods - set(CALLABLES) == {("posthoc", "scale_logits"), ("posthoc", "tau_normalize")}


@pytest.mark.parametrize(("kind", "method"), CALLABLES)
def test_the_defaults_of_the_signature_are_those_of_the_table(kind, method):
    signature = inspect.signature(CALLABLES[kind, method]).parameters
    for parameter in HYPERPARAMETERS[kind][method]:
        if parameter.name not in signature:
            assert parameter.name in ELSEWHERE
        else:
            assert signature[parameter.name].default == parameter.default, parameter.name
