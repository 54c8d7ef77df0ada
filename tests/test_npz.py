"""What an .npz file may hold: the right values or one error, and never rows that are not those that were digested."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from conftest import write_npz

from tfl import datasets
from tfl.cache import open_cache
from tfl.datasets import archive, npz_digest, stored_array
from tfl.errors import DatasetError
from tfl.extraction.precompute import precompute
from tfl.specs import DatasetSpec

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 7, 3), np.uint8)
GREY = IMAGES[..., 0]
LABELS = np.arange(6) % 3


def opened(path):
    return datasets.open_dataset(DatasetSpec(str(path)))


def content_of(path, split="train"):
    """Images `(n, h, w, 3)`, labels, ids and class names, as a dataset hands them out."""
    source = opened(path)
    examples = list(source.examples(split, 0, source.num_rows[split]))
    images = np.stack([example.image for example in examples])
    return images, [example.label for example in examples], [example.id for example in examples], source.class_names


# --- layouts


def saved(path, **arrays):
    np.savez(path, **{"train_images": IMAGES, "train_labels": LABELS, **arrays})
    return path


IN_COLOUR = np.repeat(GREY[..., None], 3, axis=-1)
READABLE = {
    "colour": ({}, IMAGES),
    "grey": ({"train_images": GREY}, IN_COLOUR),
    "grey with a channel": ({"train_images": GREY[..., None]}, IN_COLOUR),
    "Fortran order": ({"train_images": np.asfortranarray(IMAGES)}, IMAGES),
    "Fortran order, grey": ({"train_images": np.asfortranarray(GREY)}, IN_COLOUR),
    "not contiguous": ({"train_images": IMAGES[:, ::-1]}, IMAGES[:, ::-1]),
    "labels of one column": ({"train_labels": LABELS[:, None].astype(np.uint8)}, IMAGES),
    "labels in big-endian order": ({"train_labels": LABELS.astype(">i8")}, IMAGES),
    "labels of one byte": ({"train_labels": LABELS.astype(np.int8)}, IMAGES),
    "labels without a sign": ({"train_labels": LABELS.astype(np.uint64)}, IMAGES),
    "other arrays beside them": ({"mean": np.array([0.5]), "note": np.array([None], object)}, IMAGES),
    "an empty split": ({"val_images": IMAGES[:0], "val_labels": LABELS[:0]}, IMAGES),
}


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_layouts_that_people_have_are_read(name, write, tmp_path):
    arrays, expected = READABLE[name]
    write(tmp_path / "a.npz", **{"train_images": IMAGES, "train_labels": LABELS, **arrays})
    images, labels, ids, class_names = content_of(tmp_path / "a.npz")
    np.testing.assert_array_equal(images, expected)
    assert labels == LABELS.tolist()
    assert ids == [f"train_{row:05d}" for row in range(6)]
    assert class_names == ("0", "1", "2")


def test_files_of_medmnist_are_read(tmp_path, features, settings, tiny_backbone):
    """Keys, dtypes and shapes as `medmnist` publishes them: train, val and test, labels `(n, 1)`, grey images."""
    arrays = {}
    for split, count in (("train", 30), ("val", 9), ("test", 12)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
    np.savez_compressed(tmp_path / "breastmnist.npz", **arrays)
    spec = DatasetSpec(str(tmp_path / "breastmnist.npz"), val_split="val")
    cache = open_cache(precompute(features, spec, settings))
    assert cache.class_names == ("0", "1", "2")
    for split in ("train", "val", "test"):
        assert cache.read_labels(split).tolist() == arrays[f"{split}_labels"][:, 0].tolist()


REFUSED = {
    "floats": ({"train_images": IMAGES / 255}, r"float64 .*`\(images \* 255\)\.round\(\)\.astype\('uint8'\)` if they"),
    "16 bits": ({"train_images": IMAGES.astype(np.uint16) * 257}, r"`\(images // 257\)\.astype\('uint8'\)` if they"),
    "integers": ({"train_images": IMAGES.astype(np.int64)}, r"`images\.astype\('uint8'\)` if they are in 0\.\.255"),
    "booleans": ({"train_images": GREY > 99}, r"`images\.astype\('uint8'\) \* 255`"),
    "complex": ({"train_images": IMAGES.astype(complex)}, "train_images .* is complex128 .*expected uint8"),
    "dates": ({"train_images": IMAGES.astype("M8[s]")}, "is datetime64.*expected uint8"),
    "a fourth channel": ({"train_images": IMAGES[..., [0, 1, 2, 0]]}, r"`images\[\.\.\., :3\]`"),
    "two channels": ({"train_images": IMAGES[..., :2]}, r"`images\[\.\.\., :1\]`"),
    "channels first": ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, r"`images\.transpose\(0, 2, 3, 1\)`"),
    "flat": ({"train_images": IMAGES.reshape(6, -1)}, r"`images\.reshape\(len\(images\), h, w, 3\)`"),
    "flat colours": ({"train_images": IMAGES.reshape(6, -1, 3)}, r"\(6, 56, 3\).*`images\.reshape"),
    "volumes": ({"train_images": np.zeros((6, 8, 8, 8), np.uint8)}, r"\(6, 8, 8, 8\); expected"),
    "one image": ({"train_images": IMAGES[0]}, r"\(8, 7, 3\); expected"),
    "a scalar": ({"train_images": np.uint8(3)}, r"train_images .* is uint8 \(\); expected"),
    "no pixels": ({"train_images": np.zeros((6, 0, 0, 3), np.uint8)}, r"\(6, 0, 0, 3\); expected"),
    "one-hot": ({"train_labels": np.eye(3)[LABELS]}, r"float64 \(6, 3\).*`labels\.argmax\(axis=1\)`"),
    "multi-label": ({"train_labels": np.zeros((6, 14), np.uint8)}, "14 columns .*multi-label, as in ChestMNIST"),
    "float labels": ({"train_labels": LABELS.astype(np.float32)}, r"`labels\.astype\('int64'\)`"),
    "boolean labels": ({"train_labels": LABELS > 0}, r"`labels\.astype\('int64'\)`"),
    "names as labels": ({"train_labels": np.array(["cat", "dog"] * 3)}, r"`class_names, labels = numpy\.unique"),
    "labels of other rows": ({"train_labels": LABELS[:3]}, r"int64 \(3,\); expected integers \(6,\)"),
    "a single label": ({"train_labels": np.int64(3)}, r"int64 \(\); expected integers"),
    "negative labels": ({"train_labels": LABELS - 1}, "range from -1 to 1; expected 0 or more"),
    "labels beyond int64": ({"train_labels": np.full(6, 2**64 - 1, np.uint64)}, "to 18446744073709551615; expected 0"),
    "labels beyond names": ({"class_names": np.array(["a", "b"])}, "range from 0 to 2; expected 0 to 1"),
    "one class name alone": ({"class_names": np.array("cat")}, r"class_names .* is <U3 \(\); expected one text"),
    "no class names": ({"class_names": np.array([], "<U3")}, r"class_names .* is <U3 \(0,\); expected one text"),
    "a table of names": ({"class_names": np.array([["a", "b", "c"]])}, r"class_names .* is <U1 \(1, 3\)"),
    "names that are no numbers": ({"class_names": np.array([1, np.nan, 3])}, "values that are not finite"),
    "complex names": ({"class_names": np.arange(3) * 1j}, r"class_names .* is complex128 \(3,\)"),
    "names of objects": ({"class_names": np.array(["a", "b", None], object)}, "class_names holds Python objects"),
    "images of objects": ({"train_images": np.array([None] * 6, object)}, "images of differing sizes do not fit one"),
    "ids of numbers": ({"train_ids": LABELS}, r"train_ids .* is int64 \(6,\); expected text \(6,\)"),
    "ids twice": ({"train_ids": np.array(list("aabcde"))}, "has 6 ids, of which 5 differ"),
    "an odd identity": ({"dataset": np.array(["a", "b"])}, "an array `dataset` that write_npz did not make"),
    "an identity of numbers": ({"dataset": np.arange(3)}, "an array `dataset` that write_npz did not make"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layouts_that_cannot_be_are_refused_with_what_to_do(name, tmp_path):
    arrays, message = REFUSED[name]
    with pytest.raises(DatasetError, match=message) as refusal:
        opened(saved(tmp_path / "a.npz", **arrays))
    assert str(tmp_path / "a.npz") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_ways_to_convert_do(tmp_path):
    """What the messages advise, carried out."""
    for images in (IMAGES / 255, IMAGES.astype(np.float32) / 255):
        np.testing.assert_array_equal((images * 255).round().astype("uint8"), IMAGES)
    np.testing.assert_array_equal((IMAGES.astype(np.uint16) * 257 // 257).astype("uint8"), IMAGES)
    class_names, labels = np.unique(np.array(["dog", "cat", "dog"] * 2), return_inverse=True)
    _, read, _, names = content_of(saved(tmp_path / "a.npz", train_labels=labels, class_names=class_names))
    assert [names[label] for label in read] == ["dog", "cat", "dog"] * 2


# --- classes


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 1, 2, 0, 1, 2], ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
        ([1, 2, 3, 3, 2, 1], ("1", "2", "3"), [0, 1, 2, 2, 1, 0]),
        ([500, 1000, 500, 0, 0, 0], ("0", "500", "1000"), [1, 2, 1, 0, 0, 0]),
        ([0, 1, 0, 2**31 - 1, 1, 0], ("0", "1", "2147483647"), [0, 1, 0, 2, 1, 0]),
        ([9, 2**63 - 1, 9, 9, 9, 9], ("9", "9223372036854775807"), [0, 1, 0, 0, 0, 0]),
    ],
)
def test_without_names_the_classes_are_the_labels_that_occur(labels, names, expected, tmp_path):
    tracemalloc.start()
    _, read, _, class_names = content_of(saved(tmp_path / "a.npz", train_labels=np.array(labels)))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert class_names == names
    assert read == expected


def test_labels_of_all_splits_are_the_classes(tmp_path):
    path = saved(tmp_path / "a.npz", test_images=IMAGES, test_labels=np.full((6, 1), 7, np.uint8))
    assert content_of(path, "test")[1:] == ([3] * 6, [f"test_{i:05d}" for i in range(6)], ("0", "1", "2", "7"))
    assert content_of(path, "train")[1] == LABELS.tolist()


def digest_of_arrays(path):
    """The version of an .npz file as the first release of tfl computed it."""
    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in ("class_names", "test_images", "test_labels", "train_images", "train_labels", "train_ids"):
            if name in arrays:
                digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
                digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return f"sha256:{digest.hexdigest()}"


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"train_images": np.asfortranarray(IMAGES)},
        {"class_names": np.array(["a", "b", "c", "d"]), "train_ids": np.array(list("abcdef"))},
        {"class_names": np.array([1, 2, 10]), "test_images": IMAGES[:2], "test_labels": LABELS[:2]},
        {"train_labels": LABELS.astype(">i2")},
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 400, 1 << 20])
def test_files_keep_the_version_that_their_caches_have(arrays, block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", block_bytes)
    path = saved(tmp_path / "a.npz", **arrays)
    assert opened(path).version == digest_of_arrays(path)


@pytest.mark.parametrize("labels", [[0, 1, 3, 3, 3, 0], [1, 2, 3, 1, 2, 3]])
def test_files_whose_labels_once_meant_other_classes_have_another_version(labels, tmp_path):
    path = saved(tmp_path / "a.npz", train_labels=np.array(labels))
    assert opened(path).version != digest_of_arrays(path)


# --- images of several sizes

SIZES = np.array([[8, 7], [1, 1], [3, 5], [8, 2], [2, 2], [4, 4]])
RAGGED = [image[:height, :width] for image, (height, width) in zip(IMAGES, SIZES, strict=True)]
FLAT = {"train_images": np.concatenate([image.reshape(-1) for image in RAGGED]), "train_sizes": SIZES}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_images_of_several_sizes(write, block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", block_bytes)
    write(tmp_path / "a.npz", train_labels=LABELS, **FLAT)
    source = opened(tmp_path / "a.npz")
    assert source.image_shape is None
    rows = [5, 0, 3, 1, 2, 4]
    for row, example in zip(rows, source.examples_at("train", rows), strict=True):
        np.testing.assert_array_equal(example.image, RAGGED[row])
        assert (example.label, example.id) == (LABELS[row], f"train_{row:05d}")


WRONG_SIZES = {
    "too few bytes": ({"train_images": FLAT["train_images"][:-1]}, "holds 323 bytes of images, .* sizes are of 324"),
    "negative": ({"train_sizes": -SIZES}, "an image of the height or width -8"),
    "huge": ({"train_sizes": SIZES * 2**58}, "their sizes are of"),
    "one column": ({"train_sizes": SIZES[:, :1]}, r"train_sizes .* is int64 \(6, 1\); expected int64 \(n, 2\)"),
    "floats": ({"train_sizes": SIZES / 1}, r"train_sizes .* is float64"),
    "flat floats": ({"train_images": FLAT["train_images"] / 255}, r"train_images .* is float64 .*expected uint8"),
    "of other rows": ({"train_sizes": SIZES[:5]}, r"train_labels .* is int64 \(6,\); expected integers \(5,\)"),
}


@pytest.mark.parametrize("name", WRONG_SIZES)
def test_sizes_that_are_not_those_of_the_images(name, tmp_path):
    arrays, message = WRONG_SIZES[name]
    np.savez(tmp_path / "a.npz", **{"train_labels": LABELS, **FLAT, **arrays})
    with pytest.raises(DatasetError, match=message):
        opened(tmp_path / "a.npz")


def test_sizes_beside_images_of_one_size_are_another_array(tmp_path):
    plain, with_sizes = saved(tmp_path / "a.npz"), saved(tmp_path / "b.npz", train_sizes=np.array(["S", "M"]))
    assert opened(plain).version == opened(with_sizes).version


def test_a_changed_byte_of_an_image_of_its_own_size_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 16)
    np.savez(tmp_path / "a.npz", train_labels=LABELS, **FLAT)
    source = opened(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(RAGGED[2].tobytes()) + 30] ^= 1  # in a block that image 0 is not in
    (tmp_path / "a.npz").write_bytes(content)
    assert next(source.examples("train", 0, 1)).image.shape == (8, 7, 3)
    with pytest.raises(DatasetError, match="a.npz has changed since the command began"):
        list(source.examples("train", 2, 3))


# --- damaged and hostile files


def npy(array, version=(1, 0)):
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version)
    return file.getvalue()


def headed(text, version=1, values=b""):
    """The bytes of an .npy file with this header."""
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode() + values


def described(descr="'|u1'", shape="(6, 8, 7, 3)", order="False", values=b""):
    return headed(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n", values=values)


GOOD = {"train_images.npy": npy(IMAGES), "train_labels.npy": npy(LABELS)}
NOT_PLAIN = "cannot be read as an .npz file of plain arrays: "


def zipped(path, members, compression=zipfile.ZIP_STORED):
    """Members `{name: bytes}`, or pairs of them."""
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in pairs:
            file.writestr(name, content)
    return path


MEMBERS = {
    "without .npy, raw": ({**GOOD, "train_labels": b"0 1 2 0 1 2"}, "holds train_labels 2 times"),
    "raw labels": ({"train_images.npy": GOOD["train_images.npy"], "train_labels": b"012012"}, "is no .npy array"),
    "raw images": ({"train_images": b"none", "train_labels.npy": GOOD["train_labels.npy"]}, "is no .npy array"),
    "empty": ({**GOOD, "train_labels.npy": b""}, "train_labels.npy is no .npy array"),
    "cut in its header": ({**GOOD, "train_labels.npy": GOOD["train_labels.npy"][:40]}, NOT_PLAIN),
    "cut in its values": ({**GOOD, "train_labels.npy": GOOD["train_labels.npy"][:-8]}, "40 of its 48 bytes"),
    "images cut": ({**GOOD, "train_images.npy": GOOD["train_images.npy"][:-1]}, "1,007 of its 1,008 bytes"),
    "more than it says": ({**GOOD, "train_labels.npy": GOOD["train_labels.npy"] + b"x"}, "49 of its 48 bytes"),
    "a huge claim of labels": ({**GOOD, "train_labels.npy": described("'<i8'", "(10**12,)")}, NOT_PLAIN),
    "a huge shape": ({**GOOD, "train_labels.npy": described("'<i8'", "(1000000000000,)")}, "its 8,000,000,000,000"),
    "a huge shape of images": ({**GOOD, "train_images.npy": described(shape="(6, 9999999, 9999999, 3)")}, "0 of its"),
    "an endless shape": ({**GOOD, "train_images.npy": described(shape=f"(6, {10**30}, 0, 3)")}, "."),
    "a negative shape": ({**GOOD, "train_images.npy": described(shape="(-6, -8, 7, 3)")}, "which no array is"),
    "a shape of text": ({**GOOD, "train_images.npy": described(shape="('6', 8)")}, "shape is not valid"),
    "values of no size": ({**GOOD, "class_names.npy": described("'<U0'", "(1000000000000,)")}, "which no array is"),
    "a dtype of fields": ({**GOOD, "train_labels.npy": npy(np.zeros(6, "i4,i4"))}, r"expected integers \(6,\)"),
    "a dtype that is none": ({**GOOD, "train_labels.npy": described("'zz'")}, NOT_PLAIN),
    "a dtype of code": ({**GOOD, "train_labels.npy": described("__import__('os')")}, NOT_PLAIN),
    "objects": ({**GOOD, "train_labels.npy": described("'|O'", "(6,)")}, "holds Python objects"),
    "a header of a list": ({**GOOD, "train_labels.npy": headed("[1, 2]\n")}, "not a dictionary"),
    "a header of nothing": ({**GOOD, "train_labels.npy": headed("\n")}, NOT_PLAIN),
    "a header too deep": ({**GOOD, "train_labels.npy": headed("(" * 5000 + ")" * 5000)}, NOT_PLAIN),
    "a header too long": ({**GOOD, "train_labels.npy": headed("1" * 50_000)}, NOT_PLAIN),
    "a header without order": ({**GOOD, "train_labels.npy": headed("{'descr': '<i8', 'shape': (6,)}\n")}, NOT_PLAIN),
    "another version": ({**GOOD, "train_labels.npy": b"\x93NUMPY\x09\x00" + GOOD["train_labels.npy"][8:]}, "version"),
    "no letters": ({**GOOD, "class_names.npy": described("'<U1'", "(3,)", values=b"\xff" * 12)}, "class_names .* text"),
    "a pickle": ({**GOOD, "train_labels.npy": b"\x80\x04K\x01."}, "is no .npy array"),
    "twice": ([*GOOD.items(), ("train_labels.npy", npy(LABELS[::-1]))], "holds train_labels 2 times"),
    "nothing": ({}, "has no <split>_images array; it has nothing"),
    "a name that steers": ({"a\x1b[31mb\n_images.npy": npy(GREY)}, r"a\\x1b\[31mb\\n_labels .* is missing"),
    "a long name": ({"a" * 60_000 + "_images.npy": npy(LABELS)}, "is int64"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_that_are_no_plain_arrays_are_refused(name, compression, tmp_path):
    members, message = MEMBERS[name]
    with pytest.raises(DatasetError, match=message) as refusal:
        opened(zipped(tmp_path / "a.npz", members, compression))
    assert str(refusal.value).isprintable()


def test_members_that_numpy_reads_in_another_way_are_read(tmp_path):
    """Without `.npy`, of version 2 and 3, in bz2 and lzma, in a file that begins with something else."""
    versions = {"train_images": npy(IMAGES, (2, 0)), "train_labels.npy": npy(LABELS, (3, 0))}
    paths = [zipped(tmp_path / "versions.npz", versions)]
    paths += [zipped(tmp_path / f"{way}.npz", GOOD, way) for way in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]
    (tmp_path / "begun.npz").write_bytes(b"#!/bin/sh\n" + zipped(tmp_path / "good.npz", GOOD).read_bytes())
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as file:
        for name, content in GOOD.items():
            with file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    for path in (*paths, tmp_path / "begun.npz", tmp_path / "large.npz"):
        images, labels, _, _ = content_of(path)
        np.testing.assert_array_equal(images, IMAGES)
        assert labels == LABELS.tolist()


def test_any_flipped_byte_is_an_error_or_harmless(tmp_path):
    """In every tenth byte of the whole file, headers of the archive included."""
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "good.npz", train_images=IMAGES, train_labels=LABELS)
        good = (tmp_path / "good.npz").read_bytes()
        for place in range(0, len(good), 10):
            flipped = bytearray(good)
            flipped[place] ^= 0x5A
            (tmp_path / "flipped.npz").write_bytes(flipped)
            try:
                images, labels, _, _ = content_of(tmp_path / "flipped.npz")
            except DatasetError:
                continue
            np.testing.assert_array_equal(images, IMAGES)
            assert labels == LABELS.tolist()


def test_encrypted_members_and_unknown_compression_are_refused(tmp_path):
    good = zipped(tmp_path / "good.npz", GOOD).read_bytes()
    local, central = good.index(b"PK\x03\x04"), good.index(b"PK\x01\x02")
    encrypted, unknown = bytearray(good), bytearray(good)
    for flags, method in ((local + 6, local + 8), (central + 8, central + 10)):
        encrypted[flags] |= 1
        unknown[method] = 99
    for content, message in ((encrypted, "encrypted"), (unknown, "compression")):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DatasetError, match=f"a.npz {NOT_PLAIN}.*{message}"):
            opened(tmp_path / "a.npz")


BOMB = """
import re, sys
from pathlib import Path
from tfl import datasets
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec
try:
    datasets.open_dataset(DatasetSpec(sys.argv[1]))
except DatasetError as error:
    print(error)
# Not ru_maxrss, which begins with the peak of the process that started this one.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_what_does_not_fit_into_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.npz", GOOD, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive, "available_memory", lambda: 1000)
    with pytest.raises(DatasetError, match="train_images of .* takes 1,008 bytes of memory, and 1,000 are available"):
        opened(path)
    monkeypatch.setattr(archive, "available_memory", lambda: 1008)
    assert opened(path).num_rows == {"train": 6}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")
def test_an_archive_that_unpacks_to_more_than_it_says_takes_little_memory(tmp_path):
    """A terabyte claimed of a few kilobytes: the claim is believed by nobody."""
    shape = (6, 600_000, 100_000, 3)
    header = described(shape=str(shape))
    path = zipped(tmp_path / "a.npz", {**GOOD, "train_images.npy": header + bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    claimed = struct.pack("<I", 0xFFFFFFFE)
    for place in (content.index(b"PK\x03\x04") + 22, content.index(b"PK\x01\x02") + 24):
        content[place : place + 4] = claimed
    path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True)
    assert "of its 1,080,000,000,000 bytes" in done.stdout
    assert int(done.stdout.split()[-1]) < 1 << 20  # KiB


def test_what_is_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("folder.npz", "pipe.npz"):
        with pytest.raises(DatasetError, match=f"{name} {NOT_PLAIN}it is a folder or a pipe"):
            opened(tmp_path / name)


def test_errors_of_the_machine_are_not_the_files(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = saved(tmp_path / "a.npz")
    monkeypatch.setattr(archive, "read_values", fail)
    with pytest.raises(MemoryError):
        opened(path)


def test_texts_that_cannot_be_encoded_are_escaped(tmp_path):
    names = np.array([b"caf\xe9", b"b", b"c"])
    halves = np.array([f"{row}\udc80" for row in range(6)])
    _, _, ids, class_names = content_of(saved(tmp_path / "a.npz", class_names=names, train_ids=halves))
    assert class_names == ("caf\\xe9", "b", "c")
    assert ids[0] == "0\\udc80"


# --- files that change


def rewrite(path, seed):
    """Other images under the same name, in the same file."""
    other = write_npz(path.with_name("other.npz"), seed=seed, train=3000, test=40)
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def truncate(path, seed):
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def large(tmp_path):
    return write_npz(tmp_path / "colours.npz", train=3000, test=40)


CHANGED = "colours.npz has changed since the command began; give the command again"


@pytest.mark.parametrize("change", [rewrite, truncate])
def test_rows_of_a_file_that_changes_are_those_that_were_digested_or_an_error(large, change, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 100 * 270)
    with np.load(large) as arrays:
        before = arrays["train_images"]
    source = opened(large)
    rows = source.examples("train", 0, 3000)
    for row in range(150):
        np.testing.assert_array_equal(next(rows).image, before[row])
    change(large, 1)
    for row in range(150, 200):  # of the block that was read
        np.testing.assert_array_equal(next(rows).image, before[row])
    kept = []
    with pytest.raises(DatasetError, match=CHANGED):
        kept.extend(example.image for example in rows)
    for row, image in enumerate(kept, 200):  # before what was cut off
        np.testing.assert_array_equal(image, before[row])


def test_one_changed_byte_is_noticed_wherever_it_is(large, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 64 * 270)
    source = opened(large)
    good = large.read_bytes()
    images = source._arrays["train_images"]
    for place in (images._values_start, images._values_start + 270 * 1500 + 7, images._values_start + 270 * 3000 - 1):
        changed = bytearray(good)
        changed[place] ^= 1
        large.write_bytes(changed)
        with pytest.raises(DatasetError, match=CHANGED):
            list(source.examples("train", 0, 3000))
        large.write_bytes(good)
    assert len(list(source.examples("train", 0, 3000))) == 3000


def test_a_file_that_is_replaced_is_read_to_its_end(large, tmp_path):
    with np.load(large) as arrays:
        before = arrays["train_images"]
    source = opened(large)
    write_npz(tmp_path / "other.npz", seed=1, train=3000, test=40).replace(large)
    images = np.stack([example.image for example in source.examples("train", 0, 3000)])
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("change", [rewrite, truncate])
def test_a_file_that_changes_while_it_is_opened(large, change, monkeypatch):
    """Between the headers and the digest, and in the midst of it: the version is of what is handed out."""
    digest_arrays = npz_digest.digest_arrays

    def changed(arrays, splits):
        change(large, 1)
        return digest_arrays(arrays, splits)

    monkeypatch.setattr("tfl.datasets.npz.digest_arrays", changed)
    with pytest.raises(DatasetError, match="colours.npz .*(changed since|damaged)"):
        opened(large)


@pytest.mark.parametrize("change", [rewrite, truncate])
def test_no_row_of_another_file_is_cached(large, change, features, settings, tiny_backbone, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 100 * 270)
    changes = []

    def change_once(progress):
        if not changes and progress.finished > 100:
            changes.append(change(large, 1))

    with pytest.raises(DatasetError, match=CHANGED):
        precompute(features, DatasetSpec(str(large)), settings, change_once)
    assert changes
    assert not list(settings.cache_dir.glob("*.h5"))


def test_rows_do_not_hold_the_file_in_memory(large):
    rows = list(opened(large).examples("train", 0, 3000))
    assert all(row.image.base is None for row in rows)
