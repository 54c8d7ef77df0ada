"""The whole command on a GPU, from an empty cache folder to a trained head, in under ten minutes; no network.

KERAS_BACKEND=jax python scripts/benchmarks/gpu.py --dataset cifar10.npz --weights FILE.weights.h5 --folder /tmp/x
"""

import inspect
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro
from gpu_parts import Bench, Findings, Size, write_random_images
from measure import STARTED, attempt, tell
from record import RESULTS, new_result, write_result

QUESTION = "Whole command, training, resuming and low precision on a GPU"
LIBRARIES = (
    "keras",
    "jax",
    "jaxlib",
    "torch",
    "torchvision",
    "tensorflow",
    "numpy",
    "h5py",
    "scipy",
)

Part = Literal["command", "resume", "heads", "torch", "rates", "low-precision"]


@dataclass(frozen=True)
class Options:
    """Flags of the command line."""

    size: Size = field(default_factory=Size)
    folder: Path | None = None
    """Folder for caches and runs, 2 GB; a temporary one if none is named."""
    only: tuple[Part, ...] = ()
    """Parts to measure; all of them if none is named. They come in the order shown here."""
    deadline: float = 520.0
    """No part is begun after so many seconds."""
    out: Path = RESULTS / "gpu.json"
    """The JSON file to write; it is written anew after each part."""


def main(options: Options) -> None:
    """Measure on a GPU: the whole command, resuming, training, PyTorch, bare rates, low precision.

    Each part stands alone: if it fails, the result says why, and the next one begins.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        measure_parts(options, folder)


def measure_parts(options: Options, folder: Path) -> None:
    """Measure the parts one after the other, and write the result after each."""
    size = options.size
    if not size.dataset:
        path = folder / "random.npz"
        write_random_images(path, size.num_images)
        size = replace(size, dataset=str(path))
    names = ("dataset", "weights", "num_images", "image_size", "shard_rows")
    findings = Findings(settings={name: getattr(size, name) for name in names})
    bench = Bench(size, folder, findings)
    parts: dict[Part, Callable[[], None]] = {
        "command": bench.measure_command,
        "resume": bench.measure_resuming,
        "heads": bench.measure_heads,
        "torch": bench.measure_torch,
        "rates": bench.measure_rates,
        "low-precision": bench.measure_low_precision,
    }
    for name, measure in parts.items():
        if options.only and name not in options.only:
            continue
        if time.perf_counter() - STARTED > options.deadline:
            findings.failed[name] = f"not begun: {options.deadline:.0f} seconds had passed"
        else:
            tell(f"part {name}")
            attempt(name, measure, findings.failed)
        write_findings(options.out, findings)


def write_findings(out: Path, findings: Findings) -> None:
    """Write what has been found so far."""
    ratios = compare_command_with_bare(findings)
    found = {**findings.found, **({"command_over_bare": ratios} if ratios else {})}
    further = {"settings": findings.settings, "findings": found, "failed": findings.failed}
    write_result(out, new_result(QUESTION, findings.results, LIBRARIES, **further))


def compare_command_with_bare(findings: Findings) -> dict[str, float]:
    """Return the command's rate over the bare forward pass's, where both were measured."""
    bare = findings.results.get("bare_images_per_second", {})
    ours = [numbers for way, numbers in bare.items() if way in ("jax bfloat16", "tensorflow bfloat16")]
    if not ours:
        return {}
    base = statistics.median(ours[0])
    commands = findings.results.get("command_images_per_second", {})
    return {way: statistics.median(numbers) / base for way, numbers in commands.items()}


if __name__ == "__main__":
    main(
        tyro.cli(
            Options,
            description=inspect.getdoc(main),
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
    )
