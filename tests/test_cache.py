import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from test_spec import OTHER_VALUES

from tfl.cache import (
    CachedRows,
    Cost,
    DamagedShardError,
    PartialCache,
    Shard,
    UniqueIds,
    inspect,
    list_caches,
    list_overviews,
    lock,
    merge,
    open_cache,
    verification,
    verify,
)
from tfl.cache.file import read_file_header
from tfl.cache.shards import read_shard
from tfl.datasets import BadImage
from tfl.errors import CacheError
from tfl.files import hashing, trust
from tfl.files.codec import encode_record
from tfl.reports.caches import format_cache
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec

SPEC = CacheSpec(FeatureSpec(weights="sha256:ab"), DatasetSpec(version="3.0.2"))
OTHER = CacheSpec(FeatureSpec(weights="sha256:ab", image_size=160), DatasetSpec(version="3.0.2"))
MAKING = {"engine": "none", "batch_size": 8, "shard_rows": 4}
TYPED = {"typed": {"dataset": "cifar10", "weights": "random"}}
PROVENANCE = {**TYPED, "seconds": 2.0, "images_computed": 12, "images_per_second": 6.0, "skipped": []}
NAMES = ("even", "odd")
NUM_ROWS = {"train": 10, "test": 3}


def rows(role, start, stop):
    index = np.arange(start, stop)
    features = np.stack([index, index**2, -index], axis=1).astype(np.float32)
    return CachedRows(features, index % 2, np.array([f"{role}_{i}".encode() for i in index]))


def begin(path, making=MAKING):
    return PartialCache(path, SPEC, NUM_ROWS, making)


def fill(partial):
    for shard in partial.missing():
        partial.write(shard, rows(*shard), Cost(0.5, 3))


def finish(partial):
    return partial.finish(NAMES, dict(TYPED))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / SPEC.file_name
    partial = begin(path)
    with partial.hold():
        fill(partial)
        finish(partial)
    return path


def test_what_was_written_is_read(path):
    cache = open_cache(path, expected=SPEC)
    assert (cache.spec, cache.num_rows, cache.num_features) == (SPEC, NUM_ROWS, 3)
    assert (cache.class_names, cache.provenance.values) == (NAMES, PROVENANCE)
    for role, count in NUM_ROWS.items():
        for found, expected in zip(cache.read(role), rows(role, 0, count), strict=True):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(cache.read_rows("train", np.array([2, 7])), rows("train", 0, 10).features[[2, 7]])


def test_plain_h5py_reads_it(path):
    """The layout that DESIGN and the README promise to programs that do not have tfl."""
    with h5py.File(path) as file:
        assert sorted(file.attrs) == ["class_names", "digests", "fingerprint", "format", "provenance", "spec"]
        assert json.loads(file.attrs["spec"])["features"]["image_size"] == 224
        assert file["train/features"].shape == (10, 3)
        assert file["train/labels"].dtype == np.int64
        assert file["test/ids"][2] == b"test_2"
        assert all(file[f"{role}/{name}"].fletcher32 for role in NUM_ROWS for name in ("features", "labels", "ids"))
    assert path.read_bytes()[8] == 3  # the superblock version that libver="v110" writes


VIEWS_SPEC = replace(SPEC, views=("original", "hflip", "crop1"))


@pytest.fixture
def path_of_views(tmp_path):
    """Like `path`, and the features of a view are 100 or 200 more than those of the original."""
    partial = PartialCache(tmp_path / VIEWS_SPEC.file_name, VIEWS_SPEC, NUM_ROWS, MAKING)
    with partial.hold():
        for shard in partial.missing():
            plain = rows(*shard)
            views = {"hflip": plain.features + 100, "crop1": plain.features + 200}
            partial.write(shard, plain._replace(views=views), Cost(0.5, 9))
        return finish(partial)


def test_views_are_read(path_of_views):
    cache = open_cache(path_of_views, expected=VIEWS_SPEC)
    assert cache.views == ("original", "hflip", "crop1")
    expected = rows("train", 0, 10).features
    picked = np.array([2, 7])
    for view, more in (("original", 0), ("hflip", 100), ("crop1", 200)):
        np.testing.assert_array_equal(cache.read_view("train", view), expected + more)
        np.testing.assert_array_equal(cache.read_rows("train", picked, view=view), expected[picked] + more)
    np.testing.assert_array_equal(cache.read("train").features, expected)
    assert verify(path_of_views) == []
    with h5py.File(path_of_views) as file:
        assert sorted(file["train"]) == ["features", "ids", "labels", "views"]
        assert file["test/views/crop1"].shape == (3, 3)
        assert file["test/views/crop1"].fletcher32


def test_a_file_without_further_views_has_no_group_of_them(path):
    with h5py.File(path) as file:
        assert sorted(file["train"]) == ["features", "ids", "labels"]


@pytest.mark.parametrize("rng", [None, 0])
def test_blocks_of_every_view_come_in_the_same_order(path_of_views, rng):
    cache = open_cache(path_of_views)
    original, crop = (
        list(cache.blocks("train", 3, None if rng is None else np.random.default_rng(rng), view=view))
        for view in ("original", "crop1")
    )
    assert len(original) == 4
    for (features, labels), (of_crop, labels_of_crop) in zip(original, crop, strict=True):
        np.testing.assert_array_equal(features + 200, of_crop)
        np.testing.assert_array_equal(labels, labels_of_crop)


def test_a_view_that_is_not_there_is_named(path, path_of_views):
    message = (
        "has no view crop5; it has original, hflip, crop1. .*`tfl precompute ... --views original hflip crop1 crop5`"
    )
    cache = open_cache(path_of_views)
    for read in (
        lambda: cache.read_view("train", "crop5"),
        lambda: cache.read_rows("train", np.array([0]), view="crop5"),
        lambda: next(cache.blocks("train", 3, view="crop5")),
    ):
        with pytest.raises(CacheError, match=message):
            read()
    with pytest.raises(
        CacheError, match="has no view hflip; it has original. A view added later costs that view alone"
    ):
        open_cache(path).read_view("test", "hflip")
    with pytest.raises(CacheError, match="views: original hflip crop1 on disk, original requested"):
        open_cache(path_of_views, expected=SPEC)


def test_flipped_bits_of_a_view_are_found(path_of_views, monkeypatch):
    monkeypatch.setattr(trust, "is_trusted", lambda path: True)
    offset, size = chunk_of(path_of_views, "train/views/hflip")
    for byte in range(0, size, 7):
        flip(path_of_views, offset + byte)
        (problem,) = verification.find_problems(path_of_views)
        assert problem.startswith("train/views/hflip rows 0 to 9 are damaged")
        with pytest.raises(CacheError, match="is damaged in train"):
            open_cache(path_of_views).read_view("train", "hflip")
        flip(path_of_views, offset + byte)
    with path_of_views.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(size))
    assert verification.find_problems(path_of_views) == [
        "train/views/hflip rows 0 to 9 are not those that were written (another sha256)"
    ]


def test_room_is_needed_for_every_view(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    needed = []
    for spec in (SPEC, VIEWS_SPEC):
        with pytest.raises(CacheError, match="bytes free, and .* are needed") as error:
            PartialCache(tmp_path / "c.h5", spec, NUM_ROWS, MAKING).require_room(1000)
        needed.append(int(str(error.value).split("and ")[1].split(" are")[0].replace(",", "")))
    assert needed[1] - needed[0] == 2 * 13 * 2 * 1000 * 4  # shards and file; rows; views; features


def test_time_left_counts_every_view(tmp_path):
    partial = PartialCache(tmp_path / "c.h5", VIEWS_SPEC, NUM_ROWS, MAKING)
    with partial.hold():
        partial.write(Shard("train", 0, 4), rows("train", 0, 4), Cost(2.0, 12))
        assert inspect(tmp_path / "c.h5").seconds_left == 4.5


def test_nothing_unfinished_is_left(path):
    assert [entry.name for entry in path.parent.iterdir()] == [SPEC.file_name]


def test_another_spec_is_refused_with_both_values(path):
    with pytest.raises(CacheError, match="made under another spec\n  image_size: 224 on disk, 160 requested"):
        open_cache(path, expected=OTHER)


@pytest.mark.parametrize("field", [field.name for field in fields(FeatureSpec)])
def test_no_field_of_the_features_can_be_stale(path, field):
    needed = {"compute_dtype": "int8"} if field == "quantized_network" else {}
    requested = replace(SPEC, features=replace(SPEC.features, **needed, **{field: OTHER_VALUES[field]}))
    assert requested.file_name != SPEC.file_name
    with pytest.raises(CacheError, match="made under another spec") as error:
        open_cache(path, expected=requested)
    old, new = (getattr(spec.features, field) for spec in (SPEC, requested))
    shown = [" ".join(value) if isinstance(value, tuple) else value for value in (old, new)]
    assert f"\n  {field}: {'none' if shown[0] == '' else shown[0]} on disk, {shown[1]} requested" in str(error.value)


@pytest.mark.parametrize("field", [field.name for field in fields(DatasetSpec)])
def test_no_field_of_the_dataset_can_be_stale(path, field):
    other = {float: 0.125, int: 3}.get(type(getattr(SPEC.dataset, field)), "other")
    requested = replace(SPEC, dataset=replace(SPEC.dataset, **{field: other}))
    assert requested.file_name != SPEC.file_name
    with pytest.raises(CacheError, match=f"\n  {field}: .* on disk, {other} requested"):
        open_cache(path, expected=requested)


def test_missing_role_is_named(path):
    with pytest.raises(CacheError, match="has no val rows; it has train, test. Precompute again with --val-split"):
        open_cache(path).read("val")


def test_files_that_are_no_caches(tmp_path, path):
    with pytest.raises(CacheError, match="there is no cache file"):
        open_cache(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(CacheError, match=r"text.h5 is not an HDF5 file \(5 bytes\)"):
        open_cache(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(CacheError, match="of another version than precompute writes"):
        open_cache(tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5", "w", libver="v110") as file:
        file["x"] = 1
    with pytest.raises(CacheError, match="an HDF5 file, but not a feature cache"):
        open_cache(tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(CacheError, match="format 99; this version of tfl reads 1: precompute again"):
        open_cache(path)


def test_unreadable_files_are_passed_over_in_a_list(path, caplog):
    (path.parent / "aaa.h5").write_text("hello")
    assert [cache.path for cache in list_caches(path.parent)] == [path]
    assert "ignored: " in caplog.text


def flip(path, offset, bit=3):
    with path.open("r+b") as raw:
        raw.seek(offset)
        byte = raw.read(1)[0]
        raw.seek(offset)
        raw.write(bytes([byte ^ 1 << bit]))


def chunk_of(path, name):
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(0)
        return chunk.byte_offset, chunk.size


@pytest.mark.parametrize("name", ["features", "labels", "ids"])
def test_every_flipped_bit_of_the_rows_is_found(path, name, monkeypatch):
    """Each bit of an array and of its checksum, by `verify` with its rows; each fifth by whoever reads."""
    monkeypatch.setattr(trust, "is_trusted", lambda path: True)  # else the changed file is examined at opening
    offset, size = chunk_of(path, f"train/{name}")
    for bit in range(8 * size):
        flip(path, offset + bit // 8, bit % 8)
        (problem,) = verification.find_problems(path)
        assert problem.startswith(f"train/{name} rows 0 to 9 are damaged")
        if bit % 5 == 0:  # a third of the time
            with pytest.raises(CacheError, match="is damaged in train: .*`tfl verify` names the rows"):
                open_cache(path).read("train")
        flip(path, offset + bit // 8, bit % 8)
    assert verification.find_problems(path) == []


def test_every_flipped_bit_of_the_rest_is_found_or_changes_nothing(path):
    """Header, indexes, attributes: nothing that is read back silently differs."""
    found = harmless = 0
    whole = read_file_header(path)
    for offset in range(path.stat().st_size):
        flip(path, offset, offset % 8)
        if verification.find_problems(path):
            found += 1
        else:
            harmless += 1
            assert read_file_header(path) == whole
        flip(path, offset, offset % 8)
    assert found > 1000, (found, harmless)


WIDE = 8192  # features of a row: 32 rows fill a chunk
NUM_WIDE = 301  # ten chunks, the last one short


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows whose features are their number, stored class by class."""
    num_rows = {"train": NUM_WIDE, "test": 1}
    partial = PartialCache(tmp_path_factory.mktemp("wide") / "c.h5", SPEC, num_rows, {**MAKING, "shard_rows": NUM_WIDE})
    index = np.arange(NUM_WIDE)
    features = np.repeat(index.astype(np.float32)[:, None], WIDE, axis=1)
    with partial.hold():
        ids = np.array([b"%d" % i for i in index])
        partial.write(Shard("train", 0, NUM_WIDE), CachedRows(features, index // 151, ids), Cost(1, NUM_WIDE))
        partial.write(Shard("test", 0, 1), CachedRows(features[:1], index[:1], np.array([b"test"])), Cost(1, 1))
        return open_cache(finish(partial))


@pytest.mark.parametrize("num_rows", [1, 25, 32, 50, 160, 300, 301, 1000])
def test_blocks_in_stored_order_are_the_whole(wide, num_rows):
    features, labels = zip(*wide.blocks("train", num_rows), strict=True)
    assert {len(block) for block in features[:-1]} <= {num_rows}
    assert [len(block) for block in features] == [len(block) for block in labels]
    np.testing.assert_array_equal(np.concatenate(features), wide.read("train").features)
    np.testing.assert_array_equal(np.concatenate(labels), wide.read("train").labels)


@pytest.mark.parametrize("num_rows", [1, 25, 32, 50, 160, 300, 301, 1000])
def test_random_blocks_hold_every_row_once_with_its_label(wide, num_rows):
    blocks = list(wide.blocks("train", num_rows, np.random.default_rng(0)))
    assert {len(labels) for _, labels in blocks[:-1]} <= {num_rows}
    found = np.concatenate([features[:, -1] for features, _ in blocks]).astype(int)
    assert sorted(found) == list(range(NUM_WIDE))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in blocks]), found // 151)
    assert all((np.diff(features[:, 0]) > 0).all() for features, _ in blocks)


def test_random_blocks_gather_chunks_in_an_order_that_changes(wide):
    """The order of the chunks is the one permutation that is drawn; cut into blocks, each sorted."""
    rng, ours = np.random.default_rng(0), np.random.default_rng(0)
    orders = set()
    for _ in range(10):
        chunks = [np.arange(start, min(start + 32, NUM_WIDE)) for start in rng.permutation(np.arange(0, NUM_WIDE, 32))]
        order = np.concatenate(chunks)
        for i, (features, _) in enumerate(wide.blocks("train", 80, ours)):
            np.testing.assert_array_equal(features[:, 0], np.sort(order[i * 80 : (i + 1) * 80]))
        orders.add(order.tobytes())
    assert len(orders) == 10


def test_blocks_of_a_missing_role_or_a_damaged_file(path):
    cache = open_cache(path)
    with pytest.raises(CacheError, match="has no val rows; it has train, test. Precompute again with --val-split"):
        next(cache.blocks("val", 4))
    flip(path, chunk_of(path, "train/features")[0])
    with pytest.raises(CacheError, match="is damaged in train: .*`tfl verify` names the rows"):
        list(cache.blocks("train", 4))


def test_verify_reads_in_another_process(path):
    assert verify(path) == []
    flip(path, chunk_of(path, "test/features")[0])
    (problem,) = verify(path)
    assert "test/features rows 0 to 2 are damaged" in problem
    with pytest.raises(
        CacheError, match="cannot be trusted; remove it and precompute again:\n  test/features rows 0 to 2"
    ):
        open_cache(path)


def test_a_file_of_ones_own_stays_that_when_it_is_verified(path):
    assert trust.is_own(path)
    assert verify(path) == []
    assert trust.is_own(path)


def test_rows_of_zeros_are_found_by_verify(path, monkeypatch):
    """Fletcher's checksum of zeros is zero; the sha256 is not."""
    offset, size = chunk_of(path, "train/features")
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(size))
    assert verify(path) == ["train/features rows 0 to 9 are not those that were written (another sha256)"]


@pytest.mark.parametrize("size", [0, 1, 8, 9, 100, -1, -100, "half"])
def test_truncated_file_is_an_error(path, size):
    whole = path.stat().st_size
    os.truncate(path, whole // 2 if size == "half" else size % whole)
    with pytest.raises(CacheError, match="not an HDF5 file|cannot be trusted|another version"):
        open_cache(path)
    assert verify(path)


def test_a_file_that_has_not_changed_is_opened_at_once(path, monkeypatch):
    monkeypatch.setattr(trust, "find_problems", lambda kind, path: pytest.fail("examined"))
    open_cache(path)


def test_a_file_from_elsewhere_is_examined_once(path, monkeypatch):
    copy = path.with_name("copy.h5")
    copy.write_bytes(path.read_bytes())
    examined = []
    examine = trust.find_problems
    monkeypatch.setattr(trust, "find_problems", lambda kind, path: examined.append(path) or examine(kind, path))
    open_cache(copy)
    open_cache(copy)
    assert examined == [copy]


def test_no_notes_can_be_made(path, monkeypatch):
    monkeypatch.setattr(trust, "_notes_folder", lambda: path / "no folder")
    monkeypatch.setattr("tfl.files.user_folders.make_temporary_home", lambda: path / "no folder either")
    trust.mark_examined(path)
    assert len(open_cache(path).read("test").labels) == 3


def test_notes_of_files_that_are_gone_go(path, tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "_notes_folder", lambda: tmp_path / "notes")
    copy = path.with_name("copy.h5")
    copy.write_bytes(path.read_bytes())
    trust.mark_examined(copy)
    copy.unlink()
    trust.mark_examined(path)
    assert len(list((tmp_path / "notes").iterdir())) == 1


def stat_with(monkeypatch, path, **values):
    """Let `path.stat()` say something else; the file system gives no inode on request, and no change time ever."""
    stat = type(path).stat

    def changed(self, **options):
        state = stat(self, **options)
        if self != path:
            return state
        names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode")
        return SimpleNamespace(**{**{name: getattr(state, name) for name in names}, **values})

    monkeypatch.setattr(type(path), "stat", changed)


def test_a_foreign_file_in_a_reused_inode_is_not_ones_own(path, monkeypatch):
    """The same device, inode, size and time of modification, after `rm` and `cp --preserve`; only the ctime differs."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    stat_with(monkeypatch, path, st_ino=before.st_ino)
    state = path.stat()
    assert (state.st_ino, state.st_size, state.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert not trust.is_own(path)
    assert not trust.is_trusted(path)
    trust.mark_examined(path)
    assert trust.is_trusted(path)
    assert not trust.is_own(path)


@pytest.mark.parametrize("change", ["mode", "name", "link", "folder"])
def test_ones_own_file_stays_that_under_another_name_or_mode(path, tmp_path, change, monkeypatch):
    monkeypatch.setattr(trust, "_notes_folder", lambda: tmp_path / "notes")
    trust.mark_own(path)
    other = path.with_name("moved.h5")
    if change == "mode":
        path.chmod(0o444)
        other = path
    elif change == "name":
        path.rename(other)
    elif change == "link":
        other.hardlink_to(path)
    else:
        (tmp_path / "inner").mkdir()
        path.rename(tmp_path / "inner" / path.name)
        other = (tmp_path / "inner").rename(tmp_path / "moved") / path.name
    trust.mark_examined(Path(__file__))  # the notes of files that are gone go
    assert trust.is_own(other)
    monkeypatch.setattr(hashing, "hash_file", lambda path: pytest.fail("read again"))
    assert trust.is_own(other)


def test_notes_without_a_change_time_do_not_count(path, tmp_path, monkeypatch):
    """Of the version before: the inode may have been reused since."""
    monkeypatch.setattr(trust, "_notes_folder", lambda: tmp_path / "notes")
    (tmp_path / "notes").mkdir()
    state = path.stat()
    note = tmp_path / "notes" / f"{state.st_dev:x}-{state.st_ino:x}"
    note.write_bytes(b"own %d %d\n%s" % (state.st_size, state.st_mtime_ns, os.fsencode(path)))
    assert not trust.is_trusted(path)
    for damaged in (b"", b"own", b"own 1 2 3 4 5 6", b"\xff\xfe", b"own x y z -\n/a"):
        note.write_bytes(damaged)
        assert not trust.is_trusted(path)
    assert len(open_cache(path).read("test").labels) == 3
    assert trust.is_trusted(path)


def test_a_file_whose_writer_was_killed_after_the_rename_is_ones_own(tmp_path, monkeypatch):
    """A kill between the rename and the note of the new name leaves the note of the old one."""
    write = trust._write

    def die_at_the_second(note):
        if note.path == tmp_path / "c.h5":
            raise KeyboardInterrupt
        write(note)

    partial = begin(tmp_path / "c.h5")
    with monkeypatch.context() as patch, partial.hold():
        fill(partial)
        patch.setattr(trust, "_write", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            finish(partial)
    assert trust.is_own(tmp_path / "c.h5")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text", "gone"])
def test_damaged_shard_is_named(tmp_path, damage):
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        fill(partial)
        shard = tmp_path / "c.h5.partial" / "train-000000004.shard"
        content = shard.read_bytes()
        if damage == "flip":
            flip(shard, len(content) // 2)
        elif damage == "gone":
            shard.unlink()
        else:
            shard.write_bytes({"truncate": content[:-40], "empty": b"", "text": b"hello"}[damage])
        with pytest.raises(DamagedShardError, match="train-000000004.shard is damaged") as error:
            finish(partial)
        assert error.value.path == shard
        shard.unlink(missing_ok=True)
        assert partial.missing() == [Shard("train", 4, 8)]
        fill(partial)
        finish(partial)
    assert len(open_cache(tmp_path / "c.h5").read("train").ids) == 10


def test_every_flipped_bit_of_a_shard_is_found(tmp_path):
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        fill(partial)
        path = tmp_path / "c.h5.partial" / "train-000000004.shard"
        for bit in range(8 * path.stat().st_size):
            flip(path, bit // 8, bit % 8)
            with pytest.raises(DamagedShardError):
                read_shard(path)
            flip(path, bit // 8, bit % 8)
        read_shard(path)


def test_repeated_id_is_an_error(tmp_path):
    partial = PartialCache(tmp_path / "c.h5", SPEC, {"train": 3, "test": 2}, MAKING)
    with partial.hold():
        partial.write(Shard("train", 0, 3), rows("train", 0, 3), Cost(1, 3))
        partial.write(Shard("test", 0, 2), rows("train", 2, 4), Cost(1, 2))
        with pytest.raises(CacheError, match="the id 'train_2' appears in two rows; ids are unique"):
            finish(partial)


def test_unique_ids():
    ids = UniqueIds()
    assert ids.add(np.array([b"b", b"a"])) is None
    assert ids.add(np.array([], "S1")) is None
    assert ids.add(np.array([b"c", b"d", b"c"])) == "c"
    assert ids.add(np.array([b"zz", b"a"])) == "a"


def test_other_settings_do_not_go_on(tmp_path):
    with begin(tmp_path / "c.h5").hold():
        begin(tmp_path / "c.h5").write(Shard("train", 0, 4), rows("train", 0, 4), Cost(1, 4))
    with begin(tmp_path / "c.h5").hold():
        pass
    other = begin(tmp_path / "c.h5", {**MAKING, "batch_size": 16})
    with (
        pytest.raises(CacheError, match="begun with other settings.*\n  batch_size: 8 in the folder, 16 now"),
        other.hold(),
    ):
        pass


def test_damaged_settings_are_named(tmp_path):
    with begin(tmp_path / "c.h5").hold():
        begin(tmp_path / "c.h5").write(Shard("train", 0, 4), rows("train", 0, 4), Cost(1, 4))
    (tmp_path / "c.h5.partial" / "manifest.json").write_text("{")
    with (
        pytest.raises(CacheError, match="manifest.json is damaged .*; remove the folder to begin again"),
        begin(tmp_path / "c.h5").hold(),
    ):
        pass


def test_nothing_is_left_where_nothing_was_made(tmp_path):
    with pytest.raises(ZeroDivisionError), begin(tmp_path / "c.h5").hold():
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_removed_while_it_is_waited_for_is_made_again(tmp_path, monkeypatch):
    """The process that held it finished between the opening of the lock file and the lock."""
    folder, flock, removed = tmp_path / "c.h5.partial", fcntl.flock, []

    def remove_first(file, how):
        if not removed:
            removed.append(shutil.rmtree(folder))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock.hold_folder(folder, "c.h5"):
        assert (folder / "lock").read_text() == f"process {os.getpid()} on {platform.node()}"


def test_shards_of_unknown_settings_are_not_used(tmp_path):
    with begin(tmp_path / "c.h5").hold():
        fill(begin(tmp_path / "c.h5"))
    (tmp_path / "c.h5.partial" / "manifest.json").unlink()
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        assert len(partial.missing()) == 4


def test_second_process_is_refused_and_the_first_named(tmp_path):
    with (
        begin(tmp_path / "c.h5").hold(),
        pytest.raises(CacheError, match=f"is being made by process {os.getpid()} on "),
        begin(tmp_path / "c.h5").hold(),
    ):
        pass


def test_lock_of_a_dead_process_does_not_block(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from tfl.cache import lock
with lock.hold_folder(Path({str(tmp_path / "c.h5.partial")!r}), "c.h5"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert (tmp_path / "c.h5.partial" / "lock").read_text()
    with begin(tmp_path / "c.h5").hold():
        pass


@pytest.fixture
def disk_without_locks(monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("disk_without_locks")
def test_without_locks_a_living_process_is_respected_and_a_dead_one_is_not(tmp_path):
    holder = tmp_path / "c.h5.partial" / "lock"
    with begin(tmp_path / "c.h5").hold():
        assert holder.read_text() == f"process {os.getpid()} on {platform.node()}"
        with (
            pytest.raises(CacheError, match="(?s)is being made by process .* or remove that file"),
            begin(tmp_path / "c.h5").hold(),
        ):
            pass
    assert not holder.exists()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    holder.parent.mkdir()
    holder.write_text(f"process {int(dead.stdout)} on {platform.node()}\n")
    with begin(tmp_path / "c.h5").hold():
        pass
    holder.parent.mkdir()
    holder.write_text("process 1 on another-machine")
    with pytest.raises(CacheError, match="process 1 on another-machine"), begin(tmp_path / "c.h5").hold():
        pass


def test_a_finished_file_made_meanwhile_leaves_no_folder(path):
    late = begin(path)
    with late.hold():
        assert path.exists()
    assert not late.folder.exists()


def test_folder_left_by_a_kill_after_the_rename_is_removed(path):
    folder = begin(path).folder
    folder.mkdir()
    (folder / "train-000000000.shard").write_text("leftover")
    begin(path).discard_if_finished()
    assert not folder.exists()


def test_readers_need_no_lock(path):
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert len(open_cache(path).read("train").labels) == 10


READ_ONLY = """
import os, sys
from pathlib import Path
from tfl.files import trust
from tfl.cache import open_cache
if os.getuid() == 0:
    os.setegid(65534); os.seteuid(65534)
path = Path(sys.argv[1])
try:
    (path.parent / "x").write_text("x")
    print("could write")
except PermissionError:
    trust.is_trusted = lambda path: True  # the examining process could not start as nobody in a private environment
    print(len(open_cache(path).read("train").labels))
"""


def test_read_only_folder_several_readers_at_a_time(path):
    for folder in (path.parent, *path.parent.parents):  # nobody may pass through pytest's private folders
        if folder.stat().st_uid == os.getuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    path.parent.chmod(0o555)
    path.chmod(0o444)
    try:
        readers = [
            subprocess.Popen([sys.executable, "-c", READ_ONLY, str(path)], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        assert [reader.communicate()[0].strip() for reader in readers] == ["10"] * 3
    finally:
        path.parent.chmod(0o755)


def read_in_worker(path):
    return open_cache(path).read("train").features.sum()


@pytest.mark.parametrize("how", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_worker_processes_read(path, how):
    cache = open_cache(path)
    expected = cache.read("train").features.sum()
    with multiprocessing.get_context(how).Pool(2) as pool:
        assert pool.map(read_in_worker, [path] * 4) == [expected] * 4


def test_room_is_needed_before_the_first_image(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1234))
    partial = begin(tmp_path / "c.h5")
    with partial.hold(), pytest.raises(CacheError, match="has 1,234 bytes free, and 1,05.,... are needed: "):
        partial.require_room(3)


def test_inspect_a_file(path):
    found = inspect(path)
    values = json.loads(json.dumps(encode_record(found)))
    assert list(values) == [
        *("path", "bytes", "format", "fingerprint", "spec", "class_names"),
        *("num_features", "rows", "class_counts", "provenance", "checked"),
    ]
    assert values["spec"] == json.loads(SPEC.to_json())
    assert found.rows == NUM_ROWS
    assert found.class_counts["train"] == {"even": 5, "odd": 5}
    assert found.provenance == PROVENANCE
    assert found.spec.features.image_size == 224


def test_inspect_what_is_being_made(tmp_path):
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        partial.write(Shard("train", 0, 4), rows("train", 0, 4), Cost(2.0, 4))
        found = inspect(tmp_path / "c.h5")
        assert found.held_by == f"process {os.getpid()} on {platform.node()}"
    found = inspect(tmp_path / "c.h5.partial")
    assert found.held_by == ""
    values = json.loads(json.dumps(encode_record(found)))
    assert list(values) == [
        *("path", "bytes", "format", "fingerprint", "spec", "rows", "seconds", "images_computed"),
        *("seconds_left", "skipped", "num_skipped", "held_by", "made_with"),
    ]
    assert values["rows"] == {"train": {"finished": 4, "total": 10}, "test": {"finished": 0, "total": 3}}
    assert (found.seconds, found.seconds_left) == (2.0, 4.5)
    assert found.made_with == MAKING
    listed = list_overviews(tmp_path)
    assert [(entry.name, entry.rows, entry.finished) for entry in listed] == [
        ("c.h5.partial", {"train": 10, "test": 3}, 4)
    ]
    (tmp_path / "c.h5.partial" / "manifest.json").write_text("[]")
    assert list_overviews(tmp_path) == []
    with pytest.raises(CacheError, match="is not the folder of an unfinished cache"):
        inspect(tmp_path / "c.h5")


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", "num_rows", "shard_rows"])
def test_inspect_of_a_folder_with_an_odd_manifest(tmp_path, manifest):
    with begin(tmp_path / "c.h5").hold():
        begin(tmp_path / "c.h5").write(Shard("train", 0, 4), rows("train", 0, 4), Cost(2.0, 4))
    path = tmp_path / "c.h5.partial" / "manifest.json"
    values = json.loads(path.read_text())
    for odd in ([], "4", 0, -1, None, {"train": "x"}):
        path.write_text(json.dumps({**values, manifest: odd}) if manifest in values else manifest)
        with pytest.raises(CacheError, match="is not the folder of an unfinished cache"):
            inspect(tmp_path / "c.h5")


def test_inspect_passes_over_damaged_shards(tmp_path):
    with begin(tmp_path / "c.h5").hold():
        fill(begin(tmp_path / "c.h5"))
        for number in range(2):
            (tmp_path / "c.h5.partial" / f"train-00000000{4 * number}.shard").write_bytes(b"damaged")
        assert inspect(tmp_path / "c.h5").seconds == 1.0  # of two shards


@pytest.mark.usefixtures("disk_without_locks")
def test_holder_without_locks(tmp_path):
    with lock.hold_folder(tmp_path / "f", "f"):
        assert lock.find_holder(tmp_path / "f") == f"process {os.getpid()} on {platform.node()}"
    assert lock.find_holder(tmp_path / "f") == ""


def test_a_shard_that_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        fill(partial)

        def refuse(path):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(type(partial.folder), "read_bytes", refuse)
        with pytest.raises(PermissionError):
            finish(partial)
        monkeypatch.undo()
        finish(partial)


def test_too_little_memory_or_a_refusal_is_no_damage(path, monkeypatch):
    cache = open_cache(path)
    for error, expected, message in (
        (OSError("Can't read data (memory allocation failed for raw data chunk)"), MemoryError, "too little memory"),
        (PermissionError(errno.EACCES, "x"), CacheError, "cannot be read: Permission denied"),
    ):

        def fail(path, error=error):
            raise error

        monkeypatch.setattr("tfl.cache.file.open_unlocked", fail)
        with pytest.raises(expected, match=message):
            cache.read("train")
        with pytest.raises(expected, match=message):
            open_cache(path)


def test_a_file_of_others_in_the_folder_is_passed_over(path, monkeypatch, caplog):
    (path.parent / "secret.h5").write_bytes(path.read_bytes())
    is_known = trust.is_trusted

    def refuse(path):
        if path.name == "secret.h5":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_known(path)

    monkeypatch.setattr(trust, "is_trusted", refuse)
    assert [cache.path for cache in list_caches(path.parent)] == [path]
    assert "ignored: " in caplog.text


def exchange(first, second):
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def damaged_on_the_way(partial):
    """Finish as `precompute` does: a shard that is named as damaged is removed and made again."""
    named = []
    while True:
        try:
            finish(partial)
            return named
        except DamagedShardError as damage:
            named.append(str(damage))
            damage.path.unlink()
            fill(partial)


def assert_right(path):
    cache = open_cache(path)
    for role, count in NUM_ROWS.items():
        for found, expected in zip(cache.read(role), rows(role, 0, count), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "names",
    [
        ("train-000000000", "train-000000004"),
        ("train-000000008", "train-000000004"),
        ("test-000000000", "train-000000000"),
    ],
)
def test_two_shards_exchanged_are_made_again(tmp_path, names):
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        fill(partial)
        exchange(*(partial.folder / f"{name}.shard" for name in names))
        named = damaged_on_the_way(partial)
    assert len(named) == 2
    assert all(re.search(r"it holds \w+ rows \d+ to \d+ of the cache .*; expected", line) for line in named)
    assert_right(tmp_path / "c.h5")


@pytest.mark.parametrize("change", ["another cache", "a shorter one", "an earlier version"])
def test_a_shard_of_other_rows_is_made_again(tmp_path, change):
    partial = begin(tmp_path / "c.h5")
    spec, making = (OTHER, MAKING) if change == "another cache" else (SPEC, {**MAKING, "shard_rows": 2})
    other = PartialCache(tmp_path / "other.h5", spec, NUM_ROWS, making)
    with partial.hold(), other.hold():
        fill(partial)
        fill(other)
        shard = partial.folder / "train-000000004.shard"
        if change == "an earlier version":
            _, header, arrays = shard.read_bytes().split(b"\n", 2)
            values = json.loads(header)
            del values["place"]
            content = json.dumps(values).encode() + b"\n" + arrays
            shard.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        else:
            shard.write_bytes((other.folder / shard.name).read_bytes())
        (line,) = damaged_on_the_way(partial)
    expected = "it does not say which rows it holds" if change == "an earlier version" else "expected train rows 4 to 8"
    assert expected in line
    assert_right(tmp_path / "c.h5")


def test_a_file_that_no_command_could_open_gets_no_name_and_the_shards_stay(tmp_path, monkeypatch):
    partial = begin(tmp_path / "c.h5")
    write = merge._write_attributes

    def write_badly(file, spec, described):
        write(file, spec, {**described, "class_names": ["one"]})

    with partial.hold():
        fill(partial)
        before = sorted(partial.folder.iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(merge, "_write_attributes", write_badly)
            with pytest.raises(CacheError, match="was not made, .* its class_names are .*shards are kept in"):
                finish(partial)
        assert sorted(partial.folder.iterdir()) == before
        assert not partial.path.exists()
        finish(partial)
    assert_right(tmp_path / "c.h5")


def with_skipped(path, num_skipped, length):
    """A cache of 5 training rows and 3 test rows, and a list of images that were left out of that size."""
    num_rows = {"train": 5 + num_skipped, "test": 3}
    partial = PartialCache(path, SPEC, num_rows, {**MAKING, "shard_rows": 5 + num_skipped})
    skipped = [BadImage(f"bad_{i}", "x" * length) for i in range(num_skipped)]
    with partial.hold():
        train, test = partial.missing()
        partial.write(train, rows("train", 0, 5), Cost(1.0, 5), skipped)
        partial.write(test, rows("test", 0, 3), Cost(1.0, 3))
        unfinished = inspect(path)
        finish(partial)
    return unfinished


def test_more_skipped_images_than_a_file_can_list_are_counted(tmp_path):
    """25 MB of reasons, 16 MiB of which fit."""
    path = tmp_path / "c.h5"
    unfinished = with_skipped(path, 25, 1_000_000)
    assert (unfinished.num_skipped, len(unfinished.skipped)) == (25, 25)
    cache = open_cache(path)
    assert cache.provenance.num_skipped == 25
    listed = [image.id for image in cache.provenance.skipped]
    assert listed == [f"bad_{i}" for i in range(16)]
    assert cache.read("train").ids.tolist() == [b"train_%d" % i for i in range(5)]
    assert verify(path) == []
    lines = list(format_cache(inspect(path)))
    assert any(line.endswith(" 25 bad images:") for line in lines)
    assert "  ... and 9 more" in lines
    assert not (tmp_path / "c.h5.partial").exists()


def test_few_skipped_images_are_all_listed(tmp_path):
    with_skipped(tmp_path / "c.h5", 3, 10)
    provenance = open_cache(tmp_path / "c.h5").provenance.values
    assert (provenance["num_skipped"], len(provenance["skipped"])) == (3, 3)


@pytest.mark.parametrize("number", [2, -1, "3", None, 3.0, True])
def test_a_number_of_skipped_images_that_cannot_be(tmp_path, number):
    path = tmp_path / "c.h5"
    with_skipped(path, 3, 10)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        provenance = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = np.bytes_(json.dumps({**provenance, "num_skipped": number}))
    with pytest.raises(CacheError, match="provenance.num_skipped is"):
        read_file_header(path)


@pytest.mark.parametrize(
    ("spec", "names", "message"),
    [
        (SPEC, [f"{i:0300}" for i in range(60_000)], "class_names of this cache would take 18,240,000 bytes, .*fewer"),
        (replace(SPEC, dataset=replace(SPEC.dataset, train_split="train" * 4_000_000)), NAMES, "the spec of .*shorter"),
        (SPEC, ["one"], "the dataset has 1 classes; a cache needs two or more"),
    ],
)
def test_what_no_file_can_hold_is_refused_before_any_row(tmp_path, spec, names, message):
    partial = PartialCache(tmp_path / "c.h5", spec, NUM_ROWS, MAKING)
    with pytest.raises(CacheError, match=message):
        partial.require_storable(names, dict(TYPED))
    assert list(tmp_path.iterdir()) == []


def test_rows_wider_than_a_chunk_may_be(tmp_path):
    """A chunk of one row would have more than the 16 MiB that are read."""
    wide = (1 << 22) + 1
    partial = PartialCache(tmp_path / "c.h5", SPEC, {"train": 2, "test": 1}, MAKING)
    with partial.hold():
        for shard in partial.missing():
            features = np.full((shard.num_rows, wide), shard.num_rows, np.float32)
            partial.write(shard, rows(*shard)._replace(features=features), Cost(1.0, 1))
        finish(partial)
    assert open_cache(tmp_path / "c.h5").read("train").features[1, -1] == 2.0
    assert verify(tmp_path / "c.h5") == []
