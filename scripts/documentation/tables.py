"""The tables of measurements by name, each filled from a stored result."""

from collections.abc import Callable
from pathlib import Path

from record import Result, read_result

from documentation import (
    RESULTS,
    audit_tables,
    comparison_tables,
    estimator_tables,
    gpu_tables,
    recipe_tables,
    speed_tables,
)
from documentation.numbers import format_caption

# The name of a block: the stored results that can fill it (the first that is there), and the function that makes it.
TABLES: dict[str, tuple[tuple[str, ...], Callable[[Result], str]]] = {
    "summary": (("recipes",), recipe_tables.tabulate_summary),
    "recipes": (("recipes",), recipe_tables.tabulate_recipes),
    "precompute": (("recipes",), recipe_tables.tabulate_precompute),
    "few-shot": (("few_shot",), recipe_tables.tabulate_few_shot),
    "image-size": (("image_size",), recipe_tables.tabulate_image_size),
    "quickstart": (("quickstart",), recipe_tables.tabulate_quickstart),
    "extraction": (("extraction", "extraction-quick-amx"), speed_tables.tabulate_extraction),
    "command-over-bare": (("extraction", "extraction-quick-amx"), speed_tables.tabulate_command_over_bare),
    "start-up": (("start_up",), speed_tables.tabulate_start_up),
    "arithmetic": (("arithmetic",), speed_tables.tabulate_arithmetic),
    "gpu-rates": (("gpu-rates", "gpu"), gpu_tables.tabulate_rates),
    "gpu-precision": (("gpu-rates", "gpu"), gpu_tables.tabulate_precision),
    "gpu-command": (("gpu",), gpu_tables.tabulate_command),
    "gpu-command-h200": (("gpu-h200",), gpu_tables.tabulate_command),
    "gpu-training": (("gpu",), gpu_tables.tabulate_training),
    "whole-command": (("whole_command",), speed_tables.show_whole_command),
    "times-faster": (("whole_command",), speed_tables.tabulate_times_faster),
    "whole-command-60000": (("whole_command-60000",), speed_tables.tabulate_whole_command),
    "calibration": (("calibration",), speed_tables.tabulate_calibration),
    "best": (("best",), recipe_tables.tabulate_best),
    "frozen-features": (("frozen_features",), recipe_tables.tabulate_frozen_features),
    "input-pipeline": (("input_pipeline", "feeding"), speed_tables.tabulate_input_pipeline),
    "memory": (("memory", "memory-quick"), speed_tables.tabulate_memory),
    "predict-memory": (("predict_memory", "predict-memory"), speed_tables.tabulate_predict_memory),
    "exported-models": (("exported_models",), speed_tables.tabulate_exported_models),
    "estimators": (("estimators",), estimator_tables.tabulate_estimators),
    "heads": (("heads",), speed_tables.tabulate_heads),
    "real-data": (("real_data",), recipe_tables.tabulate_real_data),
    "many-files": (("many_files",), speed_tables.tabulate_many_files),
    "reading": (("reading",), speed_tables.tabulate_reading),
    "recipe-memory": (("recipe_memory",), speed_tables.tabulate_recipe_memory),
    "hours": (("against_pytorch",), comparison_tables.tabulate_hours),
    "seconds": (("against_pytorch",), comparison_tables.tabulate_seconds),
    "parity": (("against_pytorch",), comparison_tables.tabulate_parity),
    "audit": (("audit",), audit_tables.tabulate_findings),
    "audit-left-out": (("audit",), audit_tables.tabulate_left_out),
    "accuracy": (("against_pytorch",), comparison_tables.tabulate_accuracy),
}

# Blocks whose measurement may be still to come: the script that makes it.
AWAITED = {
    "arithmetic": "arithmetic.py",
    "whole-command": "whole_command.py",
    "times-faster": "whole_command.py",
    "whole-command-60000": "whole_command.py --images 60000 --ways 'int8, cold' --repeats 1",
    "calibration": "calibration.py",
    "estimators": "estimators.py",
    "heads": "heads.py CACHE",
    "best": "best.py CACHE",
    "frozen-features": "frozen_features.py CACHE",
}


def find_stored(stems: tuple[str, ...], results: Path = RESULTS) -> Path:
    """Return the first of these results that is stored.

    Raises:
      FileNotFoundError: none is.
    """
    paths = [results / f"{stem}.json" for stem in stems]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"none of these results is stored: {', '.join(map(str, paths))}")


def make_results_block(name: str, page: Path, results: Path = RESULTS) -> str:
    """Return a table of a stored result with its caption, for a page; or that it is still to be measured.

    Raises:
      ValueError: there is no such table; or its result is no result of a benchmark.
      FileNotFoundError: its result is not stored, and it is none of `AWAITED`.
    """
    if name not in TABLES:
        raise ValueError(f"{page.name} asks for the table {name!r}; known are {', '.join(TABLES)}")
    stems, tabulate = TABLES[name]
    if name in AWAITED and not any((results / f"{stem}.json").exists() for stem in stems):
        return f"*Not measured yet: `python scripts/benchmarks/{AWAITED[name]}`.*"
    stored = find_stored(stems, results)
    result = read_result(stored)
    return f"{tabulate(result)}\n\n{format_caption(result, stored, page)}"
