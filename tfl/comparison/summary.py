"""The summary of a comparison: findings from the turns of its programs and the files that they left."""

import math
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Literal

import numpy as np

from tfl import engine
from tfl.cache import Cache, CachedRows, open_cache
from tfl.comparison.findings import (
    AccuracyFinding,
    CachingFindings,
    FeatureDifference,
    FeatureFindings,
    Findings,
    Losses,
    MachineFindings,
    PixelFindings,
    SecondsFindings,
    TrainingFindings,
    UsedRole,
)
from tfl.comparison.lockstep import Turn
from tfl.comparison.programs import TurnsByProgram
from tfl.comparison.reference.setup import Setup
from tfl.comparison.timing import (
    FORMULA,
    SecondsPerImage,
    StageTiming,
    compare_turns,
    summarize_stages,
)
from tfl.metrics import wilson_interval

Rows = Literal["all", "slice"]  # of the cache, or of the images that are compared
ROLES: tuple[UsedRole, ...] = ("train", "test")
STAGES_OF_BOTH = ("extract", "fit")  # of the two programs that cache


def summarize(setup: Setup, cache: Cache, turns: TurnsByProgram, not_compared: Sequence[str]) -> Findings:
    """Return the findings of programs that have run."""
    has_images = setup.num_images > 0
    has_same_weights = has_images and setup.weights == "keras"
    rows = {role: cache.num_rows[role] for role in ROLES}
    programs = {name: taken for name, taken in turns.items() if name != "parity"}
    stages = {name: summarize_stages(taken) for name, taken in programs.items()}
    return Findings(
        cache=str(cache.path),
        rows=rows,
        slice={role: len(setup.read_slice(role).labels) for role in ROLES} if has_images else None,
        image_size=setup.features.image_size,
        compute_dtype=setup.features.compute_dtype,
        batch_size=setup.recipe.batch_size,
        epochs=setup.recipe.epochs,
        weights=setup.weights,
        machine=_describe_machine(setup, turns),
        not_compared=list(not_compared),
        training=_compare_training(turns),
        accuracy=list(_list_accuracies(setup, cache, programs)),
        stages=stages,
        peak_bytes={name: max(turn.peak_bytes for turn in taken) for name, taken in turns.items()},
        ratios={stage: compare_turns(turns["fair-cached"], turns["ours"], stage) for stage in STAGES_OF_BOTH},
        seconds=_extrapolate(setup, rows, stages) if has_images else None,
        cache_difference=_compare_with_cache(setup, cache) if has_images else None,
        pixels=_compare_pixels(setup) if has_same_weights else None,
        features=_compare_features(setup) if has_same_weights else None,
    )


def _describe_machine(setup: Setup, turns: TurnsByProgram) -> MachineFindings:
    provenance = _open_slice_cache(setup).provenance if setup.num_images else None
    our_versions = {} if provenance is None else provenance.values.get("versions", {})
    cached = turns["fair-cached"]
    torch_versions = {name: version(name) for name in ("torch", "torchvision")}
    return MachineFindings(
        device=engine.device_name(),
        reference_device=next(turn.device for turn in cached if turn.device),
        threads=setup.threads,
        versions={**engine.library_versions(), **our_versions, **torch_versions},
        our_forward=None if provenance is None else provenance.engine,
        fair_forward=" ".join({turn.way for turn in cached if turn.way}),
    )


def _compare_training(turns: TurnsByProgram) -> TrainingFindings:
    ours, reference = (_get_losses(turns[name]) for name in ("ours", "fair-cached"))
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, reference, strict=True)]
    return TrainingFindings(Losses(ours, reference), max(differences))


def _get_losses(turns: Sequence[Turn]) -> list[float]:
    return next(turn.losses for turn in turns if turn.stage == "fit")


def _list_accuracies(setup: Setup, cache: Cache, turns: TurnsByProgram) -> Iterator[AccuracyFinding]:
    """Yield the accuracy of each program on all rows of the cache and, each on the same images, on the slice."""
    all_rows: tuple[Rows, ...] = ("all", "slice") if setup.num_images else ("all",)
    for rows in all_rows:
        num_train, num_test = (_count_rows(rows, role, setup, cache) for role in ROLES)
        for name, taken in turns.items():
            for where, correct in taken[-1].correct.items():
                tested_rows, _, mode = where.partition(", ")
                if tested_rows == rows:
                    interval = wilson_interval(correct, num_test)
                    yield AccuracyFinding(name, mode, num_train, num_test, correct / num_test, interval)


def _count_rows(rows: Rows, role: UsedRole, setup: Setup, cache: Cache) -> int:
    return cache.num_rows[role] if rows == "all" else len(setup.read_slice(role).labels)


# ---- pixels and features


def _compare_pixels(setup: Setup) -> PixelFindings:
    with (
        np.load(setup.folder / "parity.npz") as ours,
        np.load(setup.folder / "parity-reference.npz") as reference,
    ):
        own = np.abs(reference["pixels"] - ours["inputs"]).max()
        by_pil = np.abs(reference["pil_pixels"] - ours["inputs"]).max()
        return PixelFindings(len(ours["images"]), float(own), float(by_pil))


def _compare_features(setup: Setup) -> FeatureFindings:
    ours = {role: rows.features for role, rows in _read_slice_cache(setup).items()}
    with np.load(setup.folder / "parity-reference.npz") as reference:
        few = reference["features"]
    same_pixels = FeatureDifference(len(few), _measure_difference(ours["train"][: len(few)], few))
    with np.load(setup.folder / "features.npz") as reference:
        largest = max(_measure_difference(ours[role], reference[role]) for role in ROLES)
    return FeatureFindings(same_pixels, FeatureDifference(_count_all(ours.values()), largest))


def _count_all(arrays: Iterable[np.ndarray]) -> int:
    return sum(map(len, arrays))


def _compare_with_cache(setup: Setup, cache: Cache) -> float:
    """Return the difference of the cached features from those that were just extracted."""
    differences = []
    for role, rows in _read_slice_cache(setup).items():
        cached = cache.read_rows(role, np.arange(len(rows.ids)))
        differences.append(_measure_difference(rows.features, cached))
    return max(differences)


def _read_slice_cache(setup: Setup) -> dict[UsedRole, CachedRows]:
    cache = _open_slice_cache(setup)
    return {role: cache.read(role) for role in ROLES}


def _open_slice_cache(setup: Setup) -> Cache:
    """Open the cache that our program made of the images."""
    (path,) = (setup.folder / "cache").glob("*.h5")
    return open_cache(path)


def _measure_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest value of `b`."""
    return float(np.abs(a.astype(np.float32) - b).max() / np.abs(b).max())


# ---- seconds


def _extrapolate(setup: Setup, rows: dict[UsedRole, int], stages: dict[str, dict[str, StageTiming]]) -> SecondsFindings:
    """Compute the seconds of the whole training on that many rows."""
    size, images = setup.features.image_size, (rows["train"], rows["test"])
    costs = {name: SecondsPerImage.measure(timings) for name, timings in stages.items()}
    by_epoch = {name: _count_by_epoch(cost, images, setup.recipe.epochs) for name, cost in costs.items()}
    totals = {name: seconds[-1] for name, seconds in by_epoch.items()}
    others = [name for name in costs if name != "ours"]
    return SecondsFindings(
        formula=FORMULA,
        title=f"{images[0]:,} training and {images[1]:,} test images at {size} pixels, extrapolated",
        costs=costs,
        by_epoch=by_epoch,
        times_ours={name: totals[name] / totals["ours"] for name in others},
        caching_alone=CachingFindings(
            times=totals["fair"] / totals["fair-cached"],
            break_even_epochs=_find_break_even(costs["fair-cached"], costs["fair"], images),
        ),
        break_even_epochs={name: _find_break_even(costs["ours"], costs[name], images) for name in others},
        one_more_head={name: totals[name] - cost.count_before(*images) for name, cost in costs.items()},
    )


def _count_by_epoch(cost: SecondsPerImage, images: tuple[int, int], epochs: int) -> list[float]:
    """Return the seconds after 0, 1, 2... epochs.

    Args:
      images: how many there are to train on and to test on.
    """
    return [cost.count_all(*images, epoch) for epoch in range(epochs + 1)]


def _find_break_even(fast: SecondsPerImage, slow: SecondsPerImage, images: tuple[int, int]) -> float | None:
    """Return the epochs from which on `fast` takes no longer than `slow`; None if never."""
    epochs = fast.find_break_even(slow, *images)
    return epochs if math.isfinite(epochs) else None
