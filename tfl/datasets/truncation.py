"""Truncated image files, recognised by their end without decoding."""

_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": bytes.fromhex("00000000 49454E44 AE426082"), b"GIF8": b"\x3b"}
"""The first and last bytes of JPEG, PNG (its IEND chunk) and GIF."""
_MAX_BOXES = 64


def has_whole_end(content: bytes) -> bool:
    """Return whether a file's end looks whole; the end of a truncated file does so only by chance.

    Returns False for formats that do not show their end, such as BMP and TIFF.
    """
    if content.startswith(b"RIFF"):  # in WebP the four bytes after this one are the length
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    if content[4:8] == b"ftyp":
        return _boxes_end_with_file(content)
    return any(content.startswith(start) and content.endswith(end) for start, end in _ENDINGS.items())


def _boxes_end_with_file(content: bytes) -> bool:
    """Return whether the boxes of HEIF or AVIF, each of which gives its length, end where the file does.

    Source: ISO/IEC 14496-12.
    """
    start = 0
    for _ in range(_MAX_BOXES):
        num_bytes = int.from_bytes(content[start : start + 4], "big")
        if num_bytes == 1:  # the length follows the box's type
            num_bytes = int.from_bytes(content[start + 8 : start + 16], "big")
        if num_bytes < 8:  # 0 means a box that reaches to the end, wherever that is
            return False
        start += num_bytes
        if start >= len(content):
            break
    return start == len(content)
