"""Predictions from files of other programs, and from damaged and hostile files: read exactly, or refused by name."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.workflow.evaluation import evaluate

LOGITS = np.eye(3)[[0, 1, 2, 0]]
LABELS = np.array([0, 1, 2, 0])


def member(array, **header):
    """The bytes of an .npy file, with another header if given."""
    file = io.BytesIO()
    if header:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.tobytes())
    else:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()


def packed(path, method=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        LABELS + 0.7,
        LABELS.astype(float),
        LABELS > 0,
        LABELS + 0j,
        LABELS.astype("M8[s]"),
        LABELS.astype("m8[s]"),
        LABELS.astype(str),
    ],
    ids=lambda labels: labels.dtype.name,
)
def test_labels_are_not_cast_wherever_they_come_from(tmp_path, labels):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=labels)
    with pytest.raises(ArtifactError, match=r"p\.npz.*labels of whole numbers; got float64, "):
        Predictions.load(tmp_path / "p.npz")
    with pytest.raises(ArgumentTypeError, match=r"labels of whole numbers; got float64, "):
        evaluate((LOGITS, labels))
    with pytest.raises(ArgumentTypeError, match="labels of whole numbers"):
        Predictions(LOGITS, labels, np.arange(4).astype(str), np.array(["a", "b", "c"]))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, ">i4"])
def test_whole_numbers_of_every_type_are_read_exactly(tmp_path, kind):
    np.savez_compressed(tmp_path / "p.npz", logits=(9 * LOGITS).astype(kind), labels=LABELS.astype(kind))
    loaded = Predictions.load(tmp_path / "p.npz")
    assert (loaded.logits.dtype, loaded.labels.dtype) == (np.float64, np.int64)
    np.testing.assert_array_equal(loaded.logits, 9 * LOGITS)
    np.testing.assert_array_equal(loaded.labels, LABELS)
    assert (loaded.paths.tolist(), loaded.classes.tolist()) == (["0", "1", "2", "3"], ["0", "1", "2"])


def test_a_label_beyond_64_bits_is_outside_the_classes(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(ArtifactError, match="row 3 is 18446744073709551615, outside the 3 classes"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.parametrize("logits", [LOGITS > 0, LOGITS + 0j, LOGITS.astype(str)], ids=lambda logits: logits.dtype.name)
def test_logits_are_numbers(tmp_path, logits):
    np.savez(tmp_path / "p.npz", logits=logits, labels=LABELS)
    with pytest.raises(ArtifactError, match=r"p\.npz.*logits of numbers"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (np.array(["a", "b", "a"]), "`classes` has the name 'a' 2 times"),
        (np.array([1, 0, 1]), "`classes` has the name '1' 2 times"),
        (np.array([1, np.nan, np.nan]), "`classes` must be an array of strings; got float64"),
        (np.array([b"a", b"b", b"c"]), r"`classes` must be an array of strings; got \|S1"),
        (np.array(["a", "b"]), r"classes \(C,\); got .*\(2,\)"),
        (np.array("a"), r"classes \(C,\); got .*\(\)"),
    ],
)
def test_class_names_are_strings_and_differ(tmp_path, names, match):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=LABELS, classes=names)
    with pytest.raises(ArtifactError, match=rf"p\.npz: .*{match}"):
        Predictions.load(tmp_path / "p.npz")
    with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
        Predictions(LOGITS, LABELS, np.arange(4).astype(str), names)


@pytest.mark.parametrize(
    "arrays",
    [{"logits": np.array(1.0)}, {"labels": np.array(1)}, {"logits": LOGITS[0]}, {"logits": LOGITS[:, :, None]}],
)
def test_arrays_of_another_shape_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "p.npz", **{"logits": LOGITS, "labels": LABELS, **arrays})
    with pytest.raises(ArtifactError, match=r"p\.npz: predictions need logits \(N, C\)"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.fault("C5")
@pytest.mark.parametrize("shape", [(1 << 40, 3), (4, 1 << 40), (5, 3), (3, 3), (-4, -3), (1 << 62, 1 << 62)])
def test_a_header_that_states_another_size_allocates_nothing(tmp_path, shape):
    content = member(LOGITS, descr="<f8", fortran_order=False, shape=shape)
    path = packed(tmp_path / "p.npz", logits=content, labels=member(LABELS))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions"):
        Predictions.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.fault("C5")
def test_an_empty_array_names_no_endless_list_of_classes(tmp_path):
    empty = member(np.zeros(0), descr="<f8", fortran_order=False, shape=(0, 1 << 40))
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions: logits\.npy states"):
        Predictions.load(packed(tmp_path / "p.npz", logits=empty, labels=member(LABELS[:0])))
    np.savez(tmp_path / "q.npz", logits=np.zeros((0, 1000)), labels=LABELS[:0])
    assert len(Predictions.load(tmp_path / "q.npz").classes) == 1000


@pytest.mark.fault("C5")
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_much_larger_than_the_file_is_not_decompressed(tmp_path, method):
    content = member(np.zeros((1 << 20, 9)))
    path = packed(tmp_path / "p.npz", method, logits=content, labels=member(np.zeros(1 << 20, np.int64)))
    tracemalloc.start()
    with pytest.raises(
        ArtifactError, match=r"p\.npz cannot be read as predictions: logits\.npy (has 75,|is not compressed)"
    ):
        Predictions.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def encrypted(data: bytes) -> bytes:
    """The file with the flag of encryption, in the header of each member and in the directory."""
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(mark, start + 1)) >= 0:
            flags = struct.unpack_from("<H", data, start + at)[0] | 1
            data = data[: start + at] + struct.pack("<H", flags) + data[start + at + 2 :]
    return data


def damaged(data: bytes) -> bytes:
    """The file with other bytes within the compressed logits."""
    start = data.index(b"logits.npy") + 60
    return data[:start] + bytes(255 - b for b in data[start : start + 20]) + data[start + 20 :]


def unknown_compression(data: bytes) -> bytes:
    return data.replace(b"\x08\x00", b"\x63\x00")


@pytest.mark.fault("C5")
@pytest.mark.parametrize("harm", [encrypted, damaged, unknown_compression, lambda data: data[:-30], lambda data: b""])
def test_a_damaged_or_encrypted_file_is_one_error_that_names_it(tmp_path, harm):
    np.savez_compressed(tmp_path / "p.npz", logits=np.random.default_rng(0).normal(size=(99, 3)), labels=[0] * 99)
    (tmp_path / "p.npz").write_bytes(harm((tmp_path / "p.npz").read_bytes()))
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions: \w+"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x03\x00",
        b"\x93NUMPY\x09\x00" + b"x" * 99,
        b"\x93NUMPY\x01\x00\x04\x00{'a'",
        b"\x93NUMPY\x01\x00\x70\x17" + b"(" * 6000,
        b"\x93NUMPY\x01\x00\x70\x17" + b"[" * 3000 + b"]" * 3000,
        member(LOGITS, descr="<f8", fortran_order=False, shape=(True, 12)),
        member(LOGITS, descr="|O", fortran_order=False, shape=(4, 3)),
    ],
)
def test_a_damaged_array_header_is_an_error_that_names_the_file(tmp_path, content):
    path = packed(tmp_path / "p.npz", logits=content, labels=member(LABELS))
    with pytest.raises(ArtifactError, match=r"p\.npz"):
        Predictions.load(path)


def test_an_array_that_occurs_twice_is_refused(tmp_path):
    path = packed(tmp_path / "p.npz", logits=member(LOGITS), labels=member(LABELS))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("labels.npy", member(LABELS[::-1]))
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions: it has labels\.npy twice"):
        Predictions.load(path)


def test_a_folder_or_a_name_too_long_is_an_error_that_names_it(tmp_path):
    (tmp_path / "p.npz").mkdir()
    for path, reason in ((tmp_path / "p.npz", "directory"), (tmp_path / f"{'p' * 300}.npz", "too long")):
        with pytest.raises(ArtifactError, match=rf"p\.npz cannot be read as predictions: .*{reason}"):
            Predictions.load(path)


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_whole_numbers_that_no_float_is_are_refused(tmp_path, kind):
    logits = np.zeros((4, 3), kind)
    logits[0, 0] = 2**53
    np.savez(tmp_path / "p.npz", logits=logits, labels=LABELS)
    assert Predictions.load(tmp_path / "p.npz").logits[0, 0] == 2**53
    logits[0, 0] = 2**53 + 1
    np.savez(tmp_path / "p.npz", logits=logits, labels=LABELS)
    with pytest.raises(ArtifactError, match=r"`logits` of whole numbers must be at most 2\^53"):
        Predictions.load(tmp_path / "p.npz")


def test_a_damaged_name_of_an_array_does_not_number_the_classes(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=LABELS, classes=np.array(["a", "b", "c"]))
    content = (tmp_path / "p.npz").read_bytes()
    at = content.rindex(b"classes.npy")
    (tmp_path / "p.npz").write_bytes(content[:at] + b"k" + content[at + 1 :])
    with pytest.raises(ArtifactError, match=r"p\.npz cannot be read as predictions: File name in directory"):
        Predictions.load(tmp_path / "p.npz")
