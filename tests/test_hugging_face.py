"""Datasets of Hugging Face that `save_to_disk` wrote: features by their type, images by value, refusals by name."""

import json
import shutil
import socket
import sys
from dataclasses import replace

import datasets as hf
import numpy as np
import pytest
from PIL import Image
from whole_way import COLOURS, encode, make_images, predict_images

from tfl import datasets
from tfl.datasets import hugging_face
from tfl.errors import AssetError, DatasetError, ExtraError, SpecError
from tfl.specs import DatasetSpec

hf.disable_progress_bars()
IMAGE, LABEL = hf.Image(), hf.ClassLabel(names=list(COLOURS))
TEXT, NUMBER = hf.Value("string"), hf.Value("int64")
PNG = encode(np.zeros((4, 5, 3), np.uint8))
CELL = {"bytes": PNG, "path": None}


def make(columns, **features):
    return hf.Dataset.from_dict(columns, features=hf.Features(features))


def make_coloured(count, seed=0):
    """A dataset of images and labels, with the arrays that went into it."""
    images, labels = make_images(count, seed)
    cells = [{"bytes": encode(image), "path": None} for image in images]
    return make({"image": cells, "label": labels}, image=IMAGE, label=LABEL), images, labels


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def save(tmp_path):
    """A function that saves a dataset, or one of each split, and returns the word for it."""

    def saved(dataset=None, name="saved", **splits):
        (hf.DatasetDict(splits) if splits else dataset).save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    return saved


def open_all(word, split="all", **fields):
    """Return the dataset and all examples of a split."""
    dataset = datasets.open_dataset(DatasetSpec(word, **fields))
    return dataset, list(dataset.examples(split, 0, dataset.num_rows[split]))


@pytest.mark.usefixtures("tiny_backbone")
def test_the_whole_way(save, tmp_path, features, settings):
    """With images and labels as the library itself reads them from the same files."""
    word = save(train=make_coloured(60)[0], test=make_coloured(30, seed=1)[0])
    new, labels = make_images(9, seed=2)
    cache, predicted = predict_images(DatasetSpec(word), features, settings, tmp_path, new)
    assert cache.spec.dataset.train_split == "train[0:60]"
    assert np.mean([name == COLOURS[label] for name, label in zip(predicted, labels, strict=True)]) > 0.5
    theirs = hf.load_from_disk(tmp_path / "saved")
    dataset = datasets.open_dataset(DatasetSpec(word))
    for split, count in (("train", 60), ("test", 30)):
        assert cache.read(split).labels.tolist() == list(theirs[split]["label"])
        assert cache.read_ids(split).tolist() == [f"{split}_{row:05d}".encode() for row in range(count)]
        for ours, row in zip(dataset.examples(split, 0, count), theirs[split], strict=True):
            np.testing.assert_array_equal(ours.image, np.asarray(row["image"]))


@pytest.mark.usefixtures("tiny_backbone")
def test_a_dataset_without_splits_is_divided(save, tmp_path, features, settings):
    """With labels in a column that is named; later commands find it again."""
    new, labels = make_images(9, seed=2)
    table, _, numbers = make_coloured(90)
    table = table.remove_columns("label").add_column("kind", [COLOURS[number] for number in numbers])
    spec = DatasetSpec(save(table), label_key="kind", val_fraction=0.1)
    cache, predicted = predict_images(spec, features, settings, tmp_path, new)
    assert cache.spec.dataset.train_split == "all[30%:100%]"
    assert cache.spec.dataset.label_key == "kind"
    assert np.mean([name == COLOURS[label] for name, label in zip(predicted, labels, strict=True)]) > 0.5


# --- splits


def ids_by_role(word, **fields):
    """Return the contents of each role's images."""
    spec = DatasetSpec(word, **fields)
    dataset = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, dataset)
    again = datasets.open_dataset(replace(resolved, dataset=word, version=""))
    assert again.version == dataset.version == resolved.version
    return {
        role: {row.image.tobytes() for row in datasets.read_rows(again, split, 0, datasets.count_rows(again, split))}
        for role, split in resolved.roles.items()
    }


def test_images_stay_in_their_parts_when_others_are_added_in_any_order(save):
    """Rows have no names: the digest of an image's file decides its part."""
    table = make_coloured(90)[0]
    before = ids_by_role(save(table.select(range(60)), "before"), val_fraction=0.1)
    after = ids_by_role(save(table.shuffle(seed=0), "after"), val_fraction=0.1)
    for role, images in before.items():
        assert images <= after[role]
    assert sum(map(len, after.values())) == 90


def test_the_same_image_twice_is_in_one_part(save):
    """Else a test image would be a training image too."""
    table = make_coloured(40)[0]
    parts = ids_by_role(save(hf.concatenate_datasets([table, table])))
    assert not parts["train"] & parts["test"]


def test_a_dataset_with_one_split_says_how_to_divide_it(save):
    word = save(train=make_coloured(40)[0])
    message = r"saved has no images in the split\(s\) test; it has train .*--train-split 'train\[:80%\]' --test-split"
    with pytest.raises(DatasetError, match=message):
        open_all(word, "train")
    parts = ids_by_role(word, train_split="train[:80%]", test_split="train[80%:]")
    assert sum(map(len, parts.values())) == 40


def test_splits_with_other_classes(save):
    others = make({"image": [CELL], "label": [0]}, image=IMAGE, label=hf.ClassLabel(names=["cat", "dog"]))
    word = save(train=make_coloured(9)[0], test=others)
    with pytest.raises(DatasetError, match="'train' and 'test' of saved have different classes in their ClassLabel"):
        open_all(word, "train")


# --- features


ROWS = {
    "image": [CELL] * 3,
    "other": [CELL] * 3,
    "label": [0, 1, 2],
    "coarse": [0, 1, 0],
    "name": ["dog", "cat", "dog"],
    "number": [10, 9, 10],
    "tags": [[0], [1], [0, 1]],
    "is_good": [True, False, True],
    "raw": [PNG] * 3,
    "size": [0.5, 1.0, 2.0],
}
FEATURES = {
    "image": IMAGE,
    "other": IMAGE,
    "label": LABEL,
    "coarse": hf.ClassLabel(names=["a", "b"]),
    "name": TEXT,
    "number": NUMBER,
    "tags": hf.List(hf.ClassLabel(names=["a", "b"])),
    "is_good": hf.Value("bool"),
    "raw": hf.Value("binary"),
    "size": hf.Value("float64"),
}


def make_with(*keys):
    return make({key: ROWS[key] for key in keys}, **{key: FEATURES[key] for key in keys})


@pytest.mark.parametrize(
    ("keys", "fields", "class_names", "labels"),
    [
        (("image", "label"), {}, COLOURS, [0, 1, 2]),
        (("name", "image", "number", "label"), {}, COLOURS, [0, 1, 2]),
        (("image", "name"), {"label_key": "name"}, ("cat", "dog"), [1, 0, 1]),
        (("image", "number"), {"label_key": "number"}, ("9", "10"), [1, 0, 1]),
        (("image", "is_good"), {"label_key": "is_good"}, ("False", "True"), [1, 0, 1]),
        (("image", "label", "coarse"), {"label_key": "coarse"}, ("a", "b"), [0, 1, 0]),
        (("image", "other", "label"), {"image_key": "other"}, COLOURS, [0, 1, 2]),
        (("raw", "label"), {"image_key": "raw"}, COLOURS, [0, 1, 2]),
        (("image", "tags", "label"), {}, COLOURS, [0, 1, 2]),
    ],
)
def test_image_and_label_are_found_by_type_or_named(save, keys, fields, class_names, labels):
    dataset, examples = open_all(save(make_with(*keys)), **fields)
    assert dataset.class_names == class_names
    assert [row.label for row in examples] == labels == dataset.labels("all").tolist()
    assert all(row.image.shape == (4, 5, 3) for row in examples)


REFUSED = {
    "several images": (
        ("image", "other", "label"),
        {},
        "saved has 2 features of the type Image, image, other; expected one, or --image-key to say which",
    ),
    "no image": (
        ("raw", "label"),
        {},
        "no feature of the type Image; .*it has raw: Value binary, label: ClassLabel of 3",
    ),
    "several labels": (
        ("image", "label", "coarse"),
        {},
        "2 features of the type ClassLabel, label, coarse; expected one, or --label-key to say which",
    ),
    "unlabelled": (("image",), {}, "no feature of the type ClassLabel; .*it has image: Image$"),
    "text without a key": (
        ("image", "name", "number"),
        {},
        "no feature of the type ClassLabel; .*numbers or text may be labels too: name, number.*; it has image: Image, ",
    ),
    "multi-label": (("image", "tags"), {}, r"tags: List of ClassLabel of 2 classes of saved holds several labels per"),
    "multi-label, named": (
        ("image", "label", "tags"),
        {"label_key": "tags"},
        r"tags: List of .*multi-label.*; it has image: Image, label: ",
    ),
    "a fraction": (
        ("image", "size"),
        {"label_key": "size"},
        "size: Value float64 of saved is no label; expected a Class",
    ),
    "no such label": (
        ("image", "label"),
        {"label_key": "x"},
        "--label-key x names no feature of saved; it has image: ",
    ),
    "no such image": (
        ("image", "label"),
        {"image_key": "x"},
        "--image-key x names no feature of saved; it has image: ",
    ),
    "text for images": (("name", "label"), {"image_key": "name"}, "name: Value string of saved holds no image files"),
}


@pytest.mark.parametrize(("keys", "fields", "message"), REFUSED.values(), ids=REFUSED)
def test_features_that_are_refused(save, keys, fields, message):
    with pytest.raises(DatasetError, match=message):
        open_all(save(make_with(*keys)), **fields)


@pytest.mark.parametrize(
    ("feature", "labels", "message"),
    [
        (LABEL, [0, None, 1], "row 1 of saved has no label; every image"),
        (LABEL, [0, 1, -1], "row 2 of saved has no label"),
        (TEXT, ["a", " ", "b"], "row 1 of saved has no label"),
        (TEXT, ["a b", "c", "a  b"], "labels 'a  b' and 'a b' differ in white space alone"),
    ],
)
def test_labels_that_are_refused(save, feature, labels, message):
    table = make({"image": [CELL] * 3, "label": labels}, image=IMAGE, label=feature)
    with pytest.raises(DatasetError, match=message):
        open_all(save(table), label_key="label")


def test_ids_of_a_column(save):
    """They decide the parts, too; ids that are not unique are refused."""
    table, _, _ = make_coloured(30)
    named = table.add_column("name", [f"photo {row}" for row in range(30)])
    word = save(named.select(range(20)), "before")
    dataset, examples = open_all(word, id_key="name")
    assert [row.id for row in examples] == [f"photo {row}" for row in range(20)]
    more = datasets.open_dataset(DatasetSpec(save(named.shuffle(seed=1), "after"), id_key="name"))
    hashes = dict(zip([row.id for row in more.examples("all", 0, 30)], more.id_hashes("all").tolist(), strict=True))
    assert [hashes[row.id] for row in examples] == dataset.id_hashes("all").tolist()
    dataset, examples = open_all(save(name="split", train=named, test=named), "train", id_key="name")
    assert examples[3].id == "train/photo 3"
    with pytest.raises(DatasetError, match="rows 0 and 5 of twice have the same 'name', 'photo 0'; every image needs"):
        open_all(save(named.select([0, 1, 2, 3, 4, 0]), "twice"), id_key="name")
    with pytest.raises(DatasetError, match="image: Image of before holds no ids; expected text or numbers; it has"):
        open_all(word, id_key="image")


def test_an_unlabelled_split_that_is_not_used(save):
    unlabelled = make({"image": [CELL], "label": [-1]}, image=IMAGE, label=LABEL)
    dataset, _ = open_all(save(train=make_coloured(9)[0], test=make_coloured(9)[0], unlabelled=unlabelled), "train")
    assert dataset.num_rows == {"train": 9, "test": 9, "unlabelled": 1}


def test_a_key_that_means_nothing():
    with pytest.raises(
        SpecError, match="--group-key means nothing for 'hf:x'.*; it takes --id-key, --image-key, --label-key"
    ):
        open_all("hf:x", group_key="patient")


# --- images


def test_images_are_decoded_as_those_of_a_folder(save, tmp_path):
    """EXIF orientation, palette, transparency, grey of 16 bits; the library's own decoding is not used."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "exif.jpg": (Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)), {"exif": exif}),
        "palette.png": (Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)).quantize(16), {}),
        "alpha.png": (Image.fromarray(rng.integers(0, 256, (8, 6, 4), dtype=np.uint8)), {}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (8, 6), dtype=np.uint16)), {}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(tmp_path / name, **options)
    paths = [tmp_path / name for name in pictures]
    table = make({"image": [str(path) for path in paths], "label": [0, 1, 0, 1]}, image=IMAGE, label=LABEL)
    _, examples = open_all(save(table.with_format("numpy")))
    for path, example in zip(paths, examples, strict=True):
        np.testing.assert_array_equal(example.image, datasets.read_image(path))


def test_bad_images_are_known_when_the_dataset_is_opened(save, tmp_path):
    cells = [
        CELL,
        CELL,
        {"bytes": PNG[:30], "path": "cut.png"},
        None,
        {"bytes": None, "path": str(tmp_path / "gone.png")},
    ]
    table = make({"image": cells, "label": [0, 1, 0, 0, 0]}, image=IMAGE, label=LABEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "_load", lambda word: {"all": table})
        dataset = datasets.open_dataset(DatasetSpec("hf:./x"))
    cut, missing, gone = dataset.known_bad("all", 0, 5)
    assert (cut.id, missing.id) == ("all_00002", "all_00003")
    assert "row 2 of x" in cut.reason
    assert "row 3 of x has no image" in missing.reason
    assert "gone.png" in gone.reason
    assert list(dataset.examples("all", 2, 5)) == [cut, missing, gone]


def test_large_images_are_read_by_several_threads_in_their_order(save):
    images = [np.full((120, 130, 3), shade, np.uint8) for shade in range(40)]
    cells = [{"bytes": encode(image), "path": None} for image in images]
    _, examples = open_all(save(make({"image": cells, "label": [0, 1] * 20}, image=IMAGE, label=LABEL)))
    assert [row.image[60, 60, 0] for row in examples] == list(range(40))


def test_an_image_on_another_machine(save):
    table = make({"image": [CELL, {"bytes": None, "path": "hf://x/y.png"}], "label": [0, 1]}, image=IMAGE, label=LABEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "_load", lambda word: {"all": table})
        dataset = datasets.open_dataset(DatasetSpec("hf:./x"))
    assert "is not on this machine but at hf://x/y.png; `save_to_disk`" in dataset.known_bad("all", 0, 2)[0].reason


def test_rows_chosen_by_an_index_are_read_in_its_order(save):
    table, images, _ = make_coloured(9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "_load", lambda word: {"all": table.select([7, 2, 5])})
        dataset = datasets.open_dataset(DatasetSpec("hf:./x"))
    for example, row in zip(dataset.examples("all", 0, 3), (7, 2, 5), strict=True):
        np.testing.assert_array_equal(example.image, images[row])


def test_the_version_is_that_of_the_content(save, tmp_path):
    """The library's own fingerprint stays what it was when files are edited, and changes when nothing does."""
    table = make_with("image", "label")
    other = encode(np.ones((4, 5, 3), np.uint8))
    variants = [
        table,
        make({"image": [{"bytes": other, "path": None}, CELL, CELL], "label": [0, 1, 2]}, image=IMAGE, label=LABEL),
        make({"image": [CELL] * 3, "label": [0, 1, 1]}, image=IMAGE, label=LABEL),
        hf.concatenate_datasets([table, table]),
        table.map(lambda row: row, load_from_cache_file=False),
    ]
    versions = [open_all(save(each, f"v{number}"))[0].version for number, each in enumerate(variants)]
    assert len(set(versions)) == 4
    assert versions[0] == versions[-1]
    assert versions[0].startswith("sha256:")


# --- words


def test_words_are_recorded_as_they_can_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert datasets.make_findable("hf:./pets") == f"hf:{tmp_path}/pets"
    assert datasets.make_findable("hf:owner/pets:small") == "hf:owner/pets:small"
    resolved = DatasetSpec("pets", version="sha256:0")
    assert datasets.find_recorded(f"hf:{tmp_path}/pets", resolved) == (f"hf:{tmp_path}/pets", True)
    assert datasets.find_recorded("hf:owner/pets", resolved) == ("hf:owner/pets", False)


def test_a_folder_of_a_hub_name_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    with pytest.raises(DatasetError, match="'pets:small' could be a dataset of the hub or .*hf:./pets"):
        open_all("hf:pets:small")


def test_what_save_to_disk_did_not_write(tmp_path):
    with pytest.raises(DatasetError, match="there is no folder .*nowhere"):
        open_all(f"hf:{tmp_path}/nowhere")
    with pytest.raises(
        DatasetError, match="cannot be opened as a dataset of Hugging Face: (.|\n)*`save_to_disk` wrote"
    ):
        open_all(f"hf:{tmp_path}")


def test_a_damaged_folder(save, tmp_path):
    word = save(make_with("image", "label"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:200])
    with pytest.raises(DatasetError, match="saved cannot be opened as a dataset of Hugging Face"):
        open_all(word)
    shutil.copy(tmp_path / "saved" / "dataset_info.json", arrow)
    (tmp_path / "saved" / "state.json").write_text(json.dumps([]))
    with pytest.raises(DatasetError, match="saved cannot be opened as a dataset of Hugging Face"):
        open_all(word)


def test_offsets_that_lead_out_of_the_table_do_not_end_the_process(save, tmp_path):
    """Pyarrow itself does not look: it reads what lies there, or nothing more."""
    word = save(make({"image": [CELL] * 3, "label": ["a", "b", "c"]}, image=IMAGE, label=TEXT))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    content = arrow.read_bytes()
    offsets = np.asarray([0, 1, 2, 3], np.int32).tobytes()
    arrow.unlink()
    arrow.write_bytes(content.replace(offsets, np.asarray([0, 1, 2, 1 << 30], np.int32).tobytes()))
    with pytest.raises(DatasetError, match="saved is damaged: .*; fetch or save it again"):
        open_all(word, label_key="label")


def test_a_word_that_is_no_name():
    with pytest.raises(DatasetError, match="'a/b/c' is no name of the hub: expected NAME, OWNER/NAME or NAME:CONFIG"):
        open_all("hf:a/b/c")


def test_offline_the_hub_is_not_asked(monkeypatch):
    """And the message says what to do."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match="nobody/no-such:x .*HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set") as error:
        open_all("hf:nobody/no-such:x")
    assert "datasets.load_dataset('nobody/no-such', 'x').save_to_disk('FOLDER')" in str(error.value)


def test_a_dataset_of_the_hub(monkeypatch):
    """What the library returns is used as it is; it is given name and configuration."""
    asked = []

    def load_dataset(name, config):
        asked.append((name, config))
        return hf.DatasetDict(train=make_coloured(9)[0], test=make_coloured(9)[0])

    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    dataset, _ = open_all("hf:owner/pets:small", "train")
    assert (dataset.name, asked) == ("owner/pets:small", [("owner/pets", "small")])


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ExtraError, match=r"pip install '.\[hf\]'"):
        open_all("hf:./x")
