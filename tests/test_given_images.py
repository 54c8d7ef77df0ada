"""Images given in Python: arrays, lists, and data-set objects of three frameworks; each to the exported model."""

import json
import logging
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfl
from tfl import datasets
from tfl.datasets.array_labels import convert_labels
from tfl.datasets.arrays import convert_images
from tfl.datasets.given_images import store_images
from tfl.errors import DatasetError, SpecError
from tfl.specs import DatasetSpec

RNG = np.random.default_rng(0)
NAMES = ["blue", "green", "red"]
COUNT = 60


def make_colours(count, size=(10, 9)):
    """Images of three colours with noise, and their labels."""
    labels = RNG.integers(0, 3, count)
    images = RNG.integers(0, 120, (count, *size, 3), dtype=np.uint8)
    images[np.arange(count), :, :, 2 - labels] += 100
    return images, labels


IMAGES, LABELS = make_colours(COUNT)
GREY = np.repeat(IMAGES[..., :1], 3, axis=-1)
RAGGED = [image[: 5 + row % 3] for row, image in enumerate(IMAGES)]


def store(tmp_path, spec=DatasetSpec(), **given):
    """Store images and open them; return every split's images, labels and ids, and the dataset."""
    spec = store_images(given, spec, tmp_path / "cache")
    dataset = datasets.open_dataset(spec)
    rows = {}
    for split, count in dataset.num_rows.items():
        examples = list(datasets.require_good_images(dataset.examples(split, 0, count)))
        rows[split] = tuple(zip(*examples, strict=True))
    return rows, dataset


def require_same(images, expected):
    assert len(images) == len(expected)
    for image, other in zip(images, expected, strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, other)


# ---- values of images

READ = {
    "uint8": (IMAGES, IMAGES),
    "floats in 0..1": (IMAGES / 255, IMAGES),
    "float32 in 0..1": ((IMAGES / 255).astype(np.float32), IMAGES),
    "float16 in 0..255": (IMAGES.astype(np.float16), IMAGES),
    "floats in 0..255": (IMAGES.astype(np.float32), IMAGES),
    "floats a little out of 0..255": (
        IMAGES.astype(np.float32) * 1.003 - 0.4,
        np.rint(IMAGES * 1.003 - 0.4).clip(0, 255),
    ),
    "whole numbers": (IMAGES.astype(np.int64), IMAGES),
    "booleans": (IMAGES > 99, (IMAGES > 99) * 255),
    "grey": (IMAGES[..., 0], GREY),
    "grey with a channel": (IMAGES[..., :1] / 255, GREY),
    "a list": (list(IMAGES), IMAGES),
    "a list of several sizes": ([image / 255 for image in RAGGED], RAGGED),
    "a list of grey ones": (
        [image[..., 0] for image in RAGGED],
        [np.repeat(image[..., :1], 3, -1) for image in RAGGED],
    ),
    "Pillow's": ([Image.fromarray(image) for image in RAGGED], RAGGED),
    "a tensor": (tf.constant(IMAGES), IMAGES),
    "black among floats": (np.concatenate([IMAGES[:1] * 0, IMAGES[1:]]) / 255, [IMAGES[0] * 0, *IMAGES[1:]]),
}


@pytest.mark.parametrize("name", READ)
def test_images_that_people_have(name, tmp_path):
    images, expected = READ[name]
    converted = convert_images(images)
    require_same(converted, expected)
    rows, dataset = store(tmp_path, images=images, labels=LABELS)
    require_same(rows["all"][0], expected)
    assert rows["all"][1] == tuple(LABELS)
    assert rows["all"][2] == tuple(f"all_{row:05d}" for row in range(COUNT))
    assert dataset.class_names == ("0", "1", "2")


REFUSED = {
    "normalised": (IMAGES / 127.5 - 1, "negative values (-1 to .*undo it (`images * std + mean`"),
    "not finite": (np.where(IMAGES > 200, np.nan, IMAGES), "not finite"),
    "digits of scikit-learn": (IMAGES / 255 * 16, "0 to 1.*neither 0..1 nor 0..255; divide them by the value"),
    "resampled": (IMAGES * 1.1 - 9, "-9 to 2.*out of 0..255, as bicubic resampling leaves them; clip them"),
    "16 bits": (IMAGES.astype(np.uint16) * 257, "`(images // 257)"),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), "channels come last: `images.transpose(0, 2, 3, 1)`"),
    "one image": (IMAGES[0], "one image alone is `images[None]`"),
    "transparency": (IMAGES[..., [0, 1, 2, 0]], "`images[..., :3]`"),
    "text": (IMAGES.astype(str), "expected numbers"),
    "a folder": ("photos", "tfl.DatasetSpec(NAME)"),
    "none": (None, "holds no images"),
    "an empty list": ([], "there are no images"),
    "an empty array": (IMAGES[:0], "there are no images"),
    "Pillow's floats": ([Image.fromarray(IMAGES[0, ..., 0] / np.float32(255))] * COUNT, "floating-point pixels"),
    "lists of several lengths": ([[[1, 2], [3]]], "are no array"),
}


def escape(message):
    return message.translate(str.maketrans({each: f"\\{each}" for each in "()[]*+`"})).replace(".\\*", ".*")


@pytest.mark.parametrize("name", REFUSED)
def test_images_of_an_uncertain_meaning_are_refused(name, tmp_path):
    images, message = REFUSED[name]
    with pytest.raises(DatasetError, match=escape(message)):
        store_images({"images": images, "labels": LABELS}, DatasetSpec(), tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


def test_what_was_taken_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "tfl"):
        convert_images(IMAGES / 255)
        convert_images(IMAGES[..., 0] // 16)
    assert "images: colour, float64 from 0 to " in caplog.text
    assert "taken as 0 for black and 1 for white" in caplog.text
    assert "no value is above 32 of 255" in caplog.text


def test_what_was_given_does_not_change():
    images = IMAGES / 255
    images.flags.writeable = False
    convert_images(images)
    np.testing.assert_array_equal(images, IMAGES / 255)


# ---- paths


def save_files(folder, images=RAGGED):
    paths = [folder / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("convert", [list, tuple, np.asarray, lambda paths: [path.name for path in paths]])
def test_paths_become_a_table(convert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = convert(save_files(tmp_path))
    rows, dataset = store(
        tmp_path,
        images=paths,
        labels=np.asarray(NAMES)[LABELS],
    )
    require_same(rows["all"][0], RAGGED)
    assert dataset.class_names == tuple(NAMES)
    assert rows["all"][1:] == (tuple(LABELS), tuple(map(str, paths)))
    (table,) = tmp_path.glob("cache/*")
    assert table.name.startswith("images-")
    assert table.suffix == ".jsonl"
    require_same(convert_images(paths), RAGGED)


def test_paths_in_splits_of_ones_own(tmp_path):
    paths = save_files(tmp_path)
    given = {"images": paths[:40], "labels": LABELS[:40].tolist(), "test": (paths[40:], LABELS[40:].tolist())}
    rows, dataset = store(tmp_path, **given)
    assert dataset.class_names == ("0", "1", "2")
    require_same([*rows["train"][0], *rows["test"][0]], RAGGED)
    assert [*rows["train"][1], *rows["test"][1]] == LABELS.tolist()


def test_paths_that_lead_nowhere_and_paths_beside_arrays(tmp_path):
    with pytest.raises(DatasetError, match="images are missing"):
        store(tmp_path, images=[tmp_path / "none.png", tmp_path / "nor this.png"], labels=["a", "b"])
    with pytest.raises(DatasetError, match="some parts are paths and others arrays"):
        store(tmp_path, images=save_files(tmp_path), labels=LABELS, test=(IMAGES, LABELS))
    with pytest.raises(DatasetError, match="60 images and 2 labels"):
        store(tmp_path, images=save_files(tmp_path), labels=["a", "b"])


# ---- labels

NUMBERED = {
    "numbers": ([3, 1, 3], None, [1, 0, 1], ("1", "3")),
    "one column": ([[3], [1], [3]], None, [1, 0, 1], ("1", "3")),
    "numbers with names": ([2, 0], ["a", "b", "c"], [2, 0], ("a", "b", "c")),
    "booleans": ([True, False], None, [1, 0], ("False", "True")),
    "names": (["dog", "cat", "dog"], None, [1, 0, 1], ("cat", "dog")),
    "whole floats": (np.array([[1.0], [0.0]], np.float32), ["cat", "dog"], [1, 0], ("cat", "dog")),
    "a list of whole floats": ([3, 1.0], None, [1, 0], ("1", "3")),
    "names in an order": (["dog", "cat"], np.array(["dog", "cat"]), [0, 1], ("dog", "cat")),
    "bytes": (np.array([b"dog", b"cat"]), None, [1, 0], ("cat", "dog")),
    "objects": (np.array(["dog", "cat"], object), None, [1, 0], ("cat", "dog")),
    "one-hot": (np.eye(3)[[2, 0]], None, [2, 0], ("0", "1", "2")),
    "one-hot with names": (np.eye(3, dtype=bool)[[2, 0]], ["a", "b", "c"], [2, 0], ("a", "b", "c")),
    "numbers of ten classes and more": (np.arange(12), None, list(range(12)), tuple(map(str, range(12)))),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_labels_that_people_have(name):
    labels, class_names, expected, names = NUMBERED[name]
    numbers, found = convert_labels(labels, class_names)
    assert (numbers.dtype, numbers.tolist(), found) == (np.int64, expected, names)


NOT_LABELS = {
    "missing": (["a", None, "b", None], None, "rows 1, 3 of the labels are without a label"),
    "not a number among names": (["a", float("nan")], None, "row 1 of the labels is without a label"),
    "negative": ([-1, 2], None, "range from -1 to 2"),
    "empty": (["a", " "], None, "' ', which is no name"),
    "white space": (["a b", "a  b"], None, "differ in white space alone"),
    "two kinds": (["a", 1], None, "of the types int, str"),
    "floats": ([2.0, 1.5], None, "hold 1.5; expected whole numbers"),
    "an array of floats": (np.array([1.0, 1.5]), None, "labels are float64 (2,) and hold 1.5"),
    "endless": (np.array([1.0, np.inf]), None, "hold inf; expected whole numbers"),
    "not a number": (np.array([1.0, np.nan]), None, "row 1 of the labels is without a label"),
    "dates": (np.array(["2026-01-01"], "M8[D]"), None, "labels are datetime64[D] (1,); expected whole numbers, names"),
    "multi-label": ([[1, 1], [0, 1]], None, "row 0 is 1, 1; .*multi-label"),
    "shares": ([[0.4, 0.6], [0, 1]], None, "`labels.argmax(axis=1)`"),
    "several lengths": ([[1], [1, 2]], None, "multi-label"),
    "a name that is no class": (["a", "x"], ["a", "b"], "labels hold 'x'; class_names are a, b"),
    "a number that is no class": ([0, 4], ["a", "b"], "range from 0 to 4; expected 0 to 1"),
    "names for other columns": (np.eye(3), ["a", "b"], "labels have 3 columns, and class_names are a, b"),
    "a class twice": ([0, 1], ["a", "a"], "has a name twice"),
    "one text for classes": ([0, 1], "ab", "class_names is 'ab'"),
}


@pytest.mark.parametrize("name", NOT_LABELS)
def test_what_is_no_label_is_refused(name):
    labels, class_names, message = NOT_LABELS[name]
    with pytest.raises(DatasetError, match=escape(message)):
        convert_labels(labels, class_names)


# ---- splits


def test_splits_of_ones_own(tmp_path):
    given = {"images": IMAGES[:40], "labels": LABELS[:40], "val": (IMAGES[40:50], LABELS[40:50])}
    spec = store_images(given | {"test": (IMAGES[50:], LABELS[50:])}, DatasetSpec(), tmp_path)
    assert (spec.train_split, spec.val_split, spec.test_split) == ("train", "val", "test")
    assert datasets.open_dataset(spec).num_rows == {"train": 40, "val": 10, "test": 10}
    assert store_images(given, DatasetSpec(), tmp_path).test_split == ""


def test_images_are_divided_by_their_ids(tmp_path):
    few, many = (
        store_images({"images": IMAGES[:count], "labels": LABELS[:count]}, DatasetSpec(test_fraction=0.3), tmp_path)
        for count in (40, 60)
    )
    parts = []
    for spec in (few, many):
        dataset = datasets.open_dataset(spec)
        resolved = datasets.resolve_spec(spec, dataset)
        count = datasets.count_rows(dataset, resolved.test_split)
        parts.append({row.id for row in datasets.read_rows(dataset, resolved.test_split, 0, count)})
    assert 0 < len(parts[0]) < len(parts[1])
    assert parts[0] == {id_ for id_ in parts[1] if id_ < "all_00040"}


def test_the_same_images_are_one_file(tmp_path):
    for images in (IMAGES, IMAGES / 255, list(IMAGES)):
        store(tmp_path, images=images, labels=LABELS, name="my colours")
    (path,) = (tmp_path / "cache").iterdir()
    _, dataset = store(tmp_path, images=IMAGES[::-1], labels=LABELS, name="my colours")
    assert path.name.startswith("my_colours-")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert (dataset.name, dataset.version[:7]) == ("my colours", "sha256:")


def test_ids_of_ones_own(tmp_path):
    ids = [f"photo {row * 7 % COUNT}" for row in range(COUNT)]
    rows, _ = store(tmp_path, images=IMAGES, labels=LABELS, ids=ids)
    assert rows["all"][2] == tuple(ids)
    rows, _ = store(tmp_path, images=save_files(tmp_path), labels=LABELS, ids=ids)
    assert rows["all"][2] == tuple(ids)
    rows, _ = store(tmp_path, images=IMAGES, labels=LABELS, test=(IMAGES, LABELS, ids))
    assert (rows["train"][2][0], rows["test"][2]) == ("train_00000", tuple(ids))
    with pytest.raises(DatasetError, match="60 ids, of which 1 differ"):
        store(tmp_path, images=IMAGES, labels=LABELS, ids=["same"] * COUNT)


MISTAKES = {
    "no labels": ({"images": IMAGES}, DatasetError, "images: no labels were given"),
    "too few labels": ({"images": IMAGES, "labels": LABELS[1:]}, DatasetError, "60 images and 59 labels"),
    "too few ids": ({"images": IMAGES, "labels": LABELS, "ids": ["a"]}, DatasetError, "60 images and 1 ids"),
    "ids of a stream": (
        {"images": zip(IMAGES, LABELS, strict=True), "ids": ["a"] * COUNT},
        DatasetError,
        "ids were given with an iterator",
    ),
    "a val part without labels": ({"images": IMAGES, "labels": LABELS, "val": IMAGES}, DatasetError, "val is of type"),
    "labels twice": (
        {"images": zip(IMAGES, LABELS, strict=True), "labels": LABELS},
        DatasetError,
        "labels were given, and an iterator .* has its own",
    ),
    "labels of two forms": (
        {"images": IMAGES, "labels": LABELS, "test": (IMAGES, np.eye(3)[LABELS])},
        DatasetError,
        "labels of one split are others than those of another: numbers (n,) and numbers (n, 3)",
    ),
    "another word": ({"image": IMAGES, "labels": LABELS}, TypeError, "unexpected keyword arguments image; .*images"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name, tmp_path):
    given, error, message = MISTAKES[name]
    with pytest.raises(error, match=escape(message)):
        store_images(given, DatasetSpec(), tmp_path)


def test_two_datasets_are_one_too_many(tmp_path):
    with pytest.raises(SpecError, match="images were given, and the dataset 'photos' too"):
        store_images({"images": IMAGES, "labels": LABELS}, DatasetSpec("photos"), tmp_path)


# ---- data-set objects


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, batch):
        return IMAGES[batch * 10 :][:10] / 255, LABELS[batch * 10 :][:10]


class Rows:
    """As PyTorch's map-style data sets are, but without PyTorch."""

    classes = NAMES

    def __len__(self):
        return COUNT

    def __getitem__(self, row):
        return Image.fromarray(RAGGED[row]), int(LABELS[row])


def make_tf(images=IMAGES, labels=LABELS):
    return tf.data.Dataset.from_tensor_slices((images, labels))


OBJECTS = {
    "tf.data": (make_tf, IMAGES),
    "tf.data in batches": (lambda: make_tf().batch(7), IMAGES),
    "tf.data in whole batches": (lambda: make_tf().batch(10, drop_remainder=True), IMAGES),
    "tf.data of one-hot": (lambda: make_tf(labels=np.eye(3)[LABELS]), IMAGES),
    "tf.data of one-hot in batches": (lambda: make_tf(labels=np.eye(3)[LABELS]).batch(7), IMAGES),
    "tf.data of floats": (lambda: make_tf(images=(IMAGES / 255).astype(np.float32)).batch(7), IMAGES),
    "tf.data of grey": (lambda: make_tf(images=IMAGES[..., 0]), GREY),
    "tf.data of grey in batches": (lambda: make_tf(images=IMAGES[..., 0]).batch(7), GREY),
    "PyDataset": (Batches, IMAGES),
    "rows": (Rows, RAGGED),
    "pairs": (lambda: zip(IMAGES, LABELS, strict=True), IMAGES),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_data_set_objects_are_read_once(name, tmp_path):
    make, expected = OBJECTS[name]
    rows, dataset = store(tmp_path, images=make())
    require_same(rows["all"][0], expected)
    assert rows["all"][1] == tuple(LABELS)
    assert dataset.class_names == (tuple(NAMES) if make is Rows else ("0", "1", "2"))


def test_names_of_a_tensorflow_data_set(tmp_path):
    rows, dataset = store(tmp_path, images=make_tf(labels=np.asarray(NAMES)[LABELS]).batch(8))
    assert dataset.class_names == tuple(NAMES)
    assert rows["all"][1] == tuple(LABELS)


def test_names_of_labels_that_are_changed_are_not_taken(tmp_path, caplog):
    data = Rows()
    with caplog.at_level(logging.INFO, "tfl"):
        assert store(tmp_path, images=data)[1].class_names == tuple(NAMES)
    assert "class names are those of the data set: blue, green, red" in caplog.text
    data.target_transform = lambda label: 2 - label
    assert store(tmp_path, images=data)[1].class_names == ("0", "1", "2")


@pytest.mark.torch
@pytest.mark.parametrize("batch_size", [None, 7])
def test_pytorch(batch_size, tmp_path, caplog):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    channels_first = torch.from_numpy(IMAGES / 255).permute(0, 3, 1, 2)
    data = TensorDataset(channels_first, torch.from_numpy(LABELS))
    with caplog.at_level(logging.INFO, "tfl"):
        for each in (data, DataLoader(data, batch_size=batch_size)):
            rows, _ = store(tmp_path, images=each)
            require_same(rows["all"][0], IMAGES)
            assert rows["all"][1] == tuple(LABELS)
    assert "channels first, as PyTorch has them" in caplog.text
    assert "shuffles: ids" not in caplog.text
    store(tmp_path, images=DataLoader(data, batch_size=7, shuffle=True))
    assert "the DataLoader shuffles" in caplog.text
    require_same(convert_images(channels_first), IMAGES)
    require_same(convert_images(list(channels_first)), IMAGES)
    grey = TensorDataset(torch.from_numpy(IMAGES[..., 0]), torch.from_numpy(LABELS))
    rows, _ = store(tmp_path, images=DataLoader(grey, batch_size=19))  # the last batch has three images
    require_same(rows["all"][0], GREY)


WRONG_OBJECTS = {
    "endless": (lambda: make_tf().repeat(), "never ends: take `repeat()` away"),
    "a dict": (lambda: tf.data.Dataset.from_tensor_slices({"image": IMAGES, "label": LABELS}), "expected a pair"),
    "three": (lambda: zip(IMAGES, LABELS, LABELS, strict=True), "is a tuple of 3; expected a pair"),
    "images alone": (lambda: tf.data.Dataset.from_tensor_slices(IMAGES), "expected a pair (image, label)"),
    "another range later": (
        lambda: iter([(IMAGES[0] / 255, 0), (IMAGES[1].astype(np.float32), 1)]),
        "0..1 was expected; the first images are in 0..1, and later ones are not",
    ),
    "too few labels in a batch": (lambda: iter([(IMAGES[:3], LABELS[:2])]), "a batch has 3 images and 2 labels"),
}


@pytest.mark.parametrize("name", WRONG_OBJECTS)
def test_data_set_objects_that_do_not_fit(name, tmp_path):
    make, message = WRONG_OBJECTS[name]
    with pytest.raises(DatasetError, match=escape(message)):
        store_images({"images": make()}, DatasetSpec(), tmp_path)
    assert not list(tmp_path.iterdir())


# ---- memory and disk


def test_a_part_of_the_images_is_in_memory_at_a_time(tmp_path, monkeypatch):
    """An array in a file of HDF5 is read slice after slice."""
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr("tfl.datasets.arrays.BLOCK_BYTES", 7 * IMAGES[0].nbytes)
    sizes = []
    monkeypatch.setattr(
        h5py.Dataset, "__array__", lambda self, *args, **kwargs: pytest.fail("the whole array was read")
    )
    original = convert_images.__globals__["ImageConverter"].convert
    monkeypatch.setattr(
        "tfl.datasets.arrays.ImageConverter.convert",
        lambda self, images: sizes.append(len(images)) or original(self, images),
    )
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, LABELS
        rows, _ = store(tmp_path, images=file["images"], labels=LABELS)
    require_same(rows["all"][0], IMAGES)
    assert sizes == [7] * 8 + [4]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(DatasetError, match=rf"images cannot be written to {tmp_path}: .*too large"):
            store_images({"images": IMAGES, "labels": LABELS}, DatasetSpec(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


# ---- the whole way


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("images", [IMAGES / 255, RAGGED], ids=["one size", "several sizes"])
def test_from_arrays_to_a_prediction(images, features, settings, tmp_path):
    labels = np.asarray(NAMES)[LABELS]
    path = tfl.precompute(features, tfl.DatasetSpec(test_fraction=0.3), settings, images=images, labels=labels)
    cache = tfl.open_cache(path)
    assert cache.class_names == tuple(NAMES)
    seen = {}
    for role in ("train", "test"):
        rows = cache.read(role)
        seen |= {id_.decode(): NAMES[label] for id_, label in zip(rows.ids, rows.labels, strict=True)}
    assert seen == {f"all_{row:05d}": label for row, label in enumerate(labels)}
    again = tfl.precompute(features, tfl.DatasetSpec(test_fraction=0.3), settings, images=images, labels=labels)
    assert again == path
    run = tfl.train(path, tfl.Ridge(), runs_dir=tmp_path / "runs")
    parity = tfl.export(run, tmp_path / "model", artefact=tfl.Artefact("keras"))
    assert parity.same_class == 1, "the dataset was opened again, and its images are those of the cache"
    manifest = json.loads((tmp_path / "model" / "tfl.json").read_text(encoding="utf-8"))
    assert manifest["class_names"] == NAMES
    files = save_files(tmp_path, RAGGED if images is RAGGED else IMAGES)
    answers = [answer.class_name for answer in tfl.predict(tmp_path / "model", files)]
    assert np.mean([answer == label for answer, label in zip(answers, labels, strict=True)]) > 0.8


GIVEN = {
    "paths": lambda folder: {"images": save_files(folder, IMAGES), "labels": np.asarray(NAMES)[LABELS]},
    "tf.data in batches": lambda folder: {"images": make_tf().batch(7), "class_names": NAMES},
    "PyDataset": lambda folder: {"images": Batches(), "class_names": NAMES},
    "rows": lambda folder: {"images": Rows()},
}


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("form", GIVEN)
def test_from_other_forms_to_a_prediction(form, features, settings, tmp_path):
    given = GIVEN[form](tmp_path)
    path = tfl.precompute(features, tfl.DatasetSpec(test_fraction=0.3), settings, **given)
    run = tfl.train(path, tfl.Ridge(), runs_dir=tmp_path / "runs")
    parity = tfl.export(run, tmp_path / "model", artefact=tfl.Artefact("keras"))
    assert parity.same_class == 1, "the dataset was opened again, and its images are those of the cache"
    files = save_files(tmp_path, RAGGED if form == "rows" else IMAGES)
    answers = [NAMES.index(answer.class_name) for answer in tfl.predict(tmp_path / "model", files)]
    assert np.mean(np.equal(answers, LABELS)) > 0.8
