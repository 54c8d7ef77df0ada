"""One bound on the pixels that an image claims: looked at before decoding, whatever Pillow's own bound is."""

import io
import struct
import threading
from dataclasses import replace

import pytest
from PIL import Image, features

from tfl import datasets
from tfl.artefacts import export
from tfl.artefacts.formats import require_format
from tfl.cache import open_cache
from tfl.datasets import decode_image, heif
from tfl.errors import DatasetError, SpecError
from tfl.extraction.precompute import precompute
from tfl.heads import Reference
from tfl.runs.training import train
from tfl.specs import MAX_IMAGE_PIXELS, Artefact, DatasetSpec, Settings

WIDTH, HEIGHT = 40, 30
KINDS = ["AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"]
if not features.check("avif"):
    KINDS.remove("AVIF")
if heif.is_readable():
    KINDS.append("HEIF")


def encoded(kind, size=(WIDTH, HEIGHT), **settings):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 60, 60)).save(file, kind, **settings)
    return file.getvalue()


def frames_of_a_growing_gif():
    """A GIF whose screen is one pixel, and whose first frame is 40 x 30."""
    content = bytearray(encoded("GIF"))
    struct.pack_into("<HH", content, 6, 1, 1)
    return bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_inclusive_and_the_message_says_what_to_do(kind):
    content = encoded(kind)
    assert decode_image(content, "x", max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DatasetError) as error:
        decode_image(content, "photo", max_pixels=WIDTH * HEIGHT - 1)
    assert str(error.value) == (
        "the image photo claims more pixels than are safe to decode: 40 x 30, at most 1,199 are decoded; "
        "make it smaller, remove it, or raise --max-image-pixels"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_decoded_beyond_the_bound(kind, monkeypatch):
    content = encoded(kind)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DatasetError, match="claims more pixels"):
        decode_image(content, "photo", max_pixels=100)


@pytest.mark.parametrize("pixels", [1, 100, None])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_of_the_users_program_neither_counts_nor_changes(kind, pixels, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    content = encoded(kind)
    assert decode_image(content, "x").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DatasetError, match="at most 100 are decoded"):
        decode_image(content, "x", max_pixels=100)
    assert pixels == Image.MAX_IMAGE_PIXELS
    if pixels:
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(content))
    else:
        Image.open(io.BytesIO(content)).load()


def test_other_threads_keep_pillows_bound_meanwhile(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    inside, seen = threading.Event(), threading.Event()
    upright = datasets.images.convert_opened

    def wait(image):
        inside.set()
        assert seen.wait(10)
        return upright(image)

    monkeypatch.setattr(datasets.images, "convert_opened", wait)
    decoding = threading.Thread(target=decode_image, args=(encoded("PNG"), "x"))
    decoding.start()
    assert inside.wait(10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(encoded("PNG")))
    seen.set()
    decoding.join()


def test_a_frame_larger_than_its_screen():
    content = frames_of_a_growing_gif()
    assert decode_image(content, "x").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DatasetError, match="40 x 30, at most 1,000 are decoded"):
        decode_image(content, "x", max_pixels=1000)


def test_the_default_takes_photos_of_108_megapixels_and_not_of_177():
    assert 12_000 * 9_000 <= MAX_IMAGE_PIXELS < 13_300 * 13_300
    assert Settings().max_image_pixels == Artefact().max_image_pixels == MAX_IMAGE_PIXELS


@pytest.mark.parametrize("make", [Settings, Artefact])
def test_a_bound_below_one_is_refused(make):
    with pytest.raises(SpecError, match="max_image_pixels is at least 1, got 0"):
        make(max_image_pixels=0)


def test_formats_that_take_decoded_images_have_no_bound():
    with pytest.raises(SpecError, match="max_image_pixels is for the format saved-model, got format onnx"):
        require_format(Artefact("onnx", max_image_pixels=100))


@pytest.fixture
def one_large(folder):
    """The folder dataset, and one training image of 40 x 30 where the others are of 20 x 17 and less."""
    (folder / "train" / "dog" / "large.png").write_bytes(encoded("PNG"))
    return folder


def test_a_folder_knows_it_at_opening(one_large, monkeypatch):
    monkeypatch.setattr(datasets.images, "convert_opened", lambda image: pytest.fail("decoded"))
    source = datasets.open_dataset(DatasetSpec(str(one_large)), max_image_pixels=1000)
    (bad,) = datasets.list_bad_images(source, "train")
    assert bad.id == "train/dog/large.png"
    assert f"{one_large}/train/dog/large.png claims more pixels than are safe to decode: 40 x 30" in bad.reason


def test_precompute_and_export_under_a_bound(tiny_backbone, features, one_large, settings, tmp_path, caplog):
    """The bound is in no fingerprint, and what it left out is left out by `export` too."""
    dataset, bounded = DatasetSpec(str(one_large)), replace(settings, max_image_pixels=1000)
    with pytest.raises(DatasetError, match=r"large.png claims more .* raise --max-image-pixels\nrepair or"):
        precompute(features, dataset, bounded)
    path = precompute(features, dataset, replace(bounded, on_bad_image="skip"))
    cache = open_cache(path)
    assert cache.num_rows["train"] == 12
    assert [image["id"] for image in cache.provenance.values["skipped"]] == ["train/dog/large.png"]
    assert cache.provenance.max_image_pixels == 1000
    made = train(path, Reference(epochs=1), runs_dir=tmp_path / "runs")
    assert export.export(made, tmp_path / "model", artefact=Artefact("keras")).error < 1e-3
    assert precompute(features, dataset, replace(settings, on_bad_image="skip")) == path
    assert "was made with --max-image-pixels 1000; remove it to make it with 120000000" in caplog.text


def test_a_raised_bound_is_raised_for_export_too(tiny_backbone, features, one_large, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("tfl.artefacts.origin.MAX_IMAGE_PIXELS", 1000)
    path = precompute(features, DatasetSpec(str(one_large)), replace(settings, max_image_pixels=1200))
    assert open_cache(path).num_rows["train"] == 13
    made = train(path, Reference(epochs=1), runs_dir=tmp_path / "runs")
    artefact = Artefact(max_image_pixels=7)  # less than any image has
    assert export.export(made, tmp_path / "model", artefact=artefact).error < 1e-3
