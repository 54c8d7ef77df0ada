"""Runs as lines of text: a table of them, and two compared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfl.reports.columns import pad_names
from tfl.runs.history import format_setting

if TYPE_CHECKING:  # `tfl --help` imports this module: no framework, and nothing that takes long
    from collections.abc import Sequence

    from tfl.runs.evaluation import RunComparison
    from tfl.runs.listing import RunSummary


def format_run_comparison(comparison: "RunComparison") -> Iterator[str]:
    """Describe two runs on the same test rows."""
    for key, folder in (("a", comparison.a), ("b", comparison.b)):
        yield f"{key}  {comparison.accuracy[key]:.2%}  {folder}"
    yield (
        f"of {comparison.num_rows:,} test rows, {comparison.only_a} are right in a alone and {comparison.only_b} in b "
        f"alone: difference {comparison.difference:+.2%}, p = {comparison.p_value:.3g} (McNemar, exact)"
    )


def format_runs(runs: "Sequence[RunSummary]") -> Iterator[str]:
    """Return a table of runs."""
    heading, *names = pad_names(["run", *(run.name for run in runs)])
    yield f"{heading}  {'recipe':<10} {'test accuracy':>26} {'seconds':>8}  chosen"
    for name, run in zip(names, runs, strict=True):
        seconds = "" if run.seconds is None else f"{run.seconds:.1f}"
        setting = format_setting(run.chosen or {})
        yield f"{name}  {run.recipe:<10} {_format_test_accuracy(run):>26} {seconds:>8}  {setting}"


def _format_test_accuracy(run: "RunSummary") -> str:
    if run.accuracy is None:
        return "no test rows"
    if run.interval is None:
        return f"{run.accuracy:.2%}"
    low, high = run.interval
    return f"{run.accuracy:.2%} ({low:.2%} to {high:.2%})"
