"""Runs as lines of text: a table of them, and two compared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfl.runs.history import format_setting

if TYPE_CHECKING:  # `tfl --help` imports this module: no framework, and nothing that takes long
    from collections.abc import Sequence

    from tfl.runs.evaluation import RunComparison
    from tfl.runs.listing import RunSummary

RUN_COLUMNS = ("run", "recipe", "test accuracy", "seconds", "chosen")


def format_run_comparison(comparison: "RunComparison") -> Iterator[str]:
    """Describe two runs on the same test rows."""
    for key, folder in (("a", comparison.a), ("b", comparison.b)):
        yield f"{key}  {comparison.accuracy[key]:.2%}  {folder}"
    yield (
        f"of {comparison.num_rows:,} test rows, {comparison.only_a} are right in a alone and {comparison.only_b} in b "
        f"alone: difference {comparison.difference:+.2%}, p = {comparison.p_value:.3g} (McNemar, exact)"
    )


def tabulate_runs(runs: "Sequence[RunSummary]") -> Iterator[tuple[str, ...]]:
    """Yield the cells of `RUN_COLUMNS` of each run."""
    for run in runs:
        seconds = "" if run.seconds is None else f"{run.seconds:.1f}"
        yield run.name, run.recipe, _format_test_accuracy(run), seconds, format_setting(run.chosen or {})


def _format_test_accuracy(run: "RunSummary") -> str:
    if run.accuracy is None:
        return "no test rows"
    if run.interval is None:
        return f"{run.accuracy:.2%}"
    low, high = run.interval
    return f"{run.accuracy:.2%} ({low:.2%} to {high:.2%})"
