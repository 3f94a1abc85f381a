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
