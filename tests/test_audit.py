"""The audit: planted duplicates, wrong labels and odd images are found, and `--exclude` leaves images out."""

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfl
from tfl.auditing import duplicates, table
from tfl.auditing.audit import audit
from tfl.auditing.neighbours import find_neighbours
from tfl.auditing.pixels import SIDE, correlate_pairs, make_thumbnail
from tfl.auditing.projection import L2_CHOICES, project_rows
from tfl.auditing.record import Audit
from tfl.cli.main import main
from tfl.errors import CacheError, DatasetError, RunError, SpecError
from tfl.files.codec import decode_record, encode_record

pytestmark = pytest.mark.usefixtures("tiny_backbone")

SWAPPED, BLACK, COPIED, SHIFTED = 3, 7, 1, 2  # rows of train, or of test


def draw_picture(rng, label):
    """A picture of some coarse blocks in the colour of its class."""
    blocks = rng.integers(0, 120, (6, 6, 3), dtype=np.uint8)
    blocks[:, :, label] += 110
    return np.asarray(Image.fromarray(blocks).resize((40, 40), Image.Resampling.BICUBIC))


@pytest.fixture
def planted(tmp_path):
    """A dataset with a wrong label, a black image, and test images that are training images in some disguise."""
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["red", "green", "blue"])}
    for split, count in (("train", 60), ("test", 30)):
        labels = np.arange(count) % 3
        images = np.stack([draw_picture(rng, label) for label in labels])
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    train, test = arrays["train_images"], arrays["test_images"]
    test[COPIED] = train[10]
    test[SHIFTED] = np.roll(train[20], 2, axis=1) // 2 + 60
    train[BLACK] = 0
    arrays["train_labels"][SWAPPED] = 1
    np.savez(tmp_path / "planted.npz", **arrays)
    return tmp_path / "planted.npz"


@pytest.fixture
def cache(planted, features, settings):
    return tfl.precompute(replace(features, image_size=32), tfl.DatasetSpec(str(planted)), settings)


def test_planted_faults_are_found(cache):
    found = audit(cache)
    pairs = {(pair.id, pair.partner): pair for pair in found.duplicates}
    assert pairs["test_00001", "train_00010"].kind == "same"
    assert found.duplicates[0].score == 1
    assert pairs["test_00002", "train_00020"].kind == "near"
    suspected = {label.id: label for label in found.labels[:2]}  # the other one is black
    assert (suspected["train_00003"].given, suspected["train_00003"].suggested) == ("green", "red")
    assert ("train_00007", "flat") in {(image.id, image.kind) for image in found.odd}
    (leak,) = found.leaks
    assert (leak.role, leak.num_rows) == ("test", 30)
    assert leak.num_leaked >= 2
    assert found.num_rows == {"train": 60, "test": 30}


def test_findings_are_a_record_and_ranked(cache):
    found = audit(cache, is_all=True)
    assert decode_record(json.loads(json.dumps(encode_record(found))), Audit) == found
    assert len(found.labels) == 90
    scores = [label.score for label in found.labels]
    assert scores == sorted(scores, reverse=True)
    kinds = [duplicates.KINDS.index(pair.kind) for pair in found.duplicates]
    assert kinds == sorted(kinds)
    assert "similar" in {pair.kind for pair in found.duplicates}


def test_scores_are_those_of_ridge_without_the_row(cache):
    """The closed form equals fitting anew without a row, with the same standardisation."""
    opened = tfl.open_cache(cache)
    rows = project_rows(opened, 5)
    assert rows.l2 in L2_CHOICES
    features = np.concatenate([opened.read(role).features for role in rows.roles]).astype(np.float64)
    x = np.concatenate([(features - features.mean(0)) / features.std(0), np.ones((90, 1))], axis=1)
    penalty = np.diag([rows.l2] * (x.shape[1] - 1) + [0]) * 90
    y = np.eye(3)[rows.labels]
    for row in (0, 3, 61):
        rest = np.delete(np.arange(90), row)
        kernel = np.linalg.solve(x[rest].T @ x[rest] + penalty, x[rest].T @ y[rest])
        np.testing.assert_allclose(rows.outputs[row], x[row] @ kernel, atol=1e-3)


@pytest.mark.parametrize("count", [7, 5000])
def test_neighbours_are_those_of_all_products(count):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines, places = find_neighbours(rows)
    products = rows @ rows.T
    np.fill_diagonal(products, -2)
    expected = -np.sort(-products, axis=1)[:, : cosines.shape[1]]
    assert cosines.shape[1] == min(10, count - 1)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(products, places.astype(np.int64), axis=1), cosines, atol=1e-5)


def test_pixels_see_through_shift_mirror_and_light():
    rng = np.random.default_rng(0)
    large = np.asarray(Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).resize((48, 48)))
    first = large[8:40, 8:40]
    shifted, other = large[6:38, 10:42] // 2 + 80, rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    thumbnails = np.stack([first, shifted, first[:, ::-1], other, np.zeros_like(first)])
    plain, mirrored = correlate_pairs(thumbnails, np.zeros(5, int), np.arange(5))
    assert min(plain[0], plain[1], mirrored[2]) > 0.97
    assert max(plain[2], plain[3], mirrored[3]) < 0.6
    assert plain[4] == mirrored[4] == 0


def test_thumbnails_keep_the_mean():
    image = np.random.default_rng(0).integers(0, 255, (70, 45, 3), np.uint8)
    thumbnail = make_thumbnail(image)
    assert thumbnail.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(thumbnail.mean((0, 1)), image.mean((0, 1)), atol=1)


def test_without_its_dataset_features_alone_decide(cache, planted, caplog):
    shutil.move(planted, planted.with_name("elsewhere.npz"))
    with caplog.at_level(logging.WARNING):
        found = audit(cache)
    assert not found.has_pixels
    assert {pair.kind for pair in found.duplicates} == {"similar"}
    assert "the images are not looked at" in caplog.text
    assert found.leaks == ()
    assert audit(cache, dataset=str(planted.with_name("elsewhere.npz"))).has_pixels


def test_a_cache_of_few_training_rows_alone(planted, features, settings):
    cache = tfl.precompute(features, tfl.DatasetSpec(str(planted), "train[:4]", test_split=""), settings)
    found = audit(cache, is_all=True)
    assert found.leaks == ()
    assert len(found.duplicates) == 6
    assert len(found.labels) == 4


def test_a_cache_of_one_class(tmp_path, features, settings, planted):
    with np.load(planted) as arrays:
        changed = {**arrays, "train_labels": np.zeros(60, int), "test_labels": np.zeros(30, int)}
    np.savez(tmp_path / "one.npz", **changed)
    allowed = replace(settings, allow_missing_classes=True)
    cache = tfl.precompute(features, tfl.DatasetSpec(str(tmp_path / "one.npz")), allowed)
    with pytest.raises(RunError, match="are of the class 'red'; an audit compares two classes or more"):
        audit(cache)


def test_memory_that_does_not_suffice(cache):
    with pytest.raises(RunError, match="an audit of 90 images of .* features takes at least .* raise --max-memory"):
        audit(cache, max_memory=0.01)


def test_a_run_judges_what_leaks_do(cache, tmp_path):
    run = tfl.train(cache, tfl.Ridge(), runs_dir=tmp_path / "runs")
    (leak,) = audit(cache, run).leaks
    assert leak.judged_by == str(run)
    assert leak.accuracy == tfl.evaluate(run).accuracy


def test_a_run_of_another_cache(cache, planted, features, settings, tmp_path):
    other = tfl.precompute(replace(features, image_size=24), tfl.DatasetSpec(str(planted)), settings)
    run = tfl.train(other, tfl.Ridge(), runs_dir=tmp_path / "runs")
    with pytest.raises(RunError, match=r"was trained on .*, not on"):
        audit(cache, run)


# ---- the command, and images left out


def test_the_command_and_its_file(cache, tmp_path, capsys):
    out = tmp_path / "audit.csv"
    assert main(["audit", str(cache), "--out", str(out), "--roles", "train", "--kinds", "label", "flat"]) == 0
    text = capsys.readouterr().out
    assert "images are training images too" in text
    assert "test test_00001" in text
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == table.COLUMNS
    assert ("train_00003", "label", "red") in {(row["id"], row["kind"], row["suggested"]) for row in rows}
    assert {row["role"] for row in rows} == {"train"}
    assert {row["kind"] for row in rows} == {"label", "flat"}
    assert main(["audit", str(cache), "--out", str(out)]) == 2
    assert f"{out} exists already" in capsys.readouterr().err
    assert main(["audit", str(cache), "--json"]) == 0
    assert decode_record(json.loads(capsys.readouterr().out), Audit).cache == str(cache)


def write_ids(path, *ids):
    path.write_text("\n".join(["id", *ids]) + "\n", encoding="utf-8")
    return str(path)


def test_excluded_images_are_left_out(cache, planted, features, settings, tmp_path):
    spec = tfl.DatasetSpec(
        str(planted), exclude=write_ids(tmp_path / "audit.csv", "train_00003", "test_00001", "train_00003")
    )
    without = tfl.open_cache(tfl.precompute(replace(features, image_size=32), spec, settings))
    whole = tfl.open_cache(cache)
    assert without.num_rows == {"train": 59, "test": 29}
    is_kept = whole.read_ids("train") != b"train_00003"
    np.testing.assert_array_equal(without.read("train").features, whole.read("train").features[is_kept])
    assert b"test_00001" not in without.read_ids("test")
    assert without.spec.dataset.exclude.startswith("sha256:")
    assert without.spec.fingerprint != whole.spec.fingerprint
    assert {image.id for image in without.provenance.skipped} == {"train_00003", "test_00001"}
    assert {image.reason for image in without.provenance.skipped} == {"left out by --exclude"}
    again = tfl.precompute(replace(features, image_size=32), spec, settings)
    assert again == without.path
    assert audit(again).num_rows == {"train": 59, "test": 29}


@pytest.mark.parametrize("has_cache", [False, True])
def test_an_excluded_id_that_is_not_there(planted, features, settings, tmp_path, has_cache):
    if has_cache:
        tfl.precompute(features, tfl.DatasetSpec(str(planted)), settings)
    spec = tfl.DatasetSpec(str(planted), exclude=write_ids(tmp_path / "audit.csv", "train_00003", "train_999"))
    with pytest.raises(DatasetError, match=r"audit.csv names 1 of 2 ids that are not in the splits .* 'train_999'"):
        tfl.precompute(features, spec, settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a CSV file"),
        ("", "expected one called 'id'"),
        ("name\nx\n", r"has the columns \['name'\]; expected one called 'id'"),
        ("id\n", "has no rows; leave --exclude out"),
    ],
)
def test_a_file_that_excludes_nothing(planted, features, settings, tmp_path, content, message):
    path = tmp_path / "audit.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        tfl.precompute(features, tfl.DatasetSpec(str(planted), exclude=str(path)), settings)


def test_a_cache_that_is_not_there(tmp_path):
    with pytest.raises(CacheError, match="there is no cache file"):
        audit(tmp_path / "none.h5")


def test_paths_of_a_folder(folder, features, settings, tmp_path):
    cache = tfl.precompute(features, tfl.DatasetSpec(str(folder)), settings)
    out = tmp_path / "audit.csv"
    assert main(["audit", str(cache), "--all", "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths
    assert all(path.startswith(str(folder)) and Path(path).is_file() for path in paths)


# ---- what to label next


def test_unlabelled_images_are_ranked(cache, planted, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    with np.load(planted) as arrays:
        sure, other = arrays["train_images"][6], arrays["train_images"][8]
    grey = np.full((40, 40, 3), 120, np.uint8)
    for name, image in {"sure": sure, "other": other, "grey": grey, "grey again": grey}.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no image")
    found = audit(cache, unlabelled=folder).label_next
    assert len(found) == 4
    by_name = {image.path.rpartition("/")[2]: image for image in found}
    assert (by_name["sure.png"].suggested, by_name["other.png"].suggested) == ("red", "blue")
    assert found[-1].path.endswith(("grey.png", "grey again.png"))
    assert found[0].score >= found[1].score >= found[2].score


def test_a_folder_without_images(cache, tmp_path):
    with pytest.raises(DatasetError, match="there is no image file in"):
        audit(cache, unlabelled=tmp_path / "cache")
    with pytest.raises(DatasetError, match="--unlabelled is a folder of images, and .* is none"):
        audit(cache, unlabelled=tmp_path / "nothing")
