"""Seconds and peak memory of `tfl precompute` on a folder of many small files, and on one of large photos."""

import io
import tempfile
from pathlib import Path

import numpy as np
import tyro
from measure import peak_bytes_of, seconds_of, tell, tfl_command
from PIL import Image
from record import RESULTS, new_result, write_result

QUESTION = "Seconds and peak memory of precompute on many small files, and on large photos"
LIBRARIES = ("keras", "tensorflow", "openvino", "pillow", "h5py", "numpy")
NUM_CLASSES = 10
NUM_DIFFERENT = 20  # images; every other file has the content of one of them
# A network that costs next to nothing: what is measured is everything else.
NETWORK = ("--backbone", "mobilenetv3small", "--weights", "random", "--image-size", "32", "--pooling", "avg")
SMALL, PHOTO = (64, 64), (6000, 4000)  # width and height


def main(
    small: tuple[int, ...] = (10_000, 100_000),
    photos: tuple[int, ...] = (50, 200),
    repeats: int = 1,
    out: Path = RESULTS / "many_files.json",
) -> None:
    """Make folders `root/<class>/*.jpg`, and run the whole command on each.

    Args:
      small: Numbers of files of 64 x 64 pixels.
      photos: Numbers of photos of 24 megapixels.
      repeats: Turns of all folders.
      out: The JSON file to write.
    """
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    ways = [(count, SMALL) for count in small] + [(count, PHOTO) for count in photos]
    for turn in range(repeats):
        for count, size in ways:
            way = f"{count} files, {size[0]} x {size[1]}"
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder, "photos")
                num_bytes = write_folder(root, count, size)
                command = tfl_command("precompute", "--dataset", root, *NETWORK, "--cache-dir", Path(folder, "cache"))
                taken = seconds_of(lambda: peaks.setdefault(way, []).append(peak_bytes_of(command)))  # noqa: B023
            seconds.setdefault(way, []).append(taken)
            told = f"{taken:.1f} s, {peaks[way][-1] / 1e9:.2f} GB of memory, {num_bytes / 1e9:.2f} GB of files"
            tell(f"{way}, {turn + 1} of {repeats}: {told}")
    settings = {"network": " ".join(NETWORK), "classes": NUM_CLASSES}
    write_result(out, new_result(QUESTION, {"seconds": seconds, "peak_bytes": peaks}, LIBRARIES, settings=settings))


def write_folder(root: Path, count: int, size: tuple[int, int]) -> int:
    """Write JPEG files in folders of their classes, and return how many bytes they have."""
    contents = [encode(number, size) for number in range(NUM_DIFFERENT)]
    for label in range(NUM_CLASSES):
        (root / f"class {label}").mkdir(parents=True)
    for number in range(count):
        path = root / f"class {number % NUM_CLASSES}" / f"{number:06d}.jpg"
        path.write_bytes(contents[number % NUM_DIFFERENT])
    return sum(len(contents[number % NUM_DIFFERENT]) for number in range(count))


def encode(seed: int, size: tuple[int, int]) -> bytes:
    """Return a JPEG file of random colours, eight pixels wide each."""
    width, height = size
    colours = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR).save(written, "JPEG", quality=90)
    return written.getvalue()


if __name__ == "__main__":
    tyro.cli(main)
