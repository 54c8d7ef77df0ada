"""The SavedModel as a stranger to tfl uses it: through TensorFlow, and through its `saved_model_cli`."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_formats import NAMES, _tiny, backbone, combined_of, images_of  # noqa: F401 -- fixtures

from tfl.datasets import decode_image
from tfl.export import decode, saved_model
from tfl.export.combined import folded

PHOTO = Image.fromarray(images_of(6, 8)).resize((37, 29), Image.BICUBIC)
VIEWS = ("original", "hflip")


@pytest.fixture(scope="module")
def combined(backbone):  # noqa: F811
    return folded(combined_of(backbone, VIEWS))


@pytest.fixture(scope="module")
def folder(combined, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    saved_model.save(combined, path, is_float16=False)
    return path


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


def encoded(image, name, **settings):
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def bmp_with_masks(red, green, blue):
    """32 bits a pixel, and where in them each colour is."""
    pixels = np.asarray(PHOTO).astype("<u4")  # (h, w, 3)
    shifts = [(mask & -mask).bit_length() - 1 for mask in (red, green, blue)]
    values = sum(pixels[::-1, :, i] << shift for i, shift in enumerate(shifts))
    masks = struct.pack("<3I", red, green, blue)
    info = struct.pack("<IiiHHIIiiII", 40, *PHOTO.size, 1, 32, 3, values.nbytes, 0, 0, 0, 0)
    start = 14 + len(info) + len(masks)
    return struct.pack("<2sIHHI", b"BM", start + values.nbytes, 0, 0, start) + info + masks + values.tobytes()


TRANSPARENT = PHOTO.convert("RGBA")
TRANSPARENT.putalpha(77)
FILES = {
    "jpeg": encoded(PHOTO, "JPEG"),
    "jpeg of half the colours": encoded(PHOTO, "JPEG", subsampling=2, progressive=True),
    "grey jpeg": encoded(PHOTO.convert("L"), "JPEG"),
    "cmyk jpeg": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "png": encoded(PHOTO, "PNG"),
    "palette png": encoded(PHOTO.convert("P"), "PNG", transparency=3),
    "transparent png": encoded(TRANSPARENT, "PNG"),
    "black and white png": encoded(PHOTO.convert("1"), "PNG"),
    "webp": encoded(PHOTO, "WEBP"),
    "transparent webp": encoded(TRANSPARENT, "WEBP"),
    "gif": encoded(PHOTO.convert("P"), "GIF"),
    "animated gif": encoded(PHOTO.convert("P"), "GIF", save_all=True, append_images=[PHOTO.rotate(90).convert("P")]),
    "bmp": encoded(PHOTO, "BMP"),
    "transparent bmp": encoded(TRANSPARENT, "BMP"),
    "bmp with masks": bmp_with_masks(0xFF0000, 0xFF00, 0xFF),
}
REFUSED = {
    "palette bmp": encoded(PHOTO.convert("P"), "BMP"),
    "bmp with other masks": bmp_with_masks(0xFF000000, 0xFF0000, 0xFF00),
    "animated webp": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)]),
    "tiff": encoded(PHOTO, "TIFF"),
    "truncated jpeg": FILES["jpeg"][:400],
    "truncated png": FILES["png"][:-300],
    "truncated webp": FILES["webp"][:-30],
    "text": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_decoded_to_the_pixels_of_training(name):
    pixels = decode._decode(tf.constant(FILES[name])).numpy()
    np.testing.assert_array_equal(pixels, decode_image(FILES[name], name))


def test_exif_is_not_looked_at():
    exif = PHOTO.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    content = encoded(PHOTO, "JPEG", exif=exif)
    turned = decode_image(content, "turned")
    np.testing.assert_array_equal(np.rot90(decode._decode(tf.constant(content)).numpy(), -1), turned)


def test_encoded_images_of_differing_sizes(signatures, combined):
    images = [PHOTO, PHOTO.resize((20, 50)), PHOTO.resize((9, 9))]
    found = signatures["serve_bytes"](image_bytes=tf.constant([encoded(image, "PNG") for image in images]))
    expected = np.concatenate([combined.logits_of(np.asarray(image)[None]) for image in images])
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    assert [name.decode() for name in found["class_name"].numpy()] == [NAMES[i] for i in expected.argmax(axis=1)]


def test_no_encoded_images(signatures):
    found = signatures["serve_bytes"](image_bytes=tf.constant([], tf.string))
    assert found["logits"].shape == (0, 3)
    assert found["class_name"].shape == (0,)


@pytest.mark.parametrize("name", REFUSED)
def test_the_position_of_a_bad_string_is_named(name, signatures):
    strings = [FILES["png"], REFUSED[name], FILES["webp"], REFUSED[name]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"positions of image_bytes hold no whole[^\[]*\[1 3\]"):
        signatures["serve_bytes"](image_bytes=tf.constant(strings))


def test_features(signatures, combined):
    images = images_of(3, 10, 9)
    found = signatures["features"](images=tf.constant(images))["features"]
    expected = combined.network(combined.shown(images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert signatures["features"](images=tf.constant(images[:0]))["features"].shape == (0, 5)


def saved_model_cli(*arguments):
    program = "import sys; from tensorflow.python.tools.saved_model_cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_saved_model_cli(folder, combined, tmp_path):
    """Part of TensorFlow, and no tfl or Keras in sight."""
    tag = ("--dir", folder, "--tag_set", "serve", "--signature_def")
    shown = saved_model_cli("show", *tag, "serve_bytes")
    assert "inputs['image_bytes'] tensor_info:\n      dtype: DT_STRING\n      shape: (-1)" in shown
    assert all(f"outputs['{name}']" in shown for name in ("probabilities", "logits", "class_index", "class_name"))
    np.savez(tmp_path / "input.npz", image_bytes=np.array([FILES["png"]], object))
    inputs = ("--inputs", f"image_bytes={tmp_path / 'input.npz'}[image_bytes]")
    saved_model_cli("run", *tag, "serve_bytes", *inputs, "--outdir", tmp_path)
    expected = combined.logits_of(np.asarray(PHOTO)[None])
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-5)
    (name,) = np.load(tmp_path / "class_name.npy", allow_pickle=True)
    assert name.decode() == NAMES[expected.argmax()]
