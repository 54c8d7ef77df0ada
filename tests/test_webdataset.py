"""Tars of a WebDataset: images by value, the library's own grouping, and tars that would lose samples."""

import io
import os
import tarfile

import numpy as np
import pytest
from braceexpand import UnbalancedBracesError, braceexpand
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from webdataset import tariterators
from whole_way import encode, make_images, predict_images

from tfl import datasets
from tfl.datasets.brace_patterns import expand_braces
from tfl.datasets.tar_index import list_samples
from tfl.errors import DatasetError, SpecError
from tfl.specs import DatasetSpec


def write_tar(path, files, tar_format=tarfile.GNU_FORMAT):
    """Write a tar of (name, content) pairs."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def list_files(images, labels, first=0, suffix="png"):
    for row, (image, label) in enumerate(zip(images, labels, strict=True), first):
        yield f"{row:04d}.{suffix}", encode(image, suffix)
        yield f"{row:04d}.cls", str(label).encode()


def write_shards(folder, name, count, seed=0, rows_per_tar=20):
    """Write `name-000.tar`, ... with `count` images; return images and labels."""
    images, labels = make_images(count, seed)
    for number, start in enumerate(range(0, count, rows_per_tar)):
        part = slice(start, start + rows_per_tar)
        write_tar(folder / f"{name}-{number:03d}.tar", list_files(images[part], labels[part], start))
    return images, labels


def read_with_library(paths):
    """Return the samples of tars as the library webdataset groups them. (It leaves its own files open.)"""
    samples = []
    for path in paths:
        with path.open("rb") as stream:
            files = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            samples += tariterators.group_by_keys(files)
    return samples


def open_all(word, split="all", **fields):
    """Return the dataset and all examples of a split."""
    dataset = datasets.open_dataset(DatasetSpec(str(word), **fields))
    return dataset, list(dataset.examples(split, 0, dataset.num_rows[split]))


PNG = encode(np.zeros((4, 5, 3), np.uint8))
ONE = [("a.png", PNG), ("a.cls", b"0")]
TWO = [*ONE, ("b.png", PNG), ("b.cls", b"1")]


@pytest.mark.usefixtures("tiny_backbone")
def test_the_whole_way(tmp_path, features, settings):
    write_shards(tmp_path / "shards", "train", 60)
    write_shards(tmp_path / "shards", "test", 30, seed=1)
    new, labels = make_images(9, seed=2)
    spec = DatasetSpec(f"wds:{tmp_path / 'shards'}")
    cache, predicted = predict_images(spec, features, settings, tmp_path, new)
    assert cache.spec.dataset.train_split == "train[0:60]"
    assert np.mean([name == str(label) for name, label in zip(predicted, labels, strict=True)]) > 0.5
    for split, count in (("train", 60), ("test", 30)):
        rows = read_with_library(sorted((tmp_path / "shards").glob(f"{split}*")))
        assert cache.read(split).labels.tolist() == [int(row["cls"]) for row in rows]
        assert [id_.decode() for id_ in cache.read_ids(split)] == [f"{split}/{row['__key__']}" for row in rows]
        assert len(rows) == count


def test_rows_are_those_of_the_library(tmp_path):
    """In its order; pixels are those that are in the files."""
    images, labels = write_shards(tmp_path, "shards", 45)
    dataset, examples = open_all(f"wds:{tmp_path}/shards-{{000..002}}.tar")
    theirs = read_with_library(tmp_path / f"shards-{number:03d}.tar" for number in range(3))
    assert (dataset.name, dataset.class_names) == ("shards", ("0", "1", "2"))
    assert [row.id for row in examples] == [row["__key__"] for row in theirs]
    assert [row.label for row in examples] == [int(row["cls"]) for row in theirs] == labels
    for row, their_row, image in zip(examples, theirs, images, strict=True):
        np.testing.assert_array_equal(row.image, image)
        np.testing.assert_array_equal(row.image, np.asarray(Image.open(io.BytesIO(their_row["png"]))))


NAMES = st.lists(st.text("ab./_", min_size=1, max_size=8), max_size=6)


@given(NAMES)
def test_files_are_grouped_as_by_the_library(tmp_path_factory, names):
    """Or refused where it raises, too: two files of one suffix."""
    path = tmp_path_factory.getbasetemp() / "grouped.tar"
    write_tar(path, [(name, b"content") for name in names])
    try:
        theirs = [(row["__key__"], {*row} - {"__key__", "__url__"}) for row in read_with_library([path])]
    except ValueError:
        with pytest.raises(DatasetError, match="two files"):
            list(list_samples(path))
        return
    assert [(sample.key, {*sample.files}) for sample in list_samples(path)] == theirs


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_format_of_tars(tmp_path, tar_format):
    name = "n" * 90
    write_tar(tmp_path / "x.tar", [(f"{name}/{file}", content) for file, content in TWO], tar_format)
    _, examples = open_all(tmp_path / "x.tar")
    assert [row.id for row in examples] == [f"{name}/a", f"{name}/b"]


@pytest.mark.parametrize(
    ("word", "num_tars"),
    [
        ("wds:{here}/shards-{{000..002}}.tar", 3),
        ("wds:{here}/shards-00{{0,2}}.tar", 2),
        ("wds:{here}/shards-*.tar", 3),
        ("{here}/shards-00[01].tar", 2),
        ("{here}/shards-002.tar::{here}/shards-000.tar", 2),
        ("wds:{here}", 3),
        ("{here}/shards-001.tar", 1),
    ],
)
def test_words_for_tars(tmp_path, word, num_tars):
    write_shards(tmp_path, "shards", 30, rows_per_tar=10)
    dataset, _ = open_all(word.format(here=tmp_path))
    assert dataset.num_rows == {"all": 10 * num_tars}


def test_a_word_is_recorded_as_it_can_be_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert datasets.make_findable("wds:a-{0..1}.tar::b") == f"wds:{tmp_path}/a-{{0..1}}.tar::{tmp_path}/b"
    assert datasets.make_findable("a.tar") == f"{tmp_path}/a.tar"


PIECES = ["{", "}", ",", "..", "1", "05", "-2", "{0..2}", "{a,b}", "x"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_braces_are_expanded_as_by_the_library(pattern):
    """An opening brace that is not closed is refused by both; one that closes nothing by this one alone."""
    try:
        names = expand_braces(pattern)
    except SpecError:
        depths = np.cumsum([(character == "{") - (character == "}") for character in pattern])
        assert depths.min() < 0 or depths[-1] != 0
        return
    try:
        assert names == list(braceexpand(pattern))
    except UnbalancedBracesError:
        pytest.fail(f"{pattern} is expanded to {names}")


# --- splits


@pytest.mark.parametrize(
    "names", [("train-0", "test-0"), ("imagenet1k-train-00", "imagenet1k-test-00"), ("train/0", "test/0")]
)
def test_the_names_of_tars_say_their_split(tmp_path, names):
    train, test = names
    write_tar(tmp_path / f"{train}.tar", TWO)
    write_tar(tmp_path / f"{test}.tar", ONE)
    dataset = datasets.open_dataset(DatasetSpec(f"wds:{tmp_path}"))
    assert dataset.num_rows == {"test": 1, "train": 2}
    assert [row.id for row in dataset.examples("train", 0, 2)] == ["train/a", "train/b"]


def test_tars_of_one_split_are_divided_and_images_stay_in_their_parts(tmp_path):
    parts = []
    for count in (60, 90):
        write_shards(tmp_path, "train", count)
        spec = DatasetSpec(f"wds:{tmp_path}/train-*.tar", val_fraction=0.1)
        dataset = datasets.open_dataset(spec)
        resolved = datasets.resolve_spec(spec, dataset)
        again = datasets.open_dataset(
            resolved.__class__(**{**resolved.__dict__, "dataset": spec.dataset, "version": ""})
        )
        assert again.version == dataset.version
        parts.append(
            {
                role: {row.id for row in datasets.read_rows(again, split, 0, datasets.count_rows(again, split))}
                for role, split in resolved.roles.items()
            }
        )
    for role, ids in parts[0].items():
        assert ids <= parts[1][role]
    assert sum(map(len, parts[1].values())) == 90


def test_a_slice_is_chosen_by_keys(tmp_path):
    write_shards(tmp_path, "train", 60)
    write_shards(tmp_path, "test", 20)
    spec = DatasetSpec(f"wds:{tmp_path}", train_split="train[:50%]", val_split="train[50%:]")
    resolved = datasets.resolve_spec(spec, datasets.open_dataset(spec))
    assert (resolved.train_split, resolved.val_split) == ("train[0%:50%]", "train[50%:100%]")


# --- labels


def labelled(suffix, *contents):
    return [file for row, each in enumerate(contents) for file in ((f"{row}.png", PNG), (f"{row}.{suffix}", each))]


@pytest.mark.parametrize(
    ("files", "key", "class_names", "labels"),
    [
        (labelled("cls", b"10", b"9", b"10\n"), "", ("9", "10"), [1, 0, 1]),
        (labelled("txt", b"dog\n", b"cat", b"dog"), "txt", ("cat", "dog"), [1, 0, 1]),
        (labelled("json", b'{"label": 10}', b'{"label": 9}'), "label", ("9", "10"), [1, 0]),
        (labelled("json", b'{"kind": "b"}', b'{"kind": "a"}'), "kind", ("a", "b"), [1, 0]),
        (labelled("label.txt", b"b", b"a"), "label.txt", ("a", "b"), [1, 0]),
    ],
)
def test_labels_by_value(tmp_path, files, key, class_names, labels):
    write_tar(tmp_path / "x.tar", files)
    dataset, examples = open_all(tmp_path / "x.tar", label_key=key)
    assert dataset.class_names == class_names
    assert [row.label for row in examples] == labels == dataset.labels("all").tolist()


REFUSED_LABELS = {
    "none": ([("a.png", PNG)], "", r"a of .*x.tar has no label .cls, only .png; .*--label-key SUFFIX"),
    "captions": (labelled("txt", b"a dog"), "", "no label .cls, only .png, .txt; .*--label-key txt"),
    "a record": (
        labelled("json", b'{"kind": 1, "size": 2}'),
        "",
        "no label .cls, only .png, .json; its .json has kind, size; .*--label-key kind",
    ),
    "no such field": (labelled("json", b'{"kind": 1}'), "label", "has no 'label', .* its .json has kind"),
    "several": (labelled("json", b'{"kinds": [1, 2]}'), "kinds", r"several values \(multi-label\)"),
    "a fraction": (labelled("json", b'{"kind": 0.5}'), "kind", "is float 0.5; expected one whole number or one text"),
    "no JSON": (labelled("json", b"{"), "kind", ".json of 0 of .*x.tar cannot be read"),
    "a list of JSON": (labelled("json", b"[1]"), "kind", "holds list; expected an object"),
    "text in cls": (
        labelled("cls", b"dog"),
        "",
        r".cls of 0 of .* is 'dog'; expected a whole number \(.*--label-key txt",
    ),
    "empty": (labelled("cls", b"1", b" "), "", "x.tar:1.png has no label; every image"),
    "null": (labelled("json", b'{"kind": null}'), "kind", "x.tar:0.png has no label"),
    "two spellings": (labelled("txt", b"a b", b"a  b"), "txt", "'a  b' and 'a b' differ in white space alone"),
    "numbers and text": (
        labelled("json", b'{"kind": 1}', b'{"kind": "1"}'),
        "kind",
        "x.tar:1.png has the label '1', and .*x.tar:0.png 1; expected numbers for all images, or text",
    ),
}


@pytest.mark.parametrize(("files", "key", "message"), REFUSED_LABELS.values(), ids=REFUSED_LABELS)
def test_labels_that_are_refused(tmp_path, files, key, message):
    write_tar(tmp_path / "x.tar", files)
    with pytest.raises(DatasetError, match=message):
        open_all(tmp_path / "x.tar", label_key=key)


def test_a_class_that_the_training_split_lacks(tmp_path):
    write_tar(tmp_path / "train.tar", TWO)
    write_tar(tmp_path / "test.tar", [("c.png", PNG), ("c.cls", b"7")])
    with pytest.raises(DatasetError, match="test.tar:c.png has the label 7; expected one of .*: 0, 1"):
        open_all(f"wds:{tmp_path}", "train")


def test_an_unlabelled_split_that_is_not_used(tmp_path):
    """And the version does not depend on which splits are used."""
    write_tar(tmp_path / "train.tar", TWO)
    write_tar(tmp_path / "val.tar", ONE)
    write_tar(tmp_path / "test.tar", [("c.png", PNG)])
    with pytest.raises(DatasetError, match="c of .*test.tar has no label .cls"):
        open_all(f"wds:{tmp_path}", "train")
    splits = [("train", "val"), ("train", ""), ("val", "")]
    specs = [DatasetSpec(f"wds:{tmp_path}", train_split=train, test_split=test) for train, test in splits]
    opened = [datasets.open_dataset(spec) for spec in specs]
    assert len({dataset.version for dataset in opened}) == 1
    assert [row.label for row in opened[1].examples("val", 0, 1)] == [0]
    with pytest.raises(DatasetError, match="test.tar:c.png has no label"):
        list(opened[0].examples("test", 0, 1))


# --- images


def test_several_images_of_a_sample(tmp_path):
    dark = encode(np.full((4, 5, 3), 9, np.uint8))
    write_tar(tmp_path / "x.tar", [("a.left.png", PNG), ("a.right.png", dark), ("a.cls", b"0")])
    with pytest.raises(DatasetError, match="several images: left.png, right.png; choose one: --image-key left.png"):
        open_all(tmp_path / "x.tar")
    _, (example,) = open_all(tmp_path / "x.tar", image_key="right.png")
    assert example.image.max() == 9


def test_a_sample_without_an_image(tmp_path):
    write_tar(tmp_path / "x.tar", [*ONE, ("b.cls", b"1"), ("b.mp4", b"")])
    with pytest.raises(DatasetError, match="b of .*x.tar has no image, only .cls, .mp4; expected one that ends in"):
        open_all(tmp_path / "x.tar")


def test_bad_images_are_known_when_the_tar_is_opened(tmp_path):
    name = b"\xff".decode(errors="surrogateescape")
    write_tar(
        tmp_path / "x.tar", [*TWO, ("c.png", PNG[:30]), ("c.cls", b"0"), (f"{name}.png", PNG), (f"{name}.cls", b"0")]
    )
    dataset = datasets.open_dataset(DatasetSpec(str(tmp_path / "x.tar")))
    cut, misnamed = dataset.known_bad("all", 0, 4)
    assert cut.id == "c"
    assert "x.tar:c.png" in cut.reason
    assert misnamed.id == "\\udcff"
    assert "its name is not UTF-8" in misnamed.reason
    assert list(dataset.examples("all", 2, 4)) == [cut, misnamed]


def test_large_images_are_read_by_several_threads_in_their_order(tmp_path):
    images = [np.full((120, 130, 3), shade, np.uint8) for shade in range(40)]
    write_tar(tmp_path / "x.tar", list_files(images, [row % 2 for row in range(40)]))
    _, examples = open_all(tmp_path / "x.tar")
    assert [row.image[60, 60, 0] for row in examples] == list(range(40))


def test_a_class_whose_images_are_all_bad(tmp_path):
    write_tar(tmp_path / "x.tar", [*ONE, ("c.png", b"none"), ("c.cls", b"1")])
    dataset = datasets.open_dataset(DatasetSpec(str(tmp_path / "x.tar")))
    with pytest.raises(DatasetError, match="none of the 1 images of 1 in 'all' of x can be used: .*c.png"):
        dataset.require_good_classes()


def test_the_version_is_that_of_the_content(tmp_path):
    other = encode(np.ones((4, 5, 3), np.uint8))
    variants = [TWO, [("a.png", other), *TWO[1:]], [*TWO[:3], ("b.cls", b"2")], [*TWO, ("c.png", PNG), ("c.cls", b"0")]]
    versions = []
    for number, files in enumerate([*variants, TWO]):
        write_tar(tmp_path / f"{number}.tar", files)
        versions.append(open_all(tmp_path / f"{number}.tar")[0].version)
    assert len(set(versions)) == 4
    assert versions[0] == versions[-1]
    assert versions[0].startswith("sha256:")


def test_a_tar_that_changes_while_it_is_read(tmp_path):
    path = write_tar(tmp_path / "x.tar", TWO)
    dataset = datasets.open_dataset(DatasetSpec(str(path)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x89PNG", b"\x89PNg"))
    with pytest.raises(DatasetError, match="x.tar:a.png has changed since the command began"):
        list(dataset.examples("all", 0, 2))
    path.write_bytes(content[:600])
    with pytest.raises(DatasetError, match="x.tar has changed since the command began"):
        list(dataset.examples("all", 0, 2))


# --- tars that are refused


def cut_tar(path, num_bytes):
    path.write_bytes(path.read_bytes()[:num_bytes])


def overwrite(path, start, content):
    old = path.read_bytes()
    path.write_bytes(old[:start] + content + old[start + len(content) :])


NO_HEADER = ".no header of a file begins there"
SECOND = 1024  # byte of the second header: PNG has fewer than 512 bytes

DAMAGES = {
    "within a file": (lambda path: cut_tar(path, 600), "truncated at byte 600"),
    "between files": (lambda path: cut_tar(path, SECOND), "truncated at byte 1,024 .*without the two empty blocks"),
    "within a header": (lambda path: cut_tar(path, SECOND + 100), "truncated at byte 1,024 "),
    "in the empty blocks": (lambda path: cut_tar(path, 4 * SECOND + 512), "truncated at byte 4,608 .*two empty blocks"),
    "a damaged header": (lambda path: overwrite(path, SECOND, b"xyz"), f"at byte 1,024 {NO_HEADER}"),
    "a damaged first header": (lambda path: overwrite(path, 0, b"xyz"), "at byte 0 "),
    "a header of zeros": (
        lambda path: overwrite(path, SECOND, bytes(512)),
        f"at byte 1,536 {NO_HEADER}",
    ),
    "two tars in one": (
        lambda path: path.write_bytes(2 * path.read_bytes()),
        f"at byte 10,240 {NO_HEADER}",
    ),
    "an empty file": (lambda path: path.write_bytes(b""), "at byte 0 .empty file"),
    "no tar": (lambda path: path.write_bytes(b"text" * 300), "at byte 0 "),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(100)), "compressed with gzip; .* decompress it"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_tars(tmp_path, damage, message):
    """The library and Python's tarfile take most of these for the end of the tar, and lose samples without a word."""
    path = write_tar(tmp_path / "x.tar", TWO)
    damage(path)
    with pytest.raises(DatasetError, match=rf"x.tar .*{message}"):
        open_all(path)


@given(st.integers(0, 10_239))
def test_no_cut_loses_a_sample(tmp_path_factory, num_bytes):
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    write_tar(path, TWO)
    cut_tar(path, num_bytes)
    try:
        _, examples = open_all(path)
    except DatasetError:
        return
    assert len(examples) == 2


def test_keys_that_are_there_twice(tmp_path):
    write_tar(tmp_path / "x-0.tar", ONE)
    write_tar(tmp_path / "x-1.tar", TWO)
    message = r"the key 'a' is there twice: at byte 512 of .*x-0.tar and at byte 512 of .*x-1.tar; expected"
    with pytest.raises(DatasetError, match=message):
        open_all(f"wds:{tmp_path}")


def test_files_of_a_sample_that_do_not_follow_each_other(tmp_path):
    write_tar(tmp_path / "x.tar", [TWO[0], TWO[2], TWO[1], TWO[3]])
    with pytest.raises(DatasetError, match="a of .*x.tar has no label .cls"):
        open_all(tmp_path / "x.tar")


def test_links_are_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", ONE)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        tar.addfile(link)
    with pytest.raises(DatasetError, match=r"b.png at byte 2,048 of .*x.tar is a link; .*--hard-dereference"):
        open_all(path)


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("wds:nowhere", DatasetError, "there is no tar nowhere$"),
        ("wds:x-{0..1}.tar", DatasetError, "there is no tar x-1.tar, which 'x-{0..1}.tar' names"),
        ("wds:y-*.tar", DatasetError, r"no file matches y-\*.tar"),
        ("wds:x-{0..1.tar", SpecError, "braces of 'x-{0..1.tar' do not match"),
        ("wds:https://example.org/x.tar", DatasetError, "is no file on this machine; .*download it first"),
        ("wds:empty", DatasetError, "empty holds no .tar"),
        ("wds:pipe", DatasetError, "pipe is not a regular file"),
        ("wds:x-0.tar::x-*.tar", DatasetError, "names x-0.tar twice"),
        ("wds:{x-0,train}.tar", DatasetError, r"names of some tars say their split \(train\).*such as x-0.tar"),
    ],
)
def test_words_that_are_refused(tmp_path, monkeypatch, word, error, message):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "x-0.tar", TWO)
    write_tar(tmp_path / "train.tar", TWO)
    (tmp_path / "empty").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(error, match=message):
        open_all(word)


def test_images_are_decoded_as_those_of_a_folder(tmp_path):
    """EXIF orientation, palette, transparency, grey of 16 bits."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "exif.jpg": (Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)), {"exif": exif}),
        "palette.png": (Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)).quantize(16), {}),
        "alpha.png": (Image.fromarray(rng.integers(0, 256, (8, 6, 4), dtype=np.uint8)), {}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (8, 6), dtype=np.uint16)), {}),
    }
    files = []
    for number, (name, (picture, options)) in enumerate(pictures.items()):
        picture.save(tmp_path / name, **options)
        files += [(name, (tmp_path / name).read_bytes()), (f"{name.split('.')[0]}.cls", str(number % 2).encode())]
    write_tar(tmp_path / "x.tar", files)
    _, examples = open_all(tmp_path / "x.tar")
    for name, example in zip(pictures, examples, strict=True):
        np.testing.assert_array_equal(example.image, datasets.read_image(tmp_path / name))
