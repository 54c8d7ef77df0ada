"""Accuracy of every recipe on few images per class.

python scripts/benchmarks/few_shot.py CACHE
"""

import json
import tempfile
from pathlib import Path

import tyro
from measure import run_command, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Accuracy of each recipe by the number of training images per class, on held-out training images"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "scipy", "numpy", "h5py")


def main(
    cache: tyro.conf.Positional[Path],
    shots: tuple[int, ...] = (1, 5, 10, 50, 100),
    repeats: int = 3,
    out: Path = RESULTS / "few_shot.json",
) -> None:
    """Run the study that `tfl train CACHE --shots` makes.

    Args:
      cache: A cache file.
      shots: Images per class.
      repeats: Draws of so many images.
      out: The JSON file to write.
    """
    numbers = [str(number) for number in shots]
    with tempfile.TemporaryDirectory() as runs_dir:
        flags = ("--shots", *numbers, "--repeats", str(repeats), "--runs-dir", runs_dir)
        folder = run_command(tfl_command("train", cache, *flags))
        study = json.loads((Path(folder) / "shots.json").read_text(encoding="utf-8"))
    accuracy = {f"{row['recipe']}, {row['shots']}": row["accuracies"] for row in study["results"]}
    seconds = {f"{row['recipe']}, {row['shots']}": [row["seconds"]] for row in study["results"]}
    settings = {"shots": list(shots), "validation_rows": study["validation_rows"]}
    results = {"accuracy": accuracy, "seconds_of_all_draws": seconds}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings))


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
