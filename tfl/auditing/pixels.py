"""The second look: whether two small images show the same picture, shifted, mirrored or in another light."""

from collections.abc import Iterable

import numpy as np

from tfl.machine import batching

SIDE = 32  # pixels of a thumbnail
MAX_SHIFT = 3  # pixels, in both directions
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BLOCK_PAIRS = 512
FLAT_GRADIENT = 1.0  # of 255 per pixel: less is noise


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """Return an image `(h, w, 3)` at `SIDE` x `SIDE` pixels, uint8: each is the mean of the area that it covers."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    rows, columns = _average(image.shape[0]), _average(image.shape[1])  # (32, h), (32, w)
    shrunk = np.tensordot(rows, image.astype(np.float32), (1, 0))  # (32, w, 3)
    return np.asarray((np.einsum("iwc,jw->ijc", shrunk, columns, optimize=True) + 0.5).astype(np.uint8))


def _average(length: int) -> np.ndarray:
    """Return the weights `(SIDE, length)` of the pixels of a line in the pixels of a thumbnail."""
    edges = np.arange(SIDE + 1) * (length / SIDE)
    starts, stops = edges[:-1, None], edges[1:, None]  # (32, 1)
    pixels = np.arange(length)[None]
    covered = np.minimum(stops, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(np.maximum(covered, 0) / (length / SIDE), np.float32)


def correlate_pairs(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of pairs of images as they are, and with the second one mirrored, `(m,)` each.

    Compared are the gradients of the luminance, so that brightness does not count and contrast
    is divided out: the largest normalised correlation over shifts of the first one's middle.

    Args:
      thumbnails: uint8 `(n, 32, 32, 3)`.
      first: places of the first images, `(m,)`.
    """
    plain, mirrored = np.empty(len(first), np.float32), np.empty(len(first), np.float32)

    def compare(start: int) -> None:
        block = np.s_[start : start + BLOCK_PAIRS]
        one, other = thumbnails[first[block]], thumbnails[second[block]]
        template = _transform_template(compute_gradients(one))
        plain[block] = _correlate(template, compute_gradients(other))
        mirrored[block] = _correlate(template, compute_gradients(other[:, :, ::-1]))

    num_bytes = BLOCK_PAIRS * SIDE * SIDE * 64
    _finish(batching.parallel_map(compare, range(0, len(first), BLOCK_PAIRS), lambda start: num_bytes))
    return plain, mirrored


def _finish(done: Iterable[None]) -> None:
    for _ in done:
        pass


def compute_gradients(images: np.ndarray) -> np.ndarray:
    """Return the gradients of the smoothed luminance: across in the real part, down in the imaginary, complex64."""
    grey = np.pad(images.astype(np.float32) @ LUMINANCE, ((0, 0), (1, 2), (1, 2)), mode="edge")  # (m, 35, 35)
    down = (grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]) / 4  # (m, 33, 35)
    smooth = (down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]) / 4  # (m, 33, 33)
    across = smooth[:, :-1, 1:] - smooth[:, :-1, :-1]  # (m, 32, 32)
    return np.asarray(across + 1j * (smooth[:, 1:, :-1] - smooth[:, :-1, :-1]), np.complex64)


def _transform_template(gradients: np.ndarray) -> np.ndarray:
    """Return the conjugate spectrum of the images' middles, each of length one (zero if it is flat)."""
    size = SIDE - 2 * MAX_SHIFT
    middle = np.zeros_like(gradients)
    middle[:, :size, :size] = gradients[:, MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT]
    norms = np.sqrt((np.abs(middle) ** 2).sum(axis=(1, 2), keepdims=True))
    middle /= np.maximum(norms, size * FLAT_GRADIENT)
    return np.asarray(np.conj(np.fft.fft2(middle)))


def _correlate(template: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return the largest correlation over all shifts, `(m,)`."""
    size, num_shifts = SIDE - 2 * MAX_SHIFT, 2 * MAX_SHIFT + 1
    products = np.fft.ifft2(template * np.fft.fft2(gradients)).real[:, :num_shifts, :num_shifts]  # (m, 7, 7)
    energy = np.pad((np.abs(gradients) ** 2).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))  # (m, 33, 33)
    below = energy[:, size:] - energy[:, :-size]  # (m, 7, 33)
    of_window = below[:, :, size:] - below[:, :, :-size]  # (m, 7, 7)
    norms = np.maximum(np.sqrt(np.maximum(of_window, 0)), size * FLAT_GRADIENT)
    return np.asarray((products / norms).max(axis=(1, 2)))
