"""What the turns of a comparison come to: differences, accuracies, costs; in JSON's types."""

import importlib.metadata
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfl import engine
from tfl.cache import Cache, CachedRows, open_cache
from tfl.comparison.costs import FORMULA, Costs, ratios, stages
from tfl.comparison.reference.job import Job
from tfl.machine.lockstep import Turn
from tfl.metrics import wilson_interval

Turns = dict[str, list[Turn]]


def of(job: Job, cache: Cache, turns: Turns, not_compared: Sequence[str]) -> dict[str, Any]:
    """Everything; what needs images is left out where the job has none.

    Returns:
      `rows` and `slice` (how many images of each role), settings, `machine`, `not_compared`, `training`, `accuracy`,
      `stages` by form, `peak_bytes`; and of images also `pixels`, `features` and `seconds`.
    """
    found: dict[str, Any] = {
        "cache": str(cache.path),
        "rows": {role: cache.num_rows[role] for role in ("train", "test")},
        "slice": {role: len(job.slice(role).labels) for role in ("train", "test")} if job.num_images else None,
        "image_size": job.features.image_size,
        "compute_dtype": job.features.compute_dtype,
        "batch_size": job.recipe.batch_size,
        "epochs": job.recipe.epochs,
        "weights": job.weights,
        "machine": _machine(job, turns),
        "not_compared": list(not_compared),
        "training": _training(turns),
        "accuracy": _accuracies(job, cache, turns),
        "stages": {form: stages(of_form) for form, of_form in turns.items() if form != "parity"},
        "peak_bytes": {form: max(turn.peak_bytes for turn in of_form) for form, of_form in turns.items()},
        "ratios": {stage: ratios(turns["fair-cached"], turns["ours"], stage) for stage in ("extract", "fit")},
    }
    if job.num_images:
        found |= {"seconds": _seconds(found), "cache_difference": _differences_of_cache(job, cache)}
        if job.weights == "keras":
            found |= {"pixels": _pixels(job), "features": _features(job)}
    return found


def _machine(job: Job, turns: Turns) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
    made = _slice_cache(job).provenance if job.num_images else {}
    ways = {turn.found["way"] for turn in turns["fair-cached"] if "way" in turn.found}
    return {
        "device": engine.device_name(),
        "reference_device": next(turn.found["device"] for turn in turns["fair-cached"] if "device" in turn.found),
        "threads": job.threads,
        "versions": {**engine.library_versions(), **made.get("versions", {}), **versions},
        "our_forward": made.get("engine"),
        "fair_forward": " ".join(ways),
    }


def _training(turns: Turns) -> dict[str, Any]:
    """The loss curves on all rows, of the same start and order."""
    ours, reference = (_losses(turns[form]) for form in ("ours", "fair-cached"))
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, reference, strict=True)]
    return {"losses": {"ours": ours, "reference": reference}, "largest_relative_difference": max(differences)}


def _losses(turns: list[Turn]) -> list[float]:
    return list(next(turn.found["losses"] for turn in turns if turn.stage == "fit"))


def _accuracies(job: Job, cache: Cache, turns: Turns) -> list[dict[str, Any]]:
    """Of each form: on all rows of the cache and, each on the same images, on the slice."""
    rows = []
    for which in ("all", "slice") if job.num_images else ("all",):
        train, test = (_num_rows(which, role, job, cache) for role in ("train", "test"))
        for form, of_form in turns.items():
            for where, correct in of_form[-1].found.get("correct", {}).items():
                if where.split(",")[0] == which:
                    row = {"form": form, "mode": where.partition(", ")[2], "train": train, "test": test}
                    rows.append({**row, "accuracy": correct / test, "interval": wilson_interval(correct, test)})
    return rows


def _num_rows(which: str, role: Any, job: Job, cache: Cache) -> int:
    if which == "all":
        return cache.num_rows[role]
    return len(job.slice(role).labels)


def _pixels(job: Job) -> dict[str, Any]:
    """Largest differences of what the network is given, in units of 0..255."""
    with np.load(job.folder / "parity.npz") as ours, np.load(job.folder / "parity-reference.npz") as reference:
        own, by_pil = (np.abs(reference[name] - ours["inputs"]).max() for name in ("pixels", "pil_pixels"))
        return {"num_images": len(ours["images"]), "largest_difference": float(own), "resized_by_pil": float(by_pil)}


def _features(job: Job) -> dict[str, Any]:
    """Largest differences of features, as a share of the largest one."""
    ours = {role: rows.features for role, rows in _of_slice(job).items()}
    with np.load(job.folder / "parity-reference.npz") as reference:
        num_images = len(reference["features"])
        same_pixels = _difference(ours["train"][:num_images], reference["features"])
    with np.load(job.folder / "features.npz") as reference:
        from_uint8 = max(_difference(ours[role], reference[role]) for role in ours)
    return {
        "same_pixels": {"num_images": num_images, "largest_difference": same_pixels},
        "from_uint8": {"num_images": sum(map(len, ours.values())), "largest_difference": from_uint8},
    }


def _differences_of_cache(job: Job, cache: Cache) -> float:
    """Of the features that were just extracted from those in the cache."""
    pairs = [(rows.features, cache.read_rows(role, np.arange(len(rows.ids)))) for role, rows in _of_slice(job).items()]
    return max(_difference(fresh, cached) for fresh, cached in pairs)


def _of_slice(job: Job) -> dict[Any, CachedRows]:
    return {role: _slice_cache(job).read(role) for role in ("train", "test")}


def _slice_cache(job: Job) -> Cache:
    """What ours made of the images."""
    (path,) = (job.folder / "cache").glob("*.h5")
    return open_cache(path)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float32) - b).max() / np.abs(b).max())


def _seconds(found: dict[str, Any]) -> dict[str, Any]:
    """Of the whole job on the cache's rows, by epoch, computed from seconds per image."""
    train, test, epochs = found["rows"]["train"], found["rows"]["test"], found["epochs"]
    costs = {form: Costs.of(of_form) for form, of_form in found["stages"].items()}
    by_epoch = {form: [cost.seconds(train, test, e) for e in range(epochs + 1)] for form, cost in costs.items()}
    ours = by_epoch["ours"]
    others = [form for form in by_epoch if form != "ours"]
    return {
        "formula": FORMULA,
        "title": f"{train:,} training and {test:,} test images at {found['image_size']} pixels, extrapolated",
        "costs": {form: vars(cost) for form, cost in costs.items()},
        "by_epoch": by_epoch,
        "times_ours": {form: by_epoch[form][-1] / ours[-1] for form in others},
        "caching_alone": {
            "times": by_epoch["fair"][-1] / by_epoch["fair-cached"][-1],
            "break_even_epochs": _finite(costs["fair-cached"].break_even(costs["fair"], train, test)),
        },
        "break_even_epochs": {form: _finite(costs["ours"].break_even(costs[form], train, test)) for form in others},
        "one_more_head": {form: by_epoch[form][-1] - cost.before(train, test) for form, cost in costs.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
