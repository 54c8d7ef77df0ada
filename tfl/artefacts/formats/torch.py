"""PyTorch's exported program (`.pt2`), made by a process that runs Keras on PyTorch."""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

ARCHIVES = Path(__file__).with_name("archives.py")  # loaded by its path, where nothing of tfl can be imported
CONVERTER = Path(__file__).with_name("torch_program.py")

CALL = """import torch

model = torch.export.load("MODEL/model.pt2").module()
answers = model(torch.from_numpy(images))  # probabilities, logits, class_index"""

SAFETY = (
    "`torch.export.load` runs code that a file may hold (pickled objects, expressions, guards): call it only "
    "on your own files. `tfl predict` inspects the file first, and passes on tensors and known operations alone."
)


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import Format

    return Format(
        name="torch",
        summary="a PyTorch program (`.pt2`)",
        file="model.pt2",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        packages=("torch",),
        extra="torch",
        needs_portable_resizing=True,
        resize_modes=("stretch",),
        why_resize_modes="PyTorch cannot trace resizing that keeps the aspect ratio for images of any size",
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write the file.

    Raises:
      ExportError: PyTorch could not trace the model; the end of what it wrote.
      ExtraError: it is not installed.
    """
    from tfl.errors import ExportError
    from tfl.files.scratch import scratch_folder
    from tfl.machine.child import run_child
    from tfl.machine.packages import require_package

    require_package("torch", "torch")
    with scratch_folder() as scratch:
        model = scratch / "model.keras"
        combined.model.save(model)
        environment = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}
        done = run_child(CONVERTER, [str(model), str(path)], environment)
    if done.exit_code:
        raise ExportError("PyTorch could not export the model:", *done.stderr)


def open_model(path: Path) -> "Answer":
    """Open a program of tensors and known operations.

    Raises:
      ValueError: it holds something else, which might run code.
    """
    program = runpy.run_path(str(ARCHIVES))["repack_program"](path)
    import torch

    model = torch.export.load(program).module()

    def answer(images: "np.ndarray") -> "dict[str, np.ndarray]":
        with torch.inference_mode():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    return answer
