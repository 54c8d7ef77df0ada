"""HEIC and HEIF, the formats of phones' photos, which are read if pillow-heif is installed."""

from functools import cache

FORMAT = "HEIF"
"""Pillow's name for both, after `is_readable` has registered them."""

SUFFIXES = frozenset((".heic", ".heif", ".hif"))
HINT = "HEIC and HEIF are read if pillow-heif is installed: pip install '.[heic]'"

# Brands of ISO/IEC 23008-12: HEVC images and sequences; `_ANY_CODING` does not say how the image is
# coded.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_CODING = {b"mif1", b"msf1"}


@cache
def is_readable() -> bool:
    """Register HEIF with Pillow, once; return whether that worked."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        return False
    return True


def is_heif(content: bytes) -> bool:
    """Return whether a file is HEIF by its brands; AVIF, which Pillow reads itself, is not."""
    if content[4:8] != b"ftyp":
        return False
    major = content[8:12]
    if major not in _ANY_CODING:
        return major in _BRANDS
    end = min(int.from_bytes(content[:4], "big"), 256)
    compatible = {content[start : start + 4] for start in range(16, end, 4)}
    return bool(compatible & _BRANDS)
