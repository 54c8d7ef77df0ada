"""Test accuracy and seconds of every recipe, on one cache or several.

python scripts/benchmarks/recipes.py CACHE [CACHE ...] --recipes ridge 'mlp --hidden 512 --epochs 10'
"""

import itertools
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import run_command, tell, tfl_command
from record import RESULTS, Hardware, Result, new_result, read_result, write_result

QUESTION = "Test accuracy and seconds of `tfl train`, by recipe and features"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "openvino", "scipy", "numpy", "h5py")
RECIPES = ("reference", "ridge", "logistic", "knn", "grid", "mlp")


def main(
    caches: tyro.conf.Positional[tuple[Path, ...]],
    recipes: tuple[str, ...] = RECIPES,
    runs_dir: Path = Path("runs"),
    out: Path = RESULTS / "recipes.json",
) -> None:
    """Train every recipe on every cache by the command `tfl train`, and compare each run with the next better one.

    What the result file holds already is kept, so that recipes can be added on another day. The machine and the
    versions must be the same. It is written anew after each run.

    Args:
      caches: Cache files of the same test images.
      recipes: Names of recipes, each with further flags of `tfl train` behind it.
      runs_dir: Folder of the run folders.
      out: The JSON file to write.
    """
    found: dict[str, Any] = {}
    for cache in caches:
        for recipe in recipes:
            row = measure_recipe(cache, recipe, runs_dir)
            found[f"{recipe} | {row['features']}"] = row
            write_result(out, merge(out, result_of(found)))
    compare_neighbours(out)


def measure_recipe(cache: Path, recipe: str, runs_dir: Path) -> dict[str, Any]:
    """Return what one `tfl train` came to."""
    tell(f"{recipe} on {cache.name}")
    name, *flags = shlex.split(recipe)
    started = time.perf_counter()
    run = run_command(tfl_command("train", cache, "--recipe", name, *flags, "--runs-dir", runs_dir))
    seconds = time.perf_counter() - started
    metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    tell(f"{recipe}: {test['accuracy']:.2%} in {seconds:.0f} s")
    return {
        "seconds": seconds,
        "accuracy": test["accuracy"],
        "interval": test["accuracy_interval_95"],
        "val_accuracy": metrics.get("val", {}).get("accuracy"),
        "run": run,
        **describe_cache(cache),
    }


def describe_cache(path: Path) -> dict[str, Any]:
    """Return which features a cache holds, and what they cost."""
    from tfl.cache import open_cache

    cache = open_cache(path)
    spec, made, features = cache.spec, cache.provenance, cache.spec.features
    layers = len(features.layers)
    words = [f"{layers} layer{'s' * (layers > 1)}, {features.interpolation}"]
    if len(spec.views) > 1:
        words.append(f"{len(spec.views)} views")
    return {
        "features": ", ".join(words),
        "columns": cache.read_rows("test", np.arange(1)).shape[1],
        "rows": dict(cache.num_rows),
        "bytes": path.stat().st_size,
        "image_size": features.image_size,
        "compute_dtype": features.compute_dtype,
        "views": list(spec.views),
        "engine": made.engine,
        "precompute_seconds": made.values.get("seconds"),
        "images_computed": made.values.get("images_computed"),
    }


def result_of(found: dict[str, Any]) -> Result:
    """Return the runs of this process as a result."""
    results = {
        "accuracy": {way: [row["accuracy"]] for way, row in found.items()},
        "seconds": {way: [row["seconds"]] for way, row in found.items()},
    }
    of_way = {way: {key: row[key] for key in row if key not in ("accuracy", "seconds")} for way, row in found.items()}
    return new_result(QUESTION, results, LIBRARIES, findings={"ways": of_way})


def merge(path: Path, new: Result) -> Result:
    """Return what a file holds and what is new.

    Raises:
      SystemExit: it was measured on another machine or with other versions.
    """
    if not path.exists():
        return new
    old = read_result(path)
    if (machine_of(old), old.versions) != (machine_of(new), new.versions):
        raise SystemExit(f"{path} is of another machine or of other versions: remove it, or name another --out")
    commands = [old.command] if isinstance(old.command, str) else list(old.command)
    if new.command not in commands:
        commands.append(str(new.command))
    results = {quantity: {**old.results.get(quantity, {}), **ways} for quantity, ways in new.results.items()}
    findings = {**old.findings, "ways": {**old.findings.get("ways", {}), **new.findings["ways"]}}
    return replace(new, command=commands if len(commands) > 1 else commands[0], results=results, findings=findings)


def machine_of(result: Result) -> Hardware:
    """Return the machine without what else was noted of the day."""
    return replace(result.hardware, remark="")


def compare_neighbours(path: Path) -> None:
    """Add McNemar's test of each run and the next better one."""
    result = read_result(path)
    accuracy = {way: numbers[0] for way, numbers in result.results["accuracy"].items()}
    ways = sorted(accuracy, key=lambda way: -accuracy[way])
    runs = {way: result.findings["ways"][way]["run"] for way in ways}
    tests = {}
    for better, way in itertools.pairwise(ways):
        if not all(Path(runs[each]).is_dir() for each in (better, way)):
            tell(f"not compared, for a run is gone: {better}; {way}")
            continue
        tell(f"{better} against {way}")
        found = json.loads(run_command(tfl_command("evaluate", runs[better], runs[way], "--json")))
        tests[way] = {"against": better, "p": found["p_value"], "difference": found["difference"]}
    write_result(path, replace(result, findings={**result.findings, "mcnemar": tests}))


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
