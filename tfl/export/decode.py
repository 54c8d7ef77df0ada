"""Encoded images to pixels inside a TensorFlow graph, as `tfl.datasets` decodes files outside."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

BLACK = tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)).numpy()
# Where a BMP has its bits per pixel (2 bytes) and compression (4), and what is decoded right: 24 and 32 bits as they
# are, and 32 bits by masks of red, green and blue, if they are the usual ones.
BMP_KIND, BMP_MASKS = 28, 54
BMP_PLAIN = (b"\x18\0\0\0\0\0", b"\x20\0\0\0\0\0")
BMP_MASKED, BMP_USUAL_MASKS = b"\x20\0\3\0\0\0", b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
WEBP_FLAGS, WEBP_ANIMATION = 20, 2  # where an extended WebP has its flags, and which one means animation


def decode_all(image_bytes: Any, shown: keras.Model) -> Any:
    """Decode and resize each of some encoded images; one black image where there are none.

    Args:
      image_bytes: strings `(n,)`: JPEG, PNG, WebP, GIF (its first frame) or BMP of 24 or 32 bits, each of its own size.
      shown: uint8 `(1, h, w, 3)` to float32 pixels `(v, size, size, 3)`.

    Returns:
      float32 `(max(n, 1), v, size, size, 3)`.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, naming the positions of strings that could not be decoded.
    """
    count = tf.size(image_bytes)
    positions = tf.range(count + 1)

    def decoded(position: Any, encoded: Any) -> Any:
        return position, shown(_decode(encoded)[None])  # (v, size, size, 3)

    # The operations that decode say nothing of positions. A dataset can leave out what fails, and what is missing then
    # is named. The black image at the end is there for when nothing else is.
    rows = tf.data.Dataset.from_tensor_slices((positions, tf.concat([image_bytes, [BLACK]], axis=0)))
    rows = rows.map(decoded, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    found, pixels = rows.batch(tf.cast(count, tf.int64) + 1).get_single_element()  # (k,), (k, v, size, size, 3)
    is_missing = tf.reduce_all(positions[:, None] != found[None], axis=1)  # (n + 1,)
    message = "these positions of image_bytes hold no whole JPEG, PNG, WebP, GIF or BMP (of 24 or 32 bits):"
    check = tf.debugging.Assert(~tf.reduce_any(is_missing), [message, tf.boolean_mask(positions, is_missing)], 1000)
    with tf.control_dependencies([check]):
        return tf.ensure_shape(pixels[: tf.maximum(count, 1)], [None, *pixels.shape[1:]])


def as_png(image: np.ndarray) -> np.ndarray:
    """An image, uint8 `(h, w, 3)`, as what `decode_all` takes: encoded, `(1,)`."""
    return np.asarray([tf.io.encode_png(image).numpy()])  # PNG never ends in the zero that numpy would cut off


def _decode(encoded: Any) -> Any:
    """uint8 `(h, w, 3)` of one encoded image."""
    start = tf.strings.substr(encoded, 0, 4)

    def begins(magic: bytes) -> Any:
        return tf.strings.substr(start, 0, len(magic)) == magic

    ways = [
        (begins(b"\xff\xd8\xff"), lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")),
        (begins(b"RIFF"), lambda: _decode_webp(encoded)),
        (begins(b"GIF8"), lambda: tf.io.decode_gif(encoded)[0]),
        (begins(b"BM"), lambda: _decode_bmp(encoded)),
    ]
    pixels = tf.case(ways, default=lambda: tf.io.decode_png(encoded, channels=3), exclusive=True)
    return tf.ensure_shape(pixels, (None, None, 3))


def _decode_webp(encoded: Any) -> Any:
    """TensorFlow 2.21 writes beyond its memory when it decodes an animated WebP, and dies."""
    is_extended = tf.strings.substr(encoded, 12, 4) == b"VP8X"
    flags = tf.io.decode_raw(tf.strings.substr(encoded, WEBP_FLAGS, 1), tf.uint8)
    is_animated = is_extended & tf.reduce_any(tf.bitwise.bitwise_and(flags, WEBP_ANIMATION) != 0)
    with tf.control_dependencies([tf.debugging.Assert(~is_animated, ["a WebP without animation was expected"])]):
        return tf.io.decode_webp(tf.identity(encoded), channels=0)[0, ..., :3]


def _decode_bmp(encoded: Any) -> Any:
    """TensorFlow decodes a BMP with a palette as if it were grey, and whatever its masks as blue, green and red."""
    kind = tf.strings.substr(encoded, BMP_KIND, 6)
    has_usual_masks = tf.strings.substr(encoded, BMP_MASKS, 12) == BMP_USUAL_MASKS
    is_right = tf.reduce_any(kind == BMP_PLAIN) | ((kind == BMP_MASKED) & has_usual_masks)
    with tf.control_dependencies([tf.debugging.Assert(is_right, ["a BMP of 24 or 32 bits was expected"])]):
        return tf.io.decode_bmp(tf.identity(encoded), channels=0)[..., :3]
