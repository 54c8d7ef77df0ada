"""A program that answers for an exported model with nothing of tfl, and the arrays that it is sent.

    python -P runtimes.py FORMAT_FILE MODEL_FILE [HIDDEN_PACKAGE ...]

It loads one format's file by its path, opens the model with it, reads arrays from its standard
input (uint8 images `(n, h, w, 3)` or, if the format takes them, encoded images `(n,)`), and answers
each with the logits `(n, c)`. `export` starts it as a fresh process, in which the hidden packages,
tfl among them, cannot be imported.
"""

import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def load_format_file(path: Path) -> Any:
    """Return the module that a format's file holds, without importing the packages around it."""
    spec = importlib.util.spec_from_file_location("_tfl_format", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array into a pipe: a line of JSON with its dtype and shape, then its bytes."""
    file.write(json.dumps([array.dtype.str, array.shape]).encode() + b"\n")
    file.write(np.ascontiguousarray(array).data)
    file.flush()


def read_array(file: BinaryIO) -> np.ndarray | None:
    """Return what `write_array` wrote; None at the end, or if the writer died before it had written all."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    dtype, shape = json.loads(line)
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    content = file.read(num_bytes)
    return np.frombuffer(content, dtype).reshape(shape) if len(content) == num_bytes else None


def main() -> None:
    """Answer until the input ends; what runtimes print goes to stderr."""
    format_file, model_file, *hidden = sys.argv[1:]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # importing it fails
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer = load_format_file(Path(format_file)).open_model(Path(model_file))
    while (images := read_array(sys.stdin.buffer)) is not None:
        write_array(answers, np.asarray(answer(images)["logits"]))


if __name__ == "__main__":
    main()
