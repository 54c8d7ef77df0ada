"""The SavedModel as a stranger to tfl uses it: through TensorFlow, and through its `saved_model_cli`."""

import io
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_formats import NAMES, _tiny, backbone, combined_of, images_of  # noqa: F401 -- fixtures

from tfl.artefacts.combined import fold
from tfl.artefacts.decoding import decode, headers, orientation
from tfl.artefacts.formats import signatures as saved
from tfl.datasets import decode_image
from tfl.errors import DatasetError

PHOTO = Image.fromarray(images_of(6, 8)).resize((37, 29), Image.BICUBIC)
VIEWS = ("original", "hflip")


@pytest.fixture(scope="module")
def combined(backbone):  # noqa: F811
    return fold(combined_of(backbone, VIEWS))


@pytest.fixture(scope="module")
def folder(combined, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    saved.save(combined, path, is_float16=False)
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
    "transparent gif": encoded(PHOTO.convert("P"), "GIF", transparency=PHOTO.convert("P").getpixel((3, 3))),
    "interlaced gif with a comment": encoded(PHOTO.convert("P"), "GIF", interlace=1, comment=b"," * 600),
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
    "truncated gif": FILES["gif"][:-400],
    "gif without a frame": FILES["gif"][:13] + b";",
    "webp without its chunk": FILES["webp"][:12] + FILES["webp"][20:],
    "half a header": FILES["png"][:18],
    "text": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_decoded_to_the_pixels_of_training(name):
    pixels = decode._decode(tf.constant(FILES[name])).numpy()
    np.testing.assert_array_equal(pixels, decode_image(FILES[name], name))


STRING = [tf.TensorSpec((), tf.string)]
decoded_in_graph = tf.function(decode._decode, input_signature=STRING, autograph=False)
size_in_graph = tf.function(headers.read_size, input_signature=STRING, autograph=False)
orientation_in_graph = tf.function(orientation.read_orientation, input_signature=STRING, autograph=False)


def require_same_pixels(content):
    """In a graph, as a SavedModel has it."""
    expected = decode_image(content, "x")
    np.testing.assert_array_equal(decoded_in_graph(tf.constant(content)).numpy(), expected)


# --- orientation

TURNED = Image.fromarray(images_of(5, 7))  # no two pixels of one colour
ORDERS = {"II": "<", "MM": ">"}


def entry(order, tag, kind, count, value):
    return struct.pack(ORDERS[order] + "HHL", tag, kind, count) + value


def tiff(order, *entries, magic=42, count=None):
    """Exif data of one directory, which begins behind the header of 8 bytes."""
    count = len(entries) if count is None else count
    head = order.encode() + struct.pack(ORDERS[order] + "HLH", magic, 8, count)
    return head + b"".join(entries) + bytes(4)


def orientation_entry(order, value, kind=3):
    width = {1: "B3x", 3: "H2x", 4: "L", 6: "b3x", 8: "h2x", 9: "l", 13: "L"}[kind]
    return entry(order, 0x0112, kind, 1, struct.pack(ORDERS[order] + width, value))


def with_exif(exif, kind="JPEG"):
    return encoded(TURNED, kind, exif=b"Exif\0\0" + exif, **({"lossless": True} if kind == "WEBP" else {}))


def with_segments(*segments):
    """A JPEG with these APP1 segments behind its JFIF header."""
    content = encoded(TURNED, "JPEG")
    place = content.index(b"\xff\xdb")
    parts = [b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments]
    return content[:place] + b"".join(parts) + content[place:]


XMP = b"http://ns.adobe.com/xap/1.0/\0"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_orientation(order, kind):
    make = entry(order, 0x010F, 2, 4, b"abc\0")
    shapes = set()
    for value in range(10):
        content = with_exif(tiff(order, make, orientation_entry(order, value)), kind)
        require_same_pixels(content)
        shapes.add(decode_image(content, "x").shape)
        assert list(size_in_graph(tf.constant(content)).numpy()) == [7, 5]
    assert shapes == {(5, 7, 3), (7, 5, 3)}, "some of them turn"


LONG = entry("II", 0x010F, 2, 30, struct.pack("<L", 8)) + orientation_entry("II", 6)
ODD_EXIF = {
    "absent": [],
    "whole number of another type": [tiff("MM", orientation_entry("MM", 6, kind=9))],
    "one byte": [tiff("II", orientation_entry("II", 6, kind=6))],
    "bytes are no number": [tiff("II", orientation_entry("II", 6, kind=1))],
    "text is no number": [tiff("II", entry("II", 0x0112, 2, 2, b"6\0\0\0"))],
    "unknown type": [tiff("II", entry("II", 0x0112, 99, 1, b"\6\0\0\0"))],
    "no value": [tiff("II", entry("II", 0x0112, 3, 0, b"\6\0\0\0"))],
    "two values": [tiff("MM", entry("MM", 0x0112, 3, 2, b"\0\6\0\3"))],
    "values elsewhere": [tiff("II", entry("II", 0x0112, 3, 3, struct.pack("<L", 26))) + b"\6\0\3\0\1\0"],
    "values beyond the end": [tiff("II", entry("II", 0x0112, 3, 3, struct.pack("<L", 30)))],
    "after a value beyond the end": [
        tiff("II", entry("II", 0x010F, 2, 9, struct.pack("<L", 99)), orientation_entry("II", 6))
    ],
    "after values that are too many": [
        tiff("II", entry("II", 0x010F, 2, 99, b"\\8\0\0\0"), orientation_entry("II", 6))
    ],
    "twice": [tiff("II", orientation_entry("II", 6), orientation_entry("II", 3))],
    "fewer entries than it says": [tiff("II", orientation_entry("II", 8), count=9)],
    "magic the wrong way round": [tiff("II", orientation_entry("II", 8), magic=42 << 8)],
    "in two segments": [tiff("MM", orientation_entry("MM", 5))[:15], tiff("MM", orientation_entry("MM", 5))[15:]],
    "exif twice": [b"Exif\0\0" + tiff("MM", orientation_entry("MM", 7))],
    "a directory beyond the end": [b"II*\0\xff\xff\xff\xff"],
    "a directory at the end": [b"II*\0\x08\0\0\0"],
    "nothing": [b""],
}


@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_turns_as_in_training(name):
    require_same_pixels(with_segments(*(b"Exif\0\0" + exif for exif in ODD_EXIF[name])))


@pytest.mark.parametrize(
    "exif",
    [b"II*\0", b"XX*\0" + bytes(30), b"II+\0\x08\0\0\0" + bytes(30), b"II"],
    ids=["short", "order", "big", "two"],
)
def test_exif_that_is_none_turns_nothing(exif):
    content = with_segments(b"Exif\0\0" + exif)
    upright = decode_image(encoded(TURNED, "JPEG"), "x")
    np.testing.assert_array_equal(decoded_in_graph(tf.constant(content)).numpy(), upright)


SAYS_6 = b'<x tiff:Orientation="6"/>'
SEGMENTS = {
    "xmp before exif": [XMP + SAYS_6, b"Exif\0\0" + tiff("II", orientation_entry("II", 8))],
    "exif before xmp": [b"Exif\0\0" + tiff("II", orientation_entry("II", 8)), XMP + SAYS_6],
    "xmp alone": [XMP + SAYS_6],
    "xmp as an element": [XMP + b"<tiff:Orientation>7</tiff:Orientation>"],
    "xmp and exif without the tag": [b"Exif\0\0" + tiff("MM", entry("MM", 0x010F, 2, 4, b"abc\0")), XMP + SAYS_6],
    "the last xmp": [XMP + SAYS_6, XMP + b'tiff:Orientation="3"'],
    "the first that is a digit": [
        XMP + b"tiff:Orientation tiff:Orientation=\"x tiff:Orientation='3' tiff:Orientation>5"
    ],
    "xmp that ends": [XMP + b'tiff:Orientation="'],
    "xmp that is not UTF-8": [XMP + b"\xff\xfe\0" + SAYS_6],
    "0 in xmp": [XMP + b'tiff:Orientation="0'],
    "another program's": [b"Other\0" + SAYS_6],
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_xmp_counts_where_exif_says_nothing(name):
    require_same_pixels(with_segments(*SEGMENTS[name]))


def test_padding_and_segments_before_exif():
    content = with_segments(b"Exif\0\0" + tiff("MM", orientation_entry("MM", 6)))
    place = content.index(b"\xff\xe1")
    before = b"\xff\xff\xff" + (b"\xff\xfe\0\4ab" + b"\xff\xe2\0\x06Exif") * 300
    require_same_pixels(content[:place] + before + content[place:])


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=6), st.sampled_from(list(ORDERS)))
def test_hostile_exif_turns_as_in_training_or_not_at_all(edits, order):
    far = entry(order, 0x010F, 2, 9, struct.pack(ORDERS[order] + "L", 40))
    exif = bytearray(tiff(order, far, orientation_entry(order, 6), orientation_entry(order, 3, kind=4)) + bytes(20))
    for place, value in edits:
        exif[place] = value
    content = with_segments(b"Exif\0\0" + bytes(exif))
    found = decoded_in_graph(tf.constant(content)).numpy()
    try:
        expected = decode_image(content, "x")
    except DatasetError:  # Pillow cannot take the tag out of what it has turned
        return
    if not is_number_of_another_kind(exif, order):
        np.testing.assert_array_equal(found, expected)


def is_number_of_another_kind(exif, order):
    """Rational or floating-point: Pillow takes 6.0 for 6."""
    kinds = [struct.unpack_from(ORDERS[order] + "H", exif, 12 + 12 * i)[0] for i in range(3)]
    return bool({5, 10, 11, 12} & set(kinds))


@settings(max_examples=150)
@given(st.binary(max_size=200), st.sampled_from([b"Exif\0\0II*\0", b"Exif\0\0MM\0*", XMP, b"Exif\0\0"]))
def test_random_metadata_harms_nothing(junk, start):
    upright = decode_image(encoded(TURNED, "JPEG"), "x")
    found = decoded_in_graph(tf.constant(with_segments(start + junk))).numpy()
    assert sorted(found.shape) == sorted(upright.shape)


HANGING = {
    "segments": b"\xff\xd8" + b"\xff\xfe\0\2" * 500_000 + b"Exif\0\0",
    "junk": b"\xff\xd8\xff" + b"Exif\0\0" * 300_000,
    "padding": b"\xff\xd8" + b"\xff" * 2_000_000 + b"Exif\0\0",
    "exif": b"\xff\xd8" + b"\xff\xe1\0\x0aExif\0\0ab" * 200_000,
    "png": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0eXIf\0\0\0\0" * 200_000,
    "webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + bytes(2_000_000),
}


@pytest.mark.parametrize("name", HANGING)
def test_metadata_without_end_is_left_soon(name):
    """A walk of half a million steps takes half a minute."""
    started = time.process_time()
    assert orientation_in_graph(tf.constant(HANGING[name])).numpy() == 1
    assert time.process_time() - started < 10


# --- sizes


def gif(screen, *frames):
    """A GIF of a screen, and of frames `(left, top, width, height)` of random pixels."""
    palette = images_of(1, 256).tobytes()
    parts = [b"GIF89a", struct.pack("<HHBBB", *screen, 0xF7, 0, 0), palette]
    for left, top, width, height in frames:
        image = Image.fromarray(images_of(height, width)[..., 0], "L")
        content = encoded(image, "GIF")
        place = content.index(b"," + struct.pack("<HHHH", 0, 0, width, height))
        own = 3 * 2 ** ((content[place + 9] & 7) + 1) if content[place + 9] & 0x80 else 0
        data = content[place + 10 + own : -1]
        parts.append(b"!\xf9\4\1\0\0\x63\0" + b"," + struct.pack("<HHHHB", left, top, width, height, 0) + data)
    return b"".join(parts) + b";"


GIFS = {
    "one frame": ((10, 8), (0, 0, 10, 8)),
    "a small frame": ((10, 8), (2, 1, 5, 4)),
    "a small frame and a large": ((10, 8), (2, 1, 5, 4), (0, 0, 10, 8)),
    "a frame larger than its screen": ((4, 4), (3, 3, 10, 8)),
    "a later frame larger than its screen": ((10, 8), (0, 0, 10, 8), (0, 0, 12, 9)),
}


@pytest.mark.parametrize("name", GIFS)
def test_the_first_frame_of_a_gif(name):
    content = gif(*GIFS[name])
    require_same_pixels(content)
    height, width, _ = decode_image(content, "x").shape
    assert list(size_in_graph(tf.constant(content)).numpy()) == [width, height]


@pytest.mark.parametrize("name", FILES)
def test_the_size_in_the_header(name):
    assert tuple(size_in_graph(tf.constant(FILES[name])).numpy()) == PHOTO.size


@pytest.fixture(scope="module")
def bounded(combined, tmp_path_factory):
    """A model that takes PHOTO, of 37 x 29 pixels, and nothing larger."""
    path = tmp_path_factory.mktemp("bounded") / "model"
    saved.save(replace(combined, max_image_pixels=37 * 29), path, is_float16=False)
    return tf.saved_model.load(str(path)).signatures["serve_bytes"]


LARGER = Image.new("RGB", (38, 29))
LARGE = {
    "png": encoded(LARGER, "PNG"),
    "jpeg": encoded(LARGER, "JPEG", progressive=True),
    "gif": encoded(LARGER.convert("P"), "GIF"),
    "bmp": encoded(LARGER, "BMP"),
    "bmp from the top": encoded(LARGER, "BMP")[:22] + struct.pack("<i", -29) + encoded(LARGER, "BMP")[26:],
    "webp": encoded(LARGER, "WEBP"),
    "lossless webp": encoded(LARGER, "WEBP", lossless=True),
    "webp with exif": encoded(LARGER, "WEBP", exif=tiff("II", orientation_entry("II", 6))),
    "gif with a large frame": gif((4, 4), (0, 0, 38, 29)),
    "turned": encoded(LARGER, "JPEG", exif=b"Exif\0\0" + tiff("II", orientation_entry("II", 6))),
}


@pytest.mark.parametrize("name", LARGE)
def test_an_image_beyond_the_bound_is_named_with_its_size(name, bounded):
    strings = [FILES["png"], LARGE[name], FILES["jpeg"]]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        bounded(image_bytes=tf.constant(strings))
    words = r"image_bytes claim more than 1,073 pixels .`tfl export --max-image-pixels`.*\[1\].*38 x 29"
    assert re.search(words, str(error.value))


def test_images_at_the_bound(bounded):
    assert bounded(image_bytes=tf.constant([FILES["png"], FILES["jpeg"], FILES["webp"]]))["logits"].shape == (3, 3)


def claiming(name, size):
    """A small file whose header claims `size` x `size` pixels."""
    content = bytearray(FILES[name])
    if name == "png":
        header = b"IHDR" + struct.pack(">II", size, size) + content[24:29]
        content[12:33] = header + struct.pack(">I", zlib.crc32(header))
    elif name == "jpeg":
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, size, size)
    elif name == "gif":
        struct.pack_into("<HH", content, 6, size, size)
    elif name == "bmp":
        struct.pack_into("<ii", content, 18, size, size)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "size"), [("png", 13_300), ("png", 2**32 - 1), ("jpeg", 65_500), ("gif", 65_535), ("bmp", 2**31 - 1)]
)
def test_nothing_of_a_bomb_is_decoded(name, size, signatures, monkeypatch):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"claim more than 120,000,000 .*\[0\].*{size} x {size}"):
        signatures["serve_bytes"](image_bytes=tf.constant([claiming(name, size), FILES["png"]]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


@pytest.mark.parametrize("place", range(8))
def test_serve_bytes_answers_for_turned_photos_as_predict_does(place, signatures, combined):
    content = with_exif(tiff("MM", orientation_entry("MM", place + 1)))
    found = signatures["serve_bytes"](image_bytes=tf.constant([content, FILES["png"]]))
    expected = combined.compute_logits(decode_image(content, "x")[None])
    np.testing.assert_allclose(found["logits"][:1], expected, rtol=1e-4, atol=1e-5)


def test_large_images_are_decoded_a_few_at_a_time():
    at_once = [
        int(decode._count_at_once(tf.constant([[side, side]], tf.int64))) for side in (100, 4900, 10_000, 40_000)
    ]
    assert at_once == [tf.data.AUTOTUNE, 9, 2, 1]


def test_encoded_images_of_differing_sizes(signatures, combined):
    images = [PHOTO, PHOTO.resize((20, 50)), PHOTO.resize((9, 9))]
    found = signatures["serve_bytes"](image_bytes=tf.constant([encoded(image, "PNG") for image in images]))
    expected = np.concatenate([combined.compute_logits(np.asarray(image)[None]) for image in images])
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
    expected = combined.network(combined.presentation(images))
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
    expected = combined.compute_logits(np.asarray(PHOTO)[None])
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-5)
    (name,) = np.load(tmp_path / "class_name.npy", allow_pickle=True)
    assert name.decode() == NAMES[expected.argmax()]
