"""Seconds and accuracy of `tfl quickstart`.

python scripts/benchmarks/quickstart.py
"""

import functools
import json
import tempfile
from pathlib import Path

import tyro
from measure import run_command, seconds_of, tell, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Seconds and test accuracy of `tfl quickstart`, data and weights at hand"
LIBRARIES = ("keras", "tensorflow", "openvino", "numpy", "h5py")


def main(repeats: int = 3, out: Path = RESULTS / "quickstart.json") -> None:
    """Run the quickstart several times, each from nothing but data and weights.

    Args:
      repeats: Runs of the command.
      out: The JSON file to write.
    """
    seconds, accuracies, test = [], [], {}
    for turn in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            places = ("--cache-dir", f"{folder}/cache", "--runs-dir", f"{folder}/runs")
            command = tfl_command("quickstart", *places)
            seconds.append(seconds_of(functools.partial(run_command, command)))
            (metrics,) = Path(folder).glob("runs/*/metrics.json")
            test = json.loads(metrics.read_text(encoding="utf-8"))["test"]
        accuracies.append(test["accuracy"])
        tell(f"{turn + 1} of {repeats}: {seconds[-1]:.0f} s, {accuracies[-1]:.2%}")
    results = {"seconds": {"whole command": seconds}, "accuracy": {"test": accuracies}}
    findings = {"interval": test["accuracy_interval_95"], "test_rows": test["num_rows"]}
    write_result(out, new_result(QUESTION, results, LIBRARIES, findings=findings))


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
