"""One toy kind of each sort, in a few lines: registered, every command knows it.

A dataset source, a backbone source and a recipe are below. An export format is a file of its own, `toy_format.py`: the
fresh process that checks an exported model loads it by its path.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import pytest
import toy_format
from PIL import Image

from tfl import backbones, datasets, heads
from tfl.artefacts import formats
from tfl.artefacts.manifest import read_manifest
from tfl.backbones import BackboneSource, Pretrained
from tfl.backbones.tensors import randomize_weights
from tfl.cache import open_cache
from tfl.cli.main import main
from tfl.errors import BackboneError, SpecError
from tfl.specs import FeatureSpec
from tfl.specs.checks import require_share

# ---- a dataset source


class Stripes(datasets.Dataset):
    """Images with stripes, upright or lying: `stripes:WIDTH`."""

    name, version = "stripes", "1.0"
    class_names = ("upright", "lying")
    num_rows: ClassVar = {"train": 60, "test": 20}

    def __init__(self, width):
        stripes = np.arange(12) // width % 2 * 255
        self.image = np.repeat(stripes, 12).reshape(12, 12)[..., None].repeat(3, axis=2)

    def examples(self, split, start, stop):
        for row in range(start, stop):
            lying = (self.image - row).clip(0).astype(np.uint8)
            yield datasets.Example(lying if row % 2 else lying.swapaxes(0, 1), row % 2, f"{split}_{row}")


STRIPES = datasets.Source("stripes", "a width of stripes", lambda word, spec, max_image_pixels: Stripes(int(word)))

# ---- a backbone source


def load_tokens(name, spec):
    """Return a network that gives tokens `(n, t, c)`, as a vision transformer does, and how to pool them."""
    images = keras.Input((spec.image_size, spec.image_size, 3))
    maps = keras.layers.Conv2D(int(name), 4, strides=4, name="patches")(images)
    tokens = keras.layers.Reshape((-1, int(name)), name="tokens")(maps)  # (n, t, c)
    network = keras.Model(images, tokens, name="toy_tokens")
    randomize_weights(network)
    return Pretrained(network, lambda pixels: pixels / 255.0, {"last": tokens}, pool_tokens)


def pool_tokens(tokens, pooling):
    if pooling == "max":
        raise BackboneError("tokens are averaged; expected --pooling avg")
    return keras.ops.mean(keras.ops.square(tokens), axis=1)  # (n, c)


TOKENS = BackboneSource(
    name="the toy source",
    prefix="toy:",
    list_names=lambda: ["16", "32"],
    load=load_tokens,
    weight_words=("random",),
    resolve_name=lambda typed: typed if re.fullmatch(r"\d+", typed) else None,
)

# ---- a recipe


@dataclass(frozen=True)
class ClassMeans(heads.Recipe):
    """The nearest class mean m: the distance |x - m| orders the classes as x m - |m|^2 / 2 does."""

    name: ClassVar = "class-means"
    summary: ClassVar = "the mean of each class"
    advice: ClassVar = "try a larger --shrinkage"
    memory_copies: ClassVar = (0.0, 2.0)

    shrinkage: float = 0.0
    """Share of the way that each mean is moved towards the mean of all classes."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(shrinkage=self.shrinkage)

    def search(self, fitting, val, listeners):
        from tfl.heads.model import compute_logits
        from tfl.heads.search import Search, measure_trial

        head = self.fit_means(fitting)
        logits = None if val is None else compute_logits(head, val.features)
        trial = measure_trial(self.name, {"shrinkage": self.shrinkage}, 0.0, logits, val)
        listeners.on_trial(trial)
        return Search(head, [trial], 0, logits, self.fit_means)

    def fit_means(self, rows):
        from tfl.heads.model import build_dense

        means = np.stack([rows.features[rows.labels == label].mean(axis=0) for label in range(rows.num_classes)])
        means += self.shrinkage * (means.mean(axis=0) - means)  # (c, d)
        return build_dense([(means.T, -(means**2).sum(axis=1) / 2)])


@pytest.fixture
def toys():
    """All four kinds, registered while a test runs."""
    datasets.register(STRIPES)
    backbones.register(TOKENS)
    heads.register(ClassMeans)
    toy = toy_format.make_format()
    formats.register(toy)
    yield
    datasets.unregister(STRIPES)
    backbones.unregister(TOKENS)
    heads.unregister(ClassMeans)
    formats.unregister(toy)


@pytest.fixture
def tfl(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder, and returns the lines of its standard output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out.splitlines()

    return run


# ---- the whole way


@pytest.mark.usefixtures("toys")
def test_toys_of_every_kind_go_the_whole_way(tfl, tmp_path):
    spec = ("--backbone", "toy:24", "--weights", "random", "--image-size", "12", "--engine", "keras")
    path = tfl("precompute", "--dataset", "stripes:3", *spec)[-1]
    assert "stripes-toy_24-12-" in path
    cache = open_cache(path)
    assert (cache.spec.dataset.dataset, cache.spec.dataset.version) == ("stripes", "1.0")
    assert cache.provenance.typed.dataset == "stripes:3"
    *table, run = tfl("train", path, "--recipe", "class-means", "--shrinkage", 0.25)
    assert "chosen on validation rows: class-means shrinkage 0.25" in table
    record = json.loads((tmp_path / run / "run.json").read_text())
    assert (record["recipe"], record["settings"]) == ("class-means", {"shrinkage": 0.25, "seed": 0})
    assert json.loads(tfl("evaluate", run, "--json")[0])["accuracy"] > 0.6
    assert json.loads(tfl("runs", "--json")[0])[0]["recipe"] == "class-means"
    model = tfl("export", run, "--out", "model", "--format", "toy", "--assert-accuracy-at-least", "0.6")[-1]
    manifest = read_manifest(tmp_path / model)
    assert (manifest.artefact.format, manifest.measured.num_images) == ("toy", 20)
    assert manifest.parity.same_class == 1, "asked in a fresh process, which has nothing of tfl"
    card = (tmp_path / model / "README.md").read_text()
    assert 'keras.saving.load_model("MODEL/toy.keras")' in card
    assert "Opening it runs no code of the file." in card
    for row, example in enumerate(Stripes(3).examples("test", 0, 2)):
        Image.fromarray(example.image).save(f"{row}.png")
    answers = [json.loads(line) for line in tfl("predict", model, "0.png", "1.png", "--json")]
    assert {frozenset(answer["probabilities"]) for answer in answers} == {frozenset({"upright", "lying"})}


# ---- names


@pytest.mark.usefixtures("toys")
def test_a_prefix_belongs_to_one_dataset_source():
    with pytest.raises(ValueError, match="there is a dataset source 'stripes' already"):
        datasets.register(STRIPES)
    with pytest.raises(SpecError, match="'stripes:' has nothing after its prefix; expected a width of stripes"):
        datasets.find_source("stripes:")


@pytest.mark.usefixtures("toys")
def test_backbones_of_a_source_need_its_prefix():
    found = backbones.require_backbone("toy:24")
    assert (found.source, found.name, found.stored_name) == (TOKENS, "24", "toy:24")
    assert not backbones.is_backbone("24")
    for typed in ("keras:ResNet50", "ResNet50"):
        assert backbones.require_backbone(typed).stored_name == "resnet50"
    with pytest.raises(BackboneError, match=r"there is no backbone 'toy:x' in the toy source; expected one of toy:16"):
        backbones.require_backbone("toy:x")
    with pytest.raises(BackboneError, match="no backbone 'keras:resnet5O' in .*; did you mean keras:resnet50"):
        backbones.require_backbone("keras:resnet5O")
    with pytest.raises(ValueError, match="the prefix toy: of the toy source is another source's"):
        backbones.register(TOKENS)


@pytest.mark.usefixtures("toys")
def test_what_a_backbone_source_cannot_pool_is_refused():
    spec = FeatureSpec(backbone="toy:8", weights="random", image_size=12, pooling=("max",))
    with pytest.raises(BackboneError, match="layer 'last' cannot be pooled: tokens are averaged"):
        backbones.build_backbone(spec)


@pytest.mark.usefixtures("toys")
def test_words_for_weights_of_a_source_are_no_files():
    assert not backbones.names_weights_file(FeatureSpec(backbone="toy:8", weights="random"))
    assert backbones.names_weights_file(FeatureSpec(backbone="toy:8", weights="imagenet"))


@pytest.mark.usefixtures("toys")
def test_settings_of_a_recipe_are_checked_and_its_name_is_taken(capsys):
    assert main(["train", "cache.h5", "--recipe", "class-means", "--shrinkage", "2"]) == 2
    assert "shrinkage is in [0, 1), got 2" in capsys.readouterr().err
    with pytest.raises(SpecError, match="there is a recipe 'class-means' already"):
        heads.register(ClassMeans)


@pytest.mark.usefixtures("toys")
def test_a_format_is_offered_and_what_it_cannot_do_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "torch,toy}" in "".join(capsys.readouterr().out.split())
    assert main(["export", "run", "--out", "model", "--format", "toy", "--quantize", "float16"]) == 2
    assert "quantize float16 is for saved-model and onnx and" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["train", "cache.h5", "--recipe", "class-means"], "class-means"),
        (["export", "run", "--out", "model", "--format", "toy"], "toy"),
    ],
)
def test_a_kind_that_is_not_registered_is_unknown(command, name, capsys):
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("kind", heads.KINDS, ids=lambda kind: kind.name)
def test_the_docs_have_a_row_for_every_recipe(kind):
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    row = f"| `{kind.name}` | {kind.summary} | {kind.choice} |"
    assert any(row in page.read_text(encoding="utf-8") for page in pages), row
