"""Folders of unfinished caches that were damaged, or that somebody else made: one line, and no traceback."""

import json
import os
import platform
import signal
from dataclasses import replace

import pytest
from test_cache import MAKING, NUM_ROWS, SPEC, begin, fill, finish, rows

from tfl.cache import Cost, PartialCache, Shard, inspect, list_overviews, lock, open_cache
from tfl.errors import CacheError
from tfl.reports.caches import format_cache
from tfl.specs import DatasetSpec


@pytest.fixture
def folder(tmp_path):
    """An unfinished cache of one shard."""
    partial = begin(tmp_path / "c.h5")
    with partial.hold():
        partial.write(Shard("train", 0, 4), rows("train", 0, 4), Cost(2.0, 4))
    return partial.folder


@pytest.fixture(autouse=True)
def no_hang():
    """A FIFO that is opened waits for a writer for ever."""
    signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("it hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)


def assert_one_line(folder, *shown):
    """`tfl caches` passes over the folder with a warning, `tfl inspect` refuses it in one line."""
    assert list_overviews(folder.parent) == []
    with pytest.raises(CacheError) as error:
        inspect(folder)
    line = str(error.value)
    assert len(line) < 1500, "short enough to read"
    assert "\n" not in line
    assert all(text in line for text in shown), line


def shown(folder):
    """What `tfl inspect` prints."""
    return "\n".join(format_cache(inspect(folder)))


UNRESOLVED = json.loads(replace(SPEC, dataset=DatasetSpec()).to_json())


def nested(depth, kind="[]"):
    return kind[0] * depth + kind[1] * depth


def with_values(**changes):
    """A manifest with other values; those that are ... are left out."""
    return lambda values: json.dumps({k: v for k, v in {**values, **changes}.items() if v is not ...})


def with_spec(**changes):
    return lambda values: json.dumps({**values, "spec": {**values["spec"], **changes}})


MANIFESTS = {
    "empty": lambda values: "",
    "cut short": lambda values: json.dumps(values)[:-20],
    "a list": lambda values: "[]",
    "a list of pairs": lambda values: json.dumps(list(values.items())),
    "a number": lambda values: "17",
    "null": lambda values: "null",
    "a text": lambda values: '"text"',
    "not UTF-8": lambda values: b"\xff\xfe{}",
    "zeros": lambda values: bytes(500),
    "deeply nested": lambda values: nested(100_000),
    "a huge integer": lambda values: "1" + "0" * 10_000,
    "nested in the spec": lambda values: json.dumps(values).replace('"resnet50"', nested(900)),
    "nested in the making": lambda values: json.dumps(values).replace('"none"', nested(900)),
    "nested under another name": lambda values: json.dumps(values)[:-1] + f', "more": {nested(900)}}}',
    "another format": with_values(format=2),
    "no format": with_values(format=...),
    "another fingerprint": with_values(fingerprint="0" * 64),
    "no fingerprint": with_values(fingerprint=...),
    "an unresolved spec": with_values(spec=UNRESOLVED),
    "a spec of another version": with_spec(another="field"),
    "a spec without views": lambda values: json.dumps({**values, "spec": {"features": values["spec"]["features"]}}),
    "a spec that is a text": with_values(spec="spec"),
    "views that are lists": with_spec(views=[["original"], {}]),
    "rows that are a list": with_values(num_rows=[1, 2]),
    "rows of no role": with_values(num_rows={}),
    "no rows": with_values(num_rows={"train": 0, "test": 3}),
    "rows that are true": with_values(num_rows={"train": True, "test": 3}),
    "rows without end": with_values(num_rows={"train": 10**18, "test": 3}),
    "shards without end": with_values(num_rows={"train": 10**14, "test": 3}, shard_rows=1),
    "no shard rows": with_values(shard_rows=...),
    "shards of a float": with_values(shard_rows=4.0),
    "shards of less than nothing": with_values(shard_rows=-1),
    "shards of infinite size": lambda values: json.dumps({**values, "shard_rows": float("inf")}),
    "a batch that is a list": with_values(batch_size=[8]),
    "a batch without end": with_values(batch_size=10**12),
    "earlier batches that are a number": with_values(earlier_batch_sizes=3),
    "earlier batches that are texts": with_values(earlier_batch_sizes=["x"]),
    "a requested batch that is a text": with_values(requested_batch_size="8"),
    "versions that are a list": with_values(versions=["3.11"]),
    "versions that are numbers": with_values(versions={"keras": 3}),
    "an environment that is a text": with_values(environment="XLA_FLAGS=1"),
    "an engine that is a number": with_values(engine=3),
    "a number that is none": lambda values: json.dumps({**values, "threads": float("nan")}),
    "escapes in a wrong value": with_values(format="\x1b[31mred\x07"),
    "a wrong value without end": with_values(format="x" * 1_000_000),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_damaged_or_hostile_manifest(folder, kind, caplog):
    path = folder / "manifest.json"
    content = MANIFESTS[kind](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_line(folder, f"{folder} is not the folder of an unfinished cache: {path} ")
    assert "\x1b" not in caplog.text
    assert PartialCache.find_batch_size(folder.with_suffix(""), 16) == 16
    with pytest.raises(CacheError, match=r"manifest.json .*remove the folder to begin again"):
        begin(folder.with_suffix("")).hold().__enter__()
    assert list(folder.glob("*.shard")), "nothing is removed that may still be of use"


def not_a_file(path, kind):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": path.parent / "elsewhere", "device": "/dev/zero"}[kind])


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link", "device"])
@pytest.mark.parametrize("name", ["manifest.json", "train-000000000.shard"])
def test_what_is_no_regular_file(folder, name, kind):
    (folder / "elsewhere").write_text("of the user's")
    not_a_file(folder / name, kind)
    assert_one_line(folder, f"{folder / name} is not a regular file")

    def go_on():
        partial = begin(folder.with_suffix(""))
        with partial.hold():
            fill(partial)
            finish(partial)

    with pytest.raises(CacheError, match=f"{name} is not a regular file"):
        go_on()
    assert (folder / "elsewhere").read_text() == "of the user's"


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link", "device"])
def test_a_lock_that_is_no_regular_file(folder, kind):
    """A link would have let the file that it leads to be emptied."""
    (folder / "elsewhere").write_text("of the user's")
    not_a_file(folder / "lock", kind)
    assert inspect(folder).held_by == ""
    with pytest.raises(CacheError, match="lock is not a regular file"), begin(folder.with_suffix("")).hold():
        pass
    assert (folder / "elsewhere").read_text() == "of the user's"


LOCKS = {
    "not UTF-8": b"\xff\xfe\x00process",
    "escapes": b"process \x1b[31m17 on \x07 here\nand there",
    "a number without end": b"process %s on %s" % (b"9" * 5000, platform.node().encode()),
    "a large number": b"process %s on %s" % (b"9" * 30, platform.node().encode()),
    "a number in other digits": f"process \u00b2\u0663 on {platform.node()}".encode(),
    "no number": b"process x on y",
    "zero": b"process 0 on %s" % platform.node().encode(),
    "a million bytes": b"x" * 1_000_000,
    "empty": b"",
}


@pytest.mark.parametrize("kind", LOCKS)
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_lock_of_strange_content(folder, kind, has_locks, monkeypatch):
    """It does not matter where the disk has locks; where it has none, it is obeyed, and shown safely."""
    (folder / "lock").write_bytes(LOCKS[kind])
    if not has_locks:
        monkeypatch.setattr("fcntl.flock", lambda file, how: (_ for _ in ()).throw(OSError(37, "No locks available")))
    assert len(inspect(folder).held_by) <= 4 * lock.MAX_HOLDER_BYTES
    assert "\x1b" not in shown(folder)
    is_free = has_locks or kind in ("empty", "zero", "a large number")
    if is_free:
        with begin(folder.with_suffix("")).hold():
            return
    with pytest.raises(CacheError, match="is being made by ") as error, begin(folder.with_suffix("")).hold():
        pass
    assert len(str(error.value)) < 1500
    assert "\x1b" not in str(error.value)


SHARDS = {
    "empty": lambda line, rest: b"",
    "no second line": lambda line, rest: b"0" * 64,
    "not JSON": lambda line, rest: b"0" * 64 + b"\nheader\n" + rest,
    "a list": lambda line, rest: b"0" * 64 + b"\n[]\n" + rest,
    "deeply nested": lambda line, rest: b"0" * 64 + b"\n" + nested(100_000).encode() + b"\n",
    "rows that are a text": lambda line, rest: changed(line, rest, num_rows="4"),
    "rows without end": lambda line, rest: changed(line, rest, num_rows=10**30),
    "a cost of texts": lambda line, rest: changed(line, rest, cost=["1", "2", []]),
    "a cost without end": lambda line, rest: changed(line, rest, cost=[1e308, 4, []]),
    "a cost that is no number": lambda line, rest: changed(line, rest, cost=[float("nan"), 4, []]),
    "copied from nowhere": lambda line, rest: changed(line, rest, cost=[1.0, 4, [{}]]),
    "skipped numbers": lambda line, rest: changed(line, rest, skipped=[[1, 2]]),
    "a place that is a number": lambda line, rest: changed(line, rest, place=3),
    "a role with escapes": lambda line, rest: changed(line, rest, place=["f", "\x1b[31m", 0, 4]),
}


def changed(line, rest, **values):
    return b"0" * 64 + b"\n" + json.dumps({**json.loads(line), **values}).encode() + b"\n" + rest


@pytest.mark.parametrize("kind", SHARDS)
def test_a_damaged_or_hostile_shard(folder, kind):
    """It is passed over when the folder is shown, and made again when the cache is finished."""
    path = folder / "train-000000000.shard"
    _, line, rest = path.read_bytes().split(b"\n", 2)
    path.write_bytes(SHARDS[kind](line, rest))
    assert "\x1b" not in shown(folder)
    assert list_overviews(folder.parent)[0].rows == NUM_ROWS
    partial = begin(folder.with_suffix(""))
    with partial.hold():
        fill(partial)
        with pytest.raises(CacheError, match="train-000000000.shard is damaged") as error:
            finish(partial)
        assert "\x1b" not in str(error.value)
        path.unlink()
        fill(partial)
        finish(partial)
    assert open_cache(partial.path).num_rows == NUM_ROWS


ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--a"}


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, ENVIRONMENT, "the environment's TF_ENABLE_ONEDNN_OPTS: not set in the folder, 0 now"),
        (ENVIRONMENT, {}, "the environment's XLA_FLAGS: --a in the folder, not set now"),
        (..., ENVIRONMENT, "the environment's XLA_FLAGS: not set in the folder, --a now"),
        ({"XLA_FLAGS": "--b"}, ENVIRONMENT, "the environment's XLA_FLAGS: --b in the folder, --a now"),
        (ENVIRONMENT, ENVIRONMENT, ""),
        (..., {}, ""),
    ],
)
def test_another_environment_does_not_go_on(tmp_path, before, now, message):
    """A folder that was begun before this was noted had none of the variables set."""
    making = MAKING if before is ... else {**MAKING, "environment": before}
    partial = begin(tmp_path / "c.h5", making)
    with partial.hold():
        partial.write(Shard("train", 0, 4), rows("train", 0, 4), Cost(2.0, 4))
    again = begin(tmp_path / "c.h5", {**MAKING, "environment": now})
    if not message:
        with again.hold():
            assert len(again.missing()) == 3
            fill(again)
            assert open_cache(finish(again)).provenance.values.get("typed")
        return
    with pytest.raises(CacheError, match="begun with other settings") as error, again.hold():
        pass
    assert message in str(error.value)
