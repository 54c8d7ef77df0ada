"""Decode encoded images inside a TensorFlow graph, to the same pixels as `tfl.datasets` outside of it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfl.artefacts.decoding import gif, headers, orientation
from tfl.artefacts.decoding.encoded import switch_on_start
from tfl.artefacts.decoding.headers import BMP, GIF, JPEG, RIFF
from tfl.specs import MAX_IMAGE_PIXELS

BLACK = tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)).numpy()
# A BMP has its bits per pixel (2 bytes) and compression (4) at BMP_KIND. TensorFlow decodes these
# right: 24 and 32 bits without compression, and 32 bits with the usual masks of red, green and
# blue.
BMP_KIND, BMP_MASKS = 28, 54
BMP_PLAIN = (b"\x18\0\0\0\0\0", b"\x20\0\0\0\0\0")
BMP_MASKED, BMP_USUAL_MASKS = b"\x20\0\3\0\0\0", b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
PIXELS_AT_ONCE = 2 * MAX_IMAGE_PIXELS  # decoded and resized at a time; each takes 15 bytes
MANY = 64  # so many images of the largest size may be decoded at once without counting their pixels
WEBP_FLAGS = 20  # position of the flags of an extended WebP
WEBP_ANIMATION = 2  # the flag of an animation


def decode_all(image_bytes: Any, presentation: keras.Model, max_pixels: int = MAX_IMAGE_PIXELS) -> Any:
    """Decode, turn upright and resize encoded images; return one black image if there are none.

    Args:
      image_bytes: strings `(n,)`: JPEG, PNG, WebP, GIF (its first frame) or BMP of 24 or 32 bits,
        each of its own size.
      presentation: uint8 `(1, h, w, 3)` to float32 pixels `(v, size, size, 3)`.
      max_pixels: most pixels (height x width) that a header may claim; a larger image is not
        decoded.

    Returns:
      float32 `(max(n, 1), v, size, size, 3)`.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs and a string cannot be decoded or claims
        more pixels; the message names its position.
    """
    count = tf.size(image_bytes)
    strings = tf.concat([image_bytes, [BLACK]], axis=0)  # so that there is always one image
    positions, sizes = _read_claims(strings)  # (k,), (k, 2)
    with tf.control_dependencies([_refuse_larger(positions, sizes, max_pixels)]):
        rows = tf.data.Dataset.from_tensor_slices((positions, tf.gather(strings, positions)))

    def decoded(position: Any, encoded: Any) -> Any:
        return position, presentation(_decode(encoded)[None])  # (v, size, size, 3)

    rows = rows.map(decoded, num_parallel_calls=_count_at_once(sizes))
    found, pixels = _batch_working(rows, count)  # (k,), (k, v, size, size, 3)
    is_missing = tf.reduce_all(tf.range(count)[:, None] != found[None], axis=1)  # (n,)
    message = "these positions of image_bytes hold no whole JPEG, PNG, WebP, GIF or BMP (of 24 or 32 bits):"
    missing = tf.boolean_mask(tf.range(count), is_missing)
    with tf.control_dependencies([tf.debugging.Assert(tf.size(missing) == 0, [message, missing], 1000)]):
        return tf.ensure_shape(pixels[: tf.maximum(count, 1)], [None, *pixels.shape[1:]])


def _read_claims(strings: Any) -> tuple[Any, Any]:
    """Return the positions `(k,)` of strings with a readable header, and its width and height, int64 `(k, 2)`."""
    count = tf.size(strings)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), strings))
    positions, sizes = _batch_working(rows.map(lambda position, encoded: (position, headers.read_size(encoded))), count)
    is_known = tf.reduce_all(sizes > 0, axis=1)
    return tf.boolean_mask(positions, is_known), tf.boolean_mask(sizes, is_known)


def _batch_working(rows: Any, count: Any) -> Any:
    """Return a dataset's rows as one batch, without those that fail: TensorFlow does not say which string failed."""
    return rows.ignore_errors().batch(tf.cast(count, tf.int64) + 1).get_single_element()


def _count_pixels(sizes: Any) -> Any:
    return tf.reduce_prod(tf.minimum(sizes, 1 << 31), axis=1)  # the product stays below 2**63


def _refuse_larger(positions: Any, sizes: Any, max_pixels: int) -> Any:
    """Return an assertion that names the positions and sizes of images that claim more pixels."""
    is_large = _count_pixels(sizes) > max_pixels
    large = tf.as_string(tf.boolean_mask(sizes, is_large))  # (l, 2)
    message = f"these positions of image_bytes claim more than {max_pixels:,} pixels (`tfl export --max-image-pixels`):"
    claims = ["they claim, width x height:", tf.strings.reduce_join(large, axis=1, separator=" x ")]
    return tf.debugging.Assert(~tf.reduce_any(is_large), [message, tf.boolean_mask(positions, is_large), *claims], 1000)


def _count_at_once(sizes: Any) -> Any:
    """Return how many images to decode at a time: as many as the processors take, or fewer if they are large."""
    most = tf.reduce_max(_count_pixels(sizes))
    is_small = most * MANY <= PIXELS_AT_ONCE
    return tf.where(is_small, tf.cast(tf.data.AUTOTUNE, tf.int64), tf.maximum(PIXELS_AT_ONCE // most, 1))


def encode_png(image: np.ndarray) -> np.ndarray:
    """Encode an image, uint8 `(h, w, 3)`, as `decode_all` takes it: strings `(1,)`."""
    return np.asarray([tf.io.encode_png(image).numpy()])  # PNG never ends in the zero that numpy would cut off


def _decode(encoded: Any) -> Any:
    """Return the pixels of one encoded image, uint8 `(h, w, 3)`, upright."""
    ways = {
        JPEG: lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        RIFF: lambda: _decode_webp(encoded),
        GIF: lambda: gif.decode(encoded),
        BMP: lambda: _decode_bmp(encoded),
    }
    pixels = switch_on_start(encoded, ways, default=lambda: tf.io.decode_png(encoded, channels=3))
    return orientation.turn_upright(tf.ensure_shape(pixels, (None, None, 3)), encoded)


def _decode_webp(encoded: Any) -> Any:
    """Decode a WebP; refuse an animated one, on which TensorFlow 2.21 writes beyond its memory and dies."""
    is_extended = tf.strings.substr(encoded, 12, 4) == b"VP8X"
    flags = tf.io.decode_raw(tf.strings.substr(encoded, WEBP_FLAGS, 1), tf.uint8)
    is_animated = is_extended & tf.reduce_any(tf.bitwise.bitwise_and(flags, WEBP_ANIMATION) != 0)
    with tf.control_dependencies([tf.debugging.Assert(~is_animated, ["a WebP without animation was expected"])]):
        return tf.io.decode_webp(tf.identity(encoded), channels=0)[0, ..., :3]


def _decode_bmp(encoded: Any) -> Any:
    """Decode a BMP; refuse one that TensorFlow 2.21 gets wrong: a palette is read as grey, and colour masks ignored."""
    kind = tf.strings.substr(encoded, BMP_KIND, 6)
    has_usual_masks = tf.strings.substr(encoded, BMP_MASKS, 12) == BMP_USUAL_MASKS
    is_right = tf.reduce_any(kind == BMP_PLAIN) | ((kind == BMP_MASKED) & has_usual_masks)
    with tf.control_dependencies([tf.debugging.Assert(is_right, ["a BMP of 24 or 32 bits was expected"])]):
        return tf.io.decode_bmp(tf.identity(encoded), channels=0)[..., :3]
