"""Encoded images to pixels inside a TensorFlow graph, as `tfl.datasets` decodes files outside."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfl.artefacts.decoding import gif, headers, orientation
from tfl.artefacts.decoding.encoded import by_beginning
from tfl.artefacts.decoding.headers import BMP, GIF, JPEG, RIFF
from tfl.specs import MAX_IMAGE_PIXELS

BLACK = tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)).numpy()
# Where a BMP has its bits per pixel (2 bytes) and compression (4), and what is decoded right: 24 and 32 bits as they
# are, and 32 bits by masks of red, green and blue, if they are the usual ones.
BMP_KIND, BMP_MASKS = 28, 54
BMP_PLAIN = (b"\x18\0\0\0\0\0", b"\x20\0\0\0\0\0")
BMP_MASKED, BMP_USUAL_MASKS = b"\x20\0\3\0\0\0", b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
PIXELS_AT_ONCE = 2 * MAX_IMAGE_PIXELS  # that are decoded and resized at a time, each of 15 bytes
MANY = 64  # images of equal size that are so few pixels need no care
WEBP_FLAGS, WEBP_ANIMATION = 20, 2  # where an extended WebP has its flags, and which one means animation


def decode_all(image_bytes: Any, shown: keras.Model, max_pixels: int = MAX_IMAGE_PIXELS) -> Any:
    """Decode, turn upright and resize each of some encoded images; one black image where there are none.

    Args:
      image_bytes: strings `(n,)`: JPEG, PNG, WebP, GIF (its first frame) or BMP of 24 or 32 bits, each of its own size.
      shown: uint8 `(1, h, w, 3)` to float32 pixels `(v, size, size, 3)`.
      max_pixels: most pixels (height x width) that a header may claim; of a larger image nothing is decoded.

    Returns:
      float32 `(max(n, 1), v, size, size, 3)`.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, naming the positions of strings that could not be decoded, or claim
        more pixels.
    """
    count = tf.size(image_bytes)
    strings = tf.concat([image_bytes, [BLACK]], axis=0)  # black for when there is nothing else
    positions, sizes = _claimed(strings)  # (k,), (k, 2)
    with tf.control_dependencies([_require_within(positions, sizes, max_pixels)]):
        rows = tf.data.Dataset.from_tensor_slices((positions, tf.gather(strings, positions)))

    def decoded(position: Any, encoded: Any) -> Any:
        return position, shown(_decode(encoded)[None])  # (v, size, size, 3)

    rows = rows.map(decoded, num_parallel_calls=_num_at_once(sizes))
    found, pixels = _all_that_work(rows, count)  # (k,), (k, v, size, size, 3)
    is_missing = tf.reduce_all(tf.range(count)[:, None] != found[None], axis=1)  # (n,)
    message = "these positions of image_bytes hold no whole JPEG, PNG, WebP, GIF or BMP (of 24 or 32 bits):"
    missing = tf.boolean_mask(tf.range(count), is_missing)
    with tf.control_dependencies([tf.debugging.Assert(tf.size(missing) == 0, [message, missing], 1000)]):
        return tf.ensure_shape(pixels[: tf.maximum(count, 1)], [None, *pixels.shape[1:]])


def _claimed(strings: Any) -> tuple[Any, Any]:
    """Positions `(k,)` of the strings whose header can be read, and the width and height it claims, int64 `(k, 2)`."""
    count = tf.size(strings)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), strings))
    positions, sizes = _all_that_work(rows.map(lambda position, encoded: (position, headers.size_of(encoded))), count)
    is_known = tf.reduce_all(sizes > 0, axis=1)
    return tf.boolean_mask(positions, is_known), tf.boolean_mask(sizes, is_known)


def _all_that_work(rows: Any, count: Any) -> Any:
    """One batch of a dataset's rows, without those that fail: what decodes does not say on which string it failed."""
    return rows.ignore_errors().batch(tf.cast(count, tf.int64) + 1).get_single_element()


def _num_pixels(sizes: Any) -> Any:
    return tf.reduce_prod(tf.minimum(sizes, 1 << 31), axis=1)  # whose product is below 2**63


def _require_within(positions: Any, sizes: Any, max_pixels: int) -> Any:
    """An assertion that names positions and sizes of images that claim more pixels."""
    is_large = _num_pixels(sizes) > max_pixels
    large = tf.as_string(tf.boolean_mask(sizes, is_large))  # (l, 2)
    message = f"these positions of image_bytes claim more than {max_pixels:,} pixels (`tfl export --max-image-pixels`):"
    shown = ["they claim, width x height:", tf.strings.reduce_join(large, axis=1, separator=" x ")]
    return tf.debugging.Assert(~tf.reduce_any(is_large), [message, tf.boolean_mask(positions, is_large), *shown], 1000)


def _num_at_once(sizes: Any) -> Any:
    """How many images are decoded at a time: as many as processors take, or fewer where they are large."""
    most = tf.reduce_max(_num_pixels(sizes))
    is_small = most * MANY <= PIXELS_AT_ONCE
    return tf.where(is_small, tf.cast(tf.data.AUTOTUNE, tf.int64), tf.maximum(PIXELS_AT_ONCE // most, 1))


def as_png(image: np.ndarray) -> np.ndarray:
    """An image, uint8 `(h, w, 3)`, as what `decode_all` takes: encoded, `(1,)`."""
    return np.asarray([tf.io.encode_png(image).numpy()])  # PNG never ends in the zero that numpy would cut off


def _decode(encoded: Any) -> Any:
    """uint8 `(h, w, 3)` of one encoded image, upright."""
    ways = {
        JPEG: lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        RIFF: lambda: _decode_webp(encoded),
        GIF: lambda: gif.decode(encoded),
        BMP: lambda: _decode_bmp(encoded),
    }
    pixels = by_beginning(encoded, ways, default=lambda: tf.io.decode_png(encoded, channels=3))
    return orientation.upright(tf.ensure_shape(pixels, (None, None, 3)), encoded)


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
