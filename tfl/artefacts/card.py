"""The model card: what an exported model is, how good, and how to call it; from its `tfl.json`.

Names of classes, datasets and splits come from others: `escaped`, they are text and nothing else.
"""

import re
from collections.abc import Iterator
from typing import Any

from tfl.text import to_printable

MAX_CLASSES = 100

# How Python calls a folder `MODEL` of each format, with images uint8 (n, h, w, 3).
CALLS = {
    "saved-model": """import tensorflow as tf

serve = tf.saved_model.load("MODEL").signatures["serving_default"]
answers = serve(images=tf.constant(images))  # probabilities, logits, class_index, class_name""",
    "keras": """import keras

model = keras.saving.load_model("MODEL/model.keras")
answers = model.predict(images)  # probabilities, logits, class_index""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("MODEL/model.onnx")
class_index, logits, probabilities = session.run(["class_index", "logits", "probabilities"], {"images": images})
class_names = session.get_modelmeta().custom_metadata_map["class_names"]  # JSON""",
    "litert": """from ai_edge_litert.interpreter import Interpreter

serve = Interpreter("MODEL/model.tflite", num_threads=4).get_signature_runner("serving_default")
answers = serve(images=images)  # probabilities, logits, class_index; n of 1 or more""",
    "openvino": """import openvino

model = openvino.Core().compile_model("MODEL/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answers = model(images)  # answers["probabilities"], answers["logits"], answers["class_index"]""",
    "torch": """import torch

model = torch.export.load("MODEL/model.pt2").module()
answers = model(torch.from_numpy(images))  # probabilities, logits, class_index""",
}
# Whether opening a file of the format can run code that is in it.
OPENING = {
    "saved-model": "A SavedModel is a program: opening it, and calling it, can read and write files with the rights of "
    "who does so. Open one only from whom you would take a program.",
    "keras": "Opening it runs no code of the file: `tfl predict` opens only layers that are Keras' own, and Keras' "
    "`safe_mode`, on by default, refuses Python functions.",
    "onnx": "Opening it runs no code of the file: it is data, and ONNX Runtime loads no library that it names.",
    "litert": "Opening it runs no code of the file: it is data, read in place.",
    "openvino": "Opening it runs no code of the files: they are data, and OpenVINO loads no extension that they name.",
    "torch": "`torch.export.load` runs code that a file may hold (pickled objects, expressions, guards): call it only "
    "on a file of your own. `tfl predict` looks through it first and hands on tensors and known operations alone.",
}
SERVING = """From TensorFlow Serving, which takes encoded images over REST:

```sh
docker run -p 8501:8501 -v "$PWD/MODEL:/models/tfl/1" -e MODEL_NAME=tfl tensorflow/serving
echo '{"signature_name": "serve_bytes", "instances": [{"b64": "'"$(base64 -w0 photo.jpg)"'"}]}' |
  curl -d @- http://localhost:8501/v1/models/tfl:predict
```

Signatures: `serving_default` (`images`, uint8 `(n, h, w, 3)`), `serve_bytes` (`image_bytes`, strings `(n,)`: JPEG, PNG,
WebP, GIF or BMP, each of its own size), both with `probabilities`, `logits`, `class_index` and `class_name`; `features`
(`images`) with `features`, the pooled output of the backbone. A string that cannot be decoded is an error that names
its position. `saved_model_cli show --all --dir MODEL` lists them.

`serve_bytes` turns an image as its Exif data says, as training does (JPEG, PNG and WebP; XMP in JPEG and WebP). It
decodes nothing where an image claims more than MAX_IMAGE_PIXELS pixels: that is an error that names its position and
its size (`tfl export --max-image-pixels`). It refuses a BMP with a palette or unusual colour masks and an animated
WebP, and may be one level off in grey PNG of 16 bits. All else is decoded to the same pixels as in training."""


# Of Markdown and HTML. What a name can begin a line with is not among it, for no line begins with a name.
MARKUP = re.compile(
    r"[\\`*\[\]{}#!<>&|~$^@]"  # CommonMark, HTML, tables, strikethrough, formulas, mentions
    r"|(?<![^\W_])_|_(?![^\W_])"  # underscores, but for those inside a word
    r"|(?<=https):|(?<=http):|(?<=ftp):|(?<=mailto):|(?<=xmpp):|(?<=www)\.",  # bare links, of GitHub's Markdown
    re.IGNORECASE,
)


def escaped(name: str) -> str:
    """Return `name` on one line of Markdown that shows it as it is: no table, no link, no HTML comes of it."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", to_printable(name))


def text(description: dict[str, Any]) -> str:
    """The card, in Markdown."""
    artefact, metrics = description["artefact"], description["metrics"].get("test")
    sections = [
        f"# A classifier of {len(description['class_names'])} classes\n\nMade by tfl {description['tfl']}, transfer "
        "learning with cached features; all it was made from is in `tfl.json`.",
        "## What it is\n\n" + "\n".join(f"- {name}: {escaped(words)}" for name, words in _facts(description).items()),
        "## How good it is\n\n" + "\n\n".join(_quality(description, metrics)),
        "## Limits\n\n" + "\n".join(f"- {words}" for words in _limits(description)),
        f"## How to call it\n\n`images` are uint8 RGB `(n, h, w, 3)` in 0..255, of any n, h and w; resizing and "
        f"preprocessing are inside.\n\n```python\n{CALLS[artefact['format']]}\n```\n\n"
        "From the command line: `tfl predict MODEL photo.jpg`.",
        f"## Whether opening it can run code\n\n{OPENING[artefact['format']]} `tfl predict` holds every file against "
        "its sha256 in `tfl.json` before it is opened: that notices damage, not who made the model.",
    ]
    if artefact["format"] == "saved-model":
        sections.append(SERVING.replace("MAX_IMAGE_PIXELS", f"{artefact['max_image_pixels']:,}"))
    return "\n\n".join(sections) + "\n"


def _facts(description: dict[str, Any]) -> dict[str, str]:
    features, dataset = description["spec"]["features"], description["spec"]["dataset"]
    artefact = description["artefact"]
    splits = ", ".join(
        f"{role} {dataset[f'{role}_split']}" for role in ("train", "val", "test") if dataset[f"{role}_split"]
    )
    chosen = description["chosen"]
    settings = chosen["setting"] if chosen else description["settings"]
    recipe = chosen["recipe"] if chosen else description["recipe"]
    return {
        "data": f"{dataset['dataset']}, version {dataset['version']}; {splits}",
        "backbone": f"{features['backbone']}, frozen, at {features['image_size']} pixels ({features['resize_mode']}, "
        f"{features['interpolation']}); weights {features['weights']}",
        "views averaged": ", ".join(description["views"]),
        "head": f"{recipe}, " + ", ".join(f"{name} {value}" for name, value in settings.items()),
        "format": f"{artefact['format']}, weights {_width(artefact['quantize'])}",
        "fingerprint of its features": description["fingerprint"],
        "versions": ", ".join(f"{name} {version}" for name, version in description["versions"].items()),
    }


def _width(quantize: str) -> str:
    return {"none": "float32", "float16": "stored as float16", "int8": "int8, and activations too"}[quantize]


def _quality(description: dict[str, Any], metrics: dict[str, Any] | None) -> Iterator[str]:
    if metrics and metrics["accuracy_interval_95"]:
        low, high = metrics["accuracy_interval_95"]
        yield (
            f"Test accuracy {metrics['accuracy']:.2%} of {metrics['num_rows']:,} images (95 % interval {low:.2%} to "
            f"{high:.2%}), by the head on cached features."
        )
    else:
        yield "There were no test rows to measure on."
    if measured := description["measured"]:
        low, high = measured["accuracy_interval_95"]
        yield (
            f"By this exported model itself, from raw images: {measured['accuracy']:.2%} of {measured['num_images']:,} "
            f"(95 % interval {low:.2%} to {high:.2%})."
        )
    parity = description["parity"]
    yield (
        f"Held against the cached features on {parity['num_images']} images in a fresh process: logits within "
        f"{parity['error']:.1e} of the largest ({parity['tolerance']:.0e} allowed), {parity['same_class']:.1%} of the "
        "classes the same."
    )
    if metrics:
        yield "\n".join(_table(metrics["accuracy_per_class"]))


def _table(accuracy_per_class: dict[str, float | None]) -> Iterator[str]:
    yield from ("| class | test accuracy |", "|---|---|")
    for name, share in list(accuracy_per_class.items())[:MAX_CLASSES]:
        yield f"| {escaped(name)} | {'no rows' if share is None else f'{share:.2%}'} |"
    if (more := len(accuracy_per_class) - MAX_CLASSES) > 0:
        yield f"| ... and {more} more | in `tfl.json` |"


def _limits(description: dict[str, Any]) -> list[str]:
    dataset = description["spec"]["dataset"]["dataset"]
    limits = [
        f"It knows {len(description['class_names'])} classes, and calls everything one of them.",
        f"Its accuracy is that on {escaped(dataset)}; on other images it has not been measured.",
        "Only the head was trained on these classes, and the backbone carries what its pretraining data carried.",
    ]
    if not description["is_folded"]:
        temperature = description["temperature"]
        why = (
            "no validation rows were there to do it with"
            if temperature is None
            else f"validation rows ask for its logits to be divided by {temperature:.3f} (`tfl train --calibrate`)"
        )
        limits.append(f"Its probabilities are not calibrated: {why}.")
    if description["artefact"]["format"] in ("litert", "keras", "torch"):
        limits.append("It takes one image or more: not an empty batch.")
    return limits
