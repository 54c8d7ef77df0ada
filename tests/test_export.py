import io
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tfl import datasets
from tfl.artefacts import export, parity, runtimes
from tfl.artefacts.candidate import Candidate, open_candidate
from tfl.artefacts.card import format_card
from tfl.artefacts.decoding import decode
from tfl.artefacts.formats import FORMATS, open_model
from tfl.artefacts.fresh_process import open_in_fresh_process
from tfl.artefacts.manifest import read_manifest
from tfl.artefacts.origin import Origin
from tfl.cache import open_cache
from tfl.errors import DatasetError, ExportError
from tfl.extraction.precompute import precompute
from tfl.files import trust
from tfl.heads import Knn, Mlp, Reference
from tfl.heads.model import compute_logits
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import Artefact, DatasetSpec
from tfl.specs.training import Selection

pytestmark = pytest.mark.usefixtures("tiny_backbone")
RECIPE = Reference(epochs=5, learning_rate=0.1)


@pytest.fixture
def trained(features, dataset, settings, tmp_path):
    return train(precompute(features, dataset, settings), RECIPE, runs_dir=tmp_path / "runs")


@pytest.fixture
def exported(trained, tmp_path):
    export.export(trained, tmp_path / "model")
    return tmp_path / "model"


def serve(folder, images):
    return open_model(folder)(images)


def test_served_answers_are_those_of_the_cache(trained, exported, dataset):
    parity = json.loads((exported / "assets.extra" / "tfl.json").read_text())["parity"]
    assert (parity["num_images"], parity["same_class"]) == (47, 1.0), "seven of them changed or encoded"
    assert parity["error"] < 1e-4
    cache = open_run(trained).open_cache()
    with np.load(dataset.dataset) as arrays:
        outputs = serve(exported, arrays["test_images"])
    expected = compute_logits(open_run(trained).load_head(), cache.read("test").features)
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(outputs["class_index"], expected.argmax(axis=1))
    accuracy = np.mean(outputs["class_index"] == cache.read("test").labels)
    assert accuracy == evaluate(trained).accuracy


@pytest.mark.parametrize("shape", [(0, 10, 9), (1, 1, 1), (2, 64, 48), (5, 10, 9)])
def test_any_batch_and_any_size(exported, shape):
    outputs = serve(exported, np.full((*shape, 3), 77, np.uint8))
    assert {name: value.shape for name, value in outputs.items()} == {
        "probabilities": (shape[0], 3),
        "logits": (shape[0], 3),
        "class_index": (shape[0],),
        "class_name": (shape[0],),
    }


def test_description_travels_with_the_model(exported, trained):
    description = json.loads((exported / "assets.extra" / "tfl.json").read_text())
    assert description["class_names"] == ["red", "green", "blue"]
    assert description["fingerprint"] == open_run(trained).spec.fingerprint
    assert not description["is_temperature_folded"]
    assert "not calibrated: there were no validation rows" in (exported / "README.md").read_text()
    manifest = read_manifest(exported)
    assert manifest.metrics["test"] == evaluate(trained)
    per_class = {f"class {i}": 0.5 for i in range(103)}
    metrics = {"test": replace(manifest.metrics["test"], accuracy_per_class=per_class)}
    text = format_card(replace(manifest, temperature=1.5, metrics=metrics))
    assert "they fit the validation rows best with logits divided by 1.500 (`tfl train --calibrate`)" in text
    assert "| class 99 | 50.00% |\n| ... and 3 more | in `tfl.json` |\n" in text
    text = format_card(replace(manifest, temperature=1.5, is_temperature_folded=True, metrics={}))
    assert "not calibrated" not in text
    assert "There were no test rows to measure on.\n\nCompared with the head on cached features, on 47 images" in text


@pytest.mark.parametrize("views", [("original", "hflip", "crop1"), ("hflip",)])
@pytest.mark.parametrize("recipe", [Mlp(hidden=(8,), epochs=2), Knn(neighbours=(5,))])
def test_views_are_averaged_inside_the_graph(views, recipe, features, dataset, settings, tmp_path):
    cache_path = precompute(features, dataset, settings, views=("original", "hflip", "crop1"))
    trained = train(cache_path, recipe, Selection(views=views), runs_dir=tmp_path / "runs")
    parity = export.export(trained, tmp_path / "model")
    assert parity.error < 1e-3
    cache = open_cache(cache_path)
    mean = np.mean([cache.read_view("test", view) for view in views], axis=0)
    with np.load(dataset.dataset) as arrays:
        outputs = serve(tmp_path / "model", arrays["test_images"])
    expected = compute_logits(open_run(trained).load_head(), mean)
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-3)
    description = json.loads((tmp_path / "model" / "assets.extra" / "tfl.json").read_text())
    assert tuple(description["views"]) == views


def test_folder_dataset_of_differing_sizes(features, folder, settings, tmp_path):
    trained = train(
        precompute(features, DatasetSpec(dataset=str(folder)), settings), RECIPE, runs_dir=tmp_path / "runs"
    )
    parity = export.export(trained, tmp_path / "model")
    assert (parity.num_images, parity.same_class) == (13, 1.0)


def test_images_that_were_left_out_are_passed_over(features, folder, settings, tmp_path):
    """The cache's first test rows are not the folder's."""
    (folder / "test" / "cat" / "0.png").write_text("no image")
    spec = DatasetSpec(str(folder))
    run_folder = train(precompute(features, spec, replace(settings, on_bad_image="skip")), runs_dir=tmp_path / "runs")
    parity = export.export(run_folder, tmp_path / "model")
    assert parity.num_images == 12
    assert parity.error < 1e-3


def test_a_cache_from_elsewhere_does_not_choose_the_files_that_are_opened(trained, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "is_own", lambda path: False)
    with pytest.raises(ExportError, match=r"was not made here .*: --dataset .*colours.npz"):
        export.export(trained, tmp_path / "elsewhere")
    export.export(trained, tmp_path / "elsewhere", dataset=dataset.dataset)


@pytest.mark.parametrize(
    ("typed", "name", "version"),
    [("~/private.npz", "private", "sha256:0"), ("~/private.npz", "private", "3.0.2"), ("gone", "private", "sha256:0")],
)
def test_nor_does_one_that_speaks_of_the_home_folder(typed, name, version, tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "is_own", lambda path: False)
    with pytest.raises(ExportError, match="was not made here"):
        assert Origin(cache_of(typed, name, version, tmp_path, monkeypatch)).dataset


def test_the_name_of_a_dataset_in_a_cache_from_elsewhere_is_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "is_own", lambda path: False)
    cache = cache_of("gone", "~/private.npz", "3.0.2", tmp_path, monkeypatch)
    assert Origin(cache)._find_dataset() == "tfds:~/private.npz"


def cache_of(typed, name, version, home, monkeypatch):
    """A cache that says where its dataset is; `private.npz` is in the home folder."""
    monkeypatch.setenv("HOME", str(home))
    (home / "private.npz").touch()
    return SimpleNamespace(
        path=home / "cache.h5",
        provenance=SimpleNamespace(typed=SimpleNamespace(dataset=typed)),
        spec=SimpleNamespace(dataset=SimpleNamespace(dataset=name, version=version)),
    )


def test_a_wrong_export_is_refused_and_leaves_nothing(trained, tmp_path, monkeypatch):
    """The trap that parity is measured for: BatchNorm served in training mode."""
    kind = FORMATS["saved-model"]

    def save_in_training_mode(combined, *arguments):
        network = combined.network.layers[-1]
        network.trainable = True
        call = type(network).call
        monkeypatch.setattr(
            type(network), "call", lambda self, *a, training=None, **k: call(self, *a, training=True, **k)
        )
        kind.save(combined, *arguments)

    monkeypatch.setitem(FORMATS, "saved-model", replace(kind, save=save_in_training_mode))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ExportError, match=r"does not answer as the cache did on 47 test images: its logits differ by"):
        export.export(trained, tmp_path / "model", artefact=Artefact(fold_batch_norm=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_model_that_cannot_be_loaded_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Candidate, "save", lambda self, folder: None)
    with pytest.raises(ExportError, match="a fresh process could not run the exported model"):
        export.export(trained, tmp_path / "new" / "folders" / "model")
    assert not (tmp_path / "new").exists()


def test_what_killed_the_fresh_process_is_said_however_late_it_is_asked(tmp_path):
    def ask_late():
        with open_in_fresh_process(tmp_path, FORMATS["onnx"]) as compute_logits:
            time.sleep(2)
            compute_logits(np.zeros((1, 9, 9, 3), np.uint8))

    with pytest.raises(ExportError, match=r"\(exit code 1\):[^$]*model.onnx"):
        ask_late()


def test_an_answer_that_was_cut_short_is_none():
    whole = io.BytesIO()
    runtimes.write_array(whole, np.arange(5))
    assert runtimes.read_array(io.BytesIO(whole.getvalue())).tolist() == [0, 1, 2, 3, 4]
    for size in (0, 5, len(whole.getvalue()) - 1):
        assert runtimes.read_array(io.BytesIO(whole.getvalue()[:size])) is None


def test_images_are_taken_from_all_of_a_role(trained, dataset):
    """Folders are sorted by class: the first rows are of one."""
    cache = open_run(trained).open_cache()
    origin = Origin(cache, dataset.dataset)
    ids = [row.id for row in origin.sample_rows("train", 4)]
    assert ids == ["train_00000", "train_00023", "train_00046", "train_00069"]
    assert len(list(origin.sample_rows("train", 128))) == 70


def test_int8_has_to_agree_in_its_classes():
    least = FORMATS["litert"].find_quantization("int8").least_same_class
    measured = export.Parity(num_images=64, error=0.4, tolerance=0.5, same_class=0.89)
    with pytest.raises(
        ExportError, match="89.0% of the classes agree, at least 90% were expected. If --no-fold-batch-norm passes"
    ):
        parity._require_parity(measured, "test", Artefact("litert", "int8"), least)
    parity._require_parity(replace(measured, same_class=0.9), "test", Artefact("litert", "int8"), least)


def test_batches_and_encoded_images_are_asked_for_where_sizes_differ(features, folder, settings, tmp_path):
    cache_path = precompute(features, DatasetSpec(dataset=str(folder)), settings)
    candidate = open_candidate(train(cache_path, RECIPE, runs_dir=tmp_path / "runs"), "", "", Artefact())

    def parity_of(compute_logits):
        return parity.measure_parity(candidate, compute_logits)

    def right(images):
        return candidate.combined.compute_logits(
            decode._decode(images[0]).numpy()[None] if images.ndim == 1 else images
        )

    assert parity_of(right).error < 1e-4
    with pytest.raises(ExportError, match="does not answer as the cache did on 13 test images"):
        parity_of(lambda images: right(images)[:1].repeat(len(images), axis=0))
    with pytest.raises(ExportError, match="does not answer as the cache did on 13 test images"):
        parity_of(lambda images: right(images) + (images.ndim == 1))


def test_existing_folder_is_kept(trained, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ExportError, match="model exists already; choose another folder or remove it"):
        export.export(trained, tmp_path / "model")


def test_changed_dataset_is_refused(trained, dataset, tmp_path):
    with np.load(dataset.dataset) as arrays:
        changed = dict(arrays)
    changed["test_images"][0] ^= 1
    np.savez(dataset.dataset, **changed)
    with pytest.raises(ExportError, match="is not the one that the features were made from\n  version: sha256:"):
        export.export(trained, tmp_path / "model")


def test_moved_dataset_can_be_given(trained, dataset, tmp_path):
    (tmp_path / "moved").mkdir()
    Path(dataset.dataset).rename(tmp_path / "moved" / "colours.npz")
    with pytest.raises(DatasetError, match="there is no file .*colours.npz"):
        export.export(trained, tmp_path / "model")
    assert export.export(trained, tmp_path / "model", dataset=str(tmp_path / "moved" / "colours.npz")).same_class == 1


@pytest.mark.parametrize(
    ("compute", "stored", "tolerance"), [("bfloat16", "float32", 1e-1), ("float32", "float16", 5e-3)]
)
def test_low_precision_is_held_to_its_own_tolerance(features, dataset, settings, tmp_path, compute, stored, tolerance):
    spec = replace(features, compute_dtype=compute, feature_dtype=stored, resize_mode="crop", interpolation="bicubic")
    trained = train(precompute(spec, dataset, settings), RECIPE, runs_dir=tmp_path / "runs")
    parity = export.export(trained, tmp_path / "model")
    assert parity.tolerance == tolerance
    assert parity.error < tolerance


def test_changed_weights_are_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("tfl.backbones.tensors.RANDOM_WEIGHTS_SEED", 1)
    with pytest.raises(ExportError, match="'random' are not those that the features were made with"):
        export.export(trained, tmp_path / "model")


def test_export_needs_tensorflow(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ExportError, match="the format saved-model needs KERAS_BACKEND=tensorflow, got jax"):
        export.export(trained, tmp_path / "model")


def test_moved_test_rows_are_noticed(trained, dataset, tmp_path, monkeypatch):
    assert open_run(trained).open_cache().read_ids("test")[0] == b"test_00000"
    monkeypatch.setattr(
        datasets, "read_rows", lambda *a: iter([datasets.Example(np.zeros((9, 9, 3), np.uint8), 0, "x")] * 40)
    )
    with pytest.raises(ExportError, match="the rows of .* are not those of the cache, in its order: got b'x' to b'x'"):
        export.export(trained, tmp_path / "model")
    cache = open_run(trained).open_cache()
    with pytest.raises(ExportError, match="are not those of the cache: b'test_00000' was expected, got 'x'"):
        next(Origin(cache, dataset.dataset).read_rows("test"))
