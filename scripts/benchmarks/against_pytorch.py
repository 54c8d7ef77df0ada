"""tfl against three PyTorch programs that do the same job.

python scripts/benchmarks/against_pytorch.py CACHE
"""

import json
from pathlib import Path

import tyro
from measure import run_command, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "Hours, memory and accuracy of the whole job: tfl against three PyTorch programs"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "torchvision", "openvino", "numpy")
SECONDS_OF_AN_HOUR = 3600
# What varies from cache to cache, or says the same as the record.
LEFT_OUT = ("cache", "machine")


def main(
    cache: tyro.conf.Positional[Path],
    images: int = 64,
    epochs: int = 10,
    out: Path = RESULTS / "against_pytorch.json",
) -> None:
    """Run `tfl compare`, and keep all that it finds.

    Args:
      cache: A cache of both roles, float32 or bfloat16.
      images: How many training and as many test images the programs without a cache are run on.
      epochs: Of every program.
      out: The JSON file to write.
    """
    flags = ("--images", str(images), "--epochs", str(epochs), "--json")
    found = json.loads(run_command(tfl_command("compare", cache, *flags)))
    by_epoch = found["seconds"]["by_epoch"]
    results = {
        "hours_of_the_whole_job": {form: [seconds[-1] / SECONDS_OF_AN_HOUR] for form, seconds in by_epoch.items()},
        "peak_bytes": {form: [peak] for form, peak in found["peak_bytes"].items()},
    }
    machine = {name: of for name, of in found["machine"].items() if name != "versions"}
    settings = {"images": images, "epochs": epochs, "rows": found["rows"], **machine}
    findings = {name: of for name, of in found.items() if name not in LEFT_OUT}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings))


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
