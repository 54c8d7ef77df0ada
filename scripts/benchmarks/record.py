"""The record of one measurement: one JSON file for each question, the same fields in all of them.

It is written by every script beside this one, and read by whatever makes tables of it. No framework is imported here.
"""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tfl import __version__
from tfl.files.codec import read_record

RESULTS = Path("docs", "results")  # commands run from the root of the repository
# What a library chooses its kernels by, as Linux spells it; a processor has many more.
INSTRUCTION_SETS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16"),
    *("asimddp", "bf16", "i8mm", "sve", "sve2"),  # of ARM
)
# A measurement depends on these, and a command is typed with them.
TYPED_VARIABLES = ("KERAS_BACKEND", "XLA_FLAGS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

LOAD_AT_START = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # processes over the last minute


@dataclass(frozen=True)
class Hardware:
    """The machine that a number was measured on; None where that was not noted."""

    processor: str
    """Model name."""
    cores: int
    """Cores that the operating system shows."""
    instruction_sets: tuple[str, ...]
    """Members of `INSTRUCTION_SETS` that the processor has."""
    memory_bytes: int | None
    gpu: str | None
    driver: str | None
    """Version of the GPU's driver."""
    remark: str = ""
    """Anything else that may have moved the numbers: a virtual machine, other programs."""


@dataclass(frozen=True)
class Result:
    """A question, the numbers that answer it, and everything that they depend on."""

    question: str
    command: str | list[str]
    """Command line as typed at the root of the repository; several if one gives no answer."""
    date: str
    """Day of the measurement, `2026-11-26`."""
    hardware: Hardware
    versions: dict[str, str]
    """Versions of Python, tfl, and every library that decides a number, peers included."""
    n: int
    """Repeats: the length of the longest list in `results`."""
    settings: dict[str, Any]
    """Values that all ways share: backbone, image size, batch size, number of rows."""
    results: dict[str, dict[str, list[float]]]
    """Numbers by quantity, unit in its name, and by way: one for each repeat.

    Numbers at the same place of two lists were measured in the same turn.
    """
    findings: dict[str, Any] = field(default_factory=dict)
    """Facts without repeats, and numbers that follow from `results`."""
    failed: dict[str, str] = field(default_factory=dict)
    """The ways that failed, and why."""

    def __post_init__(self) -> None:
        counts = [len(numbers) for ways in self.results.values() for numbers in ways.values()]
        if not all(counts):
            raise ValueError("a way in results has no number; expected one for each repeat")
        if counts and self.n != max(counts):
            raise ValueError(f"n is {self.n}, and the longest list in results has {max(counts)} numbers")


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
      ValueError: a field is unknown, missing, or not what it should be; the file and the field.
    """
    try:
        return read_record(path, Result)
    except ValueError as error:
        raise ValueError(f"{path} is no result of a benchmark: {error}") from error


def write_result(path: Path, result: Result) -> None:
    """Leave a result as JSON, each list of numbers on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_as_text(asdict(result)) + "\n", encoding="utf-8")
    print(f"result: {path}", file=sys.stderr)


def _as_text(value: Any, indent: str = "") -> str:
    """JSON with a line for each field, and one line for each list."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    lines = []
    for key, of_key in value.items():
        name = json.dumps(str(key), ensure_ascii=False)
        lines.append(f"{deeper}{name}: {_as_text(of_key, deeper)}")
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def new_result(
    question: str,
    results: Mapping[str, Mapping[str, list[float]]],
    libraries: Iterable[str],
    **further: Any,
) -> Result:
    """Return the result of this process, measured now on this machine.

    Args:
      libraries: distributions that decide the numbers; those that are not installed are left out.
      further: `settings`, `findings` and `failed`, see `Result`.
    """
    measured: dict[str, dict[str, list[float]]] = {}
    for quantity, ways in results.items():
        having_numbers = {way: numbers for way, numbers in ways.items() if numbers}
        if having_numbers:
            measured[quantity] = having_numbers
    counts = [len(numbers) for ways in measured.values() for numbers in ways.values()]
    return Result(
        question=question,
        command=typed_command(),
        date=time.strftime("%Y-%m-%d"),
        hardware=this_hardware(),
        versions=versions_of(libraries),
        n=max(counts, default=0),
        results=measured,
        **{"settings": {}, **further},
    )


def typed_command() -> str:
    """Return the command line of this process, and before it the variables that were set for it."""
    variables = [f"{name}={os.environ[name]}" for name in TYPED_VARIABLES if name in os.environ]
    return shlex.join([*variables, "python", *sys.orig_argv[1:]])


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, tfl, and those distributions that are installed."""
    found = {"python": platform.python_version(), "tfl": __version__}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def this_hardware() -> Hardware:
    """Return what this machine is."""
    cpuinfo = _text_of(Path("/proc/cpuinfo"))
    able = set(_line_of(cpuinfo, "flags", "Features").split())
    memory = _line_of(_text_of(Path("/proc/meminfo")), "MemTotal").split()
    gpu, driver = _gpu()
    return Hardware(
        processor=_line_of(cpuinfo, "model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in able),
        memory_bytes=int(memory[0]) * 1024 if memory else None,
        gpu=gpu,
        driver=driver,
        remark="; ".join(_remarks(able)),
    )


def _remarks(able: set[str]) -> Iterator[str]:
    """Tell of what may move the numbers, and is not in another field."""
    if "hypervisor" in able:
        yield "virtual"
    if LOAD_AT_START >= 1:
        yield f"other programs ran beside it: load average {LOAD_AT_START:.1f} when it began"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def _line_of(text: str, *names: str) -> str:
    """Return the value of the first line `name : value` that has one of these names; empty if none has."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _gpu() -> tuple[str | None, str | None]:
    """Return the names of the GPUs, and the version of their driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    rows = [line.split(", ") for line in text.strip().splitlines()]
    if not rows:
        return None, None
    names = [row[0] for row in rows]
    return names[0] if len(names) == 1 else f"{len(names)} x {names[0]}", rows[0][-1]
