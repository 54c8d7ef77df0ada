"""Sizes that encoded images claim in their headers, read inside a TensorFlow graph before anything is decoded."""

from typing import Any

import tensorflow as tf

from tfl.artefacts.decoding import gif
from tfl.artefacts.decoding.encoded import read_number, switch_on_start

JPEG, PNG, GIF, BMP, RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"
PNG_START = 12  # position of the first chunk's name; width and height follow, 4 bytes each
BMP_SIZE = 18  # position of width and height, 4 bytes each; a negative height counts from the top


def read_size(encoded: Any) -> Any:
    """Return the width and height that a header claims, int64 `(2,)`; (0, 0) if the string is no image.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs and the header is cut short or damaged.
    """
    ways = {
        JPEG: lambda: _read_jpeg_size(encoded),
        PNG: lambda: _read_png_size(encoded),
        RIFF: lambda: _read_webp_size(encoded),
        GIF: lambda: gif.read_canvas(encoded),
        BMP: lambda: _read_bmp_size(encoded),
    }
    return tf.ensure_shape(switch_on_start(encoded, ways, _no_size), (2,))


def _no_size() -> Any:
    return tf.zeros(2, tf.int64)


def _read_jpeg_size(encoded: Any) -> Any:
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64), 3)
    return tf.stack([width, height])


def _read_png_size(encoded: Any) -> Any:
    def claimed() -> Any:
        return tf.stack([read_number(encoded, PNG_START + place, 4, is_big=True) for place in (4, 8)])

    return tf.cond(tf.strings.substr(encoded, PNG_START, 4) == b"IHDR", claimed, _no_size)


def _read_bmp_size(encoded: Any) -> Any:
    sizes = tf.stack([read_number(encoded, BMP_SIZE + place, 4) for place in (0, 4)])
    return tf.where(sizes < 1 << 31, sizes, (1 << 32) - sizes)


def _read_webp_size(encoded: Any) -> Any:
    """Return the size of a WebP.

    A lossy one has 14 bits each after a start code; a lossless one 14 bits each, less one; an
    extended one 24 bits each, less one. The decoder refuses an extended one whose image is smaller
    than its canvas.
    """

    def lossy() -> Any:
        is_key = tf.strings.substr(encoded, 23, 3) == b"\x9d\x01\x2a"
        return tf.where(is_key, tf.stack([read_number(encoded, place, 2) % (1 << 14) for place in (26, 28)]), 0)

    def lossless() -> Any:
        bits = read_number(encoded, 21, 4)
        return tf.stack([bits % (1 << 14), bits // (1 << 14) % (1 << 14)]) + 1

    def extended() -> Any:
        return tf.stack([read_number(encoded, place, 3) for place in (24, 27)]) + 1

    ways = {b"WEBPVP8 ": lossy, b"WEBPVP8L": lossless, b"WEBPVP8X": extended}
    return switch_on_start(tf.strings.substr(encoded, 8, 8), ways, _no_size)
