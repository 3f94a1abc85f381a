"""The catalog reads as one line each and goes through JSON; a plan has reasons with numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from counterpoise import ClassCounts, hierarchy
from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError, ArtifactError, CounterpoiseError
from counterpoise.core.hyperparameters import HYPERPARAMETERS, hyperparameters
from counterpoise.workflow.audit import audit
from counterpoise.workflow.strategy import CATALOG, plan, split_strategies, strategy_named
from counterpoise.workflow.training.posthoc import POSTHOC, build_posthoc
from counterpoise.workflow.training.recipe import (
    LOSSES,
    REWEIGHTINGS,
    SAMPLERS,
    build_class_prior,
    build_recipe,
    double_correction_advice,
)
from counterpoise.workflow.training.transforms import CLASS_AUGMENTATIONS, MIXINGS

COUNTS = ClassCounts([50, 10, 5], names=["a", "b", "c"])
LABELS = np.repeat([0, 1, 2], COUNTS.counts)


@pytest.mark.parametrize("name", CATALOG)
def test_a_strategy_is_one_line_and_goes_through_json(name):
    strategy = CATALOG[name]
    assert strategy.name == name
    assert str(strategy).startswith(f"{name}: ")
    assert "\n" not in str(strategy)
    assert Strategy.from_dict(strategy.to_dict()) == strategy
    assert strategy.reuses is None or strategy.reuses in CATALOG


@pytest.mark.parametrize("name", CATALOG)
def test_every_name_in_a_strategy_becomes_a_function(name):
    strategy = CATALOG[name]
    recipe = built(strategy)
    assert len(recipe.order.draw(0)) == recipe.order.length
    assert (recipe.order.sampling_prior is not None) == (strategy.sampler is not None)
    assert (recipe.reweighting is not None) == (strategy.reweighting is not None)
    assert (recipe.transform.mix is not None) == (strategy.mixing is not None)
    assert (recipe.transform.strength is not None) == (strategy.augment is not None)
    rng = np.random.default_rng(0)
    scores, labels = rng.normal((2, 0, 0), size=(60, 3)), rng.integers(3, size=60)
    head = (rng.normal(size=(3, 4)) * [[3], [2], [1]], rng.normal(size=3))
    changed = not np.array_equal(build_posthoc(strategy, recipe.prior, head)(scores, labels).apply(scores), scores)
    assert changed == (strategy.posthoc is not None)


def built(strategy, epochs=4):
    tree = hierarchy.balanced(COUNTS) if strategy.head == "hierarchical" else None
    return build_recipe(strategy, LABELS, COUNTS, symmetries=frozenset({"hflip"}), seed=0, epochs=epochs, tree=tree)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_takes_every_hyperparameter_of_the_table(loss):
    head = {"hierarchical": "hierarchical", "ldam": "cosine"}.get(loss, "linear")
    plain = Strategy("mine", "", loss=loss, head=head)
    for name, parameter in hyperparameters("loss", loss).items():
        if isinstance(parameter.default, str):
            value = next(choice for choice in parameter.choices if choice != parameter.default)
        elif isinstance(parameter.default, bool):
            value = not parameter.default
        else:
            value = 0.9 * (parameter.default or 1.0)
        changed = replace(plain, loss_options={name: value})
        assert stored(built(changed).loss) != stored(built(plain).loss), name


def stored(loss):
    """The numbers and strings that a loss module computes with."""
    plain = {name: value for name, value in vars(loss).items() if isinstance(value, bool | int | float | str)}
    return {**plain, **{name: value.tolist() for name, value in loss.named_buffers()}}


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "balanced_softmax", "vector_scaling", "ldam"])
def test_label_smoothing_reaches_the_loss(loss):
    logits, target = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([0])
    head = "cosine" if loss == "ldam" else "linear"
    plain, smooth = (
        built(Strategy("mine", "", loss=loss, loss_options={"label_smoothing": share}, head=head)).loss(logits, target)
        for share in (0.0, 0.3)
    )
    assert smooth > plain


def test_every_component_of_a_strategy_is_a_function_of_that_name():
    assert set(LOSSES) <= set(HYPERPARAMETERS["loss"])
    assert set(SAMPLERS) <= set(HYPERPARAMETERS["sampler"])
    for kind, table in {
        "posthoc": POSTHOC,
        "mixing": MIXINGS,
        "augment": CLASS_AUGMENTATIONS,
        "reweighting": REWEIGHTINGS,
    }.items():
        assert set(table) == set(HYPERPARAMETERS[kind])


def test_samplers_do_what_their_names_say():
    def drawn(name):
        return np.bincount(LABELS[built(CATALOG[name]).order.draw(0)], minlength=3).tolist()

    assert drawn("baseline") == [50, 10, 5]
    assert drawn("oversample") == [50, 50, 50]
    assert drawn("undersample") == [5, 5, 5]


def test_progressive_sampling_goes_from_the_data_to_balance():
    order = built(CATALOG["progressive-sampling"], epochs=100).order
    first, middle, last = (
        np.mean([np.bincount(LABELS[order.draw(e + i)], minlength=3) / 65 for i in range(40)], 0) for e in (0, 30, 100)
    )
    prior, balanced = np.array([50, 10, 5]) / 65, np.full(3, 1 / 3)
    np.testing.assert_allclose(first, 0.8 * prior + 0.2 * balanced, atol=0.03)
    np.testing.assert_allclose(middle, 0.5 * prior + 0.5 * balanced, atol=0.03)
    np.testing.assert_allclose(last, balanced, atol=0.03)
    np.testing.assert_allclose(order.sampling_prior, balanced)


def test_one_prior_is_carried_from_sampler_and_weights_to_loss_and_correction():
    plain = Strategy("mine", "", loss="logit_adjusted", loss_options={"tau": 1.0})
    prior = np.array([50, 10, 5]) / 65
    np.testing.assert_allclose(built(plain).loss.offset.exp(), prior, rtol=1e-5)
    square = replace(plain, sampler="class_balanced", sampler_options={"power": 0.5})
    root = np.sqrt(prior) / np.sqrt(prior).sum()
    np.testing.assert_allclose(built(square).loss.offset.exp(), root, rtol=1e-5)
    both = replace(square, weights="inverse_sqrt")
    np.testing.assert_allclose(built(both).loss.offset.exp(), np.full(3, 1 / 3), rtol=1e-5)

    after = Strategy("after", "", posthoc="adjust_logits", posthoc_options={"tau": 1.0})
    scores = np.zeros((1, 3))
    weighted = built(replace(after, weights="inverse_sqrt"))
    got = build_posthoc(after, weighted.prior)(scores, []).apply(scores)
    np.testing.assert_allclose(got, -np.log(root)[None], rtol=1e-12)
    balanced = built(replace(after, sampler="class_balanced", sampler_options={"power": 0.0}))
    got = build_posthoc(after, balanced.prior)(scores, []).apply(scores)
    assert np.ptp(got) < 1e-12
    focal = built(replace(after, loss="focal"))
    with pytest.raises(ArgumentError, match="'adjust_logits' needs a loss that leaves a known class prior"):
        build_posthoc(after, focal.prior)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (
            {"sampler": "class_balanced", "sampler_options": {"power": 0.0}, "weights": "inverse"},
            "class weights raise that to about 100. Remove the sampler or the class weights.",
        ),
        (
            {"loss": "vector_scaling", "weights": "inverse"},
            "weight of the largest, and logit adjustment raises that to about 100. Keep one",
        ),
        (
            {"loss": "focal", "loss_options": {"gamma": 2.0}, "weights": "inverse"},
            'focal term raises that to about 210. Use milder weights, for example `weights="inverse_sqrt"`.',
        ),
        ({"loss": "focal", "weights": "inverse"}, "focal term raises that to about 210"),  # the default gamma counts
        ({"loss": "focal", "loss_options": {"gamma": 2.0}}, None),
        ({"loss": "logit_adjusted", "weights": "inverse"}, None),
        ({"loss": "logit_adjusted", "sampler": "class_balanced", "sampler_options": {"power": 0.0}}, None),
    ],
)
def test_double_correction_is_advised_against_with_the_numbers(change, advice):
    strategy = replace(Strategy("mine", ""), **change)
    found = double_correction_advice(strategy, build_class_prior(strategy, LABELS, COUNTS, epochs=4))
    assert (found is None) if advice is None else (advice in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "inverse", "reweighting": "adaptive"}, "both fixed class weights and reweighting 'adaptive'"),
        ({"loss": "class_balanced", "reweighting": "deferred"}, "both fixed class weights and reweighting 'deferred'"),
        ({"loss": "class_balanced", "weights": "inverse"}, "brings its own class weights"),
        (
            {"loss": "focal", "loss_options": {"gama": 2}},
            r"loss 'focal' has no hyperparameter `gama`; did you mean gam",
        ),
        ({"loss": "focal", "loss_options": {"gamma": -1}}, "`gamma` must be at least 0; got -1"),
        ({"loss": "logit_adjusted", "loss_options": {"tau": -1}}, "`tau` must be at least 0; got -1"),
        ({"loss_options": {"label_smoothing": 1.1}}, "`label_smoothing` must be at least 0 and at most 1; got 1.1"),
        ({"loss": "focal", "loss_options": {"reduction": "meen"}}, "`reduction` must be one of"),
        ({"sampler_options": {"power": 0.5}}, "`sampler_options` .* are given without `sampler`"),
        ({"head": "cos"}, "`head` must be one of 'linear', 'cosine', 'hierarchical'; got 'cos'"),
        ({"scores": "x"}, "`scores` must be one of 'softmax', 'sigmoid'; got 'x'"),
        ({"mixing": "x"}, "mixing 'x' is unknown; expected one of mixup"),
        ({"augment": "x"}, "augment 'x' is unknown; expected one of by_rarity"),
        ({"reweighting": "x"}, "reweighting 'x' is unknown; expected one of deferred"),
        ({"loss": "hierarchical"}, "needs `head` 'hierarchical'"),
        ({"retraining": "head", "weights": "inverse"}, "works only with plain cross-entropy on a linear head"),
        ({"separate": True}, "`separate` trains one model per node .*; use `head` 'hierarchical'"),
        (
            {"separate": True, "head": "hierarchical", "reweighting": "deferred"},
            "`separate` .* out `reweighting`",
        ),
        ({"separate": True, "head": "hierarchical", "retraining": "head"}, "only with plain cross-entropy on a linear"),
        ({"separate": True, "head": "hierarchical", "loss": "hierarchical"}, "`separate` .* a loss of flat classes"),
        ({"separate": True, "head": "hierarchical", "posthoc": "adjust_logits"}, "`separate` .* 'adjust_logits'"),
        ({"loss": "ldam"}, "loss 'ldam' subtracts its margins from cosines .* `head` 'linear'; use `head` 'cosine'"),
        ({"loss": "ldam", "head": "hierarchical", "separate": True}, "loss 'ldam' .*; use `head` 'cosine'"),
        (
            {"loss": "logit_adjusted", "posthoc": "adjust_logits"},
            "loss 'logit_adjusted' already corrects .*'adjust_logits' would be a second correction; keep one of the",
        ),
        (
            {"loss": "balanced_softmax", "posthoc": "adjust_logits", "posthoc_options": {"tau": 0.5}},
            "loss 'balanced_softmax' already corrects for the whole class prior",
        ),
        ({"retraining": "head", "retraining_options": {"share": 1}}, "`share` must be above 0 and below 1; got 1"),
    ],
)
def test_a_strategy_is_checked_when_it_is_made(options, message):
    with pytest.raises(ArgumentError, match=f"strategy 'mine': .*{message}"):
        Strategy("mine", "", **options)


def test_a_prior_that_the_loss_leaves_may_be_corrected_afterwards():
    half = Strategy("half", "", loss="logit_adjusted", loss_options={"tau": 0.5}, posthoc="adjust_logits")
    prior = np.sqrt(np.array([50, 10, 5]))
    scores = np.zeros((1, 3))
    got = build_posthoc(half, built(half).prior)(scores, []).apply(scores)
    np.testing.assert_allclose(got, -np.log(prior / prior.sum())[None], rtol=1e-12)


def test_a_strategy_that_was_saved_and_makes_no_sense_is_refused_when_it_is_read():
    data = {**CATALOG["focal"].to_dict(), "loss_options": {"gamma": -2.0}}
    with pytest.raises(ArtifactError, match="`gamma` must be at least 0"):
        Strategy.from_dict(data)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("focal:gamma=1", {"loss_options": {"gamma": 1.0}}),
        ("WCE:power=0.5", {"weight_options": {"power": 0.5}}),
        ("logit-adjusted:tau=1.5", {"loss_options": {"tau": 1.5}}),
        ("class-balanced-focal:beta=0.99,gamma=2", {"loss_options": {"beta": 0.99, "gamma": 2.0}}),
        ("baseline:label_smoothing=0.1", {"loss_options": {"label_smoothing": 0.1}}),
        ("class-balanced-ce-drw:start=0.5", {"reweighting_options": {"start": 0.5, "beta": 0.9999}}),
        ("post-hoc-logit-adjusted:tau=2", {"posthoc_options": {"tau": 2.0}}),
        ("oversample:sampling_strategy=0.5", {"sampler_options": {"sampling_strategy": 0.5}}),
        ("oversample:sampling_strategy=under", {"sampler_options": {"sampling_strategy": "under"}}),
        (
            "ldam:scale=20",
            {"loss_options": {"max_margin": 0.5, "scale": 20.0}, "posthoc_options": {"scale": 20.0}},
        ),
    ],
)
def test_hyperparameters_can_be_overridden_by_name(text, changed):
    plain, overridden = strategy_named(text.partition(":")[0]), strategy_named(text)
    assert overridden == replace(plain, name=overridden.name, **changed)
    assert overridden.name == f"{plain.name}:{text.partition(':')[2]}"
    assert ":" not in overridden.folder_name
    assert strategy_named(overridden.name) == overridden


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("focal:gama=1", r"'focal' has no hyperparameter `gama`; did you mean gamma\?"),
        ("focal:gamma=-1", "`gamma` must be at least 0; got -1"),
        ("focal:gamma=two", "`gamma` must be a number; got str"),
        ("focal:gamma", "'gamma' is no override; write name:key=value"),
        ("focal:", "'' is no override"),
        ("focal:gamma=1,gamma=2", "`gamma` is given twice; keep one value"),
        ("post-hoc-logit-adjusted:gamma=1", r"no hyperparameter `gamma`; expected one of tau"),
        ("tau-norm:tau=1", "has no hyperparameter `tau`; it has none"),
    ],
)
def test_wrong_overrides_are_refused_with_the_name(text, message):
    with pytest.raises(CounterpoiseError, match=message):
        strategy_named(text)


@pytest.mark.parametrize("number", ["1_0", "١", "１", "²", "0x1", "1e999", "nan", "inf", "infinity"])
def test_a_number_in_an_override_is_one_as_written_in_papers(number):
    with pytest.raises(CounterpoiseError, match="`gamma` must be"):
        strategy_named(f"focal:gamma={number}")


def test_a_list_of_strategies_keeps_the_commas_of_overrides():
    text = "baseline, class-balanced-focal:beta=0.99,gamma=1 ,focal:gamma=0.5,WCE"
    assert split_strategies(text) == ["baseline", "class-balanced-focal:beta=0.99,gamma=1", "focal:gamma=0.5", "WCE"]


def test_a_strategy_needs_a_name():
    with pytest.raises(ArgumentError, match="`name` of a strategy must not be empty"):
        Strategy("  ")


def test_milder_weights_are_advised_below_those_that_are_used():
    strong, mild = (
        double_correction_advice(s, build_class_prior(s, LABELS, COUNTS, epochs=4))
        for s in map(strategy_named, ("class-balanced-focal:gamma=4", "class-balanced-focal:beta=0.99,gamma=4"))
    )
    assert "for example `beta=0.99`" in strong
    assert "a smaller `beta`, or `gamma=0`" in mild


def test_a_name_that_leads_out_of_the_folder_is_refused():
    with pytest.raises(ArgumentError, match="is no file name"):
        _ = Strategy("../mine", "").folder_name


def test_a_plan_starts_from_the_baseline_and_gives_numbers_as_reasons():
    plans = plan({"car": 5000, "truck": 300, "motorcycle": 50})
    assert plans[0].name == "baseline"
    assert all(strategy.reason for strategy in plans)
    reasons = {strategy.name: strategy.reason for strategy in plans}
    assert "100:1" in reasons["logit-adjusted"]
    assert "10:1" in reasons["sqrt-weighted-ce"]
    assert "'motorcycle'" in reasons["class-balanced-sampling"]
    assert "undersample" not in reasons


def test_undersampling_is_advised_only_where_enough_is_left():
    assert "undersample" in {s.name for s in plan([100_000, 4_000, 2_000])}
    assert "undersample" not in {s.name for s in plan([100_000, 4_000, 20])}


def test_balanced_data_need_no_remedy():
    assert [s.name for s in plan([100, 90, 110])] == ["baseline"]


def test_an_audit_is_planned_like_its_counts(dataset):
    assert plan(audit(dataset)) == plan(dataset.counts(), symmetries=dataset.symmetries)


def advised(name, counts, **facts):
    """The reason for a strategy; None where it is not advised."""
    return {s.name: s.reason for s in plan(counts, **facts)}.get(name)


@pytest.mark.parametrize(
    ("counts", "symmetries", "is_advised"),
    [
        ([500, 100, 10], {"hflip"}, True),
        ([500, 100, 10], set(), False),  # digits, letters: no transform keeps the class
        ([500, 100, 10], None, False),  # counts alone do not say
        ([5000, 900, 100], {"hflip"}, True),
        ([5000, 900, 101], {"hflip"}, False),  # many images of the rarest class
        ([11, 8, 4], {"hflip"}, False),  # each is drawn 1.9 times per epoch
        ([12, 8, 4], {"hflip"}, True),  # twice
        ([12, 10, 9], {"hflip"}, False),  # nearly balanced
    ],
)
def test_augmentation_is_advised_for_few_images_that_a_transform_keeps_in_their_class(counts, symmetries, is_advised):
    reason = advised("minority-augment", counts, symmetries=symmetries)
    assert (reason is not None) == is_advised
    if counts[2] == 10 and is_advised:
        assert "each of the 10 images of '2' about 20 times per epoch" in reason
        assert "(label-preserving: hflip)" in reason


def test_the_label_preserving_transforms_come_with_the_audit(dataset):
    result = audit(dataset)
    flips, none = replace(result, symmetries=("hflip",)), replace(result, symmetries=())
    assert result.symmetries == tuple(sorted(dataset.symmetries))
    assert advised("minority-augment", flips) is not None
    assert advised("minority-augment", none) is None
    assert advised("minority-augment", none, symmetries=["rot90"]) is not None
    assert advised("minority-augment", flips, symmetries=()) is None
    with pytest.raises(ArgumentError, match="`symmetries` must be one of"):
        plan([9, 1], symmetries=["flip"])


ANIMALS = {"animal/dog": 90, "animal/cat": 30, "car": 3}


@pytest.mark.parametrize(
    ("counts", "is_advised"),
    [
        (ANIMALS, True),
        ({name.replace("/", "-"): n for name, n in ANIMALS.items()}, False),
        ({"animal/dog": 90, "car/bus": 3}, False),  # a folder each, but no group of classes
        ({"photo/dog": 90, "photo/car": 3}, False),  # one group with everything
        ({"animal": 90, "animal/cat": 3, "car": 5}, False),  # no tree
        ({"animal/dog": 31, "animal/cat": 30, "car": 29}, False),  # nearly balanced
    ],
)
def test_a_class_tree_is_advised_where_the_class_names_have_groups(counts, is_advised):
    assert (advised("hierarchical", counts) is not None) == is_advised


def test_a_class_tree_that_is_given_is_advised_with_the_imbalance_of_its_branches():
    counts = ClassCounts(list(ANIMALS.values()), names=["dog", "cat", "car"])
    tree = hierarchy.from_json({"animal": ["dog", "cat"], "car": None}, classes=counts.names)
    reason = advised("hierarchical", counts, tree=tree)
    assert (
        "2 branches (groups: 'animal'), which differ by 40:1 in their images, while the classes differ by 30:1"
        in reason
    )
    assert advised("hierarchical", counts) is None
    assert (
        advised("hierarchical", counts, tree=hierarchy.from_json(["dog", "cat", "car"], classes=counts.names)) is None
    )
    with pytest.raises(ArgumentError, match="`tree` must have the classes 'dog', 'cat', 'car'; it has 'car', 'dog'"):
        plan(counts, tree=hierarchy.from_json({"animal": ["dog"], "car": None}))


def test_one_class_is_no_plan():
    with pytest.raises(ArgumentError, match=r"only 1 class has training images; .* add images of a second class"):
        plan([5, 0])


def test_an_unknown_strategy_gets_the_nearest_names():
    with pytest.raises(ArgumentError, match=r"'logit-ajusted' is unknown; did you mean logit-adjusted"):
        strategy_named("logit-ajusted")
    with pytest.raises(ArgumentError, match=r"'xyz' is unknown; expected one of baseline"):
        strategy_named("xyz")
