import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_npz
from PIL import Image

from tfl.errors import RunError
from tfl.extraction.precompute import precompute
from tfl.files.codec import encode_record
from tfl.heads import Knn, Logistic, Reference, Ridge
from tfl.runs import few_shot
from tfl.specs import DatasetSpec
from tfl.specs.training import Selection, Shots

pytestmark = pytest.mark.usefixtures("tiny_backbone")
RECIPES = (Reference(), Logistic(), Ridge(), Knn())


@pytest.fixture
def cache(features, dataset, settings):
    return precompute(features, dataset, settings)


def test_mean_and_spread_of_every_recipe(cache, tmp_path):
    told = []
    asked = Shots(shots=(1, 3, 12), repeats=3)
    folder = few_shot.study_shots(
        cache, asked, RECIPES, Selection(validation_fraction=0.3), tmp_path / "runs", told.append
    )
    results = json.loads((folder / "shots.json").read_text())["results"]
    assert results == encode_record(told)
    assert [(result["recipe"], result["shots"]) for result in results] == [
        (name, number) for number in (1, 3, 12) for name in ("reference", "logistic", "ridge", "knn")
    ]
    for result in results:
        assert len(result["accuracies"]) == 3
        assert result["mean"] == pytest.approx(np.mean(result["accuracies"]))
        assert result["standard_deviation"] == pytest.approx(np.std(result["accuracies"], ddof=1))
    by_shots = {result["shots"]: result["mean"] for result in results if result["recipe"] == "ridge"}
    assert by_shots[12] > by_shots[1]
    with Image.open(folder / "shots.png") as picture:
        assert picture.width > 300
    again = few_shot.study_shots(cache, asked, RECIPES, Selection(validation_fraction=0.3), tmp_path / "runs")
    assert again.name == f"{cache.stem}-shots-2"
    repeated = json.loads((again / "shots.json").read_text())["results"]
    assert [result["accuracies"] for result in repeated] == [result["accuracies"] for result in results]


def test_a_class_with_fewer_images_than_shots(cache, tmp_path):
    with pytest.raises(RunError, match=r"class '\w+' has \d+ images beside the validation part, fewer than 60 shots"):
        few_shot.study_shots(cache, Shots(shots=(1, 60)), RECIPES, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_class_without_training_images(features, settings, tmp_path):
    path = write_npz(tmp_path / "two.npz", train=60, test=20)
    with np.load(path) as arrays:
        changed = {**arrays, "train_labels": np.arange(60) % 2}
    np.savez(path, **changed)
    cache = precompute(features, DatasetSpec(str(path)), replace(settings, allow_missing_classes=True))
    with pytest.raises(RunError, match=r"without a training row, which no head gets right: blue .*\n.*--classes"):
        few_shot.study_shots(cache, Shots(shots=(1,)), RECIPES, runs_dir=tmp_path / "runs")
    allowing = Selection(allow_missing_classes=True)
    with pytest.raises(RunError, match="class 'blue' has no training images; name the others with --classes"):
        few_shot.study_shots(cache, Shots(shots=(1,)), RECIPES, allowing, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
