"""Progress on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from tfl.reports.numbers import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 30.0  # where stderr is no terminal
SECONDS_BETWEEN_REFRESHES = 0.2  # of the bar
_shown: "list[Bar]" = []  # the bar that is on the terminal now, if there is one


class Progress(Protocol):
    """How far a command is, counted in images."""

    @property
    def total(self) -> int:
        """How many images there are."""

    @property
    def finished(self) -> int:
        """How many of them are done."""

    @property
    def images_per_second(self) -> float:
        """Rate; 0 if there is none."""


OnProgress = Callable[[Progress], None]


@contextlib.contextmanager
def show_progress() -> Iterator[OnProgress]:
    """Yield a function that shows progress on stderr as long as the context lasts."""
    if not sys.stderr.isatty():
        yield _limit_rate(_write_line, SECONDS_BETWEEN_LINES, time.monotonic())
        return
    with _show_bar() as update:
        yield _limit_rate(update, SECONDS_BETWEEN_REFRESHES, 0.0)


@contextlib.contextmanager
def hide_bar() -> Iterator[None]:
    """Take the bar off the terminal while something else is written there."""
    for bar in _shown:
        bar.stop()
    try:
        yield
    finally:
        for bar in _shown:
            bar.start()


def _limit_rate(show: OnProgress, seconds: float, last: float) -> OnProgress:
    """Return `show`, called only where `seconds` have passed since the last call."""

    def show_now_and_then(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(progress)

    return show_now_and_then


def _write_line(progress: Progress) -> None:
    counts = f"{progress.finished:,} of {progress.total:,} images"
    sys.stderr.write(", ".join([counts, *_describe_pace(progress)]) + "\n")
    sys.stderr.flush()


def _describe_pace(progress: Progress) -> list[str]:
    """Return rate and time left in words; nothing where rows are only copied."""
    rate = progress.images_per_second
    if not rate:
        return []
    left = (progress.total - progress.finished) / rate
    return [f"{rate:.1f} images/s", f"{format_duration(left)} left"]


@contextlib.contextmanager
def _show_bar() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images  {task.description}"))
    console = Console(file=sys.stderr)
    # Refreshed by hand: a thread of its own would write into the middle of results.
    bar = Bar(
        *columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    task = bar.add_task("", total=None)

    def update(progress: Progress) -> None:
        pace = "  ".join(_describe_pace(progress))
        bar.update(task, total=progress.total, completed=progress.finished, description=pace, refresh=True)

    _shown.append(bar)
    try:
        bar.start()
        yield update
    finally:
        bar.stop()
        _shown.remove(bar)
