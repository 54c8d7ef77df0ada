"""An exported model opened by its own format's runtime, with nothing of tfl: as a module, and as a program.

    python -P served.py MODEL_FOLDER [FORMAT]

The program reads arrays from its standard input (`read_array`), uint8 images `(n, h, w, 3)` or, of a SavedModel,
encoded images `(n,)`, and answers each with the logits `(n, c)`. The gate of `export` starts it in a fresh process,
where nothing of tfl can help.
"""

import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""uint8 images `(n, h, w, 3)` to `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""

FILES = {
    "saved-model": "saved_model.pb",
    "keras": "model.keras",
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "openvino": "model.xml",
    "torch": "model.pt2",
}
"""What a folder of each format has in it."""


def _beside(name: str) -> Any:
    """A module that lies beside this one, where nothing of tfl can be imported."""
    spec = importlib.util.spec_from_file_location(f"_tfl_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


archives = _beside("archives")


def detect_format(folder: Path) -> str | None:
    """The format of an exported model's folder by the files in it; None if it is none.

    For a folder that has no `tfl.json` yet, which is what says the format.
    """
    return next((name for name, file in FILES.items() if (folder / file).is_file()), None)


def open_model(folder: Path, name: str | None = None) -> Answer:
    """Open what answers for an exported model.

    Opening a SavedModel may read and write files, for it is a program. Of all other formats a file can run no code:
    `.keras` and `.pt2` files are looked through first.

    Args:
      name: the format; None for that of the files in it.

    Raises:
      ImportError: the format's runtime is not installed.
      Exception: whatever a runtime raises when a file is not what its name says.
    """
    name = name or detect_format(folder)
    if name is None or not (folder / FILES[name]).is_file():
        raise ValueError(f"there is none of {', '.join(FILES.values())} in it")
    return _RUNTIMES[name](folder / FILES[name])


def _saved_model(path: Path) -> Answer:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path.parent))
    signatures = loaded.signatures

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        assert loaded is not None  # the variables go when it goes
        is_encoded = images.dtype.kind == "S"
        name, argument = ("serve_bytes", "image_bytes") if is_encoded else ("serving_default", "images")
        found = signatures[name](**{argument: tf.constant(images)})
        return {name: value.numpy() for name, value in found.items()}

    return answer


def _keras(path: Path) -> Answer:
    archives.require_plain_keras(path)
    import keras

    return keras.saving.load_model(path, compile=False, safe_mode=True).predict_on_batch  # type: ignore[no-any-return]


def _onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _litert(path: Path) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=_num_processors())  # its default is one
    interpreter.allocate_tensors()
    serve = interpreter.get_signature_runner("serving_default")
    return lambda images: dict(serve(images=images))


def _openvino(path: Path) -> Answer:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # see tfl.engine.openvino
    import openvino

    # Where a CPU has bfloat16 units OpenVINO computes with them if it is not told otherwise.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {output.any_name: values for output, values in model(images).items()}


def _torch(path: Path) -> Answer:
    program = archives.program(path)
    import torch

    model = torch.export.load(program).module()

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    return answer


_RUNTIMES: dict[str, Callable[[Path], Answer]] = {
    "saved-model": _saved_model,
    "keras": _keras,
    "onnx": _onnx,
    "litert": _litert,
    "openvino": _openvino,
    "torch": _torch,
}


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """An array into a pipe: a line of JSON that says its dtype and shape, and its bytes."""
    file.write(json.dumps([array.dtype.str, array.shape]).encode() + b"\n")
    file.write(np.ascontiguousarray(array).data)
    file.flush()


def read_array(file: BinaryIO) -> np.ndarray | None:
    """What `write_array` wrote; None at the end, or where who wrote it died meanwhile."""
    if not (line := file.readline()).endswith(b"\n"):
        return None
    dtype, shape = json.loads(line)
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    content = file.read(num_bytes)
    return np.frombuffer(content, dtype).reshape(shape) if len(content) == num_bytes else None


def main() -> None:
    """Answer until the input ends; what runtimes print goes to stderr."""
    sys.modules["tfl"] = None  # type: ignore[assignment] # whoever imports it fails
    folder = Path(sys.argv[1])
    name = sys.argv[2] if len(sys.argv) > 2 else detect_format(folder)
    if name != "keras":
        sys.modules["keras"] = None  # type: ignore[assignment]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer = open_model(folder, name)
    while (images := read_array(sys.stdin.buffer)) is not None:
        write_array(answers, np.asarray(answer(images)["logits"]))


if __name__ == "__main__":
    main()
