"""A folder of classes without splits: which folders are classes, how they are divided, and the way to a prediction."""

import json
import logging
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from tfl import datasets
from tfl.cache import open_cache
from tfl.cli.main import main
from tfl.datasets.division import hash_key
from tfl.errors import DatasetError, SpecError
from tfl.extraction.precompute import precompute
from tfl.specs import DatasetSpec

COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}


def lay(root, *names):
    """Write a small image under each of these names, each of other pixels."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number % 256, number // 256, 7)).save(path)
    return root


def lay_colours(root, count=40):
    """Photos of three colours with noise, of several sizes, some in a folder below their class."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name / "more").mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(colour + rng.integers(-20, 21, (12 + i % 3, 15, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / ("more" if i % 4 == 0 else ".") / f"{i}.png")
    return root


def opened(root, **fields):
    return datasets.open_dataset(DatasetSpec(str(root), **fields))


def ids_by_role(root, **fields):
    spec = DatasetSpec(str(root), **fields)
    source = datasets.open_dataset(spec)
    roles = datasets.resolve_spec(spec, source).roles
    return {role: [row.id for row in datasets.read_rows(source, split, 0, 10**6)] for role, split in roles.items()}


# --- the same classes and labels as Keras


def test_classes_labels_and_pixels_are_those_of_keras(tmp_path):
    """Names that are numbers, capitals, folders below a class; of one size, at which Keras does not resize."""
    names = ["10", "2", "1", "Zebra", "apple pie"]
    lay(tmp_path, *(f"{name}/{place}{i}.png" for name in names for place in ("", "a/", "a/b/") for i in range(3)))
    source = opened(tmp_path)
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path, shuffle=False, batch_size=None, image_size=(3, 4), verbose=False
    )
    assert list(source.class_names) == theirs.class_names == ["1", "10", "2", "Zebra", "apple pie"]
    rows = list(datasets.require_good_images(source.examples("all", 0, 45)))
    ours = {f"{tmp_path}/{row.id}": (row.label, row.image) for row in rows}
    assert sorted(ours) == sorted(theirs.file_paths)
    for path, (image, label) in zip(theirs.file_paths, theirs, strict=True):
        assert ours[path][0] == label
        np.testing.assert_array_equal(ours[path][1], image)
    assert source.labels("all").tolist() == [row.label for row in rows]
    assert [row.id for row in rows] == sorted(row.id for row in rows)


# --- which layout it is

FLAT = {
    "classes": ["cat/1.png", "dog/1.png"],
    "folders below classes": ["cat/tabby/1.png", "cat/2.png", "dog/pug/young/1.png"],
    "folders below classes alone": ["cat/tabby/1.png", "dog/pug/1.png"],
    "one folder in common below classes": ["cat/2019/1.png", "cat/2020/1.png", "dog/2020/1.png"],
    "a folder of the same names below classes with images": ["cat/1.png", "cat/a/1.png", "cat/b/1.png", "dog/a/1.png"],
    "a split's name below a class": ["cat/1.png", "cat/train/1.png", "dog/1.png"],
}


@pytest.mark.parametrize("kind", FLAT)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"val_fraction": 0.2, "test_fraction": 0.3, "split_seed": 4},
        {"train_split": "all[30%:]", "test_split": "all[:30%]"},
        {"train_split": "train[:50%]", "test_split": ""},
    ],
    ids=["typed nothing", "shares", "parts of all", "a slice"],
)
def test_folders_of_classes_are_opened_again_in_the_same_way(tmp_path, kind, fields):
    lay(tmp_path, *(name.replace("1.png", f"{i}.png") for name in FLAT[kind] for i in range(10, 50)))
    spec = DatasetSpec(str(tmp_path), **fields)
    source = datasets.open_dataset(spec)
    assert source.class_names == tuple(sorted({name.split("/")[0] for name in FLAT[kind]}))
    resolved = datasets.resolve_spec(spec, source)
    assert all(re.fullmatch(r"all\[.*%:.*%\]", split) for split in resolved.roles.values())
    again = datasets.open_dataset(replace(resolved, dataset=str(tmp_path)))
    assert (again.class_names, again.version, again.num_rows) == (source.class_names, source.version, source.num_rows)
    assert datasets.resolve_spec(replace(resolved, dataset=str(tmp_path)), again) == resolved


CALLED_AS_SPLITS = [("bus", "car", "train"), ("invalid", "valid"), ("cat", "dev", "test")]


@pytest.mark.parametrize("names", CALLED_AS_SPLITS, ids=" ".join)
def test_classes_that_are_called_as_splits_are_asked_about(tmp_path, caplog, names):
    caplog.set_level(logging.INFO)
    lay(tmp_path / "photos", *(f"{name}/{i}.png" for name in names for i in range(20)))
    root = str(tmp_path / "photos")
    with pytest.raises(DatasetError, match="if all of them are classes, say so: ") as error:
        opened(root)
    train, test = re.findall(r"--\w+-split '(.*?)'", str(error.value))
    spec = DatasetSpec(root, train, test_split=test)
    source = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, source)
    assert source.class_names == names
    assert datasets.open_dataset(replace(resolved, dataset=root)).class_names == names
    assert f"{len(names)} classes ({', '.join(names)}) were divided: " in caplog.text
    assert "test (--train-split 'all[20%:]' --test-split 'all[:20%]' --split-seed 0)" in caplog.text


BOTH = r"expected one of\n  root/<split>/<class>/\*.jpg .*\n  root/<class>/\*.jpg .*\n"
REFUSED = {
    "splits beside a class": (["train/cat/1.png", "test/cat/1.png", "dog/1.png"], {}, f"test, train would .*{BOTH}"),
    "one split beside classes": (["train/cat/1.png", "cat/1.png", "dog/1.png"], {}, f"cat, dog would be .*{BOTH}"),
    "splits without classes beside one": (["train/1.png", "test/1.png", "dog/1.png"], {}, f"mixes two layouts.*{BOTH}"),
    "splits beside a class, and all of them": (
        ["train/cat/1.png", "test/cat/1.png", "dog/1.png"],
        {"train_split": "all", "test_split": ""},
        f"test, train would be splits, and dog would be classes.*{BOTH}.*is called all\\)$",
    ),
    "splits without classes, and all of them": (
        ["train/1.png", "test/1.png"],
        {"train_split": "all", "test_split": ""},
        r"holds no images: .*; 2 images are directly in test/, train/, one level too high",
    ),
    "named splits beside a class": (
        ["a/cat/1.png", "b/cat/1.png", "dog/1.png"],
        {"train_split": "a", "test_split": "b"},
        f"a, b would be splits, and dog would be classes.*{BOTH}",
    ),
    "a class called all": (["all/1.png", "cat/1.png", "dog/1.png"], {}, "all would be .*is called all"),
    "a class called all, and parts of all": (
        ["all/1.png", "cat/1.png", "dog/1.png"],
        {"train_split": "all[20%:]", "test_split": "all[:20%]"},
        "all would be .*is called all",
    ),
    "images without labels beside the classes": (
        ["cat/1.png", "dog/1.png", "test/1.png"],
        {},
        f"test would be splits, and cat, dog would be classes.*{BOTH}",
    ),
    "splits beside a class with folders": (
        ["train/cat/1.png", "test/cat/1.png", "dog/1.png", "dog/more/1.png"],
        {},
        f"test, train would be splits, and dog would be classes.*{BOTH}",
    ),
    "splits below classes": (
        ["cat/train/1.png", "cat/test/1.png", "dog/train/1.png", "dog/test/1.png"],
        {},
        f"cat, dog of .* all hold test, train: splits below classes; {BOTH}.*anew: --train-split 'all",
    ),
    "nothing but images in splits": (
        ["train/1.png", "test/1.png"],
        {},
        "images in no class folder, 2 in all:\n  test/1.png\n  train/1.png\nexpected root/<split>/<class>/ or root/<",
    ),
    "images beside the classes": (
        ["cat/1.png", "dog/1.png", "1.png"],
        {},
        "1 in all:\n  1.p",
    ),
    "nothing but images": (
        ["1.png", "2.png"],
        {},
        "holds no images: .*; 2 images are directly in it, in no class",
    ),
    "one folder too high": (
        ["data/train/cat/1.png", "data/test/cat/1.png"],
        {},
        f"a single folder, data, which holds test, train; {BOTH}if that folder is one of these, give it: .*/data",
    ),
    "domains of the same classes": (
        ["art/cat/1.png", "art/dog/1.png", "photo/cat/1.png", "photo/dog/1.png"],
        {},
        r"art, photo of .* all hold folders .*: cat, dog\. Say.*\n.*--train-split art --test-split photo\n"
        r".*classes: --train-split 'all\[20%:\]' --test-split 'all\[:20%\]'",
    ),
    "splits of other names": (
        ["training/cat/1.png", "validation/cat/1.png", "testing/cat/1.png"],
        {},
        r"no images in the split\(s\) train, test; .*; give --train-split training --val-split validation "
        "--test-split testing$",
    ),
    "no test split": (
        ["train/cat/1.png", "val/cat/1.png"],
        {},
        "; give --test-split val to measure on val, or --val-split val --test-split '' to choose settings on it$",
    ),
    "a training split alone": (
        ["Train/cat/1.png"],
        {},
        r"; for instance --train-split 'Train\[20%:\]' --test-split 'Train\[:20%\]'$",
    ),
    "all of the splits, as TFDS says it": (
        ["train/cat/1.png", "test/cat/1.png"],
        {"train_split": "all", "test_split": ""},
        r"no images in the split\(s\) all; it has test, train .*; give --test-split test",
    ),
    "one class": (["cat/1.png", "cat/2.png"], {}, "has one class, 'cat'; at least two are needed"),
    "an unknown split": (["cat/1.png", "dog/2.png"], {"val_split": "dev"}, "no split 'dev'; it has all, train, test"),
    "a part without a share": (
        ["cat/1.png", "dog/2.png"],
        {"val_split": "val"},
        "no split 'val'; it has all, train, test .*; give it a share: --val-fraction",
    ),
    "rows of a part": (["cat/1.png", "dog/2.png"], {"train_split": "train[:5]"}, "expected a slice in percent"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_folders_that_could_be_misread_are_refused(tmp_path, kind):
    names, fields, message = REFUSED[kind]
    spec = DatasetSpec(str(lay(tmp_path, *names)), **fields)
    with pytest.raises((DatasetError, SpecError), match=f"(?s){message}"):
        datasets.resolve_spec(spec, datasets.open_dataset(spec))


def test_what_is_said_of_domains_is_done(tmp_path):
    lay(tmp_path, *(f"{a}/{b}/{i}.png" for a in ("art", "photo") for b in ("cat", "dog") for i in range(9)))
    assert opened(tmp_path, train_split="art", test_split="photo").class_names == ("cat", "dog")
    assert opened(tmp_path, train_split="all[20%:]", test_split="all[:20%]").class_names == ("art", "photo")


def test_a_split_called_all_stays_one(tmp_path):
    lay(tmp_path, *(f"all/{name}/{i}.png" for name in ("cat", "dog") for i in range(30)))
    spec = DatasetSpec(str(tmp_path), "all[20%:]", test_split="all[:20%]")
    source = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, source)
    assert (source.class_names, source.division) == (("cat", "dog"), None)
    assert datasets.open_dataset(replace(resolved, dataset=str(tmp_path))).class_names == ("cat", "dog")


# --- refusals that both layouts share


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "fox").mkdir(), "class folders without an image:\n  fox: it is empty\n"),
        (lambda root: (root / "fox").symlink_to("gone"), "cannot be read:\n  fox: it is a link that leads nowhere\n"),
        (lambda root: (root / "fox").symlink_to("cat"), "cat and fox are the same folder of .*, in two classes"),
        (lambda root: (root / "dog" / "x").symlink_to("../cat"), "cat and dog/x are the same folder of .*, in two"),
        (lambda root: lay(root, "stray.png"), "images in no class folder, 1 in all:\n  stray.png\n"),
    ],
    ids=["empty", "broken link", "class twice", "class in a class", "stray"],
)
def test_what_would_be_lost_is_refused(tmp_path, spoil, message):
    spoil(lay(tmp_path, "cat/1.png", "dog/1.png"))
    with pytest.raises(DatasetError, match=message):
        opened(tmp_path)


def test_links_hidden_folders_and_other_files(tmp_path, caplog):
    lay(tmp_path, "photos/cat/1.png", "photos/dog/1.png", "photos/.thumbs/1.png", "store/2.png")
    root = tmp_path / "photos"
    (root / "dog" / "linked").symlink_to(tmp_path / "store")
    (root / "dog" / "ring").symlink_to(root)
    (root / "labels.csv").write_text("x")
    source = opened(root)
    assert [row.id for row in source.examples("all", 0, 3)] == ["cat/1.png", "dog/1.png", "dog/linked/2.png"]
    assert "skipped 2 files, hidden or no images by their names: .csv (1), hidden (1)" in caplog.text
    assert f"skipped {root}/dog/ring: it leads back to a folder that holds it" in caplog.text


# --- the division


@pytest.fixture
def many(tmp_path):
    """Three classes of 300 images."""
    return lay(tmp_path / "many", *(f"{name}/{i}.bmp" for name in "abc" for i in range(300)))


def test_the_part_of_an_image_is_that_of_its_path(many):
    parts = ids_by_role(many, val_fraction=0.1, test_fraction=0.3, split_seed=5)
    for role, low, high in (("test", 0, 30), ("val", 30, 40), ("train", 40, 100)):
        for id_ in parts[role]:
            assert low <= 100 * hash_key(id_.encode(), 5) / 2**64 < high
        for name in "abc":
            of_class = sum(id_.startswith(f"{name}/") for id_ in parts[role])
            assert abs(of_class - 3 * (high - low)) < 45  # of 300: five standard deviations of a fair draw
    assert sum(map(len, parts.values())) == 900


def test_images_and_classes_that_are_added_move_no_other(many):
    before = ids_by_role(many, val_fraction=0.2)
    lay(many, *(f"{name}/new {i}.bmp" for name in "ad" for i in range(100)))
    after = ids_by_role(many, val_fraction=0.2)
    for role, ids in before.items():
        assert [id_ for id_ in after[role] if "new" not in id_] == ids


def test_what_was_done_is_said_in_one_line(many, caplog):
    caplog.set_level(logging.INFO)
    parts = ids_by_role(many, val_fraction=0.1)
    counts = ", ".join(f"{len(parts[role])} {role}" for role in ("train", "val", "test"))
    assert [record.message for record in caplog.records] == [
        f"many has no splits, so the images of its 3 classes (a, b, c) were divided: {counts} "
        "(--val-fraction 0.1 --test-fraction 0.2 --split-seed 0)"
    ]


def test_numbers_as_names_are_sorted_as_text_and_it_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    ids_by_role(lay(tmp_path, *(f"{name}/{i}.png" for name in (1, 2, 10) for i in range(20))))
    assert "3 classes (1, 10, 2; sorted as text, and a label is the place in this order) were divided" in caplog.text


def named_in_part(name, low, high, count):
    """Return paths of a class that fall in one part of the images."""
    ids = (f"{name}/{i}.png" for i in range(10_000))
    chosen = (id_ for id_ in ids if low <= 100 * hash_key(id_.encode()) / 2**64 < high)
    return [next(chosen) for _ in range(count)]


ADVICE = r"give more images of these classes, other shares \(--val-fraction, --test-fraction\) or another --split-seed"


def test_a_class_without_a_training_image_is_refused(tmp_path, features, settings, tiny_backbone):
    lay(tmp_path / "few", *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20)))
    lay(tmp_path / "few", *named_in_part("eel", 0, 20, 2))
    with pytest.raises(DatasetError, match=rf"(?s)the splits of few lose classes:.*eel \(2 rows\).*{ADVICE}, or acc"):
        precompute(features, DatasetSpec(str(tmp_path / "few")), settings)


def test_a_class_without_a_test_image_is_said(tmp_path, caplog):
    lay(tmp_path, *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20)))
    ids_by_role(lay(tmp_path, *named_in_part("eel", 20, 100, 3)))
    assert re.search(rf"no test image of eel \(3 rows\): how well they are told apart .*; {ADVICE}", caplog.text)


def test_a_part_without_images_is_refused(tmp_path):
    lay(tmp_path, *named_in_part("cat", 20, 100, 2), *named_in_part("dog", 20, 100, 1))
    with pytest.raises(DatasetError, match=f"'test' chooses no image: .* has 3 rows; {ADVICE}"):
        ids_by_role(tmp_path)


# --- the whole way


@pytest.fixture
def tfl(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder, and returns the lines of stdout, and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out.splitlines(), output.err

    return run


@pytest.mark.usefixtures("tiny_backbone")
def test_from_a_folder_of_classes_to_predictions(tfl, tmp_path):
    root = lay_colours(tmp_path / "photos")
    (root / "red" / "bad.png").write_bytes(b"none")
    spec = ("--backbone", "tiny", "--weights", "random", "--image-size", "12", "--engine", "keras")
    (*_, path), said = tfl("precompute", "--dataset", "photos", "--on-bad-image", "skip", "--val-fraction", 0.1, *spec)
    assert "photos has no splits, so the images of its 3 classes (blue, green, red) were divided: " in said
    cache = open_cache(path)
    for role, count in cache.num_rows.items():  # the labels are those of the folders
        ids = [id_.decode() for id_ in cache.read_ids(role)]
        assert [cache.class_names[label] for label in cache.read_labels(role)] == [id_.split("/")[0] for id_ in ids]
        assert len(ids) == count > 0
    assert sum(cache.num_rows.values()) == 120
    assert cache.spec.dataset.test_split == "all[0%:20%]"
    (_, _, _, described, *_), _ = tfl("inspect", path)
    assert described.startswith(
        "dataset      dataset photos, test_split all[0%:20%], train_split all[30%:100%], val_spl"
    )
    (*_, run), _ = tfl("train", path, "--recipe", "ridge")
    (answer, *_), _ = tfl("evaluate", run, "--json")
    assert json.loads(answer)["accuracy"] == 1
    (*_, model), _ = tfl("export", run, "--out", "model", "--format", "keras")
    shutil.rmtree(root / "red" / "more")
    lines, _ = tfl("predict", model, "photos/blue", "photos/green/more", "photos/red/1.png", "--json")
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 40 + 10 + 1
    for each in answers:
        assert each["class_name"] == each["image"].split("/")[1]
