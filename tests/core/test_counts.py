import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, CounterpoiseError


def test_the_worked_example_of_the_effective_number():
    counts = ClassCounts([5000, 100])
    np.testing.assert_allclose(counts.effective_number(0.9999), [3934.845, 99.507], atol=1e-3)
    np.testing.assert_allclose(counts.effective_number(0.999), [993.28, 95.21], atol=1e-2)
    np.testing.assert_array_equal(counts.effective_number(0.0), [1, 1])
    np.testing.assert_array_equal(counts.effective_number(1.0), [5000, 100])


@pytest.mark.fault("W3")
@pytest.mark.parametrize("beta", [0.9, 1 - 1e-9, 1 - 1e-15])
def test_the_effective_number_is_a_geometric_series_also_where_beta_to_the_n_rounds_to_one(beta):
    n = np.array([1, 2, 7, 1000, 10**9])
    effective = ClassCounts(n).effective_number(beta)
    assert effective[0] == pytest.approx(1, rel=1e-6)
    assert effective[1] == pytest.approx(1 + beta, rel=1e-6)
    assert effective[2] == pytest.approx(sum(beta**k for k in range(7)), rel=1e-6)
    assert (np.diff(effective) >= 0).all()
    assert (effective <= n * (1 + 1e-12)).all()


def test_the_effective_number_refuses_beta_above_one():
    with pytest.raises(ArgumentError, match=r"`beta` must be in \[0, 1\]; got 1.5"):
        ClassCounts([1]).effective_number(1.5)


def test_groups_at_their_borders():
    groups = ClassCounts([101, 100, 20, 19, 0]).groups()
    assert {name: ids.tolist() for name, ids in groups.items()} == {"many": [0], "medium": [1, 2], "few": [3, 4]}


def test_the_ratio_is_over_classes_with_images():
    assert ClassCounts([50, 0, 5]).imbalance_ratio == 10
    assert np.isnan(ClassCounts([0, 0]).imbalance_ratio)
    assert ClassCounts({"a": 3, "b": 0}).empty == ("b",)


def test_priors():
    np.testing.assert_allclose(ClassCounts([3, 1]).prior(), [0.75, 0.25])
    np.testing.assert_allclose(ClassCounts([3, 0]).prior(1.0), [0.8, 0.2])
    np.testing.assert_allclose(ClassCounts([0, 0]).prior(1.0), [0.5, 0.5])
    np.testing.assert_allclose(ClassCounts.from_multilabel([[1, 1], [1, 0]]).prior(), [1.0, 0.5])
    with pytest.raises(ArgumentError, match="no prior without images"):
        ClassCounts([0, 0]).prior()


def test_labels_are_counted_as_indices_or_by_name():
    np.testing.assert_array_equal(ClassCounts.from_labels([2, 0, 2], num_classes=4).counts, [1, 0, 2, 0])
    np.testing.assert_array_equal(ClassCounts.from_labels([1, -1, 1], ignore_index=-1).counts, [0, 2])
    named = ClassCounts.from_labels(["b", "a", "b"], names=["b", "c", "a"])
    assert dict(zip(named.names, named.counts.tolist(), strict=True)) == {"b": 2, "c": 0, "a": 1}
    with pytest.raises(ArgumentError, match="row 1 is 'x'"):
        ClassCounts.from_labels(["a", "x"], names=["a"])
    with pytest.raises(ArgumentError, match=r"in 0 \.\. 2; row 1 is 3"):
        ClassCounts.from_labels([0, 3], num_classes=3)
    with pytest.raises(ArgumentTypeError, match="whole numbers or strings"):
        ClassCounts.from_labels([0.5, 1.0])


@pytest.mark.fault("W2")
@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), 1.5])
def test_a_count_that_is_no_count_names_its_class(bad):
    with pytest.raises(ArgumentError, match=f"class 'cat' has {bad}"):
        ClassCounts([5, bad], names=["dog", "cat"])
    with pytest.raises(ValueError, match="cat"):
        ClassCounts({"dog": 5, "cat": bad})


@pytest.mark.fault("W2")
def test_booleans_are_no_counts():
    with pytest.raises(ArgumentTypeError, match="got dtype bool"):
        ClassCounts([True, False])
    for counts in ([5, True], (5, np.True_), {"0": 5, "1": True}, [5.0, True]):
        with pytest.raises(ArgumentTypeError, match="class '1' has True"):
            ClassCounts(counts)


@pytest.mark.fault("W2")
@pytest.mark.parametrize("bad", [2**63, 10**400, -(10**400)])
def test_whole_numbers_of_any_length_are_refused_by_name(bad):
    with pytest.raises(ArgumentError, match="class '1' has"):
        ClassCounts([5, bad])


@pytest.mark.fault("W6")
@pytest.mark.parametrize("names", [["a", "a"], ["caf\u00e9", "cafe\u0301"]])
def test_twin_names_are_refused_and_both_shown(names):
    with pytest.raises(ArgumentError, match="same name twice") as caught:
        ClassCounts([1, 2], names=names)
    assert all(repr(name) in str(caught.value) for name in names)


def test_counts_are_values():
    a, b = ClassCounts([1, 2]), ClassCounts([1, 2])
    assert a == b
    assert hash(a) == hash(b)
    assert a != ClassCounts([1, 2], names=["x", "y"])
    with pytest.raises(ValueError, match="read-only"):
        a.counts[0] = 9


@pytest.mark.parametrize("kind", [ArgumentError, ArgumentTypeError])
def test_every_error_is_one_of_ours(kind):
    assert issubclass(kind, CounterpoiseError)
    assert issubclass(kind, ValueError if kind is ArgumentError else TypeError)


@pytest.mark.parametrize("counts", [[1e300, 1], [2**63, 1], [2**70, 1], [2**53, 1], {"a": 2**62, "b": 2**62}])
def test_counts_that_no_integer_holds_are_refused_and_not_wrapped(counts):
    with pytest.raises(ArgumentError, match=r"`counts` must sum to at most 2\^53, .* class '[0a]' has"):
        ClassCounts(counts)


def test_the_largest_counts_stay_exact():
    assert ClassCounts([2**53 - 1, 1]).counts.tolist() == [2**53 - 1, 1]


@pytest.mark.parametrize("name", [b"cat", None, 2.5, True, ("a", "b"), np.nan])
def test_class_names_are_strings_and_not_made_of_something_else(name):
    for call in (lambda: ClassCounts({name: 1}), lambda: ClassCounts([1], names=[name])):
        with pytest.raises(ArgumentTypeError, match=r"`names` must be strings; got .*; convert it"):
            call()
    assert ClassCounts({3: 1, np.int64(4): 2}).names == ("3", "4")


@pytest.mark.parametrize(
    "total",
    [True, "5", 3.7, 1.0, float("nan"), float("inf"), -1, 2**53 + 1, 10**400, 10**5000],
    ids=lambda t: str(type(t)),
)
def test_the_total_is_a_whole_number(total):
    with pytest.raises((ArgumentError, ArgumentTypeError), match="`total` must be"):
        ClassCounts([1, 0], total=total)
    assert ClassCounts([1, 0], total=np.int64(7)).total == 7


@pytest.mark.parametrize(
    "counts", [[[1], 2], [1, [2, 3]], [[1, 2], [3]], {"a": [1], "b": [1, 2]}, "12", 5, np.zeros(0, "S1")]
)
def test_what_is_no_flat_list_of_numbers_is_refused_or_empty(counts):
    if isinstance(counts, np.ndarray):
        assert len(ClassCounts(counts)) == 0
        return
    with pytest.raises((ArgumentError, ArgumentTypeError), match="`counts` must "):
        ClassCounts(counts)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", 0], "whole numbers or strings, not both; got int, str"),
        ([0, True], "whole numbers or strings, not both; got bool, int"),
        ([True, False], "not both; got bool"),
        (np.array([True]), "got dtype bool"),
        ([b"cat"], r"got dtype \|S3"),
        (np.array([b"cat"]), r"got dtype \|S3"),
        ([0, 10**12], "must be class indices, at least 0 and below 16,777,216; row 1 is 1000000000000"),
        (np.array([2**64 - 1], np.uint64), "row 0 is 18446744073709551615"),
        ([0, 2**70], "got dtype object"),
        ([[0], [1, 2]], "must be a flat list"),
        (5, "must be a list or an array with one label per image; got 5"),
        ("cat", "must be a list or an array with one label per image; got 'cat'"),
        ([0.0, 1.0], "got dtype float64"),
    ],
)
def test_labels_are_whole_numbers_or_strings_and_not_cast(labels, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=rf"`labels` .*{message}"):
        ClassCounts.from_labels(labels)


@pytest.mark.parametrize("size", [-1, 1.5, "3", True, 10**12, 10**400])
def test_a_number_of_classes_that_is_none_is_refused(size):
    with pytest.raises((ArgumentError, ArgumentTypeError), match="`num_classes` must be"):
        ClassCounts.from_labels([0, 1], num_classes=size)


def test_string_labels_are_those_that_were_given():
    counts = ClassCounts.from_labels(["a", "a\0", "", "b"], ignore_index="b")
    assert dict(zip(counts.names, counts.counts.tolist(), strict=True)) == {"": 1, "a": 1, "a\0": 1}
    assert ClassCounts.from_labels(np.array(["x", "y", "x"])).counts.tolist() == [2, 1]
    with pytest.raises(ArgumentTypeError, match=r"`ignore_index` must be a whole number; got 1\.5"):
        ClassCounts.from_labels([0, 1], ignore_index=1.5)


def test_a_count_that_a_list_with_floats_would_round_is_refused():
    with pytest.raises(ArgumentError, match=r"`counts` must sum to at most 2\^53"):
        ClassCounts([0.0, 2**53 + 1])
    assert ClassCounts([0.0, 2**53 - 1]).counts.tolist() == [0, 2**53 - 1]
