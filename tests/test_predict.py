"""Prediction from an exported model, by the function and by the command."""

import io
import json
import os
import sys
import weakref
from pathlib import Path

import numpy as np
import pyte
import pytest
from manifests import describe
from PIL import Image
from test_formats import NAMES, _tiny, backbone, combined_of  # noqa: F401 -- fixtures

from tfl.artefacts import decoded, exported, inputs, predict
from tfl.artefacts.predict import BadImage
from tfl.cli.main import main
from tfl.errors import DatasetError, ExportError, ExtraError, SpecError

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
    return describe(folder, "keras")


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
    monkeypatch.setattr("tfl.machine.batching.BATCH_SIZE", 2)
    images = predict.find_images([str(photos)], io.BytesIO())
    assert [path.removeprefix(f"{photos}/") for path in paths_of(images)] == [
        "blue.png",
        "green.png",
        "more/blue.jpg",
        "more/red.jpg",
        "red.png",
    ]
    seen = []
    found = list(
        predict.predict_each(predict.open_model(model), images, lambda now: seen.append((now.finished, now.total)))
    )
    assert [each.image for each in found] == paths_of(images)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    for image, each in zip(images, found, strict=True):
        logits = combined.compute_logits(np.asarray(Image.open(image.path).convert("RGB"))[None])[0]
        assert each.class_index == logits.argmax()
        assert each.class_name == NAMES[logits.argmax()]
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert list(each.probabilities) == list(NAMES)
        np.testing.assert_allclose(list(each.probabilities.values()), expected, rtol=1e-4)


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
    assert predict.find_images(["-"], io.BytesIO(content)) == [inputs.Image(Path("-"), content)]
    with pytest.raises(DatasetError, match=r"no image matches .*\*.webp; expected files ending in .avif"):
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
    assert main(["predict", str(model), str(photos), "--json"]) == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) == 6
    assert lines[0]["image"] == str(photos / "bad.png")
    assert "bad.png is not an image" in lines[0]["error"]
    assert "tfl: 1 of 6 images are bad" in printed.err
    assert main(["predict", str(model), str(photos / "bad.png"), str(photos / "red.png")]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{photos}/red.png\t")
    assert "bad.png is not an image" in printed.err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_name_that_is_not_utf8(flags, model, photos, monkeypatch):
    (photos / "red.png").rename(photos / os.fsdecode(b"r\xe9d.png"))
    pipe = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert main(["predict", str(model), str(photos), *flags]) == 0
    pipe.seek(0)
    assert r"r\xe9d.png" in pipe.read().replace(r"\\", "\\")


def test_results_and_progress_on_one_terminal(model, photos, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("tfl.machine.batching.BATCH_SIZE", 2)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["predict", str(model), str(photos)]) == 0
    printed = terminal.getvalue()
    assert "2/5" in printed
    screen = pyte.Screen(300, 50)
    pyte.Stream(screen).feed(printed.replace("\n", "\r\n"))
    seen = [line.split()[0] for line in screen.display if line.strip()]
    assert seen == paths_of(predict.find_images([str(photos)], io.BytesIO())), (
        "the bar is gone, and has overwritten nothing"
    )


def test_a_runtime_that_no_extra_brings(model, tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").touch()
    describe(tmp_path, "saved-model")
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
    describe(tmp_path, "onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match="is not a model that `tfl export` made"):
        predict.open_model(tmp_path)


# --- standard input


def piped(content):
    return predict.find_images(["-"], io.BytesIO(content))


def is_one_image(content):
    return piped(content) == [inputs.Image(Path("-"), content)]


STRANGE = [
    "line\u2028separator.png",
    "paragraph\u2029separator.png",
    "next\x85line.png",
    "vertical\x0btab.png",
    "form\x0cfeed.png",
    "file\x1cseparator.png",
    "carriage\rreturn.png",
    " spaces .png ",
    "tab\t.png",
    "# no comment.png",
    os.fsdecode(b"l\xe4tin.png"),
    "-",
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"], ids=["lf", "crlf", "zero"])
def test_a_list_is_split_at_its_ends_alone(end):
    content = os.fsencode("".join(name + end for name in STRANGE))
    assert paths_of(piped(content)) == STRANGE
    assert paths_of(piped(content.removesuffix(os.fsencode(end)))) == STRANGE, "the last end may be missing"


def test_names_with_newlines_in_a_list_with_zero_bytes():
    assert paths_of(piped(b"a\nb.png\0c\r\0\0")) == ["a\nb.png", "c\r"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\0", b"\0\0"])
def test_an_empty_list_is_an_error(content):
    with pytest.raises(DatasetError, match="standard input is empty; expected an encoded image, or paths"):
        piped(content)


def encoded(kind, **settings):
    file = io.BytesIO()
    Image.new("RGB", (31, 17), (10, 20, 30)).save(file, kind, **settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"])
def test_an_image_is_an_image_with_zero_bytes_or_without(kind):
    assert is_one_image(encoded(kind))


NETPBM = {
    "P1": b"P1\n2 2\n0 1\n1 0\n",
    "P2": b"P2\n# a comment.txt\n2 2\n255\n9 200\n30 40\n",
    "P3": b"P3 2 1 255\n1 2 3\n4 5 6\n",
    "P4": b"P4 8 2 \xaa\x55",
    "P5": b"P5 2 2 255 \x01\n\x02\n",
    "P6": b"P6\n2 1\n255\n\x01\x02\x03\x0a\x0b\x0c",
}


@pytest.mark.parametrize("kind", NETPBM)
def test_netpbm_without_a_zero_byte_is_an_image(kind, model):
    assert b"\0" not in NETPBM[kind]
    (image,) = piped(NETPBM[kind])
    (answer,) = predict.predict_each(predict.open_model(model), [image])
    assert answer.image == "-"
    assert not isinstance(answer, BadImage)


def test_a_file_named_as_a_line_of_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("255", "2 2", "9 200"):
        (tmp_path / name).touch()
    assert is_one_image(NETPBM["P2"])


LIKE_IMAGES = ["BM photo.jpg", "P6 x.ppm", "P6 1 1 255 x.ppm", "GIF89a.jpg", "GIF87a", "II*.png", "P3 1 1 255"]


@pytest.mark.parametrize("name", LIKE_IMAGES)
@pytest.mark.parametrize("end", ["\n", "\0"], ids=["lf", "zero"])
@pytest.mark.parametrize("count", [1, 100])
def test_a_file_whose_name_begins_as_an_image_does(name, end, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    assert paths_of(piped((name + end).encode() * count)) == [name] * count


def test_only_a_later_name_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.PNG").touch()
    names = ["P6 1 1 255 gone.ppm", "there.PNG"]
    assert paths_of(piped("\n".join(names).encode())) == names


def test_names_that_are_all_gone_are_still_names():
    assert paths_of(piped(b"BM photo.jpg\ngone\n")) == ["BM photo.jpg", "gone"]
    assert paths_of(piped(b"gone.png\0gone too.png\0")) == ["gone.png", "gone too.png"]


@pytest.mark.parametrize("kept", [4, 20, 60])
def test_a_damaged_image_is_one_bad_image(kept, model):
    (image,) = piped(encoded("PNG")[:kept] + b"\0\n\0")
    (answer,) = predict.predict_each(predict.open_model(model), [image])
    assert answer.image == "-"
    assert answer.error.startswith(("- is not an image", "cannot decode the image -"))


def test_a_list_through_the_command(model, photos, monkeypatch, capsys):
    (photos / "red.png").rename(photos / "r\u2028d.png")
    listed = "".join(f"{path}\0" for path in (photos / "r\u2028d.png", photos / "blue.png"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    assert main(["predict", str(model), "-", "--json"]) == 0
    assert [json.loads(line)["class_name"] for line in capsys.readouterr().out.splitlines()]


# --- large images


def test_the_bound_on_pixels(model, photos, capsys):
    Image.new("RGB", (40, 30)).save(photos / "large.png")
    assert main(["predict", str(model), str(photos / "large.png"), "--max-image-pixels", "1199"]) == 1
    printed = capsys.readouterr().err
    assert "large.png claims more pixels than are safe to decode: 40 x 30, at most 1,199 are decoded" in printed
    assert "raise --max-image-pixels" in printed
    assert main(["predict", str(model), str(photos), "--max-image-pixels", "1200"]) == 0
    assert main(["predict", str(model), str(photos), "--max-image-pixels", "0"]) == 2
    with pytest.raises(DatasetError, match=r"large.png claims more pixels"):
        predict.predict(model, [photos / "large.png"], max_image_pixels=1199)
    with pytest.raises(SpecError, match="max_image_pixels is at least 1, got -1"):
        predict.predict(model, [photos / "large.png"], max_image_pixels=-1)


class Recorder:
    """A model that answers class 0, and keeps the shapes that it was asked for."""

    def __init__(self, fails=lambda images: None):
        self.shapes, self._fails = [], fails

    def __call__(self, images):
        self.shapes.append(images.shape)
        self._fails(images)
        return {"class_index": np.zeros(len(images), int), "probabilities": np.tile([1.0, 0.0, 0.0], (len(images), 1))}


def answers_of(recorder, images, **settings):
    return list(predict.predict_each(exported.ExportedModel(NAMES, recorder), images, **settings))


@pytest.fixture
def sizes(tmp_path):
    """Images of 10 x 10 and of 20 x 10 pixels, in turns."""
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        Image.new("RGB", (10 * (1 + i % 2), 10), (i, i, i)).save(path)
    return [inputs.Image(path) for path in paths]


def test_small_images_of_one_size_are_asked_for_together(sizes):
    recorder = Recorder()
    assert [each.class_name for each in answers_of(recorder, sizes)] == ["red"] * 8
    assert recorder.shapes == [(4, 10, 10, 3), (4, 10, 20, 3)]


def test_large_images_come_alone_and_nothing_is_decoded_ahead(sizes, monkeypatch):
    monkeypatch.setattr(decoded, "WINDOW_BYTES", 299)
    held, most = [], []
    decode = decoded._decode

    def decode_and_count(image, max_image_pixels):
        row = decode(image, max_image_pixels)
        held.append(weakref.ref(row.pixels))
        most.append(sum(ref() is not None for ref in held))
        return row

    monkeypatch.setattr(decoded, "_decode", decode_and_count)
    recorder = Recorder()
    assert len(answers_of(recorder, sizes)) == 8
    assert recorder.shapes == [(1, 10, 10, 3), (1, 10, 20, 3)] * 4
    assert max(most) == 1


def test_a_window_and_a_batch_hold_so_many_bytes(sizes, monkeypatch):
    monkeypatch.setattr(decoded, "WINDOW_BYTES", 2000)
    monkeypatch.setattr(predict, "BATCH_BYTES", 650)
    recorder = Recorder()
    found = answers_of(recorder, sizes)
    assert [each.image for each in found] == paths_of(sizes)
    assert recorder.shapes == [(2, 10, 10, 3), (1, 10, 20, 3), (1, 10, 20, 3)] * 2


def test_an_image_that_the_runtime_fails_on_is_named(sizes):
    def fail(images):
        if images.max() == 3 or len(images) > 1:
            raise RuntimeError("std::bad_alloc")

    found = answers_of(Recorder(fail), sizes)
    assert [each.image for each in found] == paths_of(sizes)
    assert [place for place, each in enumerate(found) if isinstance(each, BadImage)] == [3]
    assert found[3].error == (
        f"the model could not answer for the image {sizes[3].path} of 20 x 10 pixels: std::bad_alloc; "
        "if memory does not suffice, make it smaller"
    )


def test_too_little_memory_to_read_is_a_bad_image(sizes, monkeypatch):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fail)
    (found,) = answers_of(Recorder(), sizes[:1])
    assert found == BadImage(str(sizes[0].path), f"too little memory to read {sizes[0].path}")


def test_suffixes_of_names_are_looked_at_in_any_case():
    assert paths_of(piped(b"GONE.PNG\0")) == ["GONE.PNG"]
