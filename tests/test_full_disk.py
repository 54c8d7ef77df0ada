"""A disk that is full before, in or after the rows: said clearly, nothing lost, gone on with once there is room."""

import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_cache import MAKING, NAMES, SPEC, TYPED, begin

from tfl.cache import CachedRows, Cost, PartialCache, open_cache, verify
from tfl.errors import CacheError
from tfl.extraction.precompute import precompute

NUM_ROWS = {"train": 2000, "test": 100}
SETTINGS = {**MAKING, "shard_rows": 500}


def rows(shard):
    index = np.arange(shard.start, shard.stop)
    features = np.repeat(index[:, None], 300, axis=1).astype(np.float32)
    return CachedRows(features, index % 2, np.array([f"{shard.role}_{i}".encode() for i in index]))


def partial(folder):
    return PartialCache(folder / "c.h5", SPEC, NUM_ROWS, SETTINGS)


def fill(unfinished):
    for shard in unfinished.missing():
        unfinished.write(shard, rows(shard), Cost(0.1, 1))


@contextmanager
def largest_file(num_bytes):
    """A limit that the system answers as it answers a full disk, with EFBIG for ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_for_the_first_file(tmp_path):
    with largest_file(0), pytest.raises(CacheError, match=r"c.h5.partial has no room"), partial(tmp_path).hold():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kilobytes", [0, 1, 100, 600])
def test_shard_that_does_not_fit_leaves_nothing_half_written(tmp_path, kilobytes):
    unfinished = partial(tmp_path)
    with unfinished.hold():
        with (
            largest_file(kilobytes * 1000),
            pytest.raises(CacheError, match=r"has no room: 6..,... bytes are needed there \(File too large"),
        ):
            fill(unfinished)
        assert sorted(path.name for path in unfinished.folder.iterdir()) == ["lock", "manifest.json"]
        fill(unfinished)
        unfinished.finish(NAMES, dict(TYPED))
    assert verify(tmp_path / "c.h5") == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_merge_that_does_not_fit_keeps_the_shards(tmp_path, share):
    unfinished = partial(tmp_path)
    with unfinished.hold():
        fill(unfinished)
        before = sorted(unfinished.folder.iterdir())
        with (
            largest_file(int(share * 2_548_000)),
            pytest.raises(CacheError, match=r"has no room: 2,...,... bytes are needed there \(File too large\)"),
        ):
            unfinished.finish(NAMES, dict(TYPED))
        assert sorted(unfinished.folder.iterdir()) == before
        assert not unfinished.path.exists()
        unfinished.finish(NAMES, dict(TYPED))
    assert verify(tmp_path / "c.h5") == []


PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_full_disk as t
unfinished = t.partial(Path(sys.argv[2]))
with unfinished.hold():
    t.fill(unfinished)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        unfinished.finish(t.NAMES, dict(t.TYPED))
    except t.CacheError as error:
        print(error)
"""


def test_a_process_that_met_a_full_disk_ends_in_order(tmp_path):
    """Where HDF5 itself meets the error, the process dies of a segmentation fault at its end (HDF5 1.14)."""
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "has no room" in done.stdout


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_in_the_merge(small_disk):
    unfinished = partial(small_disk)
    with unfinished.hold():
        fill(unfinished)
        with pytest.raises(
            CacheError, match=r"has no room: 2,...,... bytes are needed there \(No space left on device\)"
        ):
            unfinished.finish(NAMES, dict(TYPED))
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        unfinished.finish(NAMES, dict(TYPED))
    assert len(open_cache(small_disk / "c.h5").read("train").ids) == 2000


@pytest.mark.usefixtures("tiny_backbone")
def test_room_is_looked_for_before_the_first_image(features, dataset, settings, small_disk, monkeypatch):
    (small_disk / "taken").write_bytes(bytes(2_500_000))
    settings = type(settings)(cache_dir=small_disk / "cache", batch_size=8, shard_rows=16)
    with pytest.raises(CacheError, match="bytes free, and 1,06.,... are needed: .* choose another --cache-dir"):
        precompute(features, dataset, settings)
    (small_disk / "taken").unlink()
    precompute(features, dataset, settings)


def test_the_need_falls_with_every_finished_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    needs = []
    unfinished = begin(tmp_path / "c.h5")
    with unfinished.hold():
        while unfinished.missing():
            with pytest.raises(CacheError, match="and ([0-9,]+) are needed") as error:
                unfinished.require_room(3)
            needs.append(str(error.value))
            shard = unfinished.missing()[0]
            unfinished.write(shard, rows(shard), Cost(0.1, 1))
    assert len(needs) == 4
    assert needs[0] > needs[1] > needs[2] > needs[3]
