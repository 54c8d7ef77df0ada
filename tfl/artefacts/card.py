"""The model card: what an exported model is, how good it is, and how to call it; made from its `tfl.json`.

Names of classes, datasets and splits come from others. `escape` makes plain text of them.
"""

import re
from collections.abc import Iterator, Sequence

from tfl.artefacts.formats import FORMATS
from tfl.artefacts.manifest import Manifest
from tfl.specs import INT8
from tfl.text import to_printable

MAX_CLASSES = 100

# Characters that Markdown and HTML give a meaning. Those that have one only at the start of a line
# are left out: no line of the card starts with a name.
MARKUP = re.compile(
    r"[\\`*\[\]{}#!<>&|~$^@]"  # CommonMark, HTML, tables, strikethrough, formulas, mentions
    r"|(?<![^\W_])_|_(?![^\W_])"  # underscores, but for those inside a word
    r"|(?<=https):|(?<=http):|(?<=ftp):|(?<=mailto):|(?<=xmpp):|(?<=www)\.",  # bare links, of GitHub's Markdown
    re.IGNORECASE,
)


def escape(name: str) -> str:
    """Return Markdown that shows `name` as it is, on one line: it makes no table, no link and no HTML."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", to_printable(name))


def format_card(manifest: Manifest) -> str:
    """Return the card, in Markdown."""
    artefact = manifest.artefact
    kind = FORMATS[artefact.format]
    takes_images = manifest.num_features is None
    facts = [f"- {name}: {escape(words)}" for name, words in _list_facts(manifest).items()]
    sections = [
        f"# A classifier of {len(manifest.class_names)} classes\n\nMade by tfl {manifest.tfl}, transfer learning with "
        "cached features. `tfl.json` lists everything it was made from.",
        "## What it is\n\n" + "\n".join(facts),
        "## How good it is\n\n" + "\n\n".join(_describe_quality(manifest)),
        "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in _list_limits(manifest)),
        f"## How to call it\n\n{_describe_input(manifest)}\n\n```python\n{_find_call(manifest)}\n```\n\n"
        f"From the command line: `tfl predict MODEL {'photo.jpg' if takes_images else 'features.npz'}`.",
        f"## Can opening it run code?\n\n{kind.safety} `tfl predict` compares every file with its sha256 in `tfl.json` "
        "before it opens it: that finds damage, but does not prove who made the model.",
    ]
    if kind.serving and takes_images:
        sections.append(kind.serving.replace("MAX_IMAGE_PIXELS", f"{artefact.max_image_pixels:,}"))
    return "\n\n".join(sections) + "\n"


def _describe_input(manifest: Manifest) -> str:
    """Say what the model takes."""
    if manifest.num_features is None:
        return (
            "`images` are uint8 RGB `(n, h, w, 3)` in 0..255, of any n, h and w; the model resizes and preprocesses "
            "them itself."
        )
    views = ", ".join(manifest.views)
    mean = f", the mean of the views {views}" if len(manifest.views) > 1 else ""
    return (
        f"`features` are float32 `(n, {manifest.num_features})`{mean}, made as those that the head was trained on. "
        "The model is the head alone: nothing in it makes features of images."
    )


def _find_call(manifest: Manifest) -> str:
    """Return the code that calls the model."""
    kind = FORMATS[manifest.artefact.format]
    call = kind.calls.get(_find_compute_dtype(manifest), kind.call)
    return call if manifest.num_features is None else call.replace("images", "features")


def _describe_features(manifest: Manifest) -> str:
    """Say what made the features."""
    features = manifest.spec.features
    if features.is_imported:
        return f"none; features were imported from a file of {features.weights}, source {features.backbone}"
    return (
        f"{features.backbone}, frozen, at {features.image_size} pixels ({features.resize_mode}, "
        f"{features.interpolation}); weights {features.weights}"
    )


def _find_compute_dtype(manifest: Manifest) -> str:
    """Return the arithmetic of the network in the model."""
    substitution = manifest.substitution
    return substitution.carried if substitution else manifest.spec.features.compute_dtype


def _list_facts(manifest: Manifest) -> dict[str, str]:
    dataset, chosen = manifest.spec.dataset, manifest.chosen
    splits = ", ".join(f"{role} {split}" for role, split in dataset.roles.items())
    recipe, settings = (chosen.recipe, chosen.setting) if chosen else (manifest.recipe, manifest.settings)
    quantization = FORMATS[manifest.artefact.format].find_quantization(manifest.artefact.quantize)
    words = quantization.words if quantization else manifest.artefact.quantize
    return {
        "data": f"{dataset.dataset}, version {dataset.version}; {splits}",
        "backbone": _describe_features(manifest),
        "views averaged": ", ".join(manifest.views),
        "head": ", ".join([recipe, *(f"{name} {value}" for name, value in settings.items())]),
        "format": f"{manifest.artefact.format}, weights {words}, computes in {_find_compute_dtype(manifest)}",
        "fingerprint of its features": manifest.fingerprint,
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }


def _describe_quality(manifest: Manifest) -> Iterator[str]:
    test = manifest.metrics.get("test")
    if test and test.accuracy is not None and test.accuracy_interval_95:
        share = _format_accuracy(test.accuracy, test.num_rows, test.accuracy_interval_95)
        yield f"Test accuracy of the head on cached features: {share}."
    else:
        yield "There were no test rows to measure on."
    measured = manifest.measured
    if measured:
        share = _format_accuracy(measured.accuracy, measured.num_images, measured.accuracy_interval_95)
        asked = "raw images" if manifest.num_features is None else "features"
        yield f"Test accuracy of this exported model on {asked}: {share}."
    parity = manifest.parity
    features = "features of the same network" if manifest.substitution else "cached features"
    yield (
        f"Compared with the head on {features}, on {parity.num_images} images in a fresh process: logits within "
        f"{parity.error:.1e} of the largest ({parity.tolerance:.0e} allowed), the same class for "
        f"{parity.same_class:.1%} of the images."
    )
    substitution = manifest.substitution
    if substitution:
        yield (
            f"The head was trained on {substitution.trained_on} features; this model computes them in "
            f"{substitution.carried}. Of {substitution.num_images:,} {substitution.role} images the head has "
            f"{substitution.accuracy_trained_on:.2%} right with the former and "
            f"{substitution.accuracy_carried:.2%} with the latter (a loss of {substitution.tolerance:.0%} is allowed)."
        )
    if test:
        yield "\n".join(_format_table(test.accuracy_per_class))


def _format_accuracy(accuracy: float, count: int, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{accuracy:.2%} of {count:,} images (95 % interval {low:.2%} to {high:.2%})"


def _format_table(accuracy_per_class: dict[str, float | None]) -> Iterator[str]:
    yield from ("| class | test accuracy |", "|---|---|")
    for name, share in list(accuracy_per_class.items())[:MAX_CLASSES]:
        yield f"| {escape(name)} | {'no rows' if share is None else f'{share:.2%}'} |"
    more = len(accuracy_per_class) - MAX_CLASSES
    if more > 0:
        yield f"| ... and {more} more | in `tfl.json` |"


def _list_limits(manifest: Manifest) -> Iterator[str]:
    yield f"It knows {len(manifest.class_names)} classes, and puts every image into one of them."
    yield (f"Its accuracy was measured on {escape(manifest.spec.dataset.dataset)}; on other images it may be lower.")
    if _find_compute_dtype(manifest) == INT8:
        yield (
            "It computes in int8. On processors without instructions for that (VNNI, AMX or ARM's dot products) sums "
            "can overflow and answers differ: check it there before you rely on it."
        )
    yield "Only the head was trained on these classes; the backbone has the biases of the data it was pretrained on."
    if not manifest.is_temperature_folded:
        why = "there were no validation rows to calibrate on"
        if manifest.temperature is not None:
            why = (
                f"they fit the validation rows best with logits divided by {manifest.temperature:.3f} "
                "(`tfl train --calibrate`)"
            )
        yield f"Its probabilities are not calibrated: {why}."
    if not FORMATS[manifest.artefact.format].takes_empty_batch:
        yield "It takes one image or more, not an empty batch."
