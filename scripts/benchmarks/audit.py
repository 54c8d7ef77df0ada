"""The audit against published truth about CIFAR-10: duplicates that people judged, and labels that people voted on."""

import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import seconds_of, tell, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "What tfl audit finds of published duplicates and label errors of CIFAR-10, and what it costs"
LIBRARIES = ("keras", "tensorflow", "numpy", "scipy", "h5py")
PAIR_COUNTS = (143, 286, 500, 1000)
LABEL_COUNTS = (137, 275, 500, 1000)
KEPT_BY = 3  # of five people; a label that fewer keep counts as wrong
SUSPECTED = (0, 250, 500, 1000, 2000)  # training rows left out, the most suspicious


def main(
    cache: Path,
    truth: Path,
    dataset: str = "cifar10",
    repeats: int = 1,
    out: Path = RESULTS / "audit.json",
) -> None:
    """Audit a cache of CIFAR-10 and compare the findings with the truth.

    Args:
      cache: Of all 50,000 and 10,000 images.
      truth: Folder of cifar10_duplicates.csv (columns test_id, train_id, kind) and cifar10_label_errors.csv (columns
        test_id, given, votes_given).
      dataset: Where the images are now.
      repeats: Runs of the command.
      out: The JSON file to write.
    """
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    peaks: list[float] = []
    for turn in range(repeats):
        taken = seconds_of(lambda: run_audit(cache, dataset, cpu_seconds, peaks))
        seconds.append(taken)
        tell(f"{turn + 1} of {repeats}: {taken:.1f} s, {cpu_seconds[-1]:.1f} s of processor, {peaks[-1] / 1e9:.2f} GB")
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    FOUND.unlink()
    findings = {
        "duplicates": compare_duplicates(found, truth / "cifar10_duplicates.csv"),
        "labels": compare_labels(found, truth / "cifar10_label_errors.csv"),
        "leaks": found["leaks"],
        "own_accuracy": found["accuracy"],
        "left_out": leave_out(cache, found),
    }
    tell(json.dumps(findings, indent=1))
    results = {
        "seconds": {"tfl audit": seconds},
        "cpu_seconds": {"tfl audit": cpu_seconds},
        "peak_bytes": {"tfl audit": peaks},
    }
    settings = {"cache": cache.name, "rows": found["num_rows"]}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings))


FOUND = Path(tempfile.gettempdir(), f"tfl-audit-{os.getpid()}.json")


def run_audit(cache: Path, dataset: str, cpu_seconds: list[float], peaks: list[float]) -> None:
    """Run the command once; note its processor time and its largest resident size."""
    command = tfl_command("audit", cache, "--dataset", dataset, "--json")
    with FOUND.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"tfl audit ended with {process.returncode}")
    cpu_seconds.append(usage.ru_utime + usage.ru_stime)
    peaks.append(usage.ru_maxrss * 1024)


def compare_duplicates(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """Count the published pairs among the pairs of a test and a training image, in their order.

    `pairs` have the published partner; `images` are test images that have one, this one or another.
    """
    with path.open(encoding="utf-8", newline="") as file:
        pairs = {(row["test_id"], row["train_id"]) for row in csv.DictReader(file)}
    tests = {test for test, _ in pairs}
    listed = [each for each in found["duplicates"] if (each["role"], each["partner_role"]) == ("test", "train")]
    numbers = {}
    for count in (*PAIR_COUNTS, len(listed)):
        top = listed[:count]
        numbers[str(count)] = {
            "pairs": sum((each["id"], each["partner"]) in pairs for each in top),
            "images": len({each["id"] for each in top} & tests),
        }
    kinds: dict[str, int] = {}
    for each in found["duplicates"]:
        name = f"{each['kind']}, {each['role']} and {each['partner_role']}"
        kinds[name] = kinds.get(name, 0) + 1
    return {"num_true": len(pairs), "listed": len(listed), "found_in_first": numbers, "kinds": kinds}


def compare_labels(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """Count the labels of the test split that people did not keep among the most suspicious ones."""
    with path.open(encoding="utf-8", newline="") as file:
        wrong = {row["test_id"] for row in csv.DictReader(file) if int(row["votes_given"]) < KEPT_BY}
    listed = [each["id"] for each in found["labels"] if each["role"] == "test"]
    numbers = {str(count): sum(id_ in wrong for id_ in listed[:count]) for count in LABEL_COUNTS}
    return {"num_true": len(wrong), "listed": len(listed), "found_in_first": numbers}


def leave_out(cache: Path, found: dict[str, Any]) -> dict[str, float]:
    """Return the test accuracy of ridge regression, suspicious training rows left out of it, by how many."""
    from tfl.cli.startup import start_keras

    start_keras()
    from tfl.cache import open_cache
    from tfl.heads import Ridge
    from tfl.heads.rows import read_rows
    from tfl.heads.trials import Listeners
    from tfl.metrics import measure
    from tfl.specs.training import Selection

    opened = open_cache(cache)
    train, test = (read_rows(opened, role, Selection()) for role in ("train", "test"))
    ids = opened.read_ids("train")
    suspected = [each["id"].encode() for each in found["labels"] if each["role"] == "train"]
    accuracies = {}
    for count in SUSPECTED:
        kept = train.part(np.flatnonzero(~np.isin(ids, suspected[:count])))
        head = Ridge(l2=(0.01,)).search(kept, None, Listeners()).head
        logits = np.asarray(head(test.features, training=False))
        accuracies[str(count)] = measure(logits, test.labels).accuracy
        tell(f"{count} left out: {accuracies[str(count)]:.4f}")
    return accuracies


if __name__ == "__main__":
    tyro.cli(main)
