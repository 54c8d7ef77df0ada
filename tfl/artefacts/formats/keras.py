"""Keras' own format: one `.keras` file, for any backend."""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

ARCHIVES = Path(__file__).with_name("archives.py")  # loaded by its path, where nothing of tfl can be imported

CALL = """import keras

model = keras.saving.load_model("MODEL/model.keras")
answers = model.predict(images)  # probabilities, logits, class_index"""

SAFETY = (
    "Opening it runs no code of the file: `tfl predict` opens only layers that are Keras' own, and Keras' "
    "`safe_mode`, on by default, refuses Python functions."
)


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import Format

    return Format(
        name="keras",
        summary="a `.keras` file",
        file="model.keras",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        runtime="Keras and the backend of KERAS_BACKEND",
        needs_keras=True,
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write the file."""
    combined.model.save(path)


def open_model(path: Path) -> "Answer":
    """Open a `.keras` file that holds layers of Keras and nothing else.

    Raises:
      ValueError: it holds something else, which might run code.
    """
    runpy.run_path(str(ARCHIVES))["require_plain_keras"](path)
    import keras

    model: Any = keras.saving.load_model(path, compile=False, safe_mode=True)
    return model.predict_on_batch  # type: ignore[no-any-return]
