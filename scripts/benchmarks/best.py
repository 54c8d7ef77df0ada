"""The recipe `best` as a whole: every setting that it tried, its validation accuracy and seconds, and what it chose."""

import json
import shlex
import time
from pathlib import Path
from typing import Any

import tyro
from measure import run_command, tell, tfl_command
from recipes import describe_cache
from record import RESULTS, new_result, write_result

QUESTION = "What the recipe best tries, what each costs, and what it chooses"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "scipy", "numpy", "h5py")


def main(
    cache: tyro.conf.Positional[Path],
    flags: str = "",
    runs_dir: Path = Path("runs"),
    out: Path = RESULTS / "best.json",
) -> None:
    """Run `tfl train CACHE --recipe best` once, and keep its table.

    Args:
      cache: The file that `tfl precompute` made.
      flags: Further flags of `tfl train`, as one text: '--flags=--seconds 1200'.
      runs_dir: Folder of the run folder.
      out: The JSON file to write.
    """
    started = time.perf_counter()
    command = tfl_command("train", cache, "--recipe", "best", *shlex.split(flags), "--runs-dir", runs_dir)
    run = Path(run_command(command))
    seconds = time.perf_counter() - started
    metrics, record, trials = (read_json(run / name) for name in ("metrics.json", "run.json", "trials.json"))
    test = metrics["test"]
    tell(f"best: {test['accuracy']:.2%} in {seconds:.0f} s")
    findings = {
        "trials": trials,
        "chosen": record["chosen"],
        "val_accuracy": metrics["val"]["accuracy"],
        "interval": test["accuracy_interval_95"],
        "test_rows": test["num_rows"],
        **describe_cache(cache),
    }
    results = {"seconds": {"whole command": [seconds]}, "accuracy": {"test": [test["accuracy"]]}}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=record["settings"], findings=findings))


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run folder holds."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    tyro.cli(main)
