"""An exported model in a process of its own, which has the format's runtime and nothing of tfl."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfl.artefacts import runtimes
from tfl.artefacts.formats import Format
from tfl.errors import ExportError
from tfl.machine.child import start_child

ComputeLogits = Callable[[np.ndarray], np.ndarray]
"""uint8 images `(n, h, w, 3)` to logits `(n, c)`; some formats take encoded images `(n,)` too."""

# On the CPU: this process may hold the whole GPU, and there float32 would mean TensorFloat-32.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


@contextlib.contextmanager
def open_in_fresh_process(folder: Path, kind: Format) -> Iterator[ComputeLogits]:
    """Start a process that opens an exported model, and yield the function that asks it for logits.

    Raises:
      ExportError: from that function: the process died; the end of what it wrote.
    """
    arguments = [str(kind.path), str(folder / kind.file), *kind.hidden_packages]
    with start_child(Path(runtimes.__file__), arguments, ENVIRONMENT) as child:

        def compute_logits(images: np.ndarray) -> np.ndarray:
            with contextlib.suppress(BrokenPipeError):  # it has died: no answer comes, which is said below
                runtimes.write_array(child.stdin, images)
            logits = runtimes.read_array(child.stdout)
            if logits is None:
                sentence = f"a fresh process could not run the exported model (exit code {child.wait()}):"
                raise ExportError(sentence, *child.read_stderr())
            return logits

        yield compute_logits
