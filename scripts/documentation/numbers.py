"""Numbers as the docs show them, and the caption that says where they come from."""

import os
import statistics
from pathlib import Path

from record import Hardware, Result

# Spelled as their makers do; other distributions are shown under their own name.
NAMES = {
    "python": "Python",
    "tensorflow": "TensorFlow",
    "keras": "Keras",
    "jax": "JAX",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "ai-edge-litert": "LiteRT",
    "scikit-learn": "scikit-learn",
    "tensorflow-datasets": "TFDS",
    "scipy": "SciPy",
    "numpy": "NumPy",
    "hdf5": "HDF5",
    "pillow": "Pillow",
}
GIGABYTE = 1e9
HOUR = 3600.0


def format_number(number: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, thousands apart; tiny ones with an exponent and two digits."""
    if number == 0:
        return "0"
    if abs(number) < 1e-3:
        return f"{number:.1e}".replace("e-0", "e-")
    rounded = float(f"{number:.{digits}g}")
    if abs(rounded) >= 10 ** (digits - 1):
        return f"{rounded:,.0f}"
    return f"{number:#.{digits}g}"


def format_spread(numbers: list[float], digits: int = 3) -> str:
    """Return one number, two, or the median with the least and the largest."""
    shown = [format_number(number, digits) for number in sorted(numbers)]
    if len(shown) <= 2:
        return " and ".join(format_number(number, digits) for number in numbers)
    median = format_number(statistics.median(numbers), digits)
    return f"{median} ({shown[0]} to {shown[-1]})"


def format_duration(seconds: float) -> str:
    """Return seconds in the largest unit of which there are two at least, with two digits."""
    for name, unit in (("h", HOUR), ("min", 60.0)):
        if seconds >= 2 * unit:
            return f"{format_number(seconds / unit, 2)} {name}"
    return f"{format_number(seconds, 2)} s"


def format_share(share: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * share:.2f} %"


def format_interval(accuracy: float, interval: list[float]) -> str:
    """Return an accuracy with its 95 % interval."""
    low, high = interval
    return f"{format_share(accuracy)} ({100 * low:.2f} to {100 * high:.2f})"


def format_p(p: float) -> str:
    """Return the p of a test."""
    return f"p = {format_number(p, 2)}"


def format_hardware(hardware: Hardware) -> str:
    """Return the machine in one phrase: the GPU, where one computed; else the processor and what it can do."""
    if hardware.gpu:
        return f"{hardware.gpu} (driver {hardware.driver})"
    able = f" ({', '.join(hardware.instruction_sets)})" if hardware.instruction_sets else ""
    memory = f", {hardware.memory_bytes / GIGABYTE:.0f} GB" if hardware.memory_bytes else ""
    remark = f", {hardware.remark}" if hardware.remark else ""
    cores = f"{hardware.cores} core{'s' * (hardware.cores != 1)}"
    return f"{hardware.processor}{able}, {cores}{memory}{remark}"


def format_versions(versions: dict[str, str]) -> str:
    """Return the versions in one phrase."""
    return ", ".join(f"{NAMES.get(name, name)} {version}" for name, version in versions.items())


def format_repeats(result: Result) -> str:
    """Return how often everything was measured, and what is shown of it."""
    if result.n == 1:
        return "n = 1"
    spread = "both" if result.n == 2 else "median (least to largest)"
    counts = {len(numbers) for ways in result.results.values() for numbers in ways.values()}
    return f"n = {result.n}, {spread}" if len(counts) == 1 else f"n = {min(counts)} to {result.n}, {spread}"


def format_caption(result: Result, stored: Path, page: Path) -> str:
    """Return the small print under a table: repeats and spread, command, date, hardware, versions, and the file.

    Args:
      stored: the file of the result.
      page: the page that the caption is for; the link to the file is relative to it.
    """
    commands = [result.command] if isinstance(result.command, str) else result.command
    link = os.path.relpath(stored, page.parent).replace(os.sep, "/")
    return (
        f"<small>{format_repeats(result)}. {', '.join(f'`{command}`' for command in commands)}, {result.date}. "
        f"{format_hardware(result.hardware)}. {format_versions(result.versions)}. "
        f"Stored in [{stored.name}]({link}).</small>"
    )
