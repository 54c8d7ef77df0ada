"""PyTorch's exported program (`.pt2`), made by a process that runs Keras on PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

from tfl.artefacts.combined import Combined
from tfl.artefacts.formats import torch_program
from tfl.errors import ExportError
from tfl.files.scratch import scratch_folder
from tfl.machine.packages import require_package


def save(combined: Combined, path: Path) -> None:
    """Write the file.

    Raises:
      ExportError: PyTorch could not trace the model; what it wrote.
      ExtraError: it is not installed.
    """
    require_package("torch", "torch")
    with scratch_folder() as scratch:
        model = scratch / "model.keras"
        combined.model.save(model)
        command = [sys.executable, "-P", torch_program.__file__, str(model), str(path)]
        environment = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    if done.returncode:
        raise ExportError("PyTorch could not export the model:", *done.stderr[-2000:].splitlines())
