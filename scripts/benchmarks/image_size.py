"""Accuracy by image size and layers, on a slice.

python scripts/benchmarks/image_size.py
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro
from measure import run_command, tell, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Test accuracy by image size and layers"
LIBRARIES = ("keras", "tensorflow", "jax", "openvino", "scipy", "numpy", "h5py")
ONE_LAYER = ("--layers", "last", "--pooling", "avg")
THREE_LAYERS = ("--layers", "conv3_block4_out", "conv4_block6_out", "last", "--pooling", "avg", "max")


def main(
    sizes: tuple[int, ...] = (64, 128, 224),
    num_train: int = 8000,
    num_test: int = 4000,
    compute_dtype: str = "bfloat16",
    out: Path = RESULTS / "image_size.json",
) -> None:
    """Compute features of three layers at each size, copy those of one layer, and train a head on both.

    Args:
      sizes: Height and width that images are resized to.
      num_train: Training images of CIFAR-10.
      num_test: Test images of CIFAR-10.
      compute_dtype: Arithmetic of the backbone.
      out: The JSON file to write.
    """
    accuracy: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    intervals: dict[str, list[float]] = {}
    slices = ("--train-split", f"train[:{num_train}]", "--test-split", f"test[:{num_test}]")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            common = (*slices, "--image-size", str(size), "--compute-dtype", compute_dtype, "--cache-dir", folder)
            started = time.perf_counter()
            three = run_command(tfl_command("precompute", *common, *THREE_LAYERS))
            seconds[f"{size} pixels"] = [time.perf_counter() - started]
            one = run_command(tfl_command("precompute", *common, *ONE_LAYER))
            for way, cache, recipe in (
                (f"{size}, one layer", one, "logistic"),
                (f"{size}, three layers", three, "ridge"),
            ):
                test = test_metrics(cache, recipe, folder)
                accuracy[way], intervals[way] = [test["accuracy"]], test["accuracy_interval_95"]
                tell(f"{way}, {recipe}: {test['accuracy']:.2%}")
    settings = {"num_train": num_train, "num_test": num_test, "compute_dtype": compute_dtype, "sizes": list(sizes)}
    results = {"accuracy": accuracy, "precompute_seconds": seconds}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings={"intervals": intervals}))


def test_metrics(cache: str, recipe: str, folder: str) -> dict[str, Any]:
    """Train a recipe and return its metrics on the test rows."""
    run = run_command(tfl_command("train", cache, "--recipe", recipe, "--runs-dir", f"{folder}/runs"))
    metrics: dict[str, Any] = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    return metrics["test"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
