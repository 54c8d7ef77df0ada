"""Pictures of measurements, as SVG. A comment in each file says which data and which program drew it."""

import hashlib
import io
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import Result, read_result

from documentation import RESULTS
from documentation.comparison_tables import FORMS
from documentation.numbers import HOUR, format_number
from documentation.speed_tables import PLAIN_COMMANDS, name_way
from documentation.tables import find_stored

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8F98"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00")
SIZE = (8.0, 4.4)
MARK = re.compile(r"<!-- drawn from sha256:([0-9a-f]{64}) -->")
STYLE = {
    "svg.hashsalt": "tfl",  # the ids in the file are the same each time
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E8EB",
    "axes.axisbelow": True,
}


def draw_engines(result: Result, axes: Any) -> None:
    """Images/s of each forward pass on a CPU."""
    draw_rates(result.results["images_per_second"], axes)


def draw_gpu(result: Result, axes: Any) -> None:
    """Images/s of each forward pass on a GPU."""
    draw_rates(result.results["bare_images_per_second"], axes)


def draw_rates(rates: dict[str, list[float]], axes: Any) -> None:
    """Draw a bar for each way, the fastest on top; its line spans all repeats."""
    ways = sorted(rates, key=lambda way: statistics.median(rates[way]))
    for place, way in enumerate(ways):
        median = statistics.median(rates[way])
        axes.barh(place, median, color=_colour_of_engine(way), height=0.66)
        axes.plot([min(rates[way]), max(rates[way])], [place, place], color="#1D2430", linewidth=1.2)
        end = (max(rates[way]), place)
        axes.annotate(format_number(median), end, xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(ways)), [name_way(way) for way in ways])
    axes.set_xlabel("images/s")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)


def _colour_of_engine(way: str) -> str:
    """Blue for what `tfl precompute` can use, orange for PyTorch, grey for the rest."""
    if way.startswith("pytorch"):
        return ORANGE
    is_naive = way.startswith(("keras predict", "a new keras")) or "bound" in way
    return GREY if is_naive else BLUE


def draw_whole_command(result: Result, axes: Any) -> None:
    """Seconds of the whole command in each arithmetic, the shortest on top; a line spans all repeats."""
    seconds = result.results["seconds"]
    ways = sorted((way for way in seconds if way in PLAIN_COMMANDS), key=lambda way: -statistics.median(seconds[way]))
    for place, way in enumerate(ways):
        median = statistics.median(seconds[way])
        axes.barh(place, median, color=_colour_of_engine(way), height=0.66)
        axes.plot([min(seconds[way]), max(seconds[way])], [place, place], color="#1D2430", linewidth=1.2)
        end = (max(seconds[way]), place)
        axes.annotate(format_number(median), end, xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(ways)), [PLAIN_COMMANDS[way] for way in ways])
    axes.set_xlabel(f"seconds for {result.settings['images']:,} images, start-up included")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)


def draw_hours(result: Result, axes: Any) -> None:
    """Cumulative hours of each program over the epochs."""
    by_epoch = result.findings["seconds"]["by_epoch"]
    axes.set_title(result.findings["seconds"]["title"], fontsize=10)
    for (form, name), colour in zip(FORMS.items(), (BLUE, GREEN, ORANGE, PURPLE), strict=True):
        hours = [seconds / HOUR for seconds in by_epoch[form]]
        axes.plot(range(len(hours)), hours, color=colour, label=f"{name}: {hours[-1]:.3g} h", linewidth=2)
    axes.set_xlabel("epochs")
    axes.set_ylabel("hours since the start")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)


def draw_recipes(result: Result, axes: Any) -> None:
    """Test accuracy against the seconds of the whole command, a colour for each kind of features."""
    from matplotlib import ticker

    accuracy, seconds, ways = result.results["accuracy"], result.results["seconds"], result.findings["ways"]
    kinds = list(dict.fromkeys(ways[way]["features"] for way in accuracy))
    for kind, colour in zip(kinds, COLOURS, strict=False):
        of_kind = [way for way in accuracy if ways[way]["features"] == kind]
        x = [seconds[way][0] for way in of_kind]
        y = [100 * accuracy[way][0] for way in of_kind]
        axes.scatter(x, y, color=colour, label=kind, s=36, zorder=3)
    points = {way: (seconds[way][0], 100 * accuracy[way][0]) for way in accuracy}
    for way, point in points.items():
        is_crowded = any(hides_label(point, other) for other in points.values())
        offset, align = ((-6, -3), "right") if is_crowded else ((6, -3), "left")
        axes.annotate(shorten_recipe(way), point, xytext=offset, textcoords="offset points", fontsize=8, ha=align)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("seconds of tfl train")
    axes.set_ylabel("test accuracy, %")
    axes.margins(x=0.12, y=0.08)
    axes.legend(frameon=False)


def hides_label(point: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether the other point lies where a label to the right of this one would be."""
    times = other[0] / point[0]
    return 1 < times < 1.6 and abs(other[1] - point[1]) < 0.25


def shorten_recipe(way: str) -> str:
    """Return the name of a recipe, and how many members it has."""
    words = way.partition(" | ")[0].split()
    members = words[words.index("--members") + 1] if "--members" in words else ""
    return f"{words[0]} x {members}" if members else words[0]


# The file name of a picture: the stored results that can fill it, the first that is there; and the function that draws.
PICTURES: dict[str, tuple[tuple[str, ...], Callable[[Result, Any], None]]] = {
    "engines.svg": (("extraction", "extraction-quick-amx"), draw_engines),
    "gpu.svg": (("gpu-rates", "gpu"), draw_gpu),
    "hours.svg": (("against_pytorch",), draw_hours),
    "recipes.svg": (("recipes",), draw_recipes),
    "whole_command.svg": (("whole_command",), draw_whole_command),
}


def digest_of(name: str, results: Path = RESULTS) -> str:
    """Return the sha256 of what a picture is drawn from: its stored result, and this program."""
    stems, _ = PICTURES[name]
    data = find_stored(stems, results).read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(data).hexdigest()


def is_current(path: Path, results: Path = RESULTS) -> bool:
    """Return whether a picture was drawn from the result that is stored now.

    Its bytes are not compared: they differ between versions of matplotlib.
    """
    if not path.exists():
        return False
    mark = MARK.search(path.read_text(encoding="utf-8"))
    return mark is not None and mark[1] == digest_of(path.name, results)


def draw_picture(path: Path, results: Path = RESULTS) -> None:
    """Draw a picture anew."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    stems, draw = PICTURES[path.name]
    result = read_result(find_stored(stems, results))
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(result, figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    text = "\n".join([*lines, f"<!-- drawn from sha256:{digest_of(path.name, results)} -->", ""])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
