import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tfl import datasets
from tfl.artefacts import export
from tfl.extraction.precompute import precompute
from tfl.files.scratch import redirect_temporary_files, scratch_folder, temporary_folder
from tfl.heads import Ridge
from tfl.runs.listing import list_runs
from tfl.runs.training import train
from tfl.specs import Artefact

HOLD = """
import sys, time
from pathlib import Path
from tfl.files.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "half.bin").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


def holding(parent):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(parent)], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def test_it_goes_at_the_end_whatever_happens(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "file").touch()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="asked"), scratch_folder(tmp_path):
        raise ValueError("asked")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_when_the_next_begins(tmp_path):
    process, left = holding(tmp_path)
    with process:
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_what_a_living_process_holds_stays(tmp_path):
    process, held = holding(tmp_path)
    with process, scratch_folder(tmp_path):
        assert (held / "half.bin").exists()
        process.kill()


def test_folders_of_other_names_stay(tmp_path):
    for name in (".tfl-scratch-mine", "tfl-scratch-" + "0" * 32, ".out-x"):
        (tmp_path / name).mkdir()
    (tmp_path / f".tfl-scratch-{'0' * 32}").write_bytes(b"a file of the user's")
    with scratch_folder(tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 4


def test_libraries_put_their_temporary_files_into_a_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    shown = "import tempfile; print(tempfile.gettempdir())"
    with redirect_temporary_files():
        (scratch,) = tmp_path.iterdir()
        assert Path(tempfile.mkdtemp()).parent == scratch
        child = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
        assert child.stdout.strip() == str(scratch)
        assert temporary_folder() == tmp_path
        with redirect_temporary_files():
            assert temporary_folder() == tmp_path
        assert Path(tempfile.gettempdir()) == scratch
    assert not list(tmp_path.iterdir())
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == (str(tmp_path), None)


# Carries out a call of tfl and kills itself in the middle of it.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny
from tfl import backbones
backbones.register(tiny.SOURCE)
from tfl import datasets
from tfl.artefacts import export
from tfl.runs import training
from tfl.datasets import npz
from tfl.heads import Ridge
from tfl.specs import Artefact

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

what, place, dataset = sys.argv[2:5]
if what == "train":
    training.write_json = die
    training.train(Path(place), Ridge(), name="r", runs_dir=Path("runs"))
elif what == "export":
    export._describe = die
    export.export(Path(place), Path("out"), dataset, artefact=Artefact("litert"))
else:
    savez = npz.np.savez
    npz.np.savez = lambda path, **arrays: [savez(path, **arrays), die()]
    datasets.write_npz(datasets.NpzDataset(Path(place)), Path("copy.npz"))
"""


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A function that starts a process which is killed in the middle of `what`; with a temporary folder of its own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)

    def start(what, place, dataset=""):
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), what, str(place), dataset]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]

    return start


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("tiny_backbone")
def test_what_a_killed_training_and_a_killed_export_leave_goes_with_the_next(
    features, dataset, settings, tmp_path, killed
):
    cache = precompute(features, dataset, settings)
    (tmp_path / "runs" / ".mine").mkdir(parents=True)
    killed("train", cache)
    assert len(names(tmp_path / "runs")) == 2
    assert names(tmp_path / "tmp"), "of what libraries may leave"
    assert list_runs(tmp_path / "runs") == []
    folder = train(cache, Ridge(), name="r", runs_dir=tmp_path / "runs")
    assert names(tmp_path / "runs") == [".mine", "r"]
    assert names(tmp_path / "tmp") == []

    before = names(tmp_path)
    killed("export", folder, dataset.dataset)
    (left,) = set(names(tmp_path)) - set(before)
    assert left.startswith(".tfl-scratch-")
    assert names(tmp_path / "tmp")
    export.export(folder, tmp_path / "out", artefact=Artefact("keras"))
    assert names(tmp_path) == sorted([*before, "out"])
    assert names(tmp_path / "tmp") == []


def test_what_a_killed_write_npz_leaves_goes_with_the_next(dataset, tmp_path, killed):
    killed("npz", dataset.dataset)
    assert not (tmp_path / "copy.npz").exists()
    assert len(names(tmp_path)) == 3
    datasets.write_npz(datasets.NpzDataset(Path(dataset.dataset)), tmp_path / "copy.npz")
    assert names(tmp_path) == ["colours.npz", "copy.npz", "tmp"]
    with np.load(tmp_path / "copy.npz") as arrays:
        assert len(arrays["train_images"]) == 70
