"""A toy export format: one file with one record, as a contributor would add it."""


def make_format():
    """Return the record of this format."""
    from tfl.artefacts.formats import Format

    return Format(
        name="toy",
        summary="Keras' own file under another name",
        file="toy.keras",
        save=save,
        open_model=open_model,
        call='model = keras.saving.load_model("MODEL/toy.keras")',
        safety="Opening it runs no code of the file.",
        runtime="Keras",
        needs_keras=True,
    )


def save(combined, path, quantize, read_images):
    """Write the file."""
    combined.model.save(path)


def open_model(path):
    """Open it; this runs in a process that has nothing of tfl."""
    import keras

    return keras.saving.load_model(path).predict_on_batch
