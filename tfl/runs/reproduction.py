"""Reproduction: a run trained again from its own `run.json`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from tfl.files.paths import expand_user
from tfl.heads import Recipe
from tfl.runs.folder import Run, open_run
from tfl.runs.metrics import MetricsByRole
from tfl.runs.training import train


def reproduce(folder: Path) -> tuple[Path, list[str]]:
    """Train a run again from its own `run.json`, beside it.

    Returns:
      The new run's folder, and a line for each number that differs from the old run's; none on the
      same machine with the same versions.

    Raises:
      RunError, CacheError: see `train`.
    """
    old = open_run(expand_user(folder).resolve())
    old_metrics = old.metrics  # refused before anything is trained
    made = train(old.open_cache().path, _repeat(old), old.selection, runs_dir=old.folder.parent)
    new = open_run(made)
    return new.folder, [*_compare_streaming(old, new), *_compare_metrics(old_metrics, new.metrics)]


def _repeat(run: Run) -> Recipe:
    """Return the recipe that does again what the run did."""
    chosen = run.record.chosen
    return run.recipe.repeat(chosen.begun if chosen and chosen.begun else 1)


def _compare_streaming(old: Run, new: Run) -> list[str]:
    before, now = old.record.streamed, new.record.streamed
    return [] if before == now else [f"streamed: {before} before, {now} now"]


def _compare_metrics(old: MetricsByRole, new: MetricsByRole) -> list[str]:
    before, now = _list_by_name(old), _list_by_name(new)
    return [f"{name}: {before[name]} before, {now.get(name)} now" for name in before if before[name] != now.get(name)]


def _list_by_name(metrics: MetricsByRole) -> dict[str, Any]:
    by_name = {}
    for role, of_role in metrics.items():
        for field in fields(of_role):
            by_name[f"{role} {field.name}"] = getattr(of_role, field.name)
    return by_name
