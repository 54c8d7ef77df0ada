import errno
import hashlib
import io
import itertools
import os
import shutil
import struct
import threading
import time
import unicodedata
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_npz
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tfl import datasets
from tfl.datasets.images import decode_image
from tfl.errors import DatasetError, SpecError
from tfl.machine import batching
from tfl.specs import DatasetSpec


class TwoSplits(datasets.Dataset):
    """A dataset of two splits that has nothing but their sizes."""

    name = "two splits"
    num_rows = {"train": 137, "test": 10}  # noqa: RUF012


rows_bound, percent_bound = st.integers(-150, 150).map(str), st.floats(-101, 101).map("{:.1f}%".format)
slices = st.one_of(*(st.tuples(st.just("") | b, st.just("") | b) for b in (rows_bound, percent_bound)))


@given(slices.filter(any))
def test_slices_choose_as_tfds_does(bounds):
    """The same rows; and where TFDS refuses, or chooses none, so do we."""
    from tensorflow_datasets.core import ReadInstruction, splits

    split = f"train[{bounds[0]}:{bounds[1]}]"
    infos = {"train": splits.SplitInfo(name="train", shard_lengths=[137], num_bytes=1, filename_template=None)}
    try:
        (theirs,) = ReadInstruction.from_spec(split).to_absolute(infos)
        first, last = theirs.from_ or 0, 137 if theirs.to is None else theirs.to
    except ValueError:
        first = last = 0
    if first < last:
        assert datasets.select_rows(TwoSplits(), split) == [("train", first, last)]
    else:
        with pytest.raises(DatasetError, match="chooses no image|but there are 137 rows"):
            datasets.select_rows(TwoSplits(), split)


def test_sums_and_negative_bounds():
    assert datasets.select_rows(TwoSplits(), "train[-7:] + test[:50%]") == [("train", 130, 137), ("test", 0, 5)]
    assert datasets.count_rows(TwoSplits(), "train[-7:]+test[:50%]") == 12


@pytest.mark.parametrize("split", ["train[", "train[:1.5]", "train:5", "[1:2]", "train[1:2:3]", "train[1:9%]", ""])
def test_malformed_splits_are_wrong_usage(split):
    with pytest.raises(SpecError, match="a split is NAME|both rows or both percent"):
        datasets.select_rows(TwoSplits(), split)


def test_unknown_split_names_those_there_are():
    with pytest.raises(DatasetError, match=r"no split 'dev'; it has train, test .*--test-split ''"):
        datasets.select_rows(TwoSplits(), "dev")


def test_roles_may_not_share_images(dataset):
    spec = replace(dataset, train_split="train[:40]", val_split="train[30:]")
    with pytest.raises(DatasetError, match="share images: rows 30 to 40 of 'train'"):
        datasets.resolve_spec(spec, datasets.open_dataset(spec))


def test_a_role_may_not_hold_an_image_twice(dataset):
    spec = replace(dataset, train_split="train[:40]+train[39:]")
    with pytest.raises(DatasetError, match="share images: rows 39 to 40 of 'train'"):
        datasets.resolve_spec(spec, datasets.open_dataset(spec))


def test_equal_rows_resolve_to_equal_specs(dataset):
    spellings = [replace(dataset, train_split=split) for split in ("train[:35]", "train[0%:50%]", "train[-70:35]")]
    resolved = {datasets.resolve_spec(spec, datasets.open_dataset(spec)) for spec in spellings}
    assert len(resolved) == 1
    assert resolved.pop().train_split == "train[0:35]"


# --- percent slices of a folder


@pytest.fixture
def many(tmp_path):
    """Three classes, 300 images of one pixel each in train, 20 in test."""
    root = tmp_path / "many"
    for split, count in (("train", 300), ("test", 20)):
        for shade, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (1, 1), (shade, 0, 0)).save(root / split / name / f"{i}.bmp")
    return root


def ids_of(root, split, **splits):
    source = datasets.open_dataset(DatasetSpec(str(root), **splits))
    count = datasets.count_rows(source, split)
    return [row.id for row in datasets.read_rows(source, split, 0, count)]


def place_of(id_):
    """In 0..1, as the documentation says it: of the sha256 of the path below the split."""
    digest = hashlib.sha256(id_.split("/", 1)[1].encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@pytest.mark.parametrize(
    ("split", "low", "high"),
    [
        ("train[:50%]", 0, 50),
        ("train[50%:]", 50, 100),
        ("train[10%:-5%]", 10, 95),
        ("train[-12.5%:]", 87.5, 100),
        ("train[33.3%:66.7%]", 33.3, 66.7),
    ],
)
def test_a_percent_slice_of_a_folder_is_of_the_images_own_places(many, split, low, high):
    chosen = ids_of(many, split)
    assert chosen == [id_ for id_ in ids_of(many, "train") if low <= 100 * place_of(id_) < high]
    for name in "abc":
        of_class = sum(id_.startswith(f"train/{name}/") for id_ in chosen)
        assert abs(of_class - 3 * (high - low)) < 45  # of 300: five standard deviations of a fair draw
    source = opened(many)
    for start, stop in ((0, 7), (5, 40), (len(chosen) - 3, len(chosen) + 9)):
        assert [row.id for row in datasets.read_rows(source, split, start, stop)] == chosen[start:stop]


@pytest.mark.parametrize("bounds", [("50%",), ("1%", "2%", "97.5%"), ("33.333333333333333%", "66.7%"), ("-20%",)])
def test_slices_that_follow_one_another_make_up_the_split(many, bounds):
    edges = ["", *bounds, ""]
    source = opened(many)
    parts = [f"train[{low}:{high}]" for low, high in itertools.pairwise(edges)]
    rows = [row for part in parts for piece in datasets.select_rows(source, part) for row in piece.rows]
    assert sorted(rows) == list(range(900))


def test_images_that_are_added_or_removed_move_no_other(many):
    before = ids_of(many, "train[:30%]")
    for i in range(0, 300, 7):
        (many / "train" / "a" / f"{i}.bmp").rename(many / "train" / "a" / f"new {i}.bmp")
    (many / "train" / "b" / "5.bmp").unlink()
    after = ids_of(many, "train[:30%]")
    is_same = {*ids_of(many, "train")} & {*before}
    assert {id_ for id_ in after if "new" not in id_} == is_same


def test_percent_slices_of_a_folder_stay_in_percent(many):
    """One spelling of each, which chooses the same when it is opened again."""
    spec = DatasetSpec(str(many), "train[:50.0%]", "train[-50%:75%]", "train[75%:]+test[0:7]")
    source = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, source)
    assert (resolved.train_split, resolved.val_split) == ("train[0%:50%]", "train[50%:75%]")
    assert resolved.test_split == "train[75%:100%]+test[0:7]"
    assert datasets.resolve_spec(replace(resolved, dataset=str(many)), source) == resolved
    for role, split in resolved.roles.items():
        assert ids_of(many, split) == ids_of(many, spec.roles[role])
    whole = replace(spec, train_split="train[0%:100%]", val_split="", test_split="test")
    assert datasets.resolve_spec(whole, source).train_split == "train[0:900]"
    assert ids_of(many, "train[0:40]") == ids_of(many, "train")[:40]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("train[:50%]", "train[49.5%:60%]", r"share images: 49\.5 % to 50 % of 'train'"),
        ("train[:50%]", "train", r"share images: \d+ rows, the first of them \d+, of 'train'"),
        ("train[:50%]", "train[100:200]", r"share images: \d+ rows, the first of them 1\d\d, of 'train'"),
        ("train[:50%]+train[40%:60%]", "test", r"share images: 40 % to 50 % of 'train'"),
        ("train[0%:101%]", "test", "reaches 101%; expected at most 100%"),
        ("train[50%:50%]", "test", "chooses no image: 'train' has 900 rows"),
        ("train[100%:]", "test", "chooses no image"),
        ("train[:0.0001%]", "test", "chooses no image"),
    ],
)
def test_percent_slices_of_a_folder_that_cannot_be(many, train, test, message):
    spec = DatasetSpec(str(many), train, test_split=test)
    with pytest.raises(DatasetError, match=message):
        datasets.resolve_spec(spec, datasets.open_dataset(spec))


def test_a_percent_slice_and_the_rows_beside_it_share_nothing(many):
    spec = DatasetSpec(str(many), "train[:50%]", test_split="train[0:1]")
    if place_of(ids_of(many, "train")[0]) < 0.5:
        spec = replace(spec, train_split="train[50%:]")
    assert datasets.resolve_spec(spec, datasets.open_dataset(spec)).test_split == "train[0:1]"


def test_bad_images_of_a_percent_slice_are_known(many):
    (many / "train" / "a" / "3.bmp").write_bytes(b"none")
    source = opened(many)
    known = [bad.id for half in ("[:50%]", "[50%:]") for bad in datasets.list_bad_images(source, f"train{half}")]
    assert known == ["train/a/3.bmp"]


@pytest.mark.parametrize("split", ["train[1__0:]", "train[10_:]", "train[:" + "9" * 5000 + "]", "train[:1e1%]"])
def test_bounds_that_are_no_numbers(split):
    with pytest.raises(SpecError, match="a split is NAME"):
        datasets.select_rows(TwoSplits(), split)


# --- npz


def test_npz_rows(dataset):
    source = datasets.open_dataset(dataset)
    examples = list(datasets.read_rows(source, "train[10:20]+test", 5, 15))
    assert [example.id for example in examples[:6]] == [*(f"train_{i:05d}" for i in range(15, 20)), "test_00000"]
    assert source.class_names == ("red", "green", "blue")
    with np.load(dataset.dataset) as arrays:
        np.testing.assert_array_equal(examples[0].image, arrays["train_images"][15])
        assert examples[0].label == arrays["train_labels"][15]


def test_compressed_and_plain_npz_give_the_same(dataset, tmp_path):
    with np.load(dataset.dataset) as arrays:
        np.savez_compressed(tmp_path / "small.npz", **arrays)
    plain, small = (
        datasets.open_dataset(DatasetSpec(dataset=p)) for p in (dataset.dataset, str(tmp_path / "small.npz"))
    )
    assert plain.version == small.version
    for a, b in zip(plain.examples("train", 0, 70), small.examples("train", 0, 70), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert (a.label, a.id) == (b.label, b.id)


def test_npz_content_is_its_version(tmp_path):
    versions = {
        datasets.open_dataset(DatasetSpec(dataset=str(write_npz(tmp_path / f"{seed}.npz", seed, train=5)))).version
        for seed in (0, 1)
    }
    assert len(versions) == 2


def test_written_npz_keeps_its_dataset_identity(dataset, tmp_path):
    source = datasets.open_dataset(dataset)
    source.name, source.version = "colours", "1.2.3"
    datasets.write_npz(source, tmp_path / "carried.npz")
    carried = datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / "carried.npz")))
    assert (carried.name, carried.version, carried.num_rows) == ("colours", "1.2.3", source.num_rows)
    assert [e.id for e in carried.examples("test", 0, 3)] == [e.id for e in source.examples("test", 0, 3)]
    with pytest.raises(DatasetError, match="exists already"):
        datasets.write_npz(source, tmp_path / "carried.npz")


def test_npz_that_cannot_be_written_leaves_nothing(dataset, tmp_path, monkeypatch):
    def fill_the_disk(file, **_):
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        datasets.write_npz(datasets.open_dataset(dataset), tmp_path / "carried.npz")
    assert not list(tmp_path.glob("carried*"))


def test_changed_npz_is_not_taken_for_its_dataset(dataset, tmp_path):
    datasets.write_npz(datasets.open_dataset(dataset), tmp_path / "carried.npz")
    with np.load(tmp_path / "carried.npz") as arrays:
        changed = dict(arrays)
    changed["train_images"][3, 2, 1, 0] ^= 1
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(DatasetError, match="not those that were written\n  digest now"):
        datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / "changed.npz")))


IMAGES, LABELS = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "has no <split>_images array; it has x"),
        (
            {"train_images": IMAGES.astype(np.float32), "train_labels": LABELS},
            r"float32 .*expected uint8 \(n, h, w, 3\), or grey",
        ),
        ({"train_images": IMAGES[:, 0], "train_labels": LABELS}, r"uint8 \(4, 8, 3\); expected uint8"),
        ({"train_images": IMAGES}, "train_labels .* is missing; expected integers"),
        ({"train_images": IMAGES, "train_labels": LABELS[:3]}, r"int64 \(3,\); expected integers \(4,\) or \(4, 1\)"),
        (
            {"train_images": IMAGES, "train_labels": LABELS, "class_names": np.array(["a", "b"])},
            "range from 0 to 3; expected 0 to 1, the classes being a, b",
        ),
        (
            {"train_images": IMAGES, "train_labels": LABELS, "train_ids": np.array(["a", "b", "b", "c"])},
            "has 4 ids, of which 3 differ; every image needs its own",
        ),
        (
            {"train_images": IMAGES, "train_labels": LABELS, "train_ids": LABELS},
            r"train_ids of .* is int64 \(4,\); expected text \(4,\)",
        ),
    ],
)
def test_npz_of_another_layout_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / "odd.npz")))


def test_npz_with_two_classes_of_one_name(tmp_path):
    path = write_npz(tmp_path / "colours.npz", train=9, test=9)
    with np.load(path) as arrays:
        changed = {**arrays, "class_names": np.array(["red", "green", "red"])}
    np.savez(path, **changed)
    with pytest.raises(DatasetError, match="colours has several classes of the name 'red'; rename them"):
        datasets.resolve_spec(DatasetSpec(str(path)), datasets.open_dataset(DatasetSpec(str(path))))


def test_npz_with_one_class(tmp_path):
    np.savez(tmp_path / "one.npz", train_images=IMAGES, train_labels=LABELS * 0)
    spec = DatasetSpec(dataset=str(tmp_path / "one.npz"), test_split="")
    with pytest.raises(DatasetError, match="has one class, '0'; at least two are needed"):
        datasets.resolve_spec(spec, datasets.open_dataset(spec))


def test_odd_files_under_the_name_of_an_npz(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((2, 2, 3)), np.zeros((3, 2, 3))]
    np.savez(tmp_path / "ragged.npz", train_images=ragged, train_labels=LABELS[:2], allow_pickle=True)
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, IMAGES)
    np.savez_compressed(tmp_path / "flipped.npz", train_images=IMAGES + LABELS[:, None, None, None].astype(np.uint8))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[len(content) // 3] ^= 255
    (tmp_path / "flipped.npz").write_bytes(content)
    for name in ("ragged", "array", "flipped"):
        with pytest.raises(DatasetError, match=f"{name}.npz cannot be read as an .npz file of plain arrays"):
            datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / f"{name}.npz")))


def test_npz_needs_a_name_and_a_place(dataset, tmp_path):
    source = datasets.open_dataset(dataset)
    with pytest.raises(DatasetError, match="the file's name ends in .npz, got"):
        datasets.write_npz(source, tmp_path / "data")
    with pytest.raises(DatasetError, match="there is no folder .*nowhere to write a.npz into"):
        datasets.write_npz(source, tmp_path / "nowhere" / "a.npz")


def test_npz_that_is_none(tmp_path):
    with pytest.raises(DatasetError, match="there is no file"):
        datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / "none.npz")))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DatasetError, match="cannot be read as an .npz file of plain arrays"):
        datasets.open_dataset(DatasetSpec(dataset=str(tmp_path / "text.npz")))


# --- folder


def opened(folder, **splits):
    return datasets.open_dataset(DatasetSpec(dataset=str(folder), **splits))


def test_folder_rows_are_sorted_relative_paths(folder):
    source = opened(folder)
    ids = [example.id for example in source.examples("train", 0, 12)]
    assert ids == sorted(ids)
    assert ids[0] == "train/cat/0.png"
    assert [example.label for example in source.examples("train", 4, 8)] == [0, 0, 1, 1]
    assert source.class_names == ("cat", "dog")


def test_images_are_decoded_side_by_side_in_their_order_and_few_ahead(monkeypatch):
    """Whoever is done first; not more than the bytes allow, and one that is too large for them alone."""
    begun, lock = [], threading.Lock()

    def work(size):
        with lock:
            begun.append(size)
        time.sleep(0.02 / size)
        return size

    sizes = [1, 2, 3, 4, 50, 4, 3, 2, 1] * 2
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(4), raising=False)
    for asked, size in enumerate(batching.parallel_map(work, sizes, int, max_bytes=8)):
        assert size == sizes[asked]
        with lock:
            ahead = begun[asked + 1 :]
        assert sum(ahead) <= 8 or len(ahead) == 1
    assert sorted(begun) == sorted(sizes)


@pytest.mark.parametrize("small", [0, 1 << 30])
def test_small_images_and_large_ones_are_read_in_their_order(folder, monkeypatch, small):
    monkeypatch.setattr("tfl.datasets.image_files.SMALL_BYTES", small)
    (folder / "train" / "cat" / "2.png").write_bytes(b"none")
    found = list(datasets.open_dataset(DatasetSpec(str(folder))).examples("train", 1, 9))
    assert [row.id for row in found] == [
        f"train/{name}" for name in (*(f"cat/{i}.png" for i in range(1, 6)), *(f"dog/{i}.png" for i in range(3)))
    ]
    assert isinstance(found[1], datasets.BadImage)
    assert found[0].image.shape == (13, 20, 3)


def test_reading_that_is_left_begins_no_more():
    begun = []
    images = batching.parallel_map(lambda row: begun.append(row) or row, range(1000), lambda row: 0)
    assert next(images) == 0
    images.close()
    assert len(begun) <= 2 * os.cpu_count()


def test_threads_that_decode_leave_the_warning_filters_as_they_were():
    before = warnings.filters[:]
    with ThreadPoolExecutor(8) as readers:
        list(readers.map(lambda _: decode_image(encoded_as(".png"), "x.png"), range(200)))
    assert warnings.filters == before


def test_images_of_differing_sizes_fit_no_npz(folder, tmp_path):
    with pytest.raises(DatasetError, match="images of 3 sizes, which an .npz array cannot hold"):
        datasets.write_npz(opened(folder), tmp_path / "pets.npz")


def test_folder_version_is_its_content(folder):
    version = opened(folder).version
    assert opened(folder).version == version
    Image.new("RGB", (20, 12)).save(folder / "train" / "cat" / "0.png")
    replaced = opened(folder).version
    (folder / "train" / "cat").rename(folder / "train" / "lion")
    (folder / "test" / "cat").rename(folder / "test" / "lion")
    assert len({version, replaced, opened(folder).version}) == 3


def test_folder_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images: expected root/<split>/<class>/"):
        opened(tmp_path / "empty")


def test_folder_without_a_split(folder):
    with pytest.raises(DatasetError, match=r"no images in the split\(s\) val; it has test, train"):
        opened(folder, val_split="val")


def test_folder_with_one_class(folder):
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "dog")
    with pytest.raises(DatasetError, match="has one class, 'cat'; at least two"):
        datasets.resolve_spec(DatasetSpec(), opened(folder))


def test_test_classes_that_train_lacks(folder):
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    with pytest.raises(
        DatasetError, match="split 'test' .* has classes that 'train' lacks: wolf; expected among cat, dog"
    ):
        opened(folder)


def test_classes_are_those_of_the_training_split_whatever_its_name(folder):
    (folder / "train").rename(folder / "training")
    (folder / "test").rename(folder / "evaluation")
    names = {"train_split": "training", "test_split": "evaluation"}
    (folder / "training" / "dog").rename(folder / "training" / "wolf")
    with pytest.raises(DatasetError, match="split 'evaluation' .* has classes that 'training' lacks: dog"):
        opened(folder, **names)
    shutil.rmtree(folder / "evaluation" / "dog")
    assert opened(folder, **names).class_names == ("cat", "wolf")


def test_files_that_are_no_images_by_name_are_counted(folder, caplog):
    (folder / "train" / "cat" / "notes.txt").write_text("hello")
    opened(folder)
    assert "skipped 1 files, hidden or no images by their names" in caplog.text


def test_hidden_files_and_folders_are_passed_over(folder, caplog):
    image = (folder / "train" / "cat" / "0.png").read_bytes()
    for hidden in ("train/.ipynb_checkpoints", "train/cat/.ipynb_checkpoints"):
        (folder / hidden).mkdir()
        (folder / hidden / "0.png").write_bytes(image)
    (folder / "train" / "cat" / "._0.png").write_bytes(b"of macOS")
    dataset = opened(folder)
    assert (dataset.class_names, dataset.num_rows) == (("cat", "dog"), {"train": 12, "test": 6})
    assert "skipped 3 files" in caplog.text


# --- bad images in a folder


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
PICTURE = Image.fromarray(np.stack([GRADIENT, GRADIENT[::-1], GRADIENT[:, ::-1]], axis=2))


def encoded_as(suffix: str) -> bytes:
    return encoded(PICTURE, Image.registered_extensions()[suffix])


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60000 x 60000 pixels."""
    small = bytearray(encoded(Image.new("L", (1, 1))))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + small[24:29]
    small[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    return bytes(small)


def the_bad_image(folder, known=True):
    """The one bad image of the training split, which stands in its row and, where `known`, is told at opening."""
    source = opened(folder)
    rows = list(datasets.read_rows(source, "train", 0, source.num_rows["train"]))
    (bad,) = (row for row in rows if isinstance(row, datasets.BadImage))
    assert datasets.list_bad_images(source, "train") == [bad] * known
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert len(rows) == source.num_rows["train"]
    return bad


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        pytest.param("x.jpg", b"", "x.jpg is empty; repair or remove it", id="empty"),
        pytest.param("x.jpg", b"hello", "x.jpg is not an image that Pillow can read; repair or", id="text-named-jpg"),
        pytest.param("x.png", bomb(), "x.png claims more pixels than are safe", id="decompression-bomb"),
        pytest.param(
            "x.tif", encoded(PICTURE.convert("F"), "tiff"), "x.tif: it holds floating-point pixels", id="floating-point"
        ),
    ],
)
def test_bad_file_is_known_at_opening(folder, name, content, reason):
    (folder / "train" / "dog" / name).write_bytes(content)
    bad = the_bad_image(folder)
    assert bad.id == f"train/dog/{name}"
    assert f"{folder}/train/dog/" in bad.reason
    assert reason in bad.reason


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".tif", ".bmp"])
def test_truncated_file_is_known_at_opening(folder, suffix):
    whole = encoded_as(suffix)
    path = folder / "train" / "dog" / f"cut{suffix}"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    bad = the_bad_image(folder)
    assert bad.id == f"train/dog/cut{suffix}"
    assert str(path) in bad.reason
    assert bad.reason.endswith("; repair or remove it")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".tif", ".bmp"])
def test_trailing_junk_does_no_harm(folder, suffix):
    (folder / "train" / "dog" / f"long{suffix}").write_bytes(encoded_as(suffix) + b"junk")
    source = opened(folder)
    assert datasets.list_bad_images(source, "train") == []
    assert len(list(datasets.require_good_images(source.examples("train", 0, 13)))) == 13


def test_whole_files_are_not_decoded_at_opening(folder, monkeypatch):
    for suffix in (".jpg", ".png", ".gif", ".webp"):
        (folder / "train" / "dog" / f"whole{suffix}").write_bytes(encoded_as(suffix))
    monkeypatch.setattr(ImageOps, "exif_transpose", None)
    assert datasets.list_bad_images(opened(folder), "train") == []


def test_damage_in_the_midst_is_found_when_the_row_is_read(folder):
    path = folder / "train" / "dog" / "3.png"
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    bad = the_bad_image(folder, known=False)
    assert bad.id == "train/dog/3.png"
    assert f"cannot decode the image {path}: " in bad.reason


def test_only_bad_images_of_the_chosen_rows_are_told(folder):
    (folder / "train" / "cat" / "1.png").write_bytes(b"")
    (folder / "test" / "dog" / "0.png").write_bytes(b"")
    source = opened(folder)
    assert [bad.id for bad in datasets.list_bad_images(source, "train[:2]+test")] == [
        "train/cat/1.png",
        "test/dog/0.png",
    ]
    assert datasets.list_bad_images(source, "train[2:]") == []


def test_bad_image_fits_no_npz(folder, tmp_path):
    (folder / "test" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="test/cat/0.png is empty; repair or remove it"):
        datasets.write_npz(opened(folder), tmp_path / "pets.npz")


def test_bad_image_changes_the_version_as_any_other(folder):
    path, versions = folder / "train" / "cat" / "0.png", {opened(folder).version}
    path.write_bytes(b"")
    versions.add(opened(folder).version)
    path.unlink()
    path.symlink_to("nowhere.png")
    versions.add(opened(folder).version)
    assert len(versions) == 3


def test_wrong_extension_of_another_format_works(folder):
    shutil.move(folder / "train" / "dog" / "5.png", folder / "train" / "dog" / "5.jpg")
    assert len(list(datasets.require_good_images(opened(folder).examples("train", 0, 12)))) == 12


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_named(folder, form):
    name = unicodedata.normalize(form, "Zoë 猫.png")
    shutil.move(folder / "train" / "dog" / "5.png", folder / "train" / "dog" / name)
    ids = [example.id for example in datasets.require_good_images(opened(folder).examples("train", 0, 12))]
    assert ids[-1] == f"train/dog/{name}"


@pytest.mark.parametrize("part", ["file", "class"])
def test_not_utf8_named(folder, part):
    path = folder / "train" / "dog"
    for place in [path, folder / "test" / "dog"] if part == "class" else [path / "5.png"]:
        try:
            place.rename(os.fsdecode(os.fsencode(place.parent) + b"/w\xffx.png"))
        except OSError:
            pytest.skip("this file system has UTF-8 names alone")
    source = opened(folder)
    bad = datasets.list_bad_images(source, "train")
    assert bad[-1].id == ("train/w\\xffx.png/5.png" if part == "class" else "train/dog/w\\xffx.png")
    assert bad[-1].reason == f"cannot use the image {folder}/{bad[-1].id}: its name is not UTF-8; rename it"
    assert len(bad) == (6 if part == "class" else 1)
    assert " ".join([*source.class_names, *(row.id for row in source.examples("train", 0, 12))]).encode()


def test_symlinked_file(folder, tmp_path):
    path = folder / "train" / "dog" / "5.png"
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert [e.id for e in datasets.require_good_images(opened(folder).examples("train", 0, 12))][
        -1
    ] == "train/dog/5.png"


def test_symlinked_class_folder(folder, tmp_path):
    version = opened(folder).version
    shutil.move(folder / "train" / "dog", tmp_path / "dogs")
    (folder / "train" / "dog").symlink_to(tmp_path / "dogs")
    assert opened(folder).version == version


@pytest.mark.parametrize(
    ("target", "reason"), [("nowhere.png", "No such file"), ("loop.png", "Too many levels")], ids=["dangling", "loop"]
)
def test_dangling_symlink(folder, target, reason):
    path = folder / "train" / "dog" / "loop.png"
    path.symlink_to(target)
    bad = the_bad_image(folder)
    assert bad.id == "train/dog/loop.png"
    assert f"cannot read the image {path}: {reason}" in bad.reason


def test_unreadable_file(folder, monkeypatch):
    """As another user's: root, whom tests may run as, can read everything."""
    path, read = folder / "train" / "dog" / "5.png", Path.read_bytes

    def read_bytes(self):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert the_bad_image(folder) == ("train/dog/5.png", f"cannot read the image {path}: Permission denied")


def test_fifo_and_folder_under_an_images_name_are_passed_over(folder):
    version = opened(folder).version
    os.mkfifo(folder / "train" / "dog" / "fifo.jpg")
    (folder / "train" / "dog" / "folder.jpg").mkdir()
    (folder / "train" / "dog" / "device.jpg").symlink_to(os.devnull)
    assert opened(folder).version == version


# --- decoding


def test_grey_becomes_three_equal_channels():
    image = decode_image(encoded(Image.fromarray(GRADIENT)), "grey")
    np.testing.assert_array_equal(image, np.repeat(GRADIENT[:, :, None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled():
    wide = GRADIENT.astype(np.uint16) * 257
    image = decode_image(encoded(Image.fromarray(wide)), "wide")
    np.testing.assert_array_equal(image[:, :, 0], GRADIENT)


def test_palette_rgba_and_cmyk_become_rgb():
    rgb = PICTURE
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=48)
    np.testing.assert_array_equal(decode_image(encoded(palette), "p"), np.asarray(palette.convert("RGB")))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(GRADIENT))
    np.testing.assert_array_equal(decode_image(encoded(rgba), "rgba"), np.asarray(rgb))
    cmyk = encoded(rgb.convert("CMYK"), "tiff")
    assert np.abs(decode_image(cmyk, "cmyk").astype(int) - np.asarray(rgb)).max() <= 1


def test_cmyk_jpeg_as_pillow_converts_it():
    image = Image.fromarray(np.stack([GRADIENT] * 4, axis=2), "CMYK")
    content = encoded(image, "jpeg", quality=95)
    with Image.open(io.BytesIO(content)) as decoded:
        np.testing.assert_array_equal(decode_image(content, "cmyk"), np.asarray(decoded.convert("RGB")))


def test_floating_point_pixels_are_refused():
    content = encoded(Image.fromarray(GRADIENT.astype(np.float32) / 255), "tiff")
    with pytest.raises(DatasetError, match="floating-point pixels, whose range is not known"):
        decode_image(content, "float.tif")


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    content = encoded(Image.fromarray(GRADIENT), exif=exif)
    np.testing.assert_array_equal(decode_image(content, "turned")[:, :, 0], np.rot90(GRADIENT, -1))


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "webp" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode_image(content, "animated")[0, 0], [255, 0, 0])


def claiming(suffix: str, size: int) -> bytes:
    """A small file whose header claims `size` x `size` pixels."""
    content = bytearray(encoded_as(suffix))
    if suffix == ".gif":
        struct.pack_into("<HH", content, 6, size, size)
    elif suffix == ".bmp":
        struct.pack_into("<ii", content, 18, size, size)
    elif suffix == ".jpg":
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, size, size)
    elif suffix == ".webp":
        struct.pack_into("<HH", content, content.index(b"\x9d\x01\x2a") + 3, size, size)
    elif suffix == ".tif":
        for tag in (256, 257):  # the width and the height, each a LONG
            struct.pack_into("<I", content, content.index(struct.pack("<HHI", tag, 4, 1)) + 8, size)
    elif suffix == ".ppm":
        content[:] = f"P6 {size} {size} 255 ".encode()
    return bytes(content)


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".webp", ".tif", ".bmp", ".ppm"])
def test_decompression_bomb_is_refused_unread(suffix):
    with pytest.raises(DatasetError, match="claims more pixels than are safe"):
        decode_image(claiming(suffix, 16_383), "bomb")  # the largest that WebP can say


@pytest.mark.parametrize(
    "error", [RuntimeError("no colour planes"), struct.error("short"), ZeroDivisionError()], ids=repr
)
def test_whatever_pillow_raises_is_an_error_of_the_dataset(monkeypatch, error):
    def fail(image):
        raise error

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    with pytest.raises(DatasetError, match="cannot decode the image x.avif: .+; repair or remove it"):
        decode_image(encoded(PICTURE), "x.avif")


def test_too_little_memory_says_nothing_of_the_image(monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    with pytest.raises(MemoryError, match=r"image x\.avif"):
        decode_image(encoded(PICTURE), "x.avif")


def test_postscript_under_the_name_of_a_photograph_starts_no_interpreter(monkeypatch):
    """Pillow would hand it to Ghostscript, which runs programs."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: pytest.fail("started"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(DatasetError, match=r"photo.jpg is not an image that Pillow can read; repair or remove it"):
        decode_image(content, "photo.jpg")


def test_warnings_of_metadata_make_no_image_bad():
    """In these tests a warning is an error; Pillow gives one of this EXIF."""
    content = encoded(PICTURE, "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0")
    assert decode_image(content, "x.jpg").shape == (6, 8, 3)


SUFFIXES = sorted(datasets.images.IMAGE_SUFFIXES & Image.registered_extensions().keys())  # AVIF is not in every Pillow
WHOLE = [encoded_as(suffix) for suffix in SUFFIXES]
WHOLE.append(encoded(PICTURE, "tiff", compression="jpeg"))
WHOLE.append(encoded(PICTURE, "webp", save_all=True, append_images=[PICTURE.rotate(180)]))
edits = st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12))


@settings(max_examples=200)
@given(st.sampled_from(WHOLE), st.lists(edits, min_size=1, max_size=4), st.floats(0.1, 1))
def test_mutated_image_file_decodes_or_is_an_error_of_the_dataset(content, edits, kept):
    for place, removed, inserted in edits:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + removed :]
    try:  # what a mutated header claims is soon decoded
        image = decode_image(content[: int(kept * len(content))], "mutated", max_pixels=100_000)
    except DatasetError:
        return
    assert (image.dtype, image.ndim, image.shape[-1]) == (np.uint8, 3, 3)


# --- TFDS


@pytest.mark.parametrize("name", ["huggingface:evil/evil", "ns:name", "../cifar10", "kaggle:x"])
def test_names_that_tfds_hands_to_others_are_refused(name, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", lambda name, **where: pytest.fail("asked"))
    with pytest.raises(DatasetError, match="or a TensorFlow Datasets name"):
        datasets.open_dataset(DatasetSpec(dataset=name))


def test_unknown_name_says_what_is_expected():
    with pytest.raises(DatasetError, match="'no_such_set' is not an .npz file, a table, a folder or a TensorFlow"):
        datasets.open_dataset(DatasetSpec(dataset="no_such_set"))


def test_tfds_set_without_ids_and_in_grey(tmp_path, monkeypatch, capfd):
    """TFDS's own ids, and three channels."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", lambda name, **where: tfds.testing.DummyMnist(data_dir=tmp_path))
    source = datasets.open_dataset(DatasetSpec(dataset="dummy_mnist"))
    examples = list(source.examples("train", 3, 5))
    assert [example.id for example in examples] == [f"dummy_mnist-train.tfrecord-00000-of-00001__{i}" for i in (3, 4)]
    assert [example.image.shape for example in examples] == [(28, 28, 3)] * 2
    assert source.class_names == tuple("0123456789")
    monkeypatch.setattr("tfl.datasets.tfds.ROWS_PER_PIPELINE", 4)
    assert [example.id for example in source.examples("train", 1, 10)] == [
        f"dummy_mnist-train.tfrecord-00000-of-00001__{i}" for i in range(1, 10)
    ]
    assert capfd.readouterr().out == "", "what TFDS says while it prepares is no result"


@pytest.mark.parametrize(("is_flipped", "message"), [(False, "Unknown image file format"), (True, "corrupted record")])
def test_undecodable_tfds_record_is_named(tmp_path, monkeypatch, is_flipped, message):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", lambda name, **where: tfds.testing.DummyMnist(data_dir=tmp_path))
    source = datasets.open_dataset(DatasetSpec(dataset="dummy_mnist"))
    (path,) = tmp_path.rglob("*train.tfrecord*")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row, record in enumerate(records):
            writer.write(record.replace(b"\x89PNG", b"none") if row == 4 else record)
    if is_flipped:
        path.write_bytes(path.read_bytes().replace(b"none", b"some"))  # now its checksum is wrong as well
    monkeypatch.setattr("tfl.datasets.tfds.MAX_BLOCK_ROWS", 2)
    with pytest.raises(DatasetError, match=rf"cannot read rows 3 to 5 of 'train' of dummy_mnist/3.*{message}"):
        list(source.examples("train", 1, 10))
    assert len(list(source.examples("train", 0, 4))) == 4


@pytest.mark.real
def test_cifar10_stands_in_its_stored_order():
    source = datasets.open_dataset(DatasetSpec())
    examples = list(source.examples("test", 0, 3))
    assert [example.id for example in examples] == ["test_09933", "test_05669", "test_00163"]
    assert [example.label for example in examples] == [7, 0, 6]
    assert (source.name, source.version, source.num_rows) == ("cifar10", "3.0.2", {"train": 50000, "test": 10000})
    assert [e.id for e in source.examples("test", 1, 3)] == ["test_05669", "test_00163"]


@pytest.mark.real
def test_prepared_cifar10_is_anybodys():
    """Another program's `tfds.load` finds it, with the official images: CIFAR-10's published class counts."""
    import tensorflow_datasets as tfds

    labels = [int(label) for _, label in tfds.as_numpy(tfds.load("cifar10", split="test", as_supervised=True))]
    assert np.bincount(labels).tolist() == [1000] * 10
