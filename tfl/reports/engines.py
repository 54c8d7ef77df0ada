"""The table of this machine as lines of text: what each engine costs in each compute dtype."""

import statistics
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfl.reports.numbers import format_duration

if TYPE_CHECKING:  # `tfl --help` imports this module
    from tfl.engine.measuring import MeasuredWay
    from tfl.engine.survey import Survey

ENGINE_COLUMNS = ("engine", "dtype", "images/s", "least to largest", "times", "memory", "start")
WIDTH = 79  # characters of a line: a terminal has 80
MEGABYTE = 1e6
FASTER = 1.2  # times the rate of the default: what is nearer to it is not recommended


def format_heading(survey: "Survey") -> Iterator[str]:
    """Describe what was measured, and on what."""
    features = survey.features
    num_rounds = max((len(way.rates) for way in survey.ways), default=0)
    yield from _wrap(
        f"{survey.device}, {survey.threads} threads; {features.backbone} at {features.image_size} pixels, "
        f"batches of {survey.batch_size}, {num_rounds} rounds in turns"
    )
    if survey.instructions:
        yield from _wrap(f"instructions: {' '.join(survey.instructions)}")


def tabulate_engines(survey: "Survey") -> Iterator[tuple[str, ...]]:
    """Yield the cells of `ENGINE_COLUMNS` of each way that was measured."""
    for way in survey.ways:
        if way.images_per_second is not None:
            ratio = _find_ratio(way, survey)
            yield (
                way.engine,
                way.compute_dtype,
                f"{_format_rate(way.images_per_second):>8}",
                f"{_format_rate(min(way.rates))} to {_format_rate(max(way.rates))}",
                "" if ratio is None else f"{ratio:5.2f}",
                "not known" if way.memory_bytes is None else f"{way.memory_bytes / MEGABYTE:,.0f} MB".rjust(8),
                "" if way.start_seconds is None else f"{way.start_seconds:.1f} s",
            )


def format_notes(survey: "Survey") -> Iterator[str]:
    """Explain the columns, say what could be taken, and why other ways cannot serve here."""
    yield from _wrap(
        f"times: the rate over that of {survey.default} in float32, median of the rounds; memory: the most main memory "
        "that it took beside what was there before; start: from Keras' network to the first batch's features"
    )
    yield from _wrap(_recommend(survey))
    obstacles: dict[str, dict[str, list[str]]] = {}
    for way in survey.ways:
        if way.obstacle:
            obstacles.setdefault(way.obstacle, {}).setdefault(way.engine, []).append(way.compute_dtype)
    if obstacles:
        yield "no numbers:"
    for obstacle, by_engine in obstacles.items():
        names = [f"{engine} {', '.join(dtypes)}" for engine, dtypes in by_engine.items()]
        yield from _wrap(f"  {'; '.join(names)}: {obstacle}", "    ")


def _recommend(survey: "Survey") -> str:
    faster = []
    for way in survey.ways:
        ratio = _find_ratio(way, survey)
        if way.engine == survey.default and ratio is not None and ratio > FASTER:
            seconds = way.calibration_seconds
            once = "" if seconds is None else f" after a calibration of about {format_duration(seconds)}, once"
            faster.append(f"--compute-dtype {way.compute_dtype} is {ratio:.1f} times as fast{once}")
    words = "; ".join(faster) or "nothing here is much faster"
    return f"`tfl precompute` takes {survey.default} in float32 unless told: {words}"


def _find_ratio(way: "MeasuredWay", survey: "Survey") -> float | None:
    """Return how many times as fast as the default in float32 a way is: the median over the rounds."""
    base = [each for each in survey.ways if (each.engine, each.compute_dtype) == (survey.default, "float32")]
    if not way.rates or not base or not base[0].rates:
        return None
    return statistics.median(rate / other for rate, other in zip(way.rates, base[0].rates, strict=True))


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def _wrap(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
