"""`ConfusionMatrix` against scikit-learn's dense matrix, and its memory."""

import copy
import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import sklearn.metrics

from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError, ArgumentTypeError

RNG = np.random.default_rng(0)
LABELS, PREDICTIONS = RNG.integers(0, 6, (2, 60))
DENSE = sklearn.metrics.confusion_matrix(LABELS, PREDICTIONS, labels=range(7))
MATRIX = ConfusionMatrix.from_predictions(LABELS, PREDICTIONS, num_classes=7)


def test_it_counts_as_scikit_learn_does():
    np.testing.assert_array_equal(np.asarray(MATRIX), DENSE)
    assert np.asarray(MATRIX).dtype == np.int64
    assert np.asarray(MATRIX, dtype=float).dtype == np.float64
    assert MATRIX == ConfusionMatrix.from_dense(DENSE) == ConfusionMatrix.from_dense(DENSE.tolist())
    cells = scipy.sparse.coo_array((MATRIX.counts, (MATRIX.labels, MATRIX.predictions)), shape=MATRIX.shape)
    np.testing.assert_array_equal(cells.toarray(), DENSE)
    assert [MATRIX.predicted(i).get(2, 0) for i in range(7)] == DENSE[:, 2].tolist()


def test_it_is_indexed_as_a_tuple_of_rows():
    matrix, rows = MATRIX, tuple(map(tuple, DENSE.tolist()))
    assert all(MATRIX[i][j] == MATRIX[i, j] == rows[i][j] for i in range(-7, 7) for j in range(-7, 7))
    assert (len(MATRIX), tuple(MATRIX), MATRIX[1:5:2], MATRIX[-2:]) == (7, rows, rows[1:5:2], rows[-2:])
    assert type(MATRIX[np.int64(1)][1]) is int
    assert matrix == rows
    assert matrix != rows[:-1]
    assert matrix != (*rows[:-1], rows[0])
    for index in (7, -8):
        with pytest.raises(IndexError):
            MATRIX[index]


def test_sums_are_those_of_the_dense_matrices():
    other = ConfusionMatrix.from_predictions(PREDICTIONS, LABELS, num_classes=7)
    np.testing.assert_array_equal(np.asarray(MATRIX + other), DENSE + DENSE.T)
    assert MATRIX + ConfusionMatrix([], [], [], 7) == MATRIX != other
    with pytest.raises(ArgumentError, match="of 7 and 2 classes cannot be added"):
        MATRIX + ConfusionMatrix([], [], [], 2)


def test_a_matrix_without_images_or_classes_is_one():
    for given, size in (((), 0), (np.zeros((3, 3), np.int64), 3)):
        matrix = ConfusionMatrix.from_dense(given)
        assert (len(matrix), bool(matrix), matrix.counts.tolist(), np.asarray(matrix).shape) == (
            size,
            size > 0,
            [],
            (size, size),
        )
    assert ConfusionMatrix.from_predictions([], [], num_classes=0) == ()


def test_it_cannot_be_changed_and_can_be_copied():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MATRIX.num_classes = 3
    with pytest.raises(ValueError, match="read-only"):
        MATRIX.counts[0] = 3
    given = np.array([0, 1])
    matrix = ConfusionMatrix(given, given, given + 1, 2)
    given[:] = 9
    assert matrix == ((1, 0), (0, 2)) == copy.deepcopy(matrix)
    assert pickle.loads(pickle.dumps(matrix)) == matrix
    assert repr(matrix) == "ConfusionMatrix(2 classes, 3 images, 2 cells with images)"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (([0, 0], [1, 0], [1, 1], 2), "sorted by `labels`, then `predictions`, each once; row 1 is not after row 0"),
        (([1, 0], [0, 0], [1, 1], 2), "row 1 is not after row 0"),
        (([0, 0], [1, 1], [1, 1], 2), "row 1 is not after row 0"),
        (([0, 2], [1, 1], [1, 1], 2), r"`labels` must be in 0 \.\. 1; row 1 is 2"),
        (([0, 1], [-1, 1], [1, 1], 2), r"`predictions` must be in 0 \.\. 1; row 0 is -1"),
        (([0, 1], [0, 1], [1, 0], 2), "`counts` must be at least 1; row 1 is 0"),
        (([0, 1], [0, 1], [1, -2], 2), "`counts` must be at least 0; row 1 is -2"),
        (([0, 1], [0, 1], np.array([1, 2**64 - 1], np.uint64), 2), "`counts` must be at most 9,007,199,254,740,992"),
        (([0, 1], [0, 1], [2**53, 2**53], 2), "`counts` must be at most 9,007,199,254,740,992 together"),
        (([0, 1], [0], [1, 1], 2), r"same shape \(K,\); got \(2,\), \(1,\) and \(2,\)"),
        (([[0]], [[0]], [[1]], 2), r"same shape \(K,\); got \(1, 1\)"),
        (([], [], [], -1), "`num_classes` must be at least 0"),
        (([], [], [], 2**40), "`num_classes` must be at most 2,147,483,648"),
    ],
)
def test_cells_that_are_no_matrix_are_refused(cells, message):
    with pytest.raises(ArgumentError, match=message):
        ConfusionMatrix(*cells)


def test_numbers_are_not_cast():
    for cells in (([0.0], [0], [1], 1), ([0], [False], [1], 1), ([0], [0], [1.5], 1), ([0], [0], [1], 1.0)):
        with pytest.raises(ArgumentTypeError):
            ConfusionMatrix(*cells)
    for dense in ([[0.5, 1.0], [0.0, 1.0]], [[True, False], [False, True]], [["a"]]):
        with pytest.raises(ArgumentTypeError, match="`matrix` must hold whole numbers"):
            ConfusionMatrix.from_dense(dense)
    for dense in ([[1, 2]], [1, 2], [[[1]]]):
        with pytest.raises(ArgumentError, match=r"`matrix` must have shape \(C, C\)"):
            ConfusionMatrix.from_dense(dense)
    with pytest.raises(ArgumentError, match="-1"):
        ConfusionMatrix.from_dense([[-1]])


def test_memory_grows_with_the_images_and_not_with_the_square_of_the_classes():
    labels, predictions = RNG.integers(0, 20_000, (2, 10_000))
    tracemalloc.start()
    matrix = ConfusionMatrix.from_predictions(labels, predictions, num_classes=20_000)
    both = matrix + matrix
    assert both[int(labels[0]), int(predictions[0])] == 2 * matrix.predicted(int(labels[0]))[int(predictions[0])]
    assert both != matrix
    assert tracemalloc.get_traced_memory()[1] < 8e6, "a dense matrix has 3.2e9 bytes"
    tracemalloc.stop()
