"""A head or a loss that is no number is never left, loaded or exported."""

from dataclasses import replace

import numpy as np
import pytest

from tfl.artefacts import export, parity
from tfl.errors import ExportError, RunError
from tfl.extraction.precompute import precompute
from tfl.heads import Best, Grid, Knn, Logistic, Mlp, Reference, Ridge
from tfl.heads.loading import load_head
from tfl.heads.model import build_dense, build_neighbours
from tfl.heads.solvers import grid, knn, logistic, mlp, reference, ridge
from tfl.runs import few_shot, logits, training
from tfl.runs.checksums import write_checksums
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import Run, open_run
from tfl.runs.training import train
from tfl.specs import Artefact
from tfl.specs.training import Selection, Shots

pytestmark = pytest.mark.usefixtures("tiny_backbone")

RECIPES = (
    Reference(epochs=1),
    Grid(learning_rate=(0.01,), weight_decay=(0.0,), epochs=1),
    Logistic(l2=(0.1,)),
    Ridge(l2=(0.1,)),
    Mlp(hidden=(4,), epochs=1),
    Knn(neighbours=(3,), temperature=(0.1,)),
)


@pytest.fixture
def cache(features, dataset, settings):
    return precompute(features, dataset, settings)


@pytest.fixture
def diverging(monkeypatch):
    """Heads as training leaves them where it goes wrong in its last step: one value of the last kernel is NaN."""

    def broken(parameters, value=np.nan):
        *before, (kernel, bias) = parameters
        kernel = np.array(kernel)
        kernel[0, 0] = value
        return build_dense([*before, (kernel, bias)])

    def broken_memory(memory, votes, *rest):
        votes = np.array(votes)
        votes[0, 0] = np.inf
        return build_neighbours(memory, votes, *rest)

    for module in (grid, logistic, mlp, reference, ridge):
        monkeypatch.setattr(module, "build_dense", broken)
    monkeypatch.setattr(knn, "build_neighbours", broken_memory)


@pytest.mark.usefixtures("diverging")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_no_recipe_leaves_a_head_that_is_not_finite(cache, tmp_path, recipe):
    name = type(recipe).__name__.lower()
    message = f"the recipe {name} diverged: 1 of .* values of the head's .* are not finite .*; (try|precompute)"
    with pytest.raises(RunError, match=message):
        train(cache, recipe, runs_dir=tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.usefixtures("diverging")
def test_no_recipe_of_best_is_left_either(cache, tmp_path, caplog):
    with pytest.raises(RunError, match="it diverged: 1 of 15 values of the head's"):
        train(cache, Best(candidates=3), runs_dir=tmp_path / "runs")
    assert [name for name in ("ridge", "logistic", "knn") if f"{name} is left out: it diverged" in caplog.text] == [
        "ridge",
        "logistic",
        "knn",
    ]


def test_best_goes_on_without_a_recipe_that_diverged(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ridge, "build_dense", lambda parameters: build_dense([(kernel * np.nan, bias) for kernel, bias in parameters])
    )
    folder = train(cache, Best(candidates=2), runs_dir=tmp_path / "runs")
    assert open_run(folder).record.chosen.recipe == "logistic"


@pytest.mark.usefixtures("diverging")
@pytest.mark.parametrize("recipe", RECIPES[2:4], ids=lambda recipe: type(recipe).__name__)
def test_a_study_of_few_images_measures_no_such_head(cache, tmp_path, recipe):
    with pytest.raises(RunError, match="diverged: 1 of 15 values"):
        few_shot.study_shots(cache, Shots((2,), 1), (recipe,), runs_dir=tmp_path / "runs")


def test_a_loss_that_is_not_finite_is_refused(cache, tmp_path, monkeypatch):
    """Weights may be numbers, and answers none: their sum is more than float32 holds."""

    def overflow(self, train, *rest):
        return build_dense([(np.full((5, 3), 3e38, np.float32), np.full(3, -3e38, np.float32))]), []

    monkeypatch.setattr(Reference, "fit", overflow)
    monkeypatch.setattr(
        logits, "compute_logits", lambda head, features: np.full((len(features), 3), np.nan, np.float32)
    )
    with pytest.raises(
        RunError, match=r"the recipe reference diverged: the loss on the test rows is nan.*learning-rate"
    ):
        train(cache, Reference(epochs=1), runs_dir=tmp_path / "runs")


def with_nan(path):
    """Replace a run's head by one with a NaN."""
    model = load_head(path)
    weights = model.get_weights()
    weights[0][1, 1] = np.nan
    model.set_weights(weights)
    model.save(path)


def test_a_head_that_is_not_finite_is_not_loaded(cache, tmp_path):
    folder = train(cache, Reference(epochs=1), runs_dir=tmp_path / "runs")
    with_nan(folder / "head.keras")
    write_checksums(folder)  # else the change itself is refused
    message = "head.keras cannot be loaded: it holds no numbers: 1 of 15 values of the head's .* are not finite"
    with pytest.raises(RunError, match=message):
        evaluate(folder)
    with pytest.raises(RunError, match=message):
        export.export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_never_pass(cache, dataset, tmp_path, monkeypatch, value):
    folder = train(cache, Reference(epochs=1), runs_dir=tmp_path / "runs")
    load_head = Run.load_head

    def broken(self, cache=None):
        model = load_head(self, cache)
        model.set_weights([weight + np.float32(value) for weight in model.get_weights()])
        return model

    with monkeypatch.context() as patch:
        patch.setattr(Run, "load_head", broken)
        with pytest.raises(ExportError, match="the head answers 47 of 47 images with logits that are not finite"):
            export.export(folder, tmp_path / "out")
    served = np.zeros((4, 3), np.float32)
    served[2, 1] = value
    with pytest.raises(ExportError, match="the exported model answers 1 of 4 images with logits that are not finite"):
        parity._require_finite(served, "the exported model", "its format cannot carry this model")


@pytest.mark.parametrize(
    ("answer", "expected"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, np.inf), (np.inf, 1.0), (0, 0)]
)
def test_parity_of_what_is_no_number_is_no_parity(answer, expected):
    with np.errstate(all="ignore"):
        same = parity._compare_logits(np.full((2, 3), answer), np.full((2, 3), expected), 1e9)
    with pytest.raises(ExportError, match="does not answer as the cache did"):
        parity._require_parity(same, "test", Artefact(), 0.0)


def test_calibration_does_not_hide_it(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "apply_temperature", lambda model, temperature: broken_of(model))

    def broken_of(model):
        model.set_weights([weight * np.nan for weight in model.get_weights()])
        return model

    with pytest.raises(RunError, match="the recipe ridge diverged: 15 of 15 values"):
        train(cache, Ridge(), replace(Selection(), calibrate=True), runs_dir=tmp_path / "runs")
