"""Seconds of the whole command `tfl precompute` in each arithmetic, start-up included, beside Keras `predict`."""

import functools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tyro
from measure import measure_in_turns, run_command, seconds_of, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Seconds of the whole command, by arithmetic, and of a program that calls Keras predict"
LIBRARIES = ("keras", "tensorflow", "jax", "openvino", "nncf", "tensorflow-datasets", "numpy", "h5py")
PREDICT, PREDICT_ALONE = "keras predict", "keras predict, without start-up"
COLD, WARM = "int8, cold", "int8, warm"
WAYS = (PREDICT, "float32", "bfloat16", COLD, WARM)
# How many times faster a way shall be: the goals of the issue that made int8.
GOALS = {
    ("bfloat16", "float32"): 1.9,
    (COLD, "float32"): 3.2,
    (WARM, "float32"): 3.2,
    ("bfloat16", PREDICT): 3.8,
    (COLD, PREDICT): 6.0,
    (WARM, PREDICT): 6.0,
    ("bfloat16", PREDICT_ALONE): 3.8,
    (COLD, PREDICT_ALONE): 6.0,
    (WARM, PREDICT_ALONE): 6.0,
}


class Bench:
    """A job, and what each way takes for it.

    Every command has a folder of its own for caches and for what tfl keeps in the user's home, so that nothing is
    compiled or calibrated before it; "int8, warm" alone takes that of "int8, cold", without the finished cache.
    """

    def __init__(self, dataset: str, splits: tuple[str, str], image_size: int, folder: Path) -> None:
        self.dataset, self.splits, self.image_size, self.folder = dataset, splits, image_size, folder
        self.predict_alone: list[float] = []
        self._last_place: Path | None = None

    def time_predict(self) -> float:
        """Return the seconds of the program that calls Keras `predict`; note those of `predict` alone."""
        program = Path(__file__).with_name("predict_program.py")
        place = self._make_place()
        arguments = [self.dataset, str(self.image_size), str(place / "features.npz"), *self.splits]
        started = time.perf_counter()
        alone = run_command([sys.executable, str(program), *arguments])
        seconds = time.perf_counter() - started
        self.predict_alone.append(float(alone))
        return seconds

    def time_first(self, dtype: str) -> float:
        """Return the seconds of the command in a new folder."""
        return self._time_command(dtype, self._make_place())

    def time_again(self, dtype: str) -> float:
        """Return the seconds of the command in the folder of the command before it, whose cache is removed."""
        assert self._last_place is not None
        for cache in self._last_place.glob("cache/*.h5"):
            cache.unlink()
        return self._time_command(dtype, self._last_place)

    def _make_place(self) -> Path:
        """Make a folder with the weights in it, and remove the one before."""
        from tfl.files.user_folders import home_folder

        if self._last_place is not None:
            shutil.rmtree(self._last_place)
        self._last_place = Path(tempfile.mkdtemp(dir=self.folder))
        home = self._last_place / "home"
        home.mkdir()
        weights = home_folder() / "weights"
        if weights.exists():
            (home / "weights").symlink_to(weights)
        return self._last_place

    def _time_command(self, dtype: str, place: Path) -> float:
        train_split, test_split = self.splits
        slices = ("--train-split", train_split, "--test-split", test_split, "--cache-dir", str(place / "cache"))
        flags = ("--dataset", self.dataset, "--image-size", str(self.image_size), "--compute-dtype", dtype)
        command = tfl_command("precompute", *flags, *slices)
        home = {"TFL_HOME": str(place / "home")}
        return seconds_of(functools.partial(run_command, command, home))

    def list_measures(self) -> dict[str, Callable[[], float]]:
        """Return what measures each way, in the order of a turn."""
        return {
            PREDICT: self.time_predict,
            "float32": functools.partial(self.time_first, "float32"),
            "bfloat16": functools.partial(self.time_first, "bfloat16"),
            COLD: functools.partial(self.time_first, "int8"),
            WARM: functools.partial(self.time_again, "int8"),
        }


def main(
    images: int = 6000,
    ways: tuple[str, ...] = WAYS,
    repeats: int = 5,
    dataset: str = "cifar10",
    image_size: int = 224,
    out: Path = RESULTS / "whole_command.json",
) -> None:
    """Time the whole command in each arithmetic, and a program that calls Keras `predict`, in turns.

    All of them start a process, read the same images, compute the same features and leave them in a file; start-up is
    in the seconds. The program's `predict` alone is noted too.

    Args:
      images: Images of the job, five training images for each test image.
      ways: Some of "keras predict", "float32", "bfloat16", "int8, cold" (it calibrates) and "int8, warm" (right after
        it, with the quantised network of that turn).
      repeats: Turns of all ways.
      dataset: A TFDS name with splits `train` and `test`.
      image_size: As `tfl precompute` takes it.
      out: The JSON file to write.
    """
    num_test = images // 6
    splits = f"train[:{images - num_test}]", f"test[:{num_test}]"
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dataset, splits, image_size, Path(folder))
        measures = {way: measure for way, measure in bench.list_measures().items() if way in ways}
        seconds = measure_in_turns(measures, repeats, failed)
    if PREDICT in seconds:
        seconds[PREDICT_ALONE] = bench.predict_alone
    rates = {way: [images / number for number in numbers] for way, numbers in seconds.items()}
    results = {"seconds": seconds, "images_per_second": rates, "times_faster": compare_ways(seconds)}
    settings = {"images": images, "splits": splits, "image_size": image_size, "dataset": dataset}
    findings = {"goals": {name_pair(*pair): goal for pair, goal in GOALS.items()}}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed))


def compare_ways(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return, for each pair that has a goal, how many times faster the first was in each turn."""
    found = {}
    for way, base in GOALS:
        if way in seconds and base in seconds:
            pairs = zip(seconds[way], seconds[base], strict=True)
            found[name_pair(way, base)] = [of_base / number for number, of_base in pairs]
    return found


def name_pair(way: str, base: str) -> str:
    """Return what a comparison is called."""
    return f"{way} over {base}"


if __name__ == "__main__":
    tyro.cli(main)
