"""How large encoded images say that they are, inside a TensorFlow graph: looked at before anything is decoded."""

from typing import Any

import tensorflow as tf

from tfl.artefacts.decoding import gif
from tfl.artefacts.decoding.encoded import by_beginning, number

JPEG, PNG, GIF, BMP, RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"
PNG_START = 12  # of its first chunk's name; width and height follow, 4 bytes each
BMP_SIZE = 18  # where width and height are, 4 bytes each; a negative height counts from the top


def size_of(encoded: Any) -> Any:
    """Width and height that an encoded image's header claims, int64 `(2,)`; (0, 0) of what is no image.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, if the header is cut short or damaged.
    """
    ways = {
        JPEG: lambda: _of_jpeg(encoded),
        PNG: lambda: _of_png(encoded),
        RIFF: lambda: _of_webp(encoded),
        GIF: lambda: gif.canvas_of(encoded),
        BMP: lambda: _of_bmp(encoded),
    }
    return tf.ensure_shape(by_beginning(encoded, ways, _nothing), (2,))


def _nothing() -> Any:
    return tf.zeros(2, tf.int64)


def _of_jpeg(encoded: Any) -> Any:
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64), 3)
    return tf.stack([width, height])


def _of_png(encoded: Any) -> Any:
    def claimed() -> Any:
        return tf.stack([number(encoded, PNG_START + place, 4, is_big=True) for place in (4, 8)])

    return tf.cond(tf.strings.substr(encoded, PNG_START, 4) == b"IHDR", claimed, _nothing)


def _of_bmp(encoded: Any) -> Any:
    sizes = tf.stack([number(encoded, BMP_SIZE + place, 4) for place in (0, 4)])
    return tf.where(sizes < 1 << 31, sizes, (1 << 32) - sizes)


def _of_webp(encoded: Any) -> Any:
    """Lossy WebP has 14 bits each behind a start code, lossless 14 bits each less one, extended 24 bits each less one.

    The decoder refuses an extended one whose image is not as large as its canvas.
    """

    def lossy() -> Any:
        is_key = tf.strings.substr(encoded, 23, 3) == b"\x9d\x01\x2a"
        return tf.where(is_key, tf.stack([number(encoded, place, 2) % (1 << 14) for place in (26, 28)]), 0)

    def lossless() -> Any:
        bits = number(encoded, 21, 4)
        return tf.stack([bits % (1 << 14), bits // (1 << 14) % (1 << 14)]) + 1

    def extended() -> Any:
        return tf.stack([number(encoded, place, 3) for place in (24, 27)]) + 1

    ways = {b"WEBPVP8 ": lossy, b"WEBPVP8L": lossless, b"WEBPVP8X": extended}
    return by_beginning(tf.strings.substr(encoded, 8, 8), ways, _nothing)
