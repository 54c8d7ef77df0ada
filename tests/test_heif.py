"""HEIC: the pixels of a known picture, upright once; a sentence that names the extra where it is not installed."""

import io
import shutil
import struct
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps
from test_datasets import opened

from tfl import datasets
from tfl.artefacts import predict
from tfl.datasets import heif
from tfl.datasets.images import decode_image, image_suffixes, require_image
from tfl.errors import DatasetError

CORNERS = np.zeros((32, 48, 3), np.uint8)
"""A picture that no turning or mirroring leaves as it is."""
CORNERS[:16, :24], CORNERS[:16, 24:], CORNERS[16:, :24] = (220, 30, 30), (30, 220, 30), (30, 30, 220)


def heic(pixels, mode="RGB", **options):
    """Encoded without loss but for the conversion to YCbCr."""
    height, width = pixels.shape[:2]
    file = pillow_heif.from_bytes(mode, (width, height), pixels.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


def assert_close(decoded, expected):
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), expected, atol=3)


@pytest.fixture
def without(monkeypatch):
    """As where pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif.is_readable.cache_clear()
    yield
    heif.is_readable.cache_clear()


def test_pixels():
    assert require_image(heic(CORNERS), "x.heic") == CORNERS.nbytes
    assert_close(decode_image(heic(CORNERS), "x.heic"), CORNERS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    """`irot` and `imir`, as phones write them, beside an EXIF tag that says the same."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(CORNERS)
    heif.is_readable()
    buffer = io.BytesIO()
    image.save(buffer, "HEIF", exif=exif.tobytes(), quality=-1, chroma=444)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    decoded = decode_image(buffer.getvalue(), "x.heic")
    assert decoded.shape == upright.shape
    assert_close(decoded, upright)


def test_exif_alone_does_not_turn_it():
    """ISO/IEC 23008-12 has its own properties for this: of EXIF, what was turned already is still said."""
    exif = Image.Exif()
    exif[0x0112] = 1
    content = heic(CORNERS, exif=exif.tobytes())
    entry = struct.pack(">HHIH", 0x0112, 3, 1, 1)
    assert content.count(entry) == 1
    turned = content.replace(entry, entry[:-2] + struct.pack(">H", 6))
    assert_close(decode_image(turned, "x.heic"), CORNERS)


def test_the_primary_image_of_several():
    file = pillow_heif.from_bytes("RGB", (48, 32), (255 - CORNERS).tobytes())
    file.add_frombytes("RGB", (48, 32), CORNERS.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, chroma=444, primary_index=1)
    assert_close(decode_image(buffer.getvalue(), "x.heic"), CORNERS)


def test_grey_transparency_and_ten_bits():
    grey = CORNERS[:, :, 0]
    assert_close(decode_image(heic(grey, "L"), "x.heic"), np.repeat(grey[:, :, None], 3, axis=2))
    alpha = np.concatenate([CORNERS, np.full((32, 48, 1), 90, np.uint8)], axis=2)
    assert_close(decode_image(heic(alpha, "RGBA"), "x.heic"), CORNERS)
    deep = heic(CORNERS.astype("<u2") * 257, "RGB;16")
    assert_close(decode_image(deep, "x.heic"), CORNERS)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_under_any_name_and_brand(brand):
    content = bytearray(heic(CORNERS))
    content[8:12] = brand
    assert_close(decode_image(bytes(content), "x.jpg"), CORNERS)


def test_avif_stays_pillows():
    buffer = io.BytesIO()
    Image.fromarray(CORNERS).save(buffer, "avif", quality=100, subsampling="4:4:4")
    assert not heif.is_heif(buffer.getvalue())
    assert_close(decode_image(buffer.getvalue(), "x.avif"), CORNERS)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_is_known_from_its_header(kept):
    content = heic(CORNERS)
    with pytest.raises(DatasetError, match=r"x\.heic.*; repair or remove it"):
        require_image(content[: int(kept * len(content))], "x.heic")


def test_whole_files_are_not_decoded_at_opening(monkeypatch):
    monkeypatch.setattr(ImageOps, "exif_transpose", None)
    require_image(heic(CORNERS), "x.heic")


def test_a_folder_of_heic(folder):
    for split in ("train", "test"):
        for name in ("a.heic", "b.HEIC", "c.HEIF", "d.hif"):
            (folder / split / "bird").mkdir(exist_ok=True)
            (folder / split / "bird" / name).write_bytes(heic(CORNERS))
    source = opened(folder)
    assert (source.class_names, source.num_rows) == (("bird", "cat", "dog"), {"train": 16, "test": 10})
    row = next(datasets.require_good_images(source.examples("train", 0, 1)))
    assert (row.id, row.label) == ("train/bird/a.heic", 0)
    assert_close(row.image, CORNERS)
    assert len(predict.find_images([str(folder / "train" / "bird")], io.BytesIO())) == 4


def test_without_the_extra(folder, without):
    assert ".heic" not in image_suffixes()
    (folder / "train" / "bird").mkdir()
    (folder / "train" / "bird" / "a.HEIC").write_bytes(heic(CORNERS))
    with pytest.raises(DatasetError, match=r"train/bird: 1 files, .heic \(1\)\n.*pip install '.\[heic\]'\)") as error:
        opened(folder)
    assert ".heic" not in str(error.value).split("expected files ending in ")[1].split("(")[0]
    with pytest.raises(DatasetError, match=r"x\.jpg is not an image that Pillow can read alone .*'.\[heic\]'"):
        decode_image(heic(CORNERS), "x.jpg")


def test_versions_of_other_folders_do_not_depend_on_it(folder, without, monkeypatch):
    version = opened(folder).version
    monkeypatch.undo()
    heif.is_readable.cache_clear()
    assert opened(folder).version == version


def test_heic_among_others_is_said(folder, without, caplog):
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "0.heic")
    opened(folder)
    assert "skipped 1 files, hidden or no images by their names: .heic (1), such as " in caplog.text
    assert "pip install '.[heic]'" in caplog.text
