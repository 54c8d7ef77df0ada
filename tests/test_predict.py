"""Prediction from an exported model, by the function and by the command."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image
from test_formats import FEATURES, NAMES, _tiny, backbone, combined_of  # noqa: F401 -- fixtures

from tfl import cli, predict
from tfl.errors import DatasetError, ExportError, ExtraError

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


@pytest.fixture(scope="module")
def combined(backbone):  # noqa: F811
    return combined_of(backbone)


@pytest.fixture(scope="module")
def model(combined, tmp_path_factory):
    """Keras' own format: it is here already, and starts nothing."""
    folder = tmp_path_factory.mktemp("predicting") / "model"
    folder.mkdir()
    combined.model.save(folder / "model.keras")
    (folder / "tfl.json").write_text(json.dumps({"class_names": NAMES}))
    return folder


@pytest.fixture
def photos(tmp_path):
    """Five images of two sizes, two of them in a folder below, and a file that is none."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for i, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (31 + i % 2, 17), colour).save(root / f"{name}.png")
    for name in ("red", "blue"):
        Image.new("RGB", (31, 17), COLOURS[name]).save(root / "more" / f"{name}.jpg")
    (root / "notes.txt").write_text("no image")
    return root


def paths_of(images):
    return [str(image.path) for image in images]


def test_in_order_and_in_batches(model, combined, photos, monkeypatch):
    monkeypatch.setattr("tfl.batches.NUM_IMAGES", 2)
    images = predict.find_images([str(photos)], io.BytesIO())
    assert [path.removeprefix(f"{photos}/") for path in paths_of(images)] == [
        "blue.png",
        "green.png",
        "more/blue.jpg",
        "more/red.jpg",
        "red.png",
    ]
    seen = []
    found = list(predict.predictions(predict.open_model(model), images, seen.append))
    assert [each["image"] for each in found] == paths_of(images)
    assert [(progress.finished, progress.total) for progress in seen] == [(2, 5), (4, 5), (5, 5)]
    for image, each in zip(images, found, strict=True):
        logits = combined.logits_of(np.asarray(Image.open(image.path).convert("RGB"))[None])[0]
        assert each["class_index"] == logits.argmax()
        assert each["class_name"] == NAMES[logits.argmax()]
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert list(each["probabilities"]) == list(NAMES)
        np.testing.assert_allclose(list(each["probabilities"].values()), expected, rtol=1e-4)


def test_words_for_images(photos):
    def found(*words, stdin=b""):
        return [
            str(path).removeprefix(f"{photos}/") for path in paths_of(predict.find_images(words, io.BytesIO(stdin)))
        ]

    assert found(f"{photos}/*.png") == ["blue.png", "green.png", "red.png"]
    assert found(f"{photos}/**/*.jpg") == ["more/blue.jpg", "more/red.jpg"]
    assert found(f"{photos}/missing.png") == ["missing.png"], "which is a bad image later"
    assert found("-", stdin=f"{photos}/red.png\n{photos}/blue.png\n".encode()) == ["red.png", "blue.png"]
    content = (photos / "red.png").read_bytes()
    assert predict.find_images(["-"], io.BytesIO(content)) == [predict.Image(predict.Path("-"), content)]
    with pytest.raises(DatasetError, match=r"no image is like .*\*.webp; expected files ending in .avif"):
        found(f"{photos}/*.webp")
    everything = ["blue.png", "green.png", "more/blue.jpg", "more/red.jpg", "red.png"]
    assert found(f"{photos}/*") == everything, "and not notes.txt"
    assert found(f"{photos}/**") == everything, "each once"
    for nothing in (b"", b"\n"):
        with pytest.raises(DatasetError, match="standard input is empty; expected an encoded image, or paths"):
            found("-", stdin=nothing)
    (photos / "empty").mkdir()
    with pytest.raises(DatasetError, match="the folder .*empty holds no image"):
        found(f"{photos}/empty")


def test_the_command_goes_on_after_a_bad_image(model, photos, capsys):
    (photos / "bad.png").write_text("hello")
    assert cli.main(["predict", str(model), str(photos), "--json"]) == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) == 6
    assert lines[0]["image"] == str(photos / "bad.png")
    assert "bad.png is not an image" in lines[0]["error"]
    assert "tfl: 1 of 6 images are bad" in printed.err
    assert cli.main(["predict", str(model), str(photos / "bad.png"), str(photos / "red.png")]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{photos}/red.png\t")
    assert "bad.png is not an image" in printed.err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_name_that_is_not_utf8(flags, model, photos, monkeypatch):
    (photos / "red.png").rename(photos / os.fsdecode(b"r\xe9d.png"))
    pipe = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main(["predict", str(model), str(photos), *flags]) == 0
    pipe.seek(0)
    assert r"r\xe9d.png" in pipe.read().replace(r"\\", "\\")


def test_results_and_progress_on_one_terminal(model, photos, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("tfl.batches.NUM_IMAGES", 2)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main(["predict", str(model), str(photos)]) == 0
    printed = terminal.getvalue()
    assert "2 of 5 images" in printed
    seen = [line.rsplit("\r\033[K", 1)[-1] for line in printed.split("\n")]
    assert [line.partition("\t")[0] for line in seen if line] == paths_of(
        predict.find_images([str(photos)], io.BytesIO())
    )


def test_a_runtime_that_no_extra_brings(model, tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "tfl.json").write_text('{"class_names": ["a", "b"]}')
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ExtraError, match="^saved-model needs TensorFlow, which cannot be imported here: "):
        predict.open_model(tmp_path)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ExtraError, match="^keras needs Keras and the backend of KERAS_BACKEND, which"):
        predict.open_model(model)


def test_the_function_raises(model, photos):
    (photos / "bad.png").write_text("hello")
    with pytest.raises(DatasetError, match="bad.png is not an image"):
        predict.predict(model, [photos / "bad.png"])


def test_no_model(tmp_path):
    with pytest.raises(ExportError, match="is not a model that `tfl export` made: it holds none of saved_model.pb, "):
        predict.open_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "tfl.json").write_text('{"class_names": ["a", "b"]}')
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match="is not a model that `tfl export` made"):
        predict.open_model(tmp_path)
