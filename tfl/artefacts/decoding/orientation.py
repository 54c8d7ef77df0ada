"""The orientation that a camera wrote into an encoded image, read and applied inside a TensorFlow graph.

The rules are those of Pillow's `ImageOps.exif_transpose`: the tag in the first directory of the
Exif data counts, or, if it has none, `tiff:Orientation` in XMP. Exif data that is absent, damaged
or cut short turns nothing. Whatever position a file names, nothing beyond its end is read.
"""

from typing import Any

import tensorflow as tf

from tfl.artefacts.decoding.encoded import contains, is_equal, starts_with
from tfl.artefacts.decoding.headers import JPEG
from tfl.artefacts.decoding.metadata import EXIF, Metadata, find_metadata, make_empty

ORIENTATION = 0x0112  # the tag
UPRIGHT, ABSENT = 1, -1
# Bytes of one value of each type that a tag can have (TIFF 6.0, and LONG8). Only whole numbers are
# an orientation.
UNIT_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8)
WHOLE_NUMBERS = (3, 4, 6, 8, 9, 13, 16)
ENTRY_BYTES = 12
# First bytes of Exif data in each byte order.
BIG = (b"MM\0*", b"MM*\0")
LITTLE = (b"II*\0", b"II\0*")
XMP_TAG = b"tiff:Orientation"


def turn_upright(pixels: Any, encoded: Any) -> Any:
    """Turn and mirror pixels, uint8 `(h, w, 3)`, as their encoded image says."""

    def swapped() -> Any:
        return tf.transpose(pixels, [1, 0, 2])

    ways = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: swapped,
        6: lambda: swapped()[:, ::-1],
        7: lambda: swapped()[::-1, ::-1],
        8: lambda: swapped()[::-1],
    }
    index = _branch_index(read_orientation(encoded))
    turned = tf.switch_case(index, list(ways.values()), default=lambda: pixels)
    return tf.ensure_shape(turned, (None, None, 3))


def _branch_index(orientation: Any) -> Any:
    """Return the branch of an orientation, from 0; -1, the default branch, unless it is one of 2 to 8."""
    is_known = (orientation >= 2) & (orientation <= 8)
    return tf.cast(tf.where(is_known, orientation - 2, -1), tf.int32)


def read_orientation(encoded: Any) -> Any:
    """Return the orientation of a JPEG, PNG or WebP, int64; 1 is upright, and so is all that is not 1 to 8."""
    may_have = contains(encoded, EXIF) | contains(encoded, XMP_TAG) | ~starts_with(encoded, JPEG)
    # Most JPEGs have neither: their segments need not be followed.
    found = Metadata(*tf.cond(may_have, lambda: find_metadata(encoded), make_empty))
    tag = _read_tag(found.exif)
    return tf.cond(tag == ABSENT, lambda: _read_xmp(found.xmp), lambda: tag)


def _no_orientation() -> Any:
    return tf.constant(ABSENT, tf.int64)


def _read_tag(exif: Any) -> Any:
    """Return the orientation tag of Exif data (a TIFF file without an image), or ABSENT."""
    head = tf.concat([exif, [0] * 4], axis=0)[:4]
    is_big, is_little = (tf.reduce_any([is_equal(head, magic) for magic in magics]) for magics in (BIG, LITTLE))
    is_tiff = (is_big | is_little) & (tf.size(exif) >= 8)
    return tf.cond(is_tiff, lambda: _read_tiff_tag(tf.cast(exif, tf.int64), is_big), _no_orientation)


def _read_tiff_tag(values: Any, is_big: Any) -> Any:
    """Return the orientation in a TIFF's first directory, or ABSENT; all its entries are read at once.

    An entry has a tag, a type, a count, and a value or its position. The first entry with the tag
    counts. Entries without a value are skipped, and so are those with more values than there is
    data. An entry whose values reach beyond the end is the last that is read.
    """
    size = tf.size(values, tf.int64)

    def numbers(places: Any, num_bytes: int) -> Any:
        """Return the numbers of `num_bytes` bytes at each position, in the byte order of the file."""
        order = tf.range(num_bytes, dtype=tf.int64)
        around = tf.clip_by_value(places[..., None] + order, 0, size - 1)
        powers = tf.where(is_big, num_bytes - 1 - order, order)
        return tf.reduce_sum(tf.gather(values, around) * 256**powers, axis=-1)

    directory = numbers(tf.constant(4, tf.int64), 4)
    num_whole = tf.maximum(size - directory - 2, 0) // ENTRY_BYTES
    num_entries = tf.where(directory + 2 <= size, tf.minimum(numbers(directory, 2), num_whole), 0)
    places = directory + 2 + ENTRY_BYTES * tf.range(num_entries)  # (n,)
    tags, kinds, counts = numbers(places, 2), numbers(places + 2, 2), numbers(places + 4, 4)
    units = tf.gather(tf.constant(UNIT_BYTES, tf.int64), tf.where(kinds < len(UNIT_BYTES), kinds, 0))
    lengths = counts * units
    is_elsewhere = lengths > 4
    starts = tf.where(is_elsewhere, numbers(places + 8, 4), places + 8)
    is_too_much = is_elsewhere & (tf.cumsum(tf.where(is_elsewhere, lengths, 0)) > size)
    is_cut = is_elsewhere & ~is_too_much & (starts + lengths > size)
    is_read = tf.cumsum(tf.cast(is_cut, tf.int64)) == 0
    found = tf.where((tags == ORIENTATION) & (lengths > 0) & ~is_too_much & is_read)[:, 0]

    def value() -> Any:
        first = found[0]
        start, length = starts[first], units[first]
        digits = values[start : start + length]
        powers = tf.range(length)
        number = tf.reduce_sum(digits * 256 ** tf.where(is_big, length - 1 - powers, powers))
        return tf.where(tf.reduce_any(kinds[first] == WHOLE_NUMBERS) & (number > 0), number, UPRIGHT)

    return tf.cond(tf.size(found) > 0, value, _no_orientation)


def _read_xmp(xmp: Any) -> Any:
    """Return the digit of the first `tiff:Orientation="6` or `tiff:Orientation>6`; 1 if there is none."""
    found = tf.strings.split([xmp], XMP_TAG).values[1:]
    tails = tf.concat([found, [b">1"]], axis=0)  # (n,); the last is for when there is no other
    tails = tf.strings.join([tails, b"   "])
    is_quoted = tf.strings.substr(tails, 0, 2) == b'="'
    is_element = tf.strings.substr(tails, 0, 1) == b">"
    places = tf.where(is_quoted, 2, 1)
    codes = tf.io.decode_raw(tf.strings.substr(tails, places, tf.ones_like(places)), tf.uint8)[:, 0]
    digits = tf.cast(codes, tf.int64) - ord("0")
    is_value = (is_quoted | is_element) & (digits >= 0) & (digits <= 9)
    return tf.boolean_mask(digits, is_value)[0]
