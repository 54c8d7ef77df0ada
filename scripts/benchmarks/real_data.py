"""Accuracy and seconds on data as people have it: idx files, arrays of a library, a folder of pictures."""

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from measure import attempt, call_in_fresh_process, run_command, seconds_of, tell, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Accuracy and seconds on data as people have it"
LIBRARIES = ("keras", "tensorflow", "openvino", "scikit-learn", "pillow", "numpy", "h5py")
Arrays = tuple[np.ndarray, np.ndarray]  # images and labels
IDX_HEADERS = {3: 16, 1: 8}  # bytes before the values, by the number of axes; Yann LeCun's page of MNIST
LARGEST_DIGIT = 16.0  # the brightest value of scikit-learn's digits


@dataclass(frozen=True)
class Options:
    """Flags of the command line."""

    fashion_mnist: Path | None = None
    """Folder of Fashion-MNIST's four .gz files, as Debian's package dataset-fashion-mnist has them."""
    stamps: Path | None = None
    """The folder of pictures that Debian's package tuxpaint-stamps-default has under /usr/share/tuxpaint/stamps."""
    compute_dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    recipe: str = "logistic"
    out: Path = RESULTS / "real_data.json"


def main(options: Options) -> None:
    """Go from images to a tested head with each dataset: ResNet50 at 224 pixels, one recipe.

    Args:
      options: Datasets whose folder is not named are left out; scikit-learn's digits come with it.
    """
    bench = Bench(options)
    ways: dict[str, Callable[[], Any]] = {"digits of scikit-learn, arrays": bench.measure_digits}
    if options.fashion_mnist is not None:
        ways["Fashion-MNIST, arrays"] = bench.measure_fashion
    if options.stamps is not None:
        ways["Tux Paint's stamps, a folder of classes"] = bench.measure_stamps
    for name, measure in ways.items():
        attempt(name, lambda: bench.note(name, measure()), bench.failed)  # noqa: B023
    settings = {"compute_dtype": options.compute_dtype, "recipe": options.recipe, "image_size": 224}
    results = {"seconds": bench.seconds, "accuracy": bench.accuracies}
    further = {"settings": settings, "findings": bench.findings, "failed": bench.failed}
    write_result(options.out, new_result(QUESTION, results, LIBRARIES, **further))


class Bench:
    """What was measured of each dataset so far."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.seconds: dict[str, list[float]] = {}
        self.accuracies: dict[str, list[float]] = {}
        self.findings: dict[str, Any] = {}
        self.failed: dict[str, str] = {}

    def note(self, name: str, measured: tuple[float, dict[str, Any]]) -> None:
        """Note the seconds from images to a tested head, and the head's test metrics."""
        seconds, test = measured
        self.seconds[name] = [seconds]
        self.accuracies[name] = [test["accuracy"]]
        self.findings[name] = {"interval": test["accuracy_interval_95"], "test_rows": test["num_rows"]}
        tell(f"{name}: {test['accuracy']:.2%} of {test['num_rows']:,} test images, {seconds:.1f} s")

    def measure_digits(self) -> tuple[float, dict[str, Any]]:
        """Take 1,797 grey arrays of 8 x 8 pixels, divided by tfl."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        return self._measure_arrays((digits.images / LARGEST_DIGIT, digits.target), None)

    def measure_fashion(self) -> tuple[float, dict[str, Any]]:
        """Take 60,000 and 10,000 grey arrays of 28 x 28 pixels."""
        folder = self.options.fashion_mnist
        assert folder is not None
        train, test = (
            (read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3), read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1))
            for part in ("train", "t10k")
        )
        return self._measure_arrays(train, test)

    def measure_stamps(self) -> tuple[float, dict[str, Any]]:
        """Take pictures of many sizes, with transparency, in nested folders; divided by tfl."""
        assert self.options.stamps is not None
        return self._measure(lambda folder: self._precompute_folder(self.options.stamps, folder))

    def _measure_arrays(self, train: Arrays, test: Arrays | None) -> tuple[float, dict[str, Any]]:
        arguments = (train, test, self.options.compute_dtype)
        return self._measure(lambda folder: call_in_fresh_process(precompute_arrays, *arguments, folder))

    def _precompute_folder(self, root: Path | None, folder: Path) -> Path:
        flags = ("--compute-dtype", self.options.compute_dtype, "--cache-dir", folder)
        return Path(run_command(tfl_command("precompute", "--dataset", str(root), *flags)))

    def _measure(self, precompute: Callable[[Path], Path]) -> tuple[float, dict[str, Any]]:
        """Return the seconds of precompute and training together, and the metrics of the test rows."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            runs: list[Path] = []

            def work() -> None:
                cache = precompute(folder)
                flags = ("--recipe", self.options.recipe, "--runs-dir", folder)
                runs.append(Path(run_command(tfl_command("train", cache, *flags))))

            seconds = seconds_of(work)
            metrics = json.loads((runs[0] / "metrics.json").read_text(encoding="utf-8"))
        return seconds, metrics["test"]


def precompute_arrays(train: Arrays, test: Arrays | None, compute_dtype: Any, folder: Path) -> Path:
    """Make a cache of arrays, in a process of its own."""
    import tfl

    features, settings = tfl.FeatureSpec(compute_dtype=compute_dtype), tfl.Settings(cache_dir=folder)
    images, labels = train
    return Path(tfl.precompute(features, settings=settings, images=images, labels=labels, test=test))


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Read an idx file of bytes: images `(n, h, w)` or labels `(n,)`."""
    content = gzip.decompress(path.read_bytes())
    header = IDX_HEADERS[num_axes]
    shape = np.frombuffer(content, ">u4", num_axes, offset=header - 4 * num_axes)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
