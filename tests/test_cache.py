import json
import os

import h5py
import numpy as np
import pytest

from tfl.cache import Cost, DamagedShardError, PartialCache, Rows, list_caches, open_cache
from tfl.errors import CacheError
from tfl.spec import CacheSpec, DatasetSpec, FeatureSpec

SPEC = CacheSpec(FeatureSpec(weights="sha256:ab"), DatasetSpec(version="3.0.2"))
OTHER = CacheSpec(FeatureSpec(weights="sha256:ab", image_size=160), DatasetSpec(version="3.0.2"))
MAKING = {"engine": "none", "batch_size": 8}
PROVENANCE = {"engine": "none", "seconds": 2.0, "images_computed": 12, "images_per_second": 6.0}
NUM_ROWS = {"train": 10, "test": 3}


def rows(role, start, stop):
    index = np.arange(start, stop)
    features = np.stack([index, index**2, -index], axis=1).astype(np.float32)
    return Rows(features, index % 2, np.array([f"{role}_{i}".encode() for i in index]))


def begin(path, making=MAKING):
    return PartialCache(path, SPEC, ("even", "odd"), making)


def fill(partial):
    for role, count in NUM_ROWS.items():
        for start in range(0, count, 4):
            if not partial.has(role, start):
                partial.write(role, start, rows(role, start, min(start + 4, count)), Cost(0.5, 3))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / SPEC.file_name
    partial = begin(path)
    with partial.held():
        fill(partial)
        partial.finish(NUM_ROWS, 4, {"engine": "none"})
    return path


def test_what_was_written_is_read(path):
    cache = open_cache(path, expected=SPEC)
    assert (cache.spec, cache.num_rows, cache.num_features) == (SPEC, NUM_ROWS, 3)
    assert (cache.class_names, cache.provenance) == (("even", "odd"), PROVENANCE)
    for role, count in NUM_ROWS.items():
        for found, expected in zip(cache.read(role), rows(role, 0, count), strict=True):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(cache.read_rows("train", np.array([2, 7])), rows("train", 0, 10).features[[2, 7]])


def test_plain_h5py_reads_it(path):
    """The layout that DESIGN and the README promise to programs that do not have tfl."""
    with h5py.File(path) as file:
        assert sorted(file.attrs) == ["class_names", "fingerprint", "format", "provenance", "spec"]
        assert json.loads(file.attrs["spec"])["features"]["image_size"] == 224
        assert file["train/features"].shape == (10, 3)
        assert file["train/labels"].dtype == np.int64
        assert file["test/ids"][2] == b"test_2"
        assert all(file[f"{role}/{name}"].fletcher32 for role in NUM_ROWS for name in Rows._fields)
    assert path.read_bytes()[8] == 3  # the superblock version that libver="v110" writes


def test_nothing_unfinished_is_left(path):
    assert [entry.name for entry in path.parent.iterdir()] == [SPEC.file_name]


def test_another_spec_is_refused_with_both_values(path):
    with pytest.raises(CacheError, match="made under another spec\n  image_size: 224 on disk, 160 requested"):
        open_cache(path, expected=OTHER)


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
    with pytest.raises(CacheError, match="an HDF5 file, but not a feature cache"):
        open_cache(tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(CacheError, match="has format 99, this version of tfl reads 1; precompute again"):
        open_cache(path)


def test_unreadable_files_are_passed_over_in_a_list(path, caplog):
    (path.parent / "aaa.h5").write_text("hello")
    assert [cache.path for cache in list_caches(path.parent)] == [path]
    assert "passed over: " in caplog.text


def flip_bit_of_features(path):
    with h5py.File(path) as file:
        offset = file["train/features"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + 5)
        byte = raw.read(1)[0]
        raw.seek(offset + 5)
        raw.write(bytes([byte ^ 8]))


def test_flipped_bit_in_features_is_an_error_not_a_number(path):
    flip_bit_of_features(path)
    with pytest.raises(CacheError, match="is damaged in train: .*remove it and precompute again"):
        open_cache(path).read("train")
    assert len(open_cache(path).read("test").labels) == 3


WIDE = 8192  # features of a row: 32 rows fill a chunk
NUM_WIDE = 301  # ten chunks, the last one short


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows whose features are their number, stored class by class."""
    partial = begin(tmp_path_factory.mktemp("wide") / "c.h5")
    index = np.arange(NUM_WIDE)
    features = np.repeat(index.astype(np.float32)[:, None], WIDE, axis=1)
    with partial.held():
        partial.write("train", 0, Rows(features, index // 151, np.array([b"%d" % i for i in index])), Cost(1, NUM_WIDE))
        partial.write("test", 0, Rows(features[:1], index[:1], np.array([b"test"])), Cost(1, 1))
        return open_cache(partial.finish({"train": NUM_WIDE, "test": 1}, NUM_WIDE, {}))


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


def test_random_blocks_differ_and_each_comes_from_all_over_the_file(wide):
    rng = np.random.default_rng(0)
    passes = [[features[:, 0] for features, _ in wide.blocks("train", 160, rng)] for _ in range(20)]
    assert len({block[0].tobytes() for block in passes}) > 10
    for block in (block for blocks in passes for block in blocks):
        chunks = np.unique(block // 32).astype(int)
        # Ten chunks for two blocks: of two neighbours each block has one, but for rows that the short chunk shifts.
        assert len(np.unique(chunks // 2)) >= 4


def test_blocks_of_a_missing_role_or_a_damaged_file(path):
    with pytest.raises(CacheError, match="has no val rows; it has train, test. Precompute again with --val-split"):
        next(open_cache(path).blocks("val", 4))
    cache = open_cache(path)
    flip_bit_of_features(path)
    with pytest.raises(CacheError, match="is damaged in train: .*remove it and precompute again"):
        list(cache.blocks("train", 4))


def test_truncated_file_is_an_error(path):
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CacheError, match="is not a readable cache"):
        open_cache(path)


def test_damaged_shard_is_removed_and_named(tmp_path):
    partial = begin(tmp_path / "c.h5")
    with partial.held():
        fill(partial)
        shard = tmp_path / "c.h5.partial" / "train-000000004.npz"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        with pytest.raises(DamagedShardError, match="train-000000004.npz is damaged"):
            partial.finish(NUM_ROWS, 4, {})
        assert not partial.has("train", 4)
        assert partial.has("train", 0)
        fill(partial)
        partial.finish(NUM_ROWS, 4, {})
    assert len(open_cache(tmp_path / "c.h5").read("train").ids) == 10


def test_repeated_id_is_an_error(tmp_path):
    partial = begin(tmp_path / "c.h5")
    with partial.held():
        partial.write("train", 0, rows("train", 0, 3), Cost(1, 3))
        partial.write("test", 0, rows("train", 2, 4), Cost(1, 2))
        with pytest.raises(CacheError, match="the id 'train_2' stands in two rows; ids are unique"):
            partial.finish({"train": 3, "test": 2}, 4, {})


def test_other_settings_do_not_go_on(tmp_path):
    with begin(tmp_path / "c.h5").held():
        pass
    with begin(tmp_path / "c.h5").held():
        pass
    other = begin(tmp_path / "c.h5", {**MAKING, "batch_size": 16})
    with (
        pytest.raises(CacheError, match="begun with other settings.*\n  batch_size: 8 in the folder, 16 now"),
        other.held(),
    ):
        pass


def test_second_process_is_refused_and_the_first_named(tmp_path):
    with (
        begin(tmp_path / "c.h5").held(),
        pytest.raises(CacheError, match=f"is being made by process {os.getpid()} on "),
        begin(tmp_path / "c.h5").held(),
    ):
        pass
