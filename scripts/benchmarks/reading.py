"""Seconds of reading a cache from the page cache: what the checksums cost."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tyro
from measure import median_ratio, tell, time_in_turns
from random_cache import NUM_FEATURES, write_random_cache
from record import RESULTS, new_result, write_result

from tfl.cache import open_cache

QUESTION = "What the checksums of a cache cost when it is read"
LIBRARIES = ("h5py", "numpy")
CHECKED, UNCHECKED = "tfl, checked", "h5py, unchecked"


def main(num_rows: int = 50_000, repeats: int = 5, out: Path = RESULTS / "reading.json") -> None:
    """Read a cache of random features by tfl, by h5py with and without checksums, and by numpy, in turns.

    Args:
      num_rows: Rows of 2,048 float32 features; 50,000 take 1.2 GB of temporary files.
      repeats: Turns of all ways; one before them is not counted.
      out: The JSON file to write.
    """
    with tempfile.TemporaryDirectory() as folder:
        tell(f"writing {num_rows:,} rows")
        ways = prepare_ways(Path(folder), num_rows)
        for read in ways.values():
            read()
        seconds = time_in_turns(ways, repeats)
    settings = {"rows": num_rows, "features": NUM_FEATURES, "bytes": num_rows * NUM_FEATURES * 4}
    ratio = median_ratio(seconds[CHECKED], seconds[UNCHECKED])
    findings = {"median_checked_over_unchecked": ratio}
    write_result(
        out,
        new_result(QUESTION, {"seconds": seconds}, LIBRARIES, settings=settings, findings=findings),
    )


def prepare_ways(folder: Path, num_rows: int) -> dict[str, Callable[[], Any]]:
    """Write the same features in each form, and return what reads them."""
    path = write_random_cache(folder, num_rows)
    features = open_cache(path).read("train").features  # (n, d)
    plain, unchecked = folder / "plain.npy", folder / "unchecked.h5"
    np.save(plain, features)
    with h5py.File(unchecked, "w", libver="v110") as file:
        file.create_dataset("train/features", data=features, chunks=(128, NUM_FEATURES))
    return {
        CHECKED: lambda: open_cache(path).read("train"),
        "h5py, fletcher32": lambda: read_by_h5py(path),
        UNCHECKED: lambda: read_by_h5py(unchecked),
        "numpy.load": lambda: np.load(plain),
    }


def read_by_h5py(path: Path) -> np.ndarray:
    """Read the training features, `(n, d)`."""
    with h5py.File(path) as file:
        return np.asarray(file["train/features"][:])


if __name__ == "__main__":
    tyro.cli(main)
