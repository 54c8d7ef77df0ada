"""TensorFlow's SavedModel: three signatures, class names in the graph, no Keras needed to load it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

CALL = """import tensorflow as tf

serve = tf.saved_model.load("MODEL").signatures["serving_default"]
answers = serve(images=tf.constant(images))  # probabilities, logits, class_index, class_name"""

SAFETY = (
    "A SavedModel is a program: opening or calling it can read and write files with your rights. Open one only if you "
    "would run a program of whoever made it."
)

SERVING = """With TensorFlow Serving, which takes encoded images over REST:

```sh
docker run -p 8501:8501 -v "$PWD/MODEL:/models/tfl/1" -e MODEL_NAME=tfl tensorflow/serving
echo '{"signature_name": "serve_bytes", "instances": [{"b64": "'"$(base64 -w0 photo.jpg)"'"}]}' |
  curl -d @- http://localhost:8501/v1/models/tfl:predict
```

Signatures:

- `serving_default` takes `images`, uint8 `(n, h, w, 3)`.
- `serve_bytes` takes `image_bytes`, strings `(n,)`: JPEG, PNG, WebP, GIF or BMP, each of its own size. A string that
  cannot be decoded is an error that names its position.
- `features` takes `images` and returns `features`, the pooled output of the backbone.

The first two return `probabilities`, `logits`, `class_index` and `class_name`.
`saved_model_cli show --all --dir MODEL` lists them.

`serve_bytes` turns an image as its Exif data says, as training does (JPEG, PNG and WebP; XMP in JPEG and WebP). It
does not decode an image that claims more than MAX_IMAGE_PIXELS pixels: the error names its position and its size
(`tfl export --max-image-pixels`). It refuses animated WebP and BMP with a palette or unusual colour masks. Grey PNG of
16 bits may be one level off; everything else is decoded to the same pixels as in training."""


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import FLOAT16, FLOAT32, Format

    return Format(
        name="saved-model",
        summary="a TensorFlow SavedModel",
        file="saved_model.pb",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        runtime="TensorFlow",
        quantizations=(FLOAT32, FLOAT16),
        is_traced_by_tensorflow=True,
        takes_encoded_images=True,
        takes_empty_batch=True,
        description_folder="assets.extra",  # the SavedModel format's place for others' files
        serving=SERVING,
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write the folder of `path`; see `signatures.save`."""
    from tfl.artefacts.formats import signatures

    save = signatures.save if combined.takes_images else signatures.save_head
    save(combined, path.parent, quantize == "float16")


def open_model(path: Path) -> "Answer":
    """Open the folder of `path` with TensorFlow; the model also takes encoded images, strings `(n,)`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path.parent))
    signatures = loaded.signatures

    def answer(images: "np.ndarray") -> "dict[str, np.ndarray]":
        assert loaded is not None  # keeps the variables, which go when it goes
        name = "serve_bytes" if images.dtype.kind == "S" else "serving_default"
        (argument,) = signatures[name].structured_input_signature[1]
        found = signatures[name](**{argument: tf.constant(images)})
        return {name: value.numpy() for name, value in found.items()}

    return answer
