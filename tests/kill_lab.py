"""Kills `precompute` by SIGKILL at chosen and at random moments, and goes on; a program of test_kill.py.

    python kill_lab.py FOLDER steps|merge|random|views

Each try is a forked process that runs the real `precompute` on TensorFlow with the tiny backbone (a fork of a process
in which TensorFlow has been imported and not yet used takes half a second; a new process ten). The product knows
nothing of it: the calls that touch the disk are wrapped from here. Writes a JSON object of counts to stdout.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).parent))

import h5py
import tiny
from conftest import write_npz
from lab import arrays, forked

from tfl import backbones, engine
from tfl.cache import PartialCache, merge, verification
from tfl.extraction.precompute import precompute
from tfl.files import trust
from tfl.specs import DatasetSpec, FeatureSpec, Settings

backbones.register(tiny.SOURCE)
FOLDER, MODE = Path(sys.argv[1]), sys.argv[2]
DATASET = DatasetSpec(str(write_npz(FOLDER / "colours.npz", train=45, test=20)))
FEATURES = FeatureSpec(backbone="tiny", weights="random", image_size=12)
SHARD_ROWS = 16
MOST_LOST = 2 * SHARD_ROWS  # by a kill: the shard that is being written, and the one that is being made
VIEWS = ("original", "hflip") if MODE == "views" else ("original",)
COMPUTED = FOLDER / "computed"  # one byte for each image that went through the backbone, whoever was killed then
TOUCHES_THE_DISK = (
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (h5py.Group, "create_dataset"),
    (h5py.Dataset, "__setitem__"),
    (h5py.AttributeManager, "__setitem__"),
    (merge.ErrorKeepingFile, "write"),
    (merge.ErrorKeepingFile, "close"),
    (engine.Forward, "start"),
    (trust, "mark_own"),
)


def settings(name):
    return Settings(cache_dir=FOLDER / name, engine="keras", batch_size=8, shard_rows=SHARD_ROWS)


def child(name, kill_at=None, slow=0.0):
    """The id of a process that makes the cache in folder `name`, and kills itself at step `kill_at` if there is one."""
    return forked(lambda: make(name, kill_at, slow))


def make(name, kill_at, slow):
    steps = 0

    def reached():
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(call):
        def around(*arguments, **keywords):
            reached()  # only before: after one call the disk is as it is before the next
            return call(*arguments, **keywords)

        return around

    run_model = engine.Forward.start

    def counted(self, images, view):
        time.sleep(slow)
        with COMPUTED.open("ab") as file:
            file.write(b"x" * len(images))
        return run_model(self, images, view)

    engine.Forward.start = counted
    for owner, call in TOUCHES_THE_DISK:
        setattr(owner, call, wrapped(getattr(owner, call)))
    precompute(FEATURES, DATASET, settings(name), views=VIEWS)


def was_killed(pid):
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def assert_whole_or_absent(name):
    for path in (FOLDER / name).glob("*.h5"):
        assert verification.find_problems(path) == []


def assert_finished(name):
    (path,) = (FOLDER / name).iterdir()
    assert arrays(path) == WHOLE, name


def num_computed():
    return COMPUTED.stat().st_size if COMPUTED.exists() else 0


def kill_at_every_step(apart=1):
    """One cache, killed at its first step, then going on and killed `apart` steps later, until nothing is left."""
    kills, before = 0, num_computed()
    while was_killed(child("steps", kill_at=kills * apart + 1)):
        kills += 1
        assert_whole_or_absent("steps")
    assert_finished("steps")
    repeated = num_computed() - before - 65 * len(VIEWS)
    assert repeated <= kills * MOST_LOST * len(VIEWS)
    return {"kills": kills, "images_repeated": repeated}


def kill_at_every_step_of_the_merge():
    """All shards are there, the process is killed at each of the steps that are left, and another goes on."""
    finish = PartialCache.finish
    PartialCache.finish = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    assert was_killed(child("shards"))
    PartialCache.finish = finish
    (folder,) = (FOLDER / "shards").iterdir()
    assert len(list(folder.glob("*.shard"))) == 5
    kills, before, killed = 0, num_computed(), True
    shutil.copytree(FOLDER / "shards", FOLDER / "merge")
    while killed:
        killed = was_killed(child("merge", kill_at=kills + 1))
        kills += killed
        if any((FOLDER / "merge").glob("*.h5")):  # killed after the rename, or not at all
            assert_whole_or_absent("merge")
            assert not was_killed(child("merge"))
            assert_finished("merge")
            shutil.rmtree(FOLDER / "merge")
            shutil.copytree(FOLDER / "shards", FOLDER / "merge")
    assert num_computed() == before  # all shards were there: no image is computed again
    return {"kills": kills}


def kill_at_random(kills_wanted=30):
    """Killed by another process after a random time, again and again; finished caches are begun anew."""
    rng, kills, finished = random.Random(0), 0, 0
    before = num_computed()
    while kills < kills_wanted:
        pid = child("random", slow=0.02)
        time.sleep(rng.uniform(0.0, 1.2))
        os.kill(pid, signal.SIGKILL)
        if was_killed(pid):
            kills += 1
            assert_whole_or_absent("random")
        else:
            assert_finished("random")
            shutil.rmtree(FOLDER / "random")
            finished += 1
    assert not was_killed(child("random"))
    assert_finished("random")
    repeated = num_computed() - before - 65 * (finished + 1)
    assert repeated <= kills * MOST_LOST
    return {"kills": kills, "finished": finished + 1, "images_repeated": repeated}


assert not was_killed(child("whole"))
WHOLE = arrays(next((FOLDER / "whole").iterdir()))
modes = {
    "steps": kill_at_every_step,
    "merge": kill_at_every_step_of_the_merge,
    "random": kill_at_random,
    "views": lambda: kill_at_every_step(apart=7),
}
json.dump(modes[MODE](), sys.stdout)
