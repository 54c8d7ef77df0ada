import json

import numpy as np
import pytest
from conftest import write_npz

from tfl.cli import quickstart
from tfl.cli.commands.fetch import Fetch
from tfl.cli.commands.quickstart import Quickstart
from tfl.errors import SpecError
from tfl.extraction import fetch
from tfl.specs import DatasetSpec

pytestmark = pytest.mark.usefixtures("tiny_backbone")


def test_the_whole_way_and_its_summary(features, settings, tmp_path, monkeypatch, capsys):
    data = str(write_npz(tmp_path / "colours.npz", train=70, test=40))
    monkeypatch.setattr(quickstart, "FEATURES", features)
    monkeypatch.setattr(quickstart, "DATASET", DatasetSpec(data, "train[:60]", "", "test"))
    fetched = []
    monkeypatch.setattr(quickstart, "fetch", fetched.append)
    Quickstart(settings, tmp_path / "runs").run()
    assert fetched == [data, "tiny"]
    lines = capsys.readouterr().out.splitlines()
    run_folder = tmp_path / "runs" / lines[-1].split("/")[-1]
    assert lines[-1] == str(run_folder)
    assert (run_folder / "confusion_matrix.png").exists()
    assert (run_folder / "saved_model" / "saved_model.pb").exists()
    accuracy = json.loads((run_folder / "metrics.json").read_text())["test"]["accuracy"]
    assert any(line.startswith(f"test accuracy {accuracy:.2%} of 40 (95 % interval") for line in lines)
    assert any(line.startswith("seconds") and "precompute" in line for line in lines)


def test_fetch_says_what_is_there(tmp_path, monkeypatch):
    data = str(write_npz(tmp_path / "colours.npz", train=70, test=40))
    assert fetch.fetch(data).endswith("70 train, 40 test")
    line = fetch.fetch(data, tmp_path / "carried.npz")
    assert line.endswith(f"written to {tmp_path / 'carried.npz'}")
    with np.load(tmp_path / "carried.npz") as arrays:
        assert arrays["train_images"].shape == (70, 10, 9, 3)


def test_npz_is_for_one_dataset(tmp_path):
    with pytest.raises(SpecError, match="--npz writes one dataset, got 0: none"):
        Fetch(("resnet50",), tmp_path / "a.npz").run()
    with pytest.raises(SpecError, match="--npz is for a dataset; tiny is a backbone"):
        fetch.fetch("tiny", tmp_path / "a.npz")
