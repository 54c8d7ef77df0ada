import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfl.scratch import scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from tfl.scratch import scratch_folder
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
