"""Tables of images: CSV, TSV, JSON Lines and Parquet."""

import csv
import hashlib
import itertools
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfl import datasets
from tfl.artefacts.export import export
from tfl.artefacts.predict import predict
from tfl.cache import open_cache
from tfl.cli.main import main
from tfl.datasets import table_parquet
from tfl.datasets.table_text import MAX_LINE_CHARACTERS
from tfl.errors import DatasetError, ExtraError, SpecError
from tfl.extraction.precompute import precompute
from tfl.heads import Ridge
from tfl.runs.training import train
from tfl.specs import DatasetSpec

COLOURS = {"blue": 2, "green": 1, "red": 0}  # the channel that is bright


@pytest.fixture
def photos(tmp_path):
    """A folder `photos` with twelve images in three colours, `0.png` to `11.png`."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, channel in zip(range(12), itertools.cycle(COLOURS.values())):
        pixels = rng.integers(0, 120, (10 + number % 3, 9, 3), dtype=np.uint8)
        pixels[..., channel] += 100
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def label_of(number):
    return [*COLOURS][number % 3]


@pytest.fixture
def write(tmp_path, photos):
    """Return a function that writes a table beside the folder of images, and returns its path as text."""

    def write_table(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_table


ROWS = [(f"photos/{number}.png", label_of(number)) for number in range(12)]
PLAIN = "path,label\n" + "".join(f"{path},{label}\n" for path, label in ROWS)


def open_table(word, **fields):
    return datasets.open_dataset(DatasetSpec(word, **fields))


def read_all(dataset, split="all"):
    return list(dataset.examples(split, 0, dataset.num_rows[split]))


def require_plain(dataset, folder):
    """The rows of `PLAIN`, compared with the files themselves."""
    assert dataset.class_names == ("blue", "green", "red")
    assert dataset.num_rows == {"all": 12}
    for number, row in enumerate(read_all(dataset)):
        assert row.id == f"photos/{number}.png"
        assert dataset.class_names[row.label] == label_of(number)
        np.testing.assert_array_equal(row.image, np.asarray(Image.open(folder / f"{number}.png")))
    np.testing.assert_array_equal(dataset.labels("all"), [row.label for row in read_all(dataset)])


# ---- the whole way


@pytest.mark.usefixtures("tiny_backbone")
def test_from_a_table_to_the_prediction_of_an_exported_model(write, photos, features, settings, tmp_path):
    lines = ["file_name;class;split;id"]
    for number in range(12):
        split = "TRAIN" if number < 6 else "valid" if number < 9 else "test"
        lines.append(f'"photos/{number}.png";{label_of(number)};{split};no {number:02d}')
    word = write("\ufeff" + "\r\n".join(lines) + "\r\n", "shades.csv")
    path = precompute(features, DatasetSpec(word, val_split="val"), settings)
    cache = open_cache(path)
    with Path(word).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    names = sorted({row["class"] for row in rows})
    assert list(cache.class_names) == names
    for role, word_for_it in (("train", "TRAIN"), ("val", "valid"), ("test", "test")):
        expected = [row for row in rows if row["split"] == word_for_it]
        assert cache.read_ids(role).tolist() == [row["id"].encode() for row in expected]
        assert cache.read(role).labels.tolist() == [names.index(row["class"]) for row in expected]
    run = train(path, Ridge(), runs_dir=tmp_path / "runs")
    report = export(run, tmp_path / "model")
    assert report.same_class == 1.0
    for number in (9, 10, 11):
        (prediction,) = predict(tmp_path / "model", [photos / f"{number}.png"])
        assert prediction.class_name == label_of(number)


def test_the_command_names_columns_and_shares(write, settings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    word = write("picture,kind\n" + "".join(f"{path},{label}\n" for path, label in ROWS))
    flags = ("--image-key", "picture", "--label-key", "kind", "--test-fraction", "0.3", "--split-seed", "4")
    code = main(["precompute", "--dataset", "table.csv", *flags, "--backbone", "nothing"])
    assert code == 1
    assert "there is no backbone 'nothing'" in capsys.readouterr().err
    dataset = open_table(word, image_key="picture", label_key="kind")
    require_plain(dataset, tmp_path / "photos")


# ---- one content in many forms

FORMS = {
    "plain": ("a.csv", PLAIN),
    "byte order mark, Windows line ends": ("a.csv", "\ufeff" + PLAIN.replace("\n", "\r\n")),
    "line ends of old Macs": ("a.csv", PLAIN.replace("\n", "\r")),
    "semicolons": ("a.csv", PLAIN.replace(",", ";")),
    "tabs": ("a.csv", PLAIN.replace(",", "\t")),
    "TSV": ("a.tsv", PLAIN.replace(",", "\t")),
    "upper case": ("A.CSV", PLAIN.replace("path,label", "Path,LABEL")),
    "spaces around names": ("a.csv", PLAIN.replace("path,label", " path , label ")),
    "aliases": ("a.csv", PLAIN.replace("path,label", "image,class")),
    "no last line end": ("a.csv", PLAIN.rstrip("\n")),
    "blank lines and empty cells": ("a.csv", PLAIN.replace("\n", ",,\n\n")),
    "everything quoted": ("a.csv", '"' + PLAIN.rstrip("\n").replace(",", '","').replace("\n", '"\n"') + '"\n'),
    "quoted, with semicolons": ("a.csv", '"' + PLAIN.rstrip("\n").replace(",", '";"').replace("\n", '"\n"') + '"\n'),
    "JSON Lines": ("a.jsonl", "".join(json.dumps({"label": b, "path": a, "x": [1, None]}) + "\n" for a, b in ROWS)),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_content_in_many_forms(write, photos, form):
    name, content = FORMS[form]
    dataset = open_table(write(content, name))
    require_plain(dataset, photos)
    assert dataset.version == open_table(write(PLAIN)).version


def test_parquet(write, photos, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setattr(table_parquet, "ROWS_READ_TOGETHER", 5)
    paths, labels = zip(*ROWS, strict=True)
    columns = {
        "path": paths,
        "label": pa.array(labels).dictionary_encode(),
        "path.x": range(12),
        "n": [{"path": 1}] * 12,
    }
    pq.write_table(pa.table(columns), write(b"", "a.parquet"), row_group_size=7)
    dataset = open_table(str(photos.parent / "a.parquet"))
    require_plain(dataset, photos)
    assert dataset.version == open_table(write(PLAIN)).version
    columns["label"] = pa.array([1.0, None] * 6)
    pq.write_table(pa.table(columns), photos.parent / "a.parquet")
    with pytest.raises(DatasetError, match="12 in all:\n  row 1, column label: it holds float, 1.0"):
        open_table(str(photos.parent / "a.parquet"))


def test_parquet_with_columns_that_are_no_text(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    for values, kind in (([b"png"], "binary"), ([{"bytes": b"png"}], "struct<bytes: binary>"), ([["a"]], "list<")):
        pq.write_table(pa.table({"path": values, "label": ["a"]}), path)
        with pytest.raises(DatasetError, match=f"column 'path' of .*a.parquet holds {kind}.*; expected a text"):
            open_table(str(path))
    latin = pa.array([b"B\xe4r"]).view(pa.string())
    pq.write_table(pa.table({"path": ["x"], "label": latin}), path)
    with pytest.raises(DatasetError, match="a.parquet cannot be read as Parquet: .*can't decode byte 0xe4"):
        open_table(str(path))


def test_what_is_no_parquet(write, monkeypatch):
    pytest.importorskip("pyarrow")
    with pytest.raises(DatasetError, match=r"a.parquet cannot be read as Parquet: "):
        open_table(write(b"PAR1 and no more", "a.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ExtraError, match=r"pip install '\.\[parquet\]'"):
        open_table(write(b"", "a.parquet"))


def test_paths_of_every_kind(write, photos, tmp_path):
    (photos / "8, b #.png").write_bytes((photos / "8.png").read_bytes())
    (tmp_path / "elsewhere").mkdir()
    table = [
        ("photos/./3.png", "a"),
        (f"{photos}/1.png", "b"),
        (f"file://{photos}/2.png", "a"),
        (f"file://localhost{photos}/%38%2c%20b%20%23.png", "b"),
        ("elsewhere/../photos/5.png", "a"),
    ]
    dataset = open_table(write("path,label\n" + "".join(f'"{path}",{label}\n' for path, label in table)))
    found = read_all(dataset)
    assert [row.id for row in found] == [path for path, _ in table]
    for row, number in zip(found, (3, 1, 2, 8, 5), strict=True):
        np.testing.assert_array_equal(row.image, np.asarray(Image.open(photos / f"{number}.png")))


def test_links_among_the_folders_of_a_path(write, photos, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "deep" / "0.png").write_bytes((photos / "7.png").read_bytes())
    (tmp_path / "0.png").write_bytes((photos / "0.png").read_bytes())
    dataset = open_table(write("path,label\nlink/../0.png,a\n0.png,b\n"))
    for row, number in zip(read_all(dataset), (7, 0), strict=True):
        np.testing.assert_array_equal(row.image, np.asarray(Image.open(photos / f"{number}.png")))
    with pytest.raises(DatasetError, match="images with two rows, 1 in all:\n  'deep/0.png' in line 3 as in line 2"):
        open_table(write("path,label\nlink/../0.png,a\ndeep/0.png,a\n"))


def test_a_linked_table_is_where_the_link_leads(write, photos, tmp_path, monkeypatch):
    write(PLAIN)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "mine.csv").symlink_to(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path / "links")
    dataset = open_table("mine.csv")
    require_plain(dataset, photos)
    assert datasets.make_findable("mine.csv") == str(tmp_path / "table.csv")
    assert datasets.make_findable("table:mine.csv") == str(tmp_path / "table.csv")


# ---- columns


def test_the_columns_that_were_taken_are_said(write, caplog):
    caplog.set_level(logging.INFO)
    open_table(write("file,class,id\n" + "".join(f"{path},{n},{n}\n" for n, (path, _) in enumerate(ROWS))))
    assert "has 12 rows: images from 'file', labels from 'class', ids from 'id'" in caplog.text
    assert "sorted as text: 0, 1, 10, 11, 2, 3" in caplog.text


def test_labels_that_differ_in_case_are_two_classes(write, caplog):
    dataset = open_table(write(PLAIN.replace("3.png,blue", "3.png,Blue")))
    assert dataset.class_names == ("Blue", "blue", "green", "red")
    assert "differ in upper and lower case alone are two classes: 'Blue' and 'blue'" in caplog.text


LABELS = ["007", "7", "1.0", "NA", "10", "9"] * 2


def test_labels_that_look_like_numbers_are_names(write):
    rows = "".join(f"{path},{label}\n" for (path, _), label in zip(ROWS, LABELS, strict=True))
    dataset = open_table(write("path,label\n" + rows))
    assert dataset.class_names == ("007", "1.0", "10", "7", "9", "NA")


@pytest.mark.parametrize(
    ("header", "fields", "message"),
    [
        ("a,b", {}, "has no column of images: expected path or image or file or .*, got 'a', 'b'"),
        ("path,b", {}, "has no column of labels: expected label or class, got 'path', 'b'"),
        (
            "image,file,label",
            {},
            "several columns that could hold the images: 'image', 'file'; name one with --image-key",
        ),
        ("path,Path,label", {}, "several columns that could hold the images: 'path', 'Path'"),
        ("path,label", {"group_key": "camera"}, r"has no column 'camera' \(--group-key\); it has 'path', 'label'"),
    ],
)
def test_columns_that_are_not_there(write, header, fields, message):
    with pytest.raises(DatasetError, match=message):
        open_table(write(f"{header}\n" + ",".join("x" for _ in header.split(",")) + "\n"), **fields)


def test_a_column_that_is_named_comes_before_the_usual_one(write, photos):
    table = "path,label,mine\n" + "".join(f"photos/0.png,x,{path}\n" for path, _ in ROWS)
    dataset = open_table(write(table), image_key="mine")
    assert [row.id for row in read_all(dataset)] == [path for path, _ in ROWS]


# ---- refusals

REFUSED = {
    "missing files": (
        "path,label\nphotos/0.png,a\nphotos/99.png,b\n\n/photos/1.png,b\n",
        r"table.csv: images are missing, 2 in all:\n  line 3: photos/99.png: there is no such file\n"
        r"  line 5: /photos/1.png: there is no such file\nrelative paths begin at the folder of the table, ",
    ),
    "backslashes": ("path,label\nphotos\\0.png,a\n", r"folders are separated by /, not by \\$"),
    "a name that no file has": (
        "path,label\nphotos/\0.png,a\n",
        r"photos/\\x00.png: no file can have that name",
    ),
    "empty labels": (
        "path,label\nphotos/0.png,a\nphotos/1.png,\nphotos/2.png,  \n",
        "cells cannot be used, 2 in all:\n  line 3, column label: it is empty\n  line 4, column label: it is empty",
    ),
    "white space": (
        "path,label\nphotos/0.png,cat\nphotos/1.png, cat\nphotos/2.png,big\xa0cat\nphotos/3.png,big cat\n",
        "white space alone would be two classes, 2 in all:\n  ' cat' in line 3, and 'cat' in line 2\n"
        r"  'big cat' in line 5, and 'big\\xa0cat' in line 4",
    ),
    "white space in groups": (
        "path,label,group\nphotos/0.png,cat,p1\nphotos/1.png,cat,p1 \n",
        "groups that differ in white space alone would be two groups, 1 in all:\n  'p1 ' in line 3, and 'p1' in line 2",
    ),
    "accents": (
        "path,label\nphotos/0.png,B\xe4r\nphotos/1.png,Ba\u0308r\n",
        "labels that differ in white space alone would be two classes, 1 in all:",
    ),
    "two labels": (
        "path,label\nphotos/0.png,a\nphotos/../photos/0.png,b\nphotos/1.png,b\nphotos/1.png,b\n",
        "images with two labels, 1 in all:\n"
        "  'photos/0.png' is 'a' in line 2, and 'photos/../photos/0.png' is 'b' in line 3",
    ),
    "two rows": (
        "path,label\nphotos/0.png,a\nphotos/1.png,b\nphotos/1.png,b\n",
        "images with two rows, 1 in all:\n  'photos/1.png' in line 4 as in line 3",
    ),
    "two rows of one id": (
        "path,label,id\nphotos/0.png,a,x\nphotos/1.png,b,y\nphotos/2.png,b,x\n",
        "ids that two rows have, 1 in all:\n  'x' in line 4 as in line 2\ngive each image its own id, or .* --id-key",
    ),
    "unknown splits": (
        "path,label,split\nphotos/0.png,a,Train\nphotos/1.png,b,dev\n",
        "unknown splits, 1 in all:\n  line 3: 'dev'\nexpected one of train, training, val, valid, validation, test",
    ),
    "an empty split": ("path,label,split\nphotos/0.png,a,\n", "line 2, column split: it is empty"),
    "an empty group": ("path,label,group\nphotos/0.png,a,\n", "line 2, column group: it is empty"),
    "a quote that is not closed": ('path,label\nphotos/0.png,"a\nphotos/1.png,b\n', "cannot be read from line 2 on"),
    "a comma without quotes": (
        "path,label\nphotos/0.png,a\nphotos/1, b.png,b\n",
        "line 3 of .*table.csv has another number of cells than the first line, 3 for 2: 'photos/1, b.png,b'; put",
    ),
    "too few cells": ("path,label\nphotos/0.png\n", "line 2 of .* 1 for 2"),
    "no rows": ("path,label\n", "table.csv has no rows; expected one for each image"),
    "nothing": ("", "table.csv is empty; expected a first line that names the columns, such as path,label"),
    "no first line": ("photos/0.png,a\n", "The first line of a CSV or TSV file names its columns"),
    "Windows-1252": (
        "path,label\nphotos/0.png,a\nphotos/1.png,B\xe4r\n".encode("latin-1"),
        r"is not UTF-8: line 3 holds the bytes e4 72 0a; save it as UTF-8 \(in Excel: 'CSV UTF-8'\), .* WINDOWS-1252",
    ),
    "UTF-16": ("path,label\n".encode("utf-16"), "is not UTF-8: line 1 .* iconv -f UTF-16 -t UTF-8"),
    "a line without end": (
        "path,label\nphotos/0.png," + "a" * MAX_LINE_CHARACTERS,
        "line 2 of .* has more than 1,048,576 characters; is it a table?",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_lose_or_mislabel_images_is_refused(write, case):
    content, message = REFUSED[case]
    with pytest.raises(DatasetError, match=message):
        open_table(write(content))


REFUSED_LINES = {
    "a float": ('{"path":"photos/0.png","label":1.0}', "line 1, column label: it holds float, 1.0"),
    "several labels": ('{"path":"photos/0.png","label":["a","b"]}', "column label: it holds several values"),
    "nothing": ('{"path":"photos/0.png","label":"a"}\n{"path":"photos/1.png"}', "line 2, column label: it is empty"),
    "half a character": ('{"path":"\\ud800","label":"a"}', r"column path: it is no text .* '\\ud800'"),
    "no object": (
        '{"path":"photos/0.png","label":"a"}\n[1]',
        r"line 2 of .* is '\[1\]'; expected one JSON object",
    ),
    "no JSON": ('\n{"path":"photos/0.png",}', "line 2 of .* is not JSON: "),
    "one key twice": ('{"path":"a","path":"b","label":"a"}', "line 1 of .* a key appears twice"),
    "nesting": ("[" * 100_000, "line 1 of .* is not JSON: "),
}


@pytest.mark.parametrize("case", REFUSED_LINES)
def test_json_lines_that_are_refused(write, case):
    content, message = REFUSED_LINES[case]
    with pytest.raises(DatasetError, match=message):
        open_table(write(content, "table.jsonl"))


def test_many_faults_are_counted(write):
    with pytest.raises(DatasetError) as refused:
        open_table(write("path,label\n" + "".join(f"{number}.png,a\n" for number in range(1234))))
    lines = str(refused.value).splitlines()
    assert lines[0].endswith("images are missing, 1,234 in all:")
    assert lines[11] == "  ... and 1,224 more"
    assert len(lines) == 13


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere.csv", "nowhere.csv does not exist; expected a file of this machine"),
        ("table:photos", "photos is no file"),
        ("table:photos/0.png", "0.png is not called like a table; expected a name that ends in .csv, .tsv, .jsonl"),
        ("https://example.org/a.csv", "does not exist; expected a file of this machine"),
    ],
)
def test_what_is_no_table(photos, monkeypatch, word, message):
    monkeypatch.chdir(photos.parent)
    with pytest.raises(DatasetError, match=message):
        open_table(word)


def test_images_that_cannot_be_used_are_known_at_opening(write, photos):
    (photos / "4.png").write_bytes(b"")
    (photos / "7.png").unlink()
    (photos / "7.png").mkdir()
    dataset = open_table(write(PLAIN))
    bad = dataset.known_bad("all", 0, 12)
    assert [image.id for image in bad] == ["photos/4.png", "photos/7.png"]
    assert bad[0].reason.endswith("4.png is empty; repair or remove it (line 6 of the table)")
    assert "it is a folder" in bad[1].reason
    assert read_all(dataset)[4] == bad[0]
    dataset.require_good_classes()
    for number in (1, 10):
        (photos / f"{number}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="none of the 4 images of 'green' in all of .* can be used: .*line 3 of"):
        open_table(write(PLAIN)).require_good_classes()


def test_an_image_that_changes_after_opening_ends_the_command(write, photos):
    dataset = open_table(write(PLAIN))
    Image.new("RGB", (9, 9)).save(photos / "5.png")
    with pytest.raises(DatasetError, match="5.png has changed since the command began"):
        read_all(dataset)


# ---- splits, groups and the version


def with_splits(**more):
    """The rows in three splits, with more columns: lists of one value a row."""
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rows = zip(*zip(*ROWS, strict=True), splits, *more.values(), strict=True)
    return f"{','.join(['path', 'label', 'split', *more])}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def test_a_column_of_splits(write, caplog):
    caplog.set_level(logging.INFO)
    word = write(with_splits())
    dataset = open_table(word)
    assert dataset.num_rows == {"train": 6, "val": 3, "test": 3}
    assert [row.id for row in read_all(dataset, "val")] == [f"photos/{number}.png" for number in (6, 7, 8)]
    assert "3 rows of table are in val, which is not used; --val-split val" in caplog.text
    resolved = datasets.resolve_spec(DatasetSpec(word, val_split="val"), dataset)
    assert resolved.roles == {"train": "train[0:6]", "val": "val[0:3]", "test": "test[0:3]"}
    with pytest.raises(SpecError, match="--test-fraction divides a dataset without splits"):
        open_table(word, test_fraction=0.1)


def test_classes_are_those_of_the_splits_in_use(write):
    word = write(with_splits().replace("photos/8.png,red", "photos/8.png,mauve"))
    assert open_table(word).class_names == ("blue", "green", "red")
    assert open_table(word, val_split="val").class_names == ("blue", "green", "mauve", "red")


def test_groups_that_are_in_two_parts(write):
    word = write(with_splits(group=[f"p{number // 4}" for number in range(12)]))
    with pytest.raises(DatasetError) as refused:
        open_table(word, val_split="val")
    assert str(refused.value).splitlines()[1:3] == [
        "  'p1' is in train (line 6) and val (line 8)",
        "  'p2' is in val (line 10) and test (line 11)",
    ]
    open_table(word)  # val is not used
    open_table(word, train_split="train+val[:2]")
    with pytest.raises(DatasetError, match=r"'p0' is in train \(line 2\) and test \(line 5\)"):
        open_table(word, train_split="train[:3]", test_split="train[3:4]")


def write_many(write, photos, count, groups=()):
    """A table of `count` copies of one image, in three classes by turns."""
    content = (photos / "0.png").read_bytes()
    columns = ["path", "label", *["group"][: len(groups)]]
    lines = [",".join(columns)]
    for number in range(count):
        (photos / f"copy {number}.png").write_bytes(content)
        lines.append(",".join([f"photos/copy {number}.png", label_of(number), *groups[number : number + 1]]))
    return write("\n".join(lines))


def test_groups_stay_together_when_the_tool_divides(write, photos):
    word = write_many(write, photos, 90, [f"p{number // 3}" for number in range(90)])
    tests = set()
    for seed in range(3):
        spec = DatasetSpec(word, val_fraction=0.3, test_fraction=0.3, split_seed=seed)
        dataset = datasets.open_dataset(spec)
        first = b"p0" if seed == 0 else b"%d\0p0" % seed
        assert dataset.id_hashes("all")[0] == int.from_bytes(hashlib.sha256(first).digest()[:8], "big")
        resolved = datasets.resolve_spec(spec, dataset)
        groups = {}
        for role, split in resolved.roles.items():
            (piece,) = datasets.select_rows(dataset, split)
            groups[role] = {row // 3 for row in piece.rows.tolist()}
            assert len(piece.rows) == 3 * len(groups[role]), "whole groups"
        tests.add(frozenset(groups["test"]))
    assert len(tests) == 3


def test_a_resolved_spec_opens_the_same_rows(write, photos):
    spec = DatasetSpec(write_many(write, photos, 60), val_fraction=0.2, test_fraction=0.3, split_seed=2)
    resolved = datasets.resolve_spec(spec, datasets.open_dataset(spec))
    assert resolved.train_split == "all[50%:100%]"
    again = replace(resolved, dataset=spec.dataset, version="")
    assert datasets.resolve_spec(again, datasets.open_dataset(again)) == resolved


def test_the_version_is_of_ids_labels_splits_groups_and_contents(write, photos):
    more = {"id": range(12), "group": range(12), "note": range(12)}
    plain = with_splits(**more)
    first = open_table(write(plain)).version
    assert first.startswith("sha256:")
    (photos / "moved.png").write_bytes((photos / "5.png").read_bytes())
    same = [
        plain.replace("photos/5.png", "photos/moved.png"),
        with_splits(**{**more, "note": ["x"] * 12}),
    ]
    assert {open_table(write(text)).version for text in same} == {first}
    lines = plain.splitlines(keepends=True)
    others = [
        plain.replace("photos/5.png,red", "photos/5.png,blue"),
        plain.replace("red,train,5,5", "red,val,5,5"),
        with_splits(**{**more, "id": range(1, 13)}),
        with_splits(**{**more, "group": range(1, 13)}),
        with_splits(id=range(12)),
        "".join([lines[0], *reversed(lines[1:])]),
    ]
    versions = {open_table(write(text)).version for text in others}
    Image.new("RGB", (9, 9)).save(photos / "5.png")
    versions.add(open_table(write(plain)).version)
    assert len(versions) == 7
    assert first not in versions


MEASURED = r"""
import re, sys, time
from pathlib import Path
from tfl import datasets
from tfl.specs import DatasetSpec
started = time.perf_counter()
dataset = datasets.open_dataset(DatasetSpec(sys.argv[1]))
assert dataset.num_rows == {"all": 100_000}
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
print(time.perf_counter() - started, int(peak[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of the memory is read from Linux")
def test_a_hundred_thousand_rows(tmp_path):
    """Opened within half a gigabyte: some hundred bytes for a row, none for its pixels."""
    Image.new("RGB", (64, 64)).save(tmp_path / "image.bmp")
    (tmp_path / "images").mkdir()
    with (tmp_path / "many.csv").open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        for number in range(100_000):
            if number % 10_000 == 0:  # a file may have 65,000 names
                shared = tmp_path / f"{number}.bmp"
                shared.write_bytes((tmp_path / "image.bmp").read_bytes())
            os.link(shared, tmp_path / "images" / f"{number}.bmp")
            file.write(f"images/{number}.bmp,class {number % 7}\n")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "many.csv")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 120
    assert megabytes < 500
