"""Exif data and XMP of encoded images, found inside a TensorFlow graph.

Exif data that is absent or cut short is empty. Whatever position a file names, nothing beyond its
end is read.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfl.artefacts.decoding.encoded import cut_slice, is_equal, read_number, switch_on_start
from tfl.artefacts.decoding.headers import JPEG, PNG, RIFF

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # first bytes of a JPEG's segments
MOST_EXIF_BYTES = 1 << 17  # that are joined from several segments of a JPEG
MOST_SEGMENTS = 2048  # of a JPEG, or chunks of a WebP, that are looked at
# Bytes from a JPEG's marker to where the next one is looked for; bytes below 0xC0 are no markers.
WITH_LENGTH, LAST = 0, -1
WITHOUT_LENGTH = (0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))
JPEG_STEPS = [WITH_LENGTH if marker >= 0xC0 else LAST for marker in range(256)]
for without in WITHOUT_LENGTH:
    JPEG_STEPS[without] = 2
JPEG_STEPS[0xDA], JPEG_STEPS[0xFF] = LAST, 1  # the first scan; padding


class Metadata(NamedTuple):
    """Exif data, uint8 `(m,)`, without the prefix `Exif`, and XMP, a string; each is empty if there is none."""

    exif: Any
    xmp: Any


def find_metadata(encoded: Any) -> Metadata:
    """Return the metadata of a JPEG, PNG or WebP; that of any other string is empty."""
    ways = {
        JPEG: lambda: _find_in_jpeg(encoded),
        PNG: lambda: _find_in_png(encoded),
        RIFF: lambda: _find_in_webp(encoded),
    }
    return Metadata(*switch_on_start(encoded, ways, make_empty))


def make_empty() -> Metadata:
    """Return metadata without Exif data and without XMP."""
    return Metadata(tf.zeros(0, tf.uint8), tf.constant(b""))


def _find_in_jpeg(encoded: Any) -> Metadata:
    """Return the metadata of a JPEG: Exif data of several segments is joined, and the last XMP segment counts."""
    size = tf.strings.length(encoded)
    values = tf.io.decode_raw(tf.strings.join([encoded, b"\0\0\0\0"]), tf.uint8)
    places = _find_app1_segments(tf.cast(values, tf.int32), size)  # (s,)
    starts, ends = places + 4, places + 2 + _read_lengths(values, places)
    is_exif, is_xmp = (_select_starting_with(values, starts, ends, opening) for opening in (EXIF, XMP))
    is_within = ends <= size
    exif_starts = tf.boolean_mask(starts, is_exif & is_within)
    exif_ends = tf.boolean_mask(ends, is_exif & is_within)
    joined = tf.ragged.range(exif_starts + len(EXIF), exif_ends).values[:MOST_EXIF_BYTES]
    xmp_starts = tf.concat([[size], tf.boolean_mask(starts, is_xmp & is_within)], axis=0)
    xmp_ends = tf.concat([[size], tf.boolean_mask(ends, is_xmp & is_within)], axis=0)
    xmp = cut_slice(encoded, xmp_starts[-1], xmp_ends[-1] - xmp_starts[-1])
    return Metadata(_drop_prefix(tf.gather(values, joined)), xmp)


def _read_lengths(values: Any, places: Any) -> Any:
    """Return the lengths of the JPEG segments at these positions, without the two bytes of the marker."""
    high, low = (tf.cast(tf.gather(values, places + offset), tf.int32) for offset in (2, 3))
    return 256 * high + low


def _select_starting_with(values: Any, starts: Any, ends: Any, opening: bytes) -> Any:
    """Return whether each part from `starts` to `ends` begins with `opening`, `(s,)`."""
    places = tf.minimum(starts[:, None] + tf.range(len(opening)), tf.size(values) - 1)
    return is_equal(tf.gather(values, places), opening) & (starts + len(opening) <= ends)


def _find_app1_segments(values: Any, size: Any) -> Any:
    """Return the positions of a JPEG's APP1 segments, `(s,)`; markers are followed up to the first scan.

    Args:
      values: the bytes of the JPEG and four more, int32.
    """
    steps = tf.constant(JPEG_STEPS, tf.int32)

    def goes_on(count: Any, place: Any, seen: Any) -> Any:
        return (count < MOST_SEGMENTS) & (place < size)

    def move(count: Any, place: Any, seen: Any) -> tuple[Any, ...]:
        lead, marker, high, low = tf.unstack(values[place : place + 4], 4)
        step = tf.where(lead == 0xFF, steps[marker], 1)
        after = place + tf.where(step == WITH_LENGTH, 2 + tf.maximum(256 * high + low, 2), step)
        return count + 1, tf.where(step == LAST, size, after), seen.write(count, place)

    seen = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=())
    places = tf.while_loop(goes_on, move, (tf.constant(0), tf.constant(2), seen))[2].stack()
    is_application = (tf.gather(values, places) == 0xFF) & (tf.gather(values, places + 1) == 0xE1)
    return tf.boolean_mask(places, is_application)


def _drop_prefix(exif: Any) -> Any:
    """Return Exif data without one prefix `Exif`, if it has it; some programs write a second one."""
    head = tf.concat([exif, tf.zeros(len(EXIF), tf.uint8)], axis=0)[: len(EXIF)]
    return exif[tf.where(is_equal(head, EXIF) & (tf.size(exif) >= len(EXIF)), len(EXIF), 0) :]


def _find_in_png(encoded: Any) -> Metadata:
    """Return the metadata of a PNG: its chunk eXIf, found by name.

    The same four bytes elsewhere are no chunk if the number before them is no length that fits into
    the file.
    """
    pieces = tf.strings.length(tf.strings.split([encoded], b"eXIf").values)  # (p,)
    places = tf.cumsum(pieces)[:-1] + 4 * tf.range(tf.size(pieces) - 1)  # of the names
    size = tf.strings.length(encoded)
    around = tf.clip_by_value(places[:, None] + tf.range(-4, 0), 0, size - 1)
    lengths = tf.cast(tf.gather(tf.io.decode_raw(encoded, tf.uint8), around), tf.int64)  # (p, 4)
    lengths = tf.reduce_sum(lengths * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)
    is_chunk = tf.cast(places, tf.int64) + 8 + lengths <= tf.cast(size, tf.int64)
    first = tf.concat([tf.boolean_mask(places, is_chunk), [size]], axis=0)[0]
    length = tf.concat([tf.boolean_mask(lengths, is_chunk), [0]], axis=0)[0]
    return Metadata(_read_exif_chunk(cut_slice(encoded, first + 4, length)), tf.constant(b""))


def _read_exif_chunk(chunk: Any) -> Any:
    """Return the Exif data of a chunk of PNG or WebP, which may have one prefix `Exif`, two or none."""
    return _drop_prefix(_drop_prefix(tf.io.decode_raw(chunk, tf.uint8)))


def _find_in_webp(encoded: Any) -> Metadata:
    """Return the metadata of an extended WebP: its chunks EXIF and XMP, if its flags announce them."""
    is_extended = (tf.strings.substr(encoded, 12, 4) == b"VP8X") & (tf.strings.length(encoded) > 20)
    flags = tf.cond(is_extended, lambda: read_number(encoded, 20, 1), lambda: tf.constant(0, tf.int64))
    exif = tf.cond(flags // 8 % 2 == 1, lambda: _find_chunk(encoded, b"EXIF"), lambda: b"")
    xmp = tf.cond(flags // 4 % 2 == 1, lambda: _find_chunk(encoded, b"XMP "), lambda: b"")
    return Metadata(_read_exif_chunk(exif), xmp)


def _find_chunk(encoded: Any, name: bytes) -> Any:
    """Return the content of a WebP's first chunk with this name.

    A chunk has a name of four bytes, a length of four, and as many bytes, padded to an even number.
    """
    size = tf.strings.length(encoded)

    def goes_on(count: Any, place: Any, found: Any) -> Any:
        return (count < MOST_SEGMENTS) & (place + 8 <= size)

    def move(count: Any, place: Any, found: Any) -> tuple[Any, ...]:
        claimed = tf.minimum(read_number(encoded, place + 4, 4), tf.cast(size, tf.int64))
        length = tf.cast(claimed, tf.int32)
        is_here = tf.strings.substr(encoded, place, 4) == name
        here = tf.cond(is_here, lambda: cut_slice(encoded, place + 8, length), lambda: found)
        return count + 1, tf.where(is_here, size, place + 8 + length + length % 2), here

    return tf.while_loop(goes_on, move, (tf.constant(0), tf.constant(12), tf.constant(b"")))[2]
